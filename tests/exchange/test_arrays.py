"""Heads on arrays of one's own: an honest split, a choice on validation, figures of rows that had no part in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import fit_arrays
from pipeline.errors import CatalogueError, HeadError, OptionError
from pipeline.heads import HeadConfig

QUICK = (HeadConfig(head="linear", lr=0.01), HeadConfig(head="multinomial"))


def problem(n: int = 300, seed: int = 0) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Three attributes that depend on the features: one single-valued, one with several, one mostly unknown."""
    X = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    neck = [("round", "v", "polo")[int(np.argmax(row[:3]))] for row in X]
    style = [[name for name, x in (("plain", row[3]), ("casual", row[4])) if x > 0] for row in X]
    length: list[Any] = ["long" if row[5] > 0 else "short" for row in X]
    length[::3] = [None] * len(length[::3])
    length[1] = float("nan")
    return X, {"neck": neck, "style": style, "length": length}


def test_what_can_be_learnt_is_learnt_and_judged_on_other_rows() -> None:
    X, labels = problem()
    fitted = fit_arrays(X, labels, heads=QUICK)
    assert fitted.schema.attributes == ("neck", "style", "length") and fitted.schema.single == (True, False, True)
    assert fitted.schema.values == (("polo", "round", "v"), ("casual", "plain"), ("long", "short"))
    assert sorted(np.unique(fitted.parts)) == ["test", "train", "validation"]
    assert fitted.test["photos"] == (fitted.parts == "test").sum() == pytest.approx(60, abs=4)
    assert fitted.test["accuracy"] > 0.85 > 0.6 > fitted.majority["accuracy"]
    assert set(fitted.validation) == {each.config_id for each in QUICK}
    assert max(fitted.validation, key=fitted.validation.__getitem__) == fitted.head.config.config_id
    more, truth = problem(200, seed=1)
    right = [row["neck"] == neck for row, neck in zip(fitted.predict(more), truth["neck"], strict=True)]
    assert np.mean(right) > 0.85
    assert fitted.predict_proba(more).shape == (200, 7)


def test_what_cannot_be_learnt_is_not() -> None:
    X, labels = problem()
    rng = np.random.default_rng(3)
    fitted = fit_arrays(rng.normal(size=X.shape), {"neck": labels["neck"]}, heads=QUICK)
    assert abs(fitted.test["accuracy"] - fitted.majority["accuracy"]) < 0.2


def test_test_labels_change_nothing_but_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    X, labels = problem()
    fitted = fit_arrays(X, labels, heads=QUICK)
    changed = [("v" if part == "test" else each) for each, part in zip(labels["neck"], fitted.parts, strict=True)]
    split = fitted.parts
    monkeypatch.setattr("pipeline.exchange.arrays.make_split", lambda *_, **__: type("S", (), {
        "parts": split, "rows": lambda self, *parts: np.flatnonzero(np.isin(split, parts))})())  # fmt: skip
    again = fit_arrays(X, {**labels, "neck": changed}, heads=QUICK)
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()
    assert (again.thresholds == fitted.thresholds).all() and again.validation == fitted.validation
    assert again.test["accuracy"] < fitted.test["accuracy"]


def test_rows_of_a_group_stay_together() -> None:
    X, labels = problem()
    groups = [f"product {i // 3}" for i in range(300)]
    parts = fit_arrays(X, labels, groups, QUICK[:1]).parts.reshape(100, 3)
    assert (parts == parts[:, :1]).all()


def test_columns_of_a_shuffled_table_are_taken_by_their_places() -> None:
    """A pandas column answers to the labels of its index, which after a shuffle are other rows."""
    X, labels = problem()
    order = np.random.default_rng(1).permutation(300)
    table = pd.DataFrame({"neck": labels["neck"], "product": [f"product {i // 3}" for i in range(300)]}).iloc[order]
    fitted = fit_arrays(X[order], table[["neck"]], table["product"], QUICK[:1])
    parts = pd.Series(fitted.parts, index=table.index).groupby(table["product"]).nunique()
    assert (parts == 1).all()
    plain = fit_arrays(X[order], {"neck": table["neck"].tolist()}, table["product"].tolist(), QUICK[:1])
    assert fitted.test == plain.test


def test_what_pandas_has_in_place_of_a_value_is_unknown() -> None:
    X, labels = problem()
    known = fit_arrays(X, {"neck": [None] * 30 + labels["neck"][30:]}, heads=QUICK[:1])
    for column in (
        pd.Series([None] * 30 + labels["neck"][30:], dtype="string"),
        [pd.NA, pd.NaT, np.nan] * 10 + labels["neck"][30:],
    ):
        assert fit_arrays(X, {"neck": column}, heads=QUICK[:1]).test == known.test


def test_a_value_that_only_test_rows_have_is_a_miss() -> None:
    X, labels = problem()
    before = fit_arrays(X, labels, heads=QUICK[:1])
    at = np.flatnonzero(before.parts == "test")[:5]
    split = before.parts
    neck = [("boat" if i in at else each) for i, each in enumerate(labels["neck"])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.exchange.arrays.make_split", lambda *_, **__: type("S", (), {
            "parts": split, "rows": lambda self, *parts: np.flatnonzero(np.isin(split, parts))})())  # fmt: skip
        after = fit_arrays(X, {**labels, "neck": neck}, heads=QUICK[:1])
    assert after.schema == before.schema
    assert after.test["scored_values"] == before.test["scored_values"] + 1
    assert after.test["accuracy"] < before.test["accuracy"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": {"neck": ["v"] * 3}}, OptionError, "neck has 3 entries for 300 rows of features"),
        ({"groups": ["a"]}, OptionError, "groups has 1 entries for 300 rows of features"),
        ({"labels": {}}, OptionError, "no labels are given"),
        ({"labels": {"neck": [None] * 300}}, OptionError, r"no attribute has a known value \(neck\)"),
        ({"labels": {"neck": [3] * 300}}, OptionError, "neck holds 3; expected a text"),
        ({"labels": {"neck": [["v", 3]] * 300}}, OptionError, "neck holds .*; expected a text"),
        ({"labels": {"neck": [np.array(["v", "w"])] * 300}}, OptionError, "neck holds .*; expected a text"),
        ({"labels": {3: ["v"] * 300}}, OptionError, "3 names an attribute; expected a text"),
        ({"X": np.zeros(300)}, OptionError, r"features have the shape \(300,\); expected \(rows, numbers\)"),
        ({"X": np.full((300, 8), np.nan)}, HeadError, "finite"),
        ({"groups": ["same"] * 300}, CatalogueError, "group"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    X, labels = problem()
    with pytest.raises(error, match=message):
        fit_arrays(**{"X": X, "labels": labels, "heads": QUICK[:1], **change})
