"""`train`: its steps as data, the whole of it, going on where it was stopped, new photos, `--init`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipeline.catalogue import Catalogue, read_catalogue
from pipeline.cli.app import app
from pipeline.cli.main import main
from pipeline.cli.parameters import FileOptions, TrainOptions
from pipeline.cli.parsing import parse
from pipeline.cli.steps import Steps
from pipeline.cli.training.plan import Request, Training, catalogue_name, plan_training
from pipeline.cli.training.progress import StepTime, Whole, in_words
from pipeline.cli.training.recipe import Recipe, choose_recipe, suited
from pipeline.cli.training.state import TrainingState, begun_with
from pipeline.errors import OptionError, RunError
from pipeline.features.vectors.origin import origins_of
from pipeline.model.file import read_model
from pipeline.options import DataOptions
from pipeline.options.forms.yaml_file import load_yaml
from tests.finetuning.stripes import write_stripes

RECIPE = """
backbone: test_resnet
weights: "random:0"
size: 32
extract: {features: [pooled]}
fit-heads: {heads: [linear], optimizers: [adam], epochs: 3, near-duplicates: 0}
compare: {bootstrap: 50}
"""
TRAIN = ["train", "--data", "stripes", "--config", "recipe.yaml", "--out", "out", "--baselines", "none"]
STEPS = ["extract", "fit-heads", "compare", "predict"]
MODEL = Path("out/runs/heads/models/final.joblib")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a catalogue of stripes and a small recipe, to work in."""
    monkeypatch.chdir(tmp_path)
    write_stripes(tmp_path / "stripes")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    yield tmp_path


def commands_of(text: str) -> list[list[str]]:
    """The commands that a training showed."""
    return [shlex.split(line)[2:] for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE)]


def planned(*words: str, recipe: Recipe | None = None) -> Training:
    bound = parse(app, ["train", *words]).keywords
    request = Request(bound.get("options", TrainOptions()), bound.get("files", FileOptions()), bound["typed"])
    return plan_training(request, recipe or Recipe(None, ""), Steps(app))


def test_typed_words_go_to_the_steps_that_know_them(here: Path) -> None:
    training = planned(
        *("--data", "stripes", "--keys", "tone", "--lr=0.1,0.2", "--lr", "0.3", "--refit", "--views", "identity,hflip"),
        *("--features", "pooled,levels", "--batch-size", "16", "--split", "60/20/20", "--split-seed=3"),
        *("--group-regex", "^(.)", "--dtype", "float16", "--preset", "quick"),
        recipe=Recipe("quick", ""),
    )
    data = ("--preset", "quick", "--data", "stripes", "--attributes", "tone")
    assert training.plan.extractions[0].words == (
        *data, "--features", "pooled,levels", "--views", "identity,hflip", "--dtype", "float16"
    )  # fmt: skip
    (run,) = training.plan.runs
    assert run.words == (
        *data, "--group-regex", "^(.)", "--views", "identity,hflip", "--lr=0.1,0.2", "--lr", "0.3",
        "--batch-size", "16", "--refit", "--use", "pooled,levels", "--final",
    )  # fmt: skip
    assert training.plan.split == ("--split", "60/20/20", "--split-seed=3")
    assert training.fits[0].lr == (0.1, 0.2, 0.3)
    assert training.out == Path("runs/train-stripes")


def test_a_recipe_without_its_baselines_gets_a_run_of_them(here: Path) -> None:
    (here / "flow.yaml").write_text("fit-heads: {group-regex: ^(.)}\n")
    words = ("--data", "stripes", "--cache", "vectors", "--resize", "pad", "--config", "flow.yaml")
    training = planned(*words, recipe=Recipe("best", ""))
    heads, baselines = training.plan.runs
    assert (heads.name, baselines.name) == ("heads", "baselines")
    assert baselines.words == (
        *("--data", "stripes", "--backbone", "tf_efficientnet_lite0", "--weights", "package", "--resize", "pad"),
        *("--cache", "vectors", "--group-regex", "^(.)", "--heads", "logreg", "--use", "pooled"),
        *("--views", "identity", "--thumbnails", "0", "--near-duplicates", "0"),
    )
    assert training.fits[0].ensemble == 3 and training.fits[1].ensemble == 0
    assert [step.name for step in planned("--data", "stripes", "--baselines", "none").plan.runs] == ["heads"]


