"""The command line: exit codes, errors of one or two lines, configuration files, and quick help."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pytest

from cache import FeatureCache
from pipeline import options
from pipeline.cli import app as commands
from pipeline.cli.app import app
from pipeline.cli.faults import told
from pipeline.cli.main import main
from pipeline.cli.parsing import COMMANDS, parse
from pipeline.errors import PipelineError
from pipeline.features.converted_models import store_converted
from tests.small_cache import write_catalogue

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "timm", "numpy", "pandas", "sklearn", "h5py", "lightgbm", "openvino"]
HELPED = list(dict.fromkeys(["", *COMMANDS, "cache", "cache info", "cache verify", "cache export"]))


def cli(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def helped() -> dict[str, dict[str, Any]]:
    """The help of every command, in one process, with what of the heavy libraries each had loaded by then."""
    code = (
        "import contextlib, io, json, sys, run\n"
        "told = {}\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        code = run.main([*command.split(), '--help'])\n"
        "    heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]\n"
        "    told[command] = {'code': code, 'out': out.getvalue(), 'heavy': heavy}\n"
        "print(json.dumps(told))"
    )
    command = [sys.executable, "-c", code, json.dumps(HELPED), json.dumps(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("command", HELPED)
def test_help_is_there_and_loads_nothing_heavy(helped: dict[str, dict[str, Any]], command: str) -> None:
    told = helped[command]
    assert (told["code"], told["heavy"]) == (0, [])
    assert f"Usage: run.py{' ' * bool(command)}{command}" in told["out"]


def test_every_option_has_a_help_text() -> None:
    classes = [c for home in (options, commands) for c in vars(home).values() if dataclasses.is_dataclass(c)]
    assert len(classes) >= 12
    for options_class in classes:
        for field in dataclasses.fields(options_class):
            text = options_class.__doc__ or ""
            assert re.search(rf"^        {field.name}: \S.{{8,}}", text, re.MULTILINE), f"{options_class}.{field.name}"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["fit-heads", "--hedas", "linear"], 2, "Did you mean --heads?"),
        (["fit-heads", "--learning-rate", "0.1"], 2, "Did you mean --lr?"),
        (["fit-heads", "--learning_rate=0.1"], 2, "Did you mean --lr?"),
        (["extrct"], 2, 'Did you mean "extract"?'),
        (["extract", "--size", "big"], 2, "--size"),
        (["extract", "--data", "nowhere.csv"], 1, "error: "),
        (["extract"], 1, "error: No data given"),
        (["predict", "photo.jpg"], 2, "--model"),
        (["predict", "photo.jpg", "--model", "none.joblib"], 1, "no model file none.joblib"),
        (["compare", "no-run"], 1, "no run folder no-run"),
        (["fit-heads", "--loss", "bce,cross"], 2, "cross"),
        (["fit-heads", "--preset", "bets"], 1, "no preset named 'bets'"),
        (["cache", "info", "--cache", "nowhere"], 1, "nowhere"),
    ],
)
def test_wrong_usage_is_2_and_expected_errors_are_1_without_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert text in said
    assert len(said.strip().splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_the_exit_code_of_the_process_is_that_of_the_command(tmp_path: Path) -> None:
    done = cli("extract", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: No data given") and len(done.stderr.strip().splitlines()) <= 2


def test_command_line_wins_over_the_config_file_which_wins_over_the_preset(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path)
    config = tmp_path / "flow.yaml"
    config.write_text(
        f"data: {small.data}\ncache: {small.cache}\nbackbone: resnet18\nweights: random:0\n"
        "use: [pooled]\nviews: [identity]\nensemble: 0\nrefit: false\nseed: [0]\n"
        "fit-heads:\n  heads: [linear]\n  optimizers: [sgd]\n  epochs: 2\n  lr: [0.1]\n  out: never\n"
    )
    out = tmp_path / "run"
    words = ["--preset", "best", "--config", str(config), "--out", str(out), "--lr", "0.5,0.25"]
    assert main(["fit-heads", *words]) == 0
    import pandas as pd

    configs = pd.read_csv(out / "configs.csv")
    assert configs["lr"].tolist() == [0.5, 0.25]
    assert set(configs["optimizer"]) == {"sgd"}
    assert set(configs["loss"]) == {"ce"}, "from the preset"


@pytest.mark.parametrize("command", ["extract", "fit-heads", "cache export", "cache prune"])
def test_an_option_of_a_config_file_may_have_the_name_of_a_command(tmp_path: Path, command: str) -> None:
    """`cache` at the top of a file was passed over in silence, because there are commands `cache ...`."""
    (tmp_path / "flow.yaml").write_text("cache: elsewhere\n")
    bound = parse(app, [*command.split(), "--config", str(tmp_path / "flow.yaml")]).keywords
    assert Path("elsewhere") in [getattr(part, "cache", None) for part in bound.values()]


def test_unknown_name_in_a_config_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "flow.yaml"
    config.write_text("fit-heads:\n  epochz: 2\n")
    assert main(["fit-heads", "--config", str(config)]) == 1
    assert "did you mean 'epochs'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["learning-rate: 1\n", "fit-heads:\n  learning_rate: 1\n"])
def test_initials_in_a_config_file_are_understood_as_on_the_command_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "flow.yaml").write_text(text)
    with pytest.raises(PipelineError, match="did you mean 'lr'"):
        parse(app, ["fit-heads", "--config", str(tmp_path / "flow.yaml")])


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def test_a_config_file_cannot_make_predict_run_the_code_of_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, mark, config = tmp_path / "evil.joblib", tmp_path / "ran", tmp_path / "flow.yaml"
    joblib.dump(Evil(mark), model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    other, number = "0" * 64, "1" * 63

    def said(text: str) -> str:
        config.write_text(text)
        assert main(["predict", str(tmp_path), "--config", str(config)]) == 1
        return capsys.readouterr().err

    for section in ("", "sha256: null", "sha256: ''", f"sha256: {number}", "sha256: []"):
        error = said(f"predict:\n  model: {model}\n  {section}\n")
        assert not mark.exists()
        assert f"{config} names the model {model}" in error and "--model" in error
    assert "it was not loaded" in said(f"model: {model}\nsha256: '{other}'\n") and not mark.exists()
    assert "is not a model file" in said(f"predict:\n  model: {model}\n  sha256: {digest}\n") and mark.exists()


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "run.py"), "sample", "cat", "--images", "10"]
    with os.fdopen(writer, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit-heads", "--heads", "linear,mlp"], {"heads": ("linear", "mlp")}),
        (["fit-heads", "--heads=linear,mlp", "--weight_decay", "0,0.1"], {"weight_decay": (0.0, 0.1)}),
        (["fit-heads", "--lr=0.1,2"], {"lr": (0.1, 2.0)}),
        (["fit-heads", "--optimizers", "adam, sgd", "--lr= 1 ,2"], {"optimizers": ("adam", "sgd"), "lr": (1.0, 2.0)}),
        (["fit-heads", "--loss", "bce,ce", "--batch-size", "16,128"], {"loss": ("bce", "ce"), "batch_size": (16, 128)}),
        (["fit-heads", "--schedule=step", "--logit-adjust", "0.5"], {"schedule": ("step",), "logit_adjust": (0.5,)}),
        (["fit-heads", "--label-smoothing=0,0.1"], {"label_smoothing": (0.0, 0.1)}),
        (["extract", "--unknown=-,?"], {"unknown": ("-", "?")}),
        (["cache", "export", "--use", "pooled,levels"], {"use": ("pooled", "levels")}),
        (["cache", "prune", "--drop-key", "abcd,ef01"], {"drop_cache_key": ("abcd", "ef01")}),
    ],
)
def test_commas_separate_the_values_of_an_option(words: list[str], expected: dict[str, object]) -> None:
    bound = parse(app, words).keywords
    found = {name: value for part in bound.values() for name, value in vars(part).items()}
    assert {name: found[name] for name in expected} == expected


def test_commas_separate_values_in_a_config_file_too(tmp_path: Path) -> None:
    config = tmp_path / "flow.yaml"
    config.write_text(
        "weights: package\nseed: 1,2\nfit-heads:\n  heads: linear,mlp\n"
        "  batch-size: 16\n  loss: ce\n  logit-adjust: 0.5\n  schedule: [step, cosine]\n"
    )
    fit = parse(app, ["fit-heads", "--config", str(config)]).keywords["options"]
    assert (fit.heads, fit.seed) == (("linear", "mlp"), (1, 2))
    assert (fit.batch_size, fit.loss, fit.logit_adjust, fit.schedule) == ((16,), ("ce",), (0.5,), ("step", "cosine"))
    predict = parse(app, ["predict", "a.jpg", "--model", "m.joblib", "--config", str(config)]).keywords
    assert predict.get("options", options.PredictOptions()).weights == (), "the model knows its own weights"


@pytest.mark.parametrize(("said", "meant"), [("off", "off"), ("on", "on"), ("no", "off"), ('"off"', "off")])
def test_on_and_off_in_a_config_file_are_words_where_the_option_has_them(tmp_path: Path, said: str, meant: str) -> None:
    config = tmp_path / "flow.yaml"
    config.write_text(f"fit-heads:\n  calibrate: {said}\n  refit: off\n  optimizers: adam, sgd\n")
    fit = parse(app, ["fit-heads", "--config", str(config)]).keywords["options"]
    assert (fit.calibrate, fit.refit, fit.optimizers) == (meant, False, ("adam", "sgd"))


@pytest.mark.parametrize(("preset", "loss", "batch"), [("best", "ce", 256), ("category-head", "ce", 256)])
def test_presets_give_one_loss_and_one_batch_size(preset: str, loss: str, batch: int) -> None:
    fit = parse(app, ["fit-heads", "--preset", preset]).keywords["options"]
    assert (fit.loss, fit.batch_size) == ((loss,), (batch,))


def test_a_run_folder_that_cannot_be_made_costs_no_work_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_catalogue(tmp_path)
    (tmp_path / "file").write_text("in the way")
    places = {"--data": small.data, "--cache": small.cache, "--out": tmp_path / "file" / "run"}
    assert main(["fit-heads", *(str(word) for pair in places.items() for word in pair)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and "file" in said.err and "epoch" not in said.out


def test_an_error_of_the_system_names_the_file_and_a_missing_file_of_ours_is_a_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["sample", str(tmp_path / "file" / "out")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'file' / 'out' / 'images'}: Not a directory\n"

    ours = ROOT / "pipeline" / "gone.css"
    monkeypatch.setattr("pipeline.catalogue.generated.sample.write_sample", lambda *_: ours.read_text())
    with pytest.raises(FileNotFoundError):
        main(["sample", str(tmp_path / "other")])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_of_which_a_library_makes_an_error_is_an_interrupt(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def library(*_: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("the conversion failed") from None

    monkeypatch.setattr("pipeline.catalogue.generated.sample.write_sample", library)
    assert main(["sample", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err.startswith("interrupted; what was finished is kept")
    # It is forgotten with the command.
    assert main(["compare", str(tmp_path / "none")]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["pipeline.cli.main", "cyclopts"])
def test_a_signal_while_the_program_is_being_imported_ends_it_without_a_traceback(
    number: signal.Signals, moment: str
) -> None:
    code = (
        "import signal, sys, run\n"
        "class Signalling:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {moment!r}: signal.raise_signal({int(number)})\n"
        "sys.meta_path.insert(0, Signalling())\n"
        "sys.exit(run.main(['compare', 'none']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "interrupted; nothing was begun\n")


def test_an_interrupt_while_an_error_is_told_is_an_interrupt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(error: BaseException) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.cli.main.told", interrupted)
    assert main(["compare", str(tmp_path / "none")]) == 130
    assert capsys.readouterr().err.startswith("interrupted; what was finished is kept")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "x", "/d/f"),
            "/d/f: No space left on device; free some space, or write to another disk",
        ),
        (OSError("[Errno 28] Error writing bytes to file"), "No space left on device; free some space, or write to"),
        (OSError(errno.EROFS, "x", "/d/f"), "/d/f: Read-only file system; name a folder that can be written"),
        (MemoryError(), "not enough memory; close other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory; "),
        (RuntimeError("can't start new thread"), "not enough memory; "),
    ],
)
def test_what_the_system_refuses_is_told_with_what_to_do(error: Exception, text: str) -> None:
    assert (told(error) or "").startswith(text)


def test_what_a_reader_makes_of_too_little_memory_is_told_as_that() -> None:
    error = PipelineError("x.parquet cannot be read as Parquet: worker thread: Resource temporarily unavailable")
    error.__cause__ = MemoryError()
    assert (told(error) or "").startswith("not enough memory; ")
    assert told(PipelineError("a photo named 'out of memory'")) == "a photo named 'out of memory'"
    assert told(KeyError("a bug")) is None


def test_a_damaged_converted_model_is_named_by_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "features" / "runtimes" / "abc"
    store_converted(folder, lambda into: (into / "model.bin").write_bytes(bytes(64)))
    monkeypatch.chdir(tmp_path)
    assert main(["cache", "verify"]) == 0
    with (folder / "model.bin").open("r+b") as file:
        file.write(b"\x01")
    capsys.readouterr()
    assert main(["cache", "verify"]) == 1
    assert f"converted model {Path('features/runtimes/abc')}: " in capsys.readouterr().out


def test_a_wrong_digest_names_no_cache_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only its first 16 digits were compared, so a key was removed that nobody had named."""
    features = write_catalogue(tmp_path).cache
    digest = FeatureCache(features).keys()[0].digest
    prune = ["cache", "prune", "--cache", str(features), "--drop-cache-key"]
    assert main([*prune, digest[:16] + "0" * 48]) == 1
    assert "names 0 keys" in capsys.readouterr().err
    assert main([*prune, digest]) == 0
    assert digest[:16] in capsys.readouterr().out


