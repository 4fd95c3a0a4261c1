"""The model file: what is in it, what is refused, and the program that uses it with everything else blocked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.errors import ModelFileError
from pipeline.model.file import (
    Decision,
    FeatureOrigin,
    Parts,
    build_model,
    decisions,
    proba,
    read_model,
    save_model,
    schema_of,
)
from pipeline.model.predictor import Predictor
from pipeline.options import PredictOptions
from tests.model.snippet import SNIPPET
from tests.mutations import ARRAYS, mutated

SCHEMA = LabelSchema(
    attributes=("category", "neck", "style"),
    values=(("shirt", "skirt"), ("round", "v", UNKNOWN), ("plain", "casual", "sporty")),
    single=(True, True, False),
    gate={"shirt": ("neck", "style"), "skirt": ("style",)},
    category_attribute="category",
)
ORIGIN = FeatureOrigin(
    blocks=[{"name": "pooled", "dim": 3, "digest": "aa"}, {"name": "levels", "dim": 2, "digest": "bb"}],
    cache_key={"architecture": "resnet18", "size": 224, "mean": (0.5, 0.5, 0.5)},
    weights_source="random:0",
)


def dense(rng: np.random.Generator, *widths: int) -> dict[str, Any]:
    layers = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in pairwise(widths)]
    return {"kind": "dense", "layers": layers, "hidden": "relu"}


def kernel(rng: np.random.Generator, weight: float) -> dict[str, Any]:
    landmarks = rng.normal(size=(7, 5)).astype(np.float16)
    arrays = {"offset": rng.normal(size=5), "scale": 0.3 + rng.random(5), "landmarks": landmarks}
    return {"kind": "kernel", **arrays, **dense(rng, 7, 8), "weight": weight} | {"kind": "kernel"}


def make_model(
    members: int = 2, schema: LabelSchema = SCHEMA, views: tuple[str, ...] = ("identity",)
) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    parts = Parts(
        [dense(rng, 5, schema.size), dense(rng, 5, 4, 3, schema.size)][:members],
        ["softmax" if single else "sigmoid" for single in schema.single],
        {"head": "linear", "lr": np.float64(0.1)},
    )
    thresholds = np.linspace(0.0, 0.6, schema.size)
    origin = replace(ORIGIN, views=views)
    return build_model(schema, parts, Decision(thresholds, "per-label"), origin, rng.normal(size=(6, 5)))


def test_what_comes_back_is_what_was_saved(tmp_path: Path) -> None:
    model = make_model()
    digest = save_model(model, tmp_path / "models" / "best.joblib")
    read = read_model(tmp_path / "models" / "best.joblib", sha256=digest)
    assert schema_of(read) == SCHEMA
    X = np.random.default_rng(5).normal(size=(7, 5)).astype(np.float32)
    assert (proba(read, X) == proba(model, X)).all()
    assert read["decision"] == "per-label"
    assert read["cache_key"] == {"architecture": "resnet18", "size": 224, "mean": [0.5, 0.5, 0.5]}
    assert [block["order"] for block in read["blocks"]] == [0, 1]
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["best.joblib", "best.joblib.sha256"]


def test_probabilities_by_hand() -> None:
    schema = LabelSchema(("neck", "style"), (("round", "v"), ("plain",)), (True, False))
    origin = FeatureOrigin([{"name": "pooled", "dim": 1, "digest": "aa"}], {}, "hub")
    W1, W2 = np.array([[1.0, -1.0]]), np.array([[np.log(3.0), 0.0, 0.0], [0.0, 0.0, np.log(3.0)]])
    member = {"kind": "dense", "layers": [(W1, np.zeros(2)), (W2, np.zeros(3))], "hidden": "relu"}
    model = build_model(
        schema, Parts([member], ["softmax", "sigmoid"]), Decision([0, 0, 0.5], "best"), origin, np.ones((1, 1))
    )
    # x = 1: hidden (1, 0), logits (log 3, 0 | 0); x = -1: hidden (0, 1), logits (0, 0 | log 3).
    assert proba(model, np.array([[1.0], [-1.0]])) == pytest.approx(np.array([[0.75, 0.25, 0.5], [0.5, 0.5, 0.75]]))
    assert model["selftest"]["X"].shape == (4, 1)


def test_only_builtins_and_arrays_are_stored() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                assert type(name) is str
                check(item)
        elif isinstance(value, list | tuple):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in (bool, int, float, str, np.ndarray), type(value)

    check(make_model())


def test_digest_file_is_what_sha256sum_checks(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    digest = save_model(make_model(), path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (tmp_path / "m.joblib.sha256").read_text() == f"{digest}  m.joblib\n"


def test_block_diagonal_weights_are_compressed(tmp_path: Path) -> None:
    def saved(W: np.ndarray) -> int:
        model = {"members": [{"kind": "dense", "layers": [(W, np.zeros(W.shape[1]))]}]}
        save_model(model, tmp_path / "m.joblib")
        return (tmp_path / "m.joblib").stat().st_size

    block = np.kron(np.eye(8), np.ones((32, 32))).astype(np.float32)
    assert saved(block) < block.nbytes / 10
    assert saved(np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)) > block.nbytes


def _break(change: Any) -> dict[str, Any]:
    model = make_model()
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("links"), "links is not there; the file is not whole"),
        (lambda m: m.pop("selftest"), "no 'selftest'"),
        (lambda m: m.update(format="else"), "not a model file of this program .*found 'else'"),
        (lambda m: m.update(version=4), "version 4, this program reads 3; update this program"),
        (lambda m: m.update(version="0"), "version '0'.*fit the model again"),
        (
            lambda m: m.update(links=["softmax", "tanh", "sigmoid"]),
            r"links\[1\] is 'tanh'; expected one of sigmoid, softmax",
        ),
        (lambda m: m.update(single=[True]), "3 attributes, 1 entries in 'single'"),
        (lambda m: m.update(thresholds=np.zeros(3)), r"thresholds has the shape \(3,\); expected \(8,\)"),
        (lambda m: m.update(members=[]), "members has 0 entries; expected 1 or more"),
        (lambda m: m["labels"].reverse(), "not grouped in the order of attributes"),
        (lambda m: m["members"][0].update(hidden="tanh"), "kind 'tanh'; this program knows 'relu'"),
        (lambda m: m["members"][0].update(kind="graph"), "neither 'dense' or 'kernel' with layers nor 'estimator'"),
        (lambda m: m["members"][0].update(kind="kernel"), "member 0: offset is a NoneType"),
        (lambda m: m["members"][0].update(weight=0), "member 0 has the weight 0; expected a number above 0"),
        (lambda m: m["members"][1]["layers"].pop(), "member 1: 3 outputs for 8 labels"),
        (lambda m: m["blocks"][0].update(dim=4), r"expected W \(6, m\) and b \(m,\), found \(5, 8\)"),
        (lambda m: m["members"][0]["layers"][0][1].fill(np.nan), "not all numbers are finite"),
        (lambda m: m["members"][0]["layers"][0][1].fill(9), "fails its self-test: probabilities differ"),
        (lambda m: m["selftest"].update(P=np.zeros((4, 2))), r"selftest: P has the shape \(4, 2\); expected \(4, 8\)"),
        (lambda m: m["thresholds"].fill(0.99), "decides other values"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: Any, message: str) -> None:
    save_model(_break(change), tmp_path / "m.joblib")
    with pytest.raises(ModelFileError, match=message):
        read_model(tmp_path / "m.joblib")


def test_whatever_a_model_file_holds_is_a_model_or_a_named_error(tmp_path: Path) -> None:
    path, refused = tmp_path / "m.joblib", 0
    for seed in range(400):
        changed, what = mutated(make_model(), seed, ARRAYS)
        joblib.dump(changed, path)
        try:
            model = read_model(path)
            P = proba(model, model["selftest"]["X"])
            assert np.isfinite(P).all() and decisions(model, P).dtype == bool
            Predictor(model, PredictOptions(threshold="0.5"))
        except ModelFileError as error:
            refused += 1
            assert "m.joblib" in str(error) and len(str(error)) < 400, what
        except Exception as error:
            raise AssertionError(f"mutation {seed}, {what}: {error!r}") from error
    assert refused > 200


@pytest.mark.parametrize("wrong", ["fit", None, 3])
def test_an_estimator_that_cannot_predict_is_a_named_error(tmp_path: Path, wrong: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    estimator = LogisticRegression()
    if wrong == "fit":
        estimator.fit(np.zeros((4, 2)) + np.arange(4)[:, None], [0, 1, 0, 1])
    model = make_model() | {"members": [{"kind": "estimator", "estimator": estimator if wrong != 3 else Hollow()}]}
    joblib.dump(model, tmp_path / "m.joblib")
    with pytest.raises(ModelFileError, match=r"m\.joblib: .*estimator.* cannot predict .*fit the model again"):
        read_model(tmp_path / "m.joblib")


class Hollow:
    """Looks like an estimator."""

    def predict_proba(self, X: np.ndarray) -> str:
        return "no"


def test_a_damaged_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    save_model(make_model(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(ModelFileError, match=r"is damaged: its SHA-256 is .* m\.joblib\.sha256 says"):
        read_model(path)
    (tmp_path / "m.joblib.sha256").unlink()
    with pytest.raises(ModelFileError, match="is damaged: the digest at its end is gone"):
        read_model(path)
    path.write_bytes(whole[:-400])
    with pytest.raises(ModelFileError, match="cannot be read as a joblib file"):
        read_model(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_changed_byte_is_seen_without_the_digest_beside_it(tmp_path: Path, compressed: bool) -> None:
    model, path = make_model(), tmp_path / "m.joblib"
    if compressed:
        for member in model["members"]:
            member["layers"] = [(W * 0, b) for W, b in member["layers"]]
        model["selftest"]["P"] = proba(model, model["selftest"]["X"])
        model["selftest"]["decisions"] = decisions(model, model["selftest"]["P"])
    save_model(model, path)
    whole = path.read_bytes()
    assert whole.startswith(b"x" if compressed else b"\x80")
    (tmp_path / "m.joblib.sha256").unlink()
    read_model(path)
    for at in range(5, len(whole), 61):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ModelFileError, match=r"m\.joblib"):
            read_model(path)


@pytest.mark.parametrize("compress", [0, 3])
def test_a_model_file_from_before_it_had_a_digest_is_read(tmp_path: Path, compress: int) -> None:
    joblib.dump(make_model(), tmp_path / "m.joblib", compress=compress)
    assert schema_of(read_model(tmp_path / "m.joblib")) == SCHEMA


@pytest.mark.parametrize("rest", [b"\0", b"more", bytes(100_000)])
def test_what_follows_a_compressed_model_is_refused_and_not_waited_for(tmp_path: Path, rest: bytes) -> None:
    joblib.dump(make_model(), tmp_path / "m.joblib", compress=3)
    (tmp_path / "m.joblib").write_bytes((tmp_path / "m.joblib").read_bytes() + rest)
    with pytest.raises(ModelFileError, match="its compressed content has no end, or something after it"):
        read_model(tmp_path / "m.joblib")


def test_every_cut_of_a_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    save_model(make_model(), path)
    whole = path.read_bytes()
    (tmp_path / "m.joblib.sha256").unlink()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"m\.joblib"):
            read_model(path)


def test_another_digest_than_the_trusted_one_is_refused(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "m.joblib")
    with pytest.raises(ModelFileError, match=r"not 00ff as asked; it was not loaded"):
        read_model(tmp_path / "m.joblib", sha256="00ff")


def test_files_that_are_not_models(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file"):
        read_model(tmp_path / "absent.joblib")
    joblib.dump([1, 2], tmp_path / "list.joblib")
    with pytest.raises(ModelFileError, match="found 'list'"):
        read_model(tmp_path / "list.joblib")
    (tmp_path / "text.joblib").write_text("filename,neck\n")
    with pytest.raises(ModelFileError, match="is no model file: it does not begin like one"):
        read_model(tmp_path / "text.joblib")


def test_features_of_another_backbone_are_refused() -> None:
    with pytest.raises(ModelFileError, match=r"expects vectors of 5 numbers \(pooled 3 \+ levels 2 of resnet18\)"):
        proba(make_model(), np.zeros((2, 2048), np.float32))


def test_a_key_without_values_is_refused() -> None:
    schema = LabelSchema(("neck", "empty"), (("round", "v"), ()), (True, False))
    with pytest.raises(ModelFileError, match="attribute 'empty' has no values"):
        make_model(1, schema)


def test_weights_of_the_other_byte_order_become_native(tmp_path: Path) -> None:
    model = make_model()
    expected = proba(model, model["selftest"]["X"])
    for member in model["members"]:
        member["layers"] = [(W.astype(">f4"), b.astype(">f4")) for W, b in member["layers"]]
    save_model(model, tmp_path / "m.joblib")
    read = read_model(tmp_path / "m.joblib")
    assert all(W.dtype.isnative for member in read["members"] for W, _ in member["layers"])
    assert (proba(read, model["selftest"]["X"]) == expected).all()


def test_estimators_with_one_class_columns(tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputClassifier

    schema = LabelSchema(("style",), (("plain", "never", "always"),), (False,))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5)).astype(np.float32)
    y = X[:, 0] > 0
    fitted = MultiOutputClassifier(LogisticRegression())
    fitted.estimators_ = [
        LogisticRegression().fit(X, y.astype(int)),
        DummyClassifier(strategy="constant", constant=0).fit(X, np.zeros(30, int)),
        DummyClassifier(strategy="constant", constant=1).fit(X, np.ones(30, int)),
    ]
    parts = Parts([{"kind": "estimator", "estimator": fitted}], ["sigmoid"], {"sklearn": sklearn.__version__})
    save_model(build_model(schema, parts, Decision([0.5] * 3, "fixed:0.5"), ORIGIN, X), tmp_path / "m.joblib")
    P = proba(read_model(tmp_path / "m.joblib"), X)
    assert P[:, 0] == pytest.approx(fitted.estimators_[0].predict_proba(X)[:, 1], abs=1e-6)
    assert (P[:, 1] == 0).all()
    assert (P[:, 2] == 1).all()


def run_snippet(snippet: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The snippet in a process where nothing but joblib and NumPy can be imported."""
    blocked = ["torch", "timm", "h5py", "sklearn", "scipy", "pandas", "pipeline", "cache", "PIL"]
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n{snippet}\nnp.savez('out.npz', P=P, D=D)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz") as out:
        return out["P"], out["D"]