def test_a_recipe_with_a_section_finetune_begins_with_it(here: Path) -> None:
    (here / "tuned.yaml").write_text(RECIPE + "finetune: {attribute: stripes, epochs: 1}\n")
    recipe = choose_recipe(FileOptions(Path("tuned.yaml")), read_catalogue(DataOptions(data=Path("stripes"))))
    words = ("--data", "stripes", "--config", "tuned.yaml", "--lr", "0.5", "--out", "out", "--resize", "pad", "--final")
    training = planned(*words, recipe=recipe)
    start = ("--config", "tuned.yaml", "--data", "stripes", "--resize", "pad")
    assert training.finetune == (*start, "--out", "out/finetuned")
    frozen, tuned = training.plan.extractions
    assert frozen.words == start
    bound = parse(app, ["extract", *tuned.words]).keywords
    assert (bound["backbone"].weights, bound["backbone"].size) == ("out/finetuned/backbone.safetensors", 32)
    assert bound["options"].features == ("pooled",)
    heads = training.plan.runs[0].words
    assert heads[heads.index("--weights") + 1] == "random:0,out/finetuned/backbone.safetensors"
    assert training.plan.split == ("--split-from", "out/finetuned")
    assert [command for command, _ in training.commands][:3] == ["finetune", "extract", "extract"]


def test_a_network_is_trained_on_squares_that_the_photos_fill(here: Path) -> None:
    def size_of(*words: str, config: str | None = None) -> int:
        files = FileOptions(None if config is None else Path(config), "tuned")
        recipe = choose_recipe(files, read_catalogue(DataOptions(data=Path("stripes"))))
        typed = ("--data", "stripes", "--preset", "tuned", *(() if config is None else ("--config", config)), *words)
        finetune = planned(*typed, recipe=recipe).finetune
        return parse(app, ["finetune", *finetune]).keywords["backbone"].size  # type: ignore[no-any-return]

    assert size_of() == 96
    for path in Path("stripes/images").glob("*.png"):
        if path.name != "p00.png":
            Image.open(path).resize((300, 400)).save(path, compress_level=0)
    assert size_of() == 160
    assert size_of("--size", "128") == 128
    Path("smaller.yaml").write_text("finetune: {size: 64}\n")
    assert size_of(config="smaller.yaml") == 64


@pytest.mark.parametrize("large_before", [False, True])
def test_a_folder_goes_on_with_the_preset_and_square_it_was_begun_with(here: Path, large_before: bool) -> None:
    def plan(preset: str | None) -> Training:
        catalogue = read_catalogue(DataOptions(data=Path("stripes")))
        recipe = choose_recipe(FileOptions(None, preset), catalogue, begun_with(Path("out")))
        return planned("--data", "stripes", "--out", "out", recipe=recipe)

    def resize(width: int, height: int) -> None:
        for path in sorted(Path("stripes/images").glob("*.png"))[1:]:  # the first is no picture
            Image.open(path).resize((width, height)).save(path)

    sizes = [(300, 400), (30, 40)]
    resize(*sizes[not large_before])
    Path("out").mkdir()
    begun = plan("tuned")
    assert ("--size" in begun.finetune) == large_before
    TrainingState(begun).begin("digest")
    assert plan(None).commands == begun.commands
    resize(*sizes[large_before])
    assert plan("tuned").commands == plan(None).commands == begun.commands


def test_the_refit_and_the_final_model_see_networks_that_were_trained_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "recipe.yaml").write_text(
        RECIPE.replace(
            "heads: [linear]", "heads: [linear, network], vectors: [each], loss: ce, ensemble: 2, refit: true"
        )
        + "finetune: {epochs: 1, batch-size: 12, device: cpu, refit: true, final: true}\n"
    )
    assert main(TRAIN) == 0
    text = capsys.readouterr().out
    shown = commands_of(text)
    assert [words[0] for words in shown] == ["finetune", *["extract"] * 3, *STEPS]
    assert re.search(r"from here on this machine, as it is now \(finetune .*\n(.*\n)*\$ .*finetune", text)
    first, last = (read_model(MODEL.with_name(name)) for name in ("best.joblib", "final.joblib"))
    of_first, of_last = ([origin.weights_source for origin in origins_of(model)] for model in (first, last))
    tuned, refit, final = (f"out/finetuned/{folder}backbone.safetensors" for folder in ("", "refit/", "final/"))
    assert refit in of_first and not {tuned, final} & {*of_first}
    assert final in of_last and not {tuned, refit} & {*of_last}
    fit = next(words for words in shown if words[0] == "fit-heads")
    assert fit[fit.index("--refit-weights") + 1] == "random:0,out/finetuned/refit/backbone.safetensors"
    assert fit[fit.index("--final-weights") + 1] == "random:0,out/finetuned/final/backbone.safetensors"
    assert main(TRAIN) == 0
    assert "everything was done before" in capsys.readouterr().out