def test_prune_wants_to_know_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = str(write_catalogue(tmp_path).cache)
    assert main(["cache", "prune", "--cache", features]) == 1
    assert "nothing to remove was named: give --data" in capsys.readouterr().err
    assert main(["cache", "prune", "--cache", features, "--quarantine"]) == 0


@pytest.mark.parametrize("command", ["info", "verify", "compact", "prune", "export"])
def test_a_folder_of_other_things_is_no_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    assert main(["cache", command, "--cache", "photos"]) == 1
    assert "photos is no embedding cache but an empty folder" in capsys.readouterr().err
    Path("photos/a.jpg").write_bytes(b"")
    assert main(["cache", command, "--cache", "photos"]) == 1
    assert "photos is no embedding cache but a folder of other things, such as a.jpg" in capsys.readouterr().err
    assert [path.name for path in Path("photos").iterdir()] == ["a.jpg"]


def test_a_seed_of_random_weights_is_held_to_its_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = "random:99999999999999999999999"
    assert main(["extract", "--data", str(tmp_path), "--backbone", "test_resnet", "--weights", weights]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_cache_export_loads_no_model_that_a_file_alone_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.joblib").write_bytes(b"")
    Path("x.yaml").write_text("cache export:\n  model: evil.joblib\n")
    assert main(["cache", "export", "--config", "x.yaml"]) == 1
    assert "loading a model runs the code in it" in capsys.readouterr().err