PLAIN = LabelSchema(("neck", "style"), (("round", "v"), ("plain", "casual", "sporty")), (True, False))


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN], ids=["gate-and-unknown", "plain"])
@pytest.mark.parametrize("members", [1, 2])
def test_snippet_reproduces_the_model(tmp_path: Path, schema: LabelSchema, members: int) -> None:
    model = make_model(members, schema)
    save_model(model, tmp_path / "best.joblib")
    X = np.concatenate([model["selftest"]["X"], np.random.default_rng(8).normal(size=(60, 5)).astype(np.float32)])
    np.save(tmp_path / "features.npy", X)
    P, D = run_snippet(SNIPPET, tmp_path)
    assert P[:4] == pytest.approx(model["selftest"]["P"], abs=1e-6)
    assert (D[:4] == model["selftest"]["decisions"]).all()
    expected = proba(model, X)
    assert np.abs(P - expected).max() < 1e-6
    assert (decisions(model, expected) == D).all()
    for columns in schema.slices:
        assert D[:, columns].any()
        assert not D[:, columns].all()


def test_snippet_takes_kernels_and_weighs_members(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    parts = Parts(
        [dense(rng, 5, 4, 8), kernel(rng, 2.0)], ["softmax" if single else "sigmoid" for single in SCHEMA.single]
    )
    model = build_model(SCHEMA, parts, Decision(np.full(8, 0.3), "fixed:0.3"), ORIGIN, rng.normal(size=(6, 5)))
    save_model(model, tmp_path / "best.joblib")
    assert read_model(tmp_path / "best.joblib")["version"] == 2
    X = rng.normal(size=(60, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", X)
    P, D = run_snippet(SNIPPET, tmp_path)
    alone = [proba({**model, "members": [member]}, X) for member in model["members"]]
    assert pytest.approx((alone[0] + 2 * alone[1]) / 3, abs=1e-5) == P
    assert pytest.approx(proba(model, X), abs=1e-5) == P
    assert (decisions(model, proba(model, X)) == D).all()


def test_a_model_that_older_readers_can_use_says_version_1() -> None:
    assert make_model()["version"] == 1


@pytest.mark.parametrize("stacked", [True, False], ids=["(n, v, d)", "(n, v d)"])
def test_snippet_averages_the_views_as_predict_does(tmp_path: Path, stacked: bool) -> None:
    model = make_model(views=("identity", "hflip"))
    save_model(model, tmp_path / "best.joblib")
    X = np.random.default_rng(8).normal(size=(60, 2, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", X if stacked else X.reshape(60, 10))
    P, D = run_snippet(SNIPPET, tmp_path)
    expected = Predictor(model, PredictOptions()).probabilities(X.transpose(1, 0, 2))
    assert np.abs(P - expected).max() < 1e-6
    assert (decisions(model, expected) == D).all()
    assert np.abs(P - proba(model, X[:, 0])).max() > 0.1, "the views differ"


def test_snippet_refuses_one_view_for_a_model_of_two(tmp_path: Path) -> None:
    save_model(make_model(views=("identity", "hflip")), tmp_path / "best.joblib")
    np.save(tmp_path / "features.npy", np.zeros((4, 5), np.float32))
    with pytest.raises(AssertionError, match="matmul|reshape"):
        run_snippet(SNIPPET, tmp_path)