def test_backbones_beside_the_recipes_own_have_heads_of_their_own(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "recipe.yaml").write_text(
        RECIPE.replace(
            "heads: [linear]",
            "heads: [linear, network], vectors: ['1'], loss: ce, ensemble: 2, ensemble-from: each-head",
        )
        + "finetune: {epochs: 1, batch-size: 12, device: cpu, final: true}\n"
    )
    assert main([*TRAIN, "--beside", "test_efficientnet"]) == 0
    shown = commands_of(capsys.readouterr().out)
    assert [words[0] for words in shown] == ["finetune", *["extract"] * 3, *STEPS]
    extracted = [words[words.index("--backbone") + 1] for words in shown[1:5] if "--backbone" in words]
    assert extracted == ["test_efficientnet", "test_resnet", "test_resnet"]
    fit = next(words for words in shown if words[0] == "fit-heads")
    said = {name: fit[fit.index(name) + 1] for name in ("--backbone", "--weights", "--final-weights", "--vectors")}
    assert said == {
        "--backbone": "test_resnet,test_efficientnet,test_resnet",
        "--weights": "random:0,random:0,out/finetuned/backbone.safetensors",
        "--final-weights": "random:0,random:0,out/finetuned/final/backbone.safetensors",
        "--vectors": "1,2",
    }
    model = read_model(MODEL)
    assert [origin.cache_key["architecture"] for origin in origins_of(model)] == [
        "test_resnet", "test_efficientnet", "test_resnet"
    ]  # fmt: skip
    spans = sorted((*member["columns"], member["weight"]) for member in model["members"])
    first, second, network = (share for *_, share in spans)
    assert first == pytest.approx(second) and 0 < network < 2
    assert first + second + network == pytest.approx(2), "two heads, of which validation weighs one against the other"
    assert len({start for start, *_ in spans}) == 3


@pytest.mark.parametrize(
    ("heads", "typed", "vectors"),
    [
        ("{vectors: ['1'], ensemble: 2}", (), ("1", "2")),
        ("{ensemble: 2}", (), ("each",)),
        ("{}", (), ("joined",)),
        ("{vectors: ['2'], ensemble: 2}", (), ("2",)),
        ("{ensemble: 2}", ("--vectors", "joined,each"), ("joined", "each")),
    ],
)
def test_heads_see_the_backbones_beside_as_the_recipe_averages(
    here: Path, heads: str, typed: tuple[str, ...], vectors: tuple[str, ...]
) -> None:
    (here / "recipe.yaml").write_text(RECIPE.split("fit-heads:")[0] + f"fit-heads: {heads}\n")
    words = ("--data", "stripes", "--config", "recipe.yaml", "--beside", "test_vit")
    training = planned(*words, *typed)
    assert training.fits[0].vectors == vectors and training.frozen == 2
    baselines = training.plan.runs[1].words
    assert baselines[baselines.index("--backbone") + 1] == "test_resnet"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--beside", "test_resnet"), "names test_resnet twice"),
        (("--beside", "test_vit,test_vit"), "names test_vit twice"),
        (("--beside", "test_vit", "--weights", "w.safetensors"), "w.safetensors are a file"),
        (("--beside", "test_vitt"), "test_vitt"),
    ],
)
def test_backbones_that_cannot_stand_beside_it(
    here: Path, words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, *words]) == 1
    assert text in capsys.readouterr().err
    TrainingState(planned(*TRAIN[1:])).begin("digest")  # the folder is free for the right words


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--lrr", "0.1"], 2, "Did you mean --lr"),
        (["--preset", "bets"], 1, "no preset named 'bets'"),
        (["--epochs", "-3"], 1, "--epochs is -3"),
        (["--attributes", "neck"], 1, "neck"),
    ],
)
def test_what_cannot_work_is_said_before_any_step(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    assert main(["train", "--data", "stripes", *words]) == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert "$ python" not in shown.out and not Path("runs").exists()


def test_a_section_train_of_a_file_holds_what_is_its_own(here: Path) -> None:
    (here / "flow.yaml").write_text("out: never\ntrain: {out: mine, baselines: none}\n")
    bound = parse(app, ["train", "--config", "flow.yaml"]).keywords["options"]
    assert (bound.out, bound.baselines) == (Path("mine"), ("none",))
    (here / "flow.yaml").write_text("train: {lr: 0.1}\n")
    with pytest.raises(OptionError, match="section train: unknown option 'lr'"):
        parse(app, ["train", "--config", "flow.yaml"])


def test_a_training_goes_on_after_each_stop_and_ends_with_the_same_model(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*TRAIN[:-4], "--out", "whole", "--baselines", "none"]) == 0
    text = capsys.readouterr().out
    assert [words[0] for words in commands_of(text)] == STEPS
    assert "step 2 of 4, fit-heads, heads: " in text and "about " in text
    assert "fit on all 47 photos; measured before on" in text
    last = dict(line.split(None, 1) for line in text.strip().splitlines()[-4:])
    assert all(Path(path).is_file() for path in last.values())
    shutil.rmtree("features")

    run = Steps.run
    for stop in STEPS:

        def stopped(self: Steps, *words: str, stop: str = stop) -> None:
            if words[0] == stop:
                raise KeyboardInterrupt
            run(self, *words)

        monkeypatch.setattr(Steps, "run", stopped)
        assert main(TRAIN) == 130
    monkeypatch.setattr(Steps, "run", run)
    capsys.readouterr()
    assert main(TRAIN) == 0
    assert [words[0] for words in commands_of(capsys.readouterr().out)] == ["predict"], "the rest was finished"
    assert MODEL.read_bytes() == (Path("whole") / MODEL.relative_to("out")).read_bytes()
    assert main(TRAIN) == 0
    assert "everything was done before" in capsys.readouterr().out


