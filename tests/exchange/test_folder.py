"""A model as a folder: the same numbers as the joblib file, damage seen, and nothing in it that could ever run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from lightgbm import LGBMClassifier
from safetensors.numpy import load, save
from sklearn.linear_model import SGDClassifier
from sklearn.multioutput import MultiOutputClassifier

from pipeline.errors import HeadError, ModelFileError
from pipeline.heads.baselines.trees import read_trees
from pipeline.model.file import proba, read_model, save_model
from pipeline.model.folder.read import SEAL, seal_of
from pipeline.model.folder.write import write_parts
from pipeline.model.predictor import load_model
from tests.exchange.models import NAMES, model_of
from tests.model.test_file import make_model
from tests.mutations import mutated


def written(model: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_parts(model, folder)
    return folder


def rewritten(folder: Path, content: Any = None, tensors: dict[str, np.ndarray] | None = None) -> None:
    """Change a folder as somebody would who knows the format: every digest fits what stands there then."""
    said = json.loads((folder / "model.json").read_text()) if content is None else content
    arrays = load((folder / "weights.safetensors").read_bytes()) if tensors is None else tensors
    if isinstance(said, dict):
        with contextlib.suppress(ValueError):
            arrays[SEAL] = np.frombuffer(seal_of(said), np.uint8)
        (folder / "weights.safetensors").write_bytes(save(arrays))
        if isinstance(said.get("files"), dict) and "weights.safetensors" in said["files"]:
            said["files"]["weights.safetensors"] = _sha256(folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(said))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_gives_the_probabilities_of_the_file(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    save_model(model, tmp_path / "m.joblib")
    of_file, of_folder = read_model(tmp_path / "m.joblib"), read_model(written(model, tmp_path / "m"))
    X = np.random.default_rng(0).normal(size=(50, model["selftest"]["X"].shape[1])).astype(np.float32)
    X = np.concatenate([X, model["selftest"]["X"]])
    # The library of a baseline rounds in another order.
    np.testing.assert_allclose(proba(of_folder, X), proba(of_file, X), rtol=0, atol=1e-7)
    for field in set(of_file) - {"members", "info", "sealed", "thresholds", "selftest"}:
        assert of_folder[field] == of_file[field], field
    assert (of_folder["thresholds"] == of_file["thresholds"]).all()


def test_every_field_comes_back(tmp_path: Path) -> None:
    model = make_model()
    read = read_model(written(model, tmp_path / "m"))
    assert read.keys() == model.keys()
    assert read["gate"] == model["gate"] and read["labels"] == model["labels"]
    assert [path.name for path in sorted((tmp_path / "m").iterdir())] == ["model.json", "weights.safetensors"]


def test_a_read_folder_can_be_written_again(tmp_path: Path) -> None:
    for name in ("lightgbm", "logreg", "kernel-ridge"):
        first = written(model_of(name), tmp_path / name)
        again = written(read_model(first), tmp_path / f"{name}-again")
        assert sorted(p.name for p in first.rglob("*")) == sorted(p.name for p in again.rglob("*"))
        for path in first.rglob("*.*"):
            assert path.read_bytes() == (again / path.relative_to(first)).read_bytes()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _as_model_json(folder: Path, evil: Evil) -> Path:
    joblib.dump(evil, folder / "model.json")
    return folder


def _as_model_json_named_itself(folder: Path, evil: Evil) -> Path:
    joblib.dump({"format": "selvedge-model", "x": evil}, folder / "model.json")
    return folder / "model.json"


def _as_weights(folder: Path, evil: Evil) -> Path:
    (folder / "weights.safetensors").write_bytes(pickle.dumps(evil))
    said = json.loads((folder / "model.json").read_text())
    said["files"]["weights.safetensors"] = _sha256(folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(said))
    return folder


def _as_weights_named_itself(folder: Path, evil: Evil) -> Path:
    return _as_weights(folder, evil) / "weights.safetensors"


def _as_zip(folder: Path, evil: Evil) -> Path:
    _as_weights(folder, evil)
    with zipfile.ZipFile(folder / "weights.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(evil))
    said = json.loads((folder / "model.json").read_text())
    said["files"]["weights.safetensors"] = _sha256(folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(said))
    return folder


def _as_trees(folder: Path, evil: Evil) -> Path:
    said = json.loads((folder / "model.json").read_text())
    name = next(each for each in said["files"] if each.startswith("trees/"))
    (folder / name).write_bytes(pickle.dumps(evil, protocol=0))
    said["files"][name] = _sha256(folder / name)
    rewritten(folder, said)
    return folder


@pytest.mark.parametrize(
    "place",
    [
        _as_model_json,
        _as_model_json_named_itself,
        _as_weights,
        _as_weights_named_itself,
        _as_zip,
        _as_trees,
    ],
)
def test_a_malicious_pickle_in_a_files_place_does_not_run(place: Any, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "ran")
    path = place(written(model_of("lightgbm"), tmp_path / "m"), evil)
    with pytest.raises(ModelFileError):
        read_model(path)
    assert not evil.mark.exists()
    pickle.loads(pickle.dumps(evil))
    assert evil.mark.exists(), "it would have run"


def test_a_pickle_beside_the_files_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(model_of("logreg"), tmp_path / "m")
    for name in ("model.joblib", "m.joblib", "trees/0-0.txt", "model.pkl"):
        (folder / name).parent.mkdir(exist_ok=True)
        joblib.dump(Evil(tmp_path / "ran"), folder / name)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was unpickled")

    for module, name in ((joblib, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, never)
    assert read_model(folder)["keys"] == ["a0", "a1", "a2"]
    assert not (tmp_path / "ran").exists()


def test_another_object_than_the_known_baselines_is_refused(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(20, 5))
    other = MultiOutputClassifier(SGDClassifier(loss="log_loss")).fit(X, (X[:, :3] > 0).astype(int))
    model = make_model() | {"members": [{"kind": "estimator", "estimator": other}]}
    (tmp_path / "m").mkdir()
    with pytest.raises(HeadError, match="only logistic regression and LightGBM .* found MultiOutputClassifier of SGDC"):
        write_parts(model, tmp_path / "m")
    assert not list((tmp_path / "m").iterdir())


@pytest.mark.parametrize("name", ["lightgbm", "ensemble"])
def test_whatever_the_json_says_is_a_model_or_a_named_error(name: str, tmp_path: Path) -> None:
    folder = written(model_of(name), tmp_path / "m")
    said, arrays = json.loads((folder / "model.json").read_text()), load((folder / "weights.safetensors").read_bytes())
    read = 0
    for seed in range(150):
        changed, what = mutated(said, seed)
        rewritten(folder, changed, dict(arrays))
        try:
            model = read_model(folder)
        except ModelFileError:
            continue
        assert model["format"] == "selvedge-model", what
        read += 1
    assert read < 100


def test_a_change_that_the_digests_do_not_know_is_seen(tmp_path: Path) -> None:
    folder = written(model_of("lightgbm"), tmp_path / "m")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for at in np.linspace(0, len(whole) - 1, 25).astype(int).tolist():
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            with pytest.raises(ModelFileError):
                read_model(folder)
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelFileError):
            read_model(folder)
        path.unlink()
        with pytest.raises(ModelFileError):
            read_model(folder)
        path.write_bytes(whole)
    assert read_model(folder)


def test_thresholds_that_were_edited_are_seen(tmp_path: Path) -> None:
    folder = written(make_model(), tmp_path / "m")
    said = json.loads((folder / "model.json").read_text())
    said["model"]["thresholds"][0] = 0.99
    (folder / "model.json").write_text(json.dumps(said))
    with pytest.raises(ModelFileError, match="are not of one model, or one of them is damaged"):
        read_model(folder)


def _wrong(name: str, change: Any) -> Any:
    return lambda arrays: arrays.update({name: change(arrays[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("members.0.weight"), r"has no 'members\.0\.weight'; it is not whole"),
        (lambda arrays: arrays.update(more=np.zeros(3)), "holds 'more', which its model.json does not name"),
        (_wrong("members.0.weight", lambda W: W[:-1]), r"expected finite ones of float64 \(96, 9\) and \(9,\)"),
        (_wrong("members.0.bias", lambda b: b * np.nan), "expected finite ones of float64"),
        (_wrong("selftest.X", lambda X: X[:, 1:]), r"selftest: X has the shape \(4, 95\); expected \(4, 96\)"),
        (_wrong("selftest.P", lambda P: 1 - P), "fails its self-test"),
    ],
)
def test_a_wrong_array_is_named(change: Any, message: str, tmp_path: Path) -> None:
    folder = written(model_of("logreg"), tmp_path / "m")
    arrays = load((folder / "weights.safetensors").read_bytes())
    change(arrays)
    rewritten(folder, tensors=arrays)
    with pytest.raises(ModelFileError, match=message):
        read_model(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("left_child=", "left_child=0 "),
        ("num_cat=0", "num_cat=1"),
        ("is_linear=0", "is_linear=1"),
        ("objective=binary sigmoid:1", "objective=multiclass num_class:2"),
        ("max_feature_idx=95", "max_feature_idx=94"),
        ("decision_type=2", "decision_type=1"),
        ("split_feature=", "split_feature=9999999999999999999999 "),
        ("leaf_value=", "leaf_value=nan "),
        ("threshold=", "threshold=inf "),
        ("num_leaves=", "num_leaves=-"),
        ("end of trees", "end"),
        ("Tree=1", "Tree=7"),
    ],
)
def test_trees_that_lead_astray_are_refused(old: str, new: str, tmp_path: Path) -> None:
    folder = written(model_of("lightgbm"), tmp_path / "m")
    text = max((path.read_text() for path in (folder / "trees").iterdir()), key=len)
    assert old in text
    read_trees(text, 96)
    with pytest.raises(ValueError):
        read_trees(text.replace(old, new), 96)


@pytest.fixture(scope="module")
def boosted() -> tuple[LGBMClassifier, np.ndarray]:
    """Trees of several splits, and what they were fitted on."""
    X = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)
    return LGBMClassifier(n_estimators=20, num_leaves=8, verbose=-1, n_jobs=1).fit(X, y), X


def test_trees_read_from_text_say_what_lightgbm_says(boosted: tuple[LGBMClassifier, np.ndarray]) -> None:
    model, X = boosted
    trees = read_trees(model.booster_.model_to_string(), 5)
    more = np.concatenate(
        [X, 3 * np.random.default_rng(1).normal(size=(400, 5)), trees.thresholds[:, None] + np.zeros(5)]
    )
    more = more.astype(np.float32)
    np.testing.assert_allclose(trees.probabilities(more), model.predict_proba(more)[:, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("child", ["0", "-99", "99"])
def test_a_walk_through_trees_cannot_turn_in_a_circle(child: str, boosted: tuple[LGBMClassifier, np.ndarray]) -> None:
    text = boosted[0].booster_.model_to_string()
    changed = re.sub(r"\nleft_child=\S+", f"\nleft_child={child}", text, count=1)
    assert changed != text
    with pytest.raises(ValueError, match="leads to"):
        read_trees(changed, 5)


def test_a_file_outside_the_folder_is_never_named(tmp_path: Path) -> None:
    folder = written(model_of("lightgbm"), tmp_path / "m")
    (tmp_path / "secret.txt").write_text("x")
    for name in ("../secret.txt", "trees/../../secret.txt", "/etc/passwd", "trees/x.txt", "trees/0-0.txt\0"):
        said = json.loads((folder / "model.json").read_text())
        said["files"][name] = _sha256(tmp_path / "secret.txt")
        (tmp_path / "changed").mkdir(exist_ok=True)
        shutil.copytree(folder, tmp_path / "changed", dirs_exist_ok=True)
        rewritten(tmp_path / "changed", said)
        with pytest.raises(ModelFileError, match="no part of a model|cannot be read"):
            read_model(tmp_path / "changed")


def test_a_trusted_digest_is_that_of_model_json(tmp_path: Path) -> None:
    folder = written(make_model(), tmp_path / "m")
    assert read_model(folder, _sha256(folder / "model.json").upper())
    with pytest.raises(ModelFileError, match="not 00 as asked; the model was not loaded"):
        read_model(folder, "00")


def test_a_folder_that_has_changed_is_read_again(tmp_path: Path) -> None:
    folder = written(model_of("linear"), tmp_path / "m")
    first = load_model(folder)
    assert load_model(folder) is first and load_model(folder / "model.json") is not None
    written(model_of("mlp"), folder)
    assert load_model(folder).predictor.model["info"]["head"] == "mlp"


def test_a_folder_without_model_json_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best.joblib").touch()
    with pytest.raises(ModelFileError, match="is a run folder, its best model is"):
        read_model(tmp_path)