def test_new_photos_and_labels_are_trained_on_and_the_runs_before_are_kept(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TRAIN) == 0
    before = MODEL.read_bytes()
    shutil.copy("stripes/images/p01.png", "stripes/images/p99.png")
    with Path("stripes/images/p99.png").open("ab") as photo:
        photo.write(b"another")
    with Path("stripes/attributes.csv").open("a") as table:
        table.write("p99.png,down,dark\n")
    capsys.readouterr()
    assert main(TRAIN) == 0
    text = capsys.readouterr().out
    assert "photos or labels have changed: the runs before are now in out/earlier/1" in text
    assert "0 computed, 48 already cached" in text, "the new one was computed for the estimate"
    assert Path("out/earlier/1/heads/models/final.joblib").read_bytes() == before
    assert read_model(MODEL)["info"]["photos"] == 48
    assert "compare out/earlier/1/heads out/runs/heads" in text


def test_another_training_and_other_things_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    assert main(TRAIN) == 1
    assert "out holds something that is no training (notes.txt)" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["notes.txt"]
    Path("out/notes.txt").unlink()
    assert main(TRAIN) == 0
    capsys.readouterr()
    assert main([TRAIN[0], *TRAIN[-2:], *TRAIN[1:-2]]) == 0, "the order of the words is nothing"
    assert main([*TRAIN, "--lr", "0.5"]) == 1
    error = capsys.readouterr().err
    assert "out was begun with other options" in error and "--lr 0.5" in error
    Path("out/train.json").write_text("{")
    assert main(TRAIN) == 1
    assert "out/train.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        *("[]", '{"format": "x"}', '{"format": "selvedge-training", "asked": [[1]]}'),
        '{"format": "selvedge-training", "recipe": "../x", "asked": [], "catalogue": "", "done": {}}',
    ],
)
def test_a_damaged_record_is_a_named_error(here: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/train.json").write_text(content)
    assert main(TRAIN) == 1
    assert re.match(r"error: out/train.json( cannot be read|: the recipe '../x' holds '/')", capsys.readouterr().err)


def catalogue_of(photos: int, cells: dict[str, list[tuple[str, ...] | None]]) -> Catalogue:
    names = [f"{i}.jpg" for i in range(photos)]
    return Catalogue(Path(), names, [Path(name) for name in names], tuple(cells), cells)


def test_the_recipe_suits_the_catalogue() -> None:
    letters = [(letter,) for letter in "abcd"]
    single, several = [letters[i % 4] for i in range(400)], [(("a", "b") if i % 2 else ("a",)) for i in range(400)]
    plenty = 2**40
    assert suited(catalogue_of(40, {"class": list(single[:40])}), plenty)[0] == "quick"
    assert suited(catalogue_of(400, {"class": list(single)}), plenty)[0] == "category-head"
    assert suited(catalogue_of(400, {"class": list(several)}), plenty)[0] == "best"
    assert suited(catalogue_of(400, {"neck": list(single), "sleeve": list(single)}), plenty)[0] == "best"
    assert suited(catalogue_of(400, {"neck": list(single), "sleeve": list(single)}), 2**20)[0] == "quick"


def test_a_file_that_says_how_heads_are_fit_is_the_recipe(here: Path) -> None:
    catalogue = read_catalogue(DataOptions(data=Path("stripes")))
    assert choose_recipe(FileOptions(config=Path("recipe.yaml")), catalogue).preset is None
    Path("data.yaml").write_text("data: stripes\n")
    assert choose_recipe(FileOptions(config=Path("data.yaml")), catalogue).preset == "quick"
    assert choose_recipe(FileOptions(config=Path("data.yaml")), catalogue, Recipe("best", "")).preset == "best"
    assert choose_recipe(FileOptions(preset="best"), catalogue).preset == "best"


def test_init_writes_the_catalogue_that_was_found_and_trains_from_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path("stripes/attributes.csv")
    table.write_text(table.read_text().replace("light", '"li: ""#\nght"') + "gone.png,plain,dark\n")
    assert main(["train", "--data", "stripes", "--init"]) == 0
    assert capsys.readouterr().out.strip().endswith("python run.py train --config stripes.yaml")
    text = Path("stripes.yaml").read_text()
    assert load_yaml(Path("stripes.yaml")) == {"data": "stripes", "attributes": ["stripes", "tone"]}
    for part in ("# 48 photos with labels", "plain (14)", "unknown on 4 photos", "missing-photo (1)", "recipe quick"):
        assert part in text, part
    words = ["extract", "--config", "stripes.yaml"]
    found = read_catalogue(parse(app, words).keywords["data"])
    assert found.digest == read_catalogue(DataOptions(data=Path("stripes"))).digest
    assert main(["train", "--data", "stripes", "--init"]) == 1
    assert "stripes.yaml exists and may have been edited" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_whole_is_told_by_what_each_step_was_expected_to_take() -> None:
    now = [0.0]
    whole = Whole([StepTime("extract", 60.0), StepTime("fit-heads", 40.0)], clock=lambda: now[0])
    assert whole.begin() == "step 1 of 2, extract: 0% of all, about 1 min 40 s left"
    now[0] = 30.0
    assert whole.said(None) == "30% of all, about 1 min 10 s left"
    assert whole.said(0.25) == "19% of all, about 2 min 10 s left", "slower than expected: 90 s more, then 40 s"
    whole.end()
    assert whole.begin().startswith("step 2 of 2, fit-heads: 43% of all, about 40 s left")
    now[0] = 100.0
    whole.end()
    assert (whole.expected, whole.took) == (100.0, 100.0)


@pytest.mark.parametrize(
    ("place", "name"),
    [("a/spring.csv", "spring"), ("a/spring/images", "spring"), ("a/v1.2", "v1.2"), ("a/spring/data", "spring")],
)
def test_a_training_is_called_after_its_catalogue(here: Path, place: str, name: str) -> None:
    path = Path(place)
    (path.parent if path.suffix == ".csv" else path).mkdir(parents=True)
    if path.suffix == ".csv":
        path.write_text("")
    assert catalogue_name(DataOptions(data=path)) == name


@pytest.mark.parametrize(("seconds", "text"), [(8.4, "8 s"), (200, "3 min 20 s"), (7530, "2 h 5 min")])
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert in_words(seconds) == text


def test_two_trainings_of_one_folder_do_not_mix(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.system import only_writer

    Path("out").mkdir()
    with only_writer(Path("out"), RunError):
        assert main(TRAIN) == 1
    assert "another process is writing into out" in capsys.readouterr().err


def test_the_record_says_what_was_asked_and_what_is_done(here: Path) -> None:
    assert main(TRAIN) == 0
    record = json.loads(Path("out/train.json").read_text())
    assert record["asked"][0][0] == "extract" and record["recipe"] is None
    assert record["done"] == {"compare": "out/report.html", "predict": "out/predictions.csv"}
