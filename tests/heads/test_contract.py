"""What every head promises, checked for every head."""

from __future__ import annotations

import io
from typing import ClassVar

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from pipeline.errors import HeadError
from pipeline.heads import HEADS, HeadConfig, LightGBMHead, LinearHead, LogRegHead, MLPHead, MLPPerKeyHead
from pipeline.heads.estimators import Head
from tests.heads.problems import SINGLE, SIZES, key_accuracy, problem

X, TARGETS = problem(200)
Y, MASK = TARGETS.Y, TARGETS.mask


class HeadContract:
    """Subclass and set `kind` and `config`."""

    kind: ClassVar[type[Head]]
    config: ClassVar[HeadConfig]

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls) -> Head:
        return cls.kind(cls.config, SIZES, SINGLE).fit(X, Y, MASK)

    def test_constructor_stores_and_clone_copies(self) -> None:
        head = self.kind(self.config, SIZES, SINGLE, 0.5)
        assert head.get_params() == {
            "config": self.config, "sizes": SIZES, "single": SINGLE, "validation_fraction": 0.5, "options": None
        }  # fmt: skip
        assert clone(head).get_params() == head.get_params()

    def test_fit_returns_self(self) -> None:
        head = self.kind(self.config)
        assert head.fit(X, Y, MASK) is head

    def test_probabilities_are_photos_by_labels(self, fitted: Head) -> None:
        P = fitted.predict_proba(X)
        assert P.shape == Y.shape and P.dtype == np.float32
        assert P.min() >= 0 and P.max() <= 1

    def test_it_learns(self, fitted: Head) -> None:
        assert key_accuracy(fitted.predict_proba(X), TARGETS, 0) > 0.8

    def test_unknown_cells_are_never_read(self, fitted: Head) -> None:
        lies = np.where(MASK, Y, 1 - Y)
        again = self.kind(self.config, SIZES, SINGLE).fit(X, lies, MASK)
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))

    def test_refit_gives_the_same_numbers(self, fitted: Head) -> None:
        again = clone(fitted).fit(X, Y, MASK)
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))

    def test_a_photo_does_not_depend_on_its_company(self, fitted: Head) -> None:
        assert np.allclose(fitted.predict_proba(X[:1]), fitted.predict_proba(X)[:1], atol=1e-6)

    def test_no_photos_no_probabilities(self, fitted: Head) -> None:
        assert fitted.predict_proba(X[:0]).shape == (0, 9)

    def test_views_are_averaged(self, fitted: Head) -> None:
        two = fitted.fitted_.predict_proba(np.stack([X, X[::-1]]))
        P = fitted.predict_proba(X)
        assert np.allclose(two, (P + P[::-1]) / 2, atol=1e-6)

    def test_one_class_columns_are_constant_and_listed(self) -> None:
        only = Y.copy()
        only[:, 0], only[:, 1] = 0, 1
        head = self.kind(self.config, SIZES, SINGLE).fit(X, only, MASK)
        P = head.predict_proba(X)
        assert head.fitted_.not_learnable == (0, 1)
        assert P[:, 0].max() < 0.3 and P[:, 1].min() > 0.6

    def test_a_column_without_known_cells_is_no_obstacle(self) -> None:
        mask = MASK.copy()
        mask[:, 3:5] = False
        head = self.kind(self.config, SIZES, SINGLE).fit(X, Y, mask)
        assert head.fitted_.not_learnable == (3, 4)
        assert np.isfinite(head.predict_proba(X)).all()

    def test_one_label(self) -> None:
        head = self.kind(self.config).fit(X, Y[:, :1], MASK[:, :1])
        assert head.predict_proba(X).shape == (200, 1)

    def test_survives_joblib(self, fitted: Head) -> None:
        file = io.BytesIO()
        joblib.dump(fitted.fitted_.members, file)
        file.seek(0)
        members = joblib.load(file)
        assert np.array_equal(
            type(fitted.fitted_)(self.config, members, fitted.fitted_.links, fitted.fitted_.slices).predict_proba(X),
            fitted.predict_proba(X),
        )

    def test_other_features_are_refused(self, fitted: Head) -> None:
        with pytest.raises(HeadError, match="features have 5 numbers per photo, this head was fitted on 6"):
            fitted.predict_proba(X[:, :5])

    def test_unfitted(self) -> None:
        with pytest.raises(NotFittedError, match="is not fitted yet; call fit first"):
            self.kind(self.config).predict_proba(X)

    def test_bad_input(self) -> None:
        head = self.kind(self.config)
        with pytest.raises(HeadError, match="features must be finite, row 3 holds a NaN"):
            head.fit(np.where(np.arange(200)[:, None] == head_row(200, 3), np.nan, X), Y)
        with pytest.raises(HeadError, match=r"features of shape \(199, 6\) do not fit 200 rows of targets"):
            head.fit(X[:-1], Y)
        with pytest.raises(HeadError, match=r"targets \(200, 9\) and mask \(200, 8\) must both be"):
            head.fit(X, Y, MASK[:, :8])
        with pytest.raises(HeadError, match="targets must be 0 or 1; give unknown cells through the mask"):
            head.fit(X, np.where(MASK, Y.astype(float), np.nan))
        with pytest.raises(HeadError, match="every label of the training photos is unknown"):
            head.fit(X, Y, np.zeros_like(MASK))
        with pytest.raises(HeadError, match="no training photos"):
            head.fit(X[:0], Y[:0])

    def test_configuration_of_another_head_is_refused(self) -> None:
        other = HeadConfig(head="mlp" if self.config.head == "linear" else "linear")
        with pytest.raises(HeadError, match=f"fits '{self.config.head}', its configuration asks for '{other.head}'"):
            self.kind(other).fit(X, Y)


def head_row(n: int, position: int) -> int:
    """The row that stands at a position of the training part of n rows, held out with seed 0."""
    order = np.random.default_rng(0).permutation(n)
    return int(np.sort(order[n // 5 :])[position])


class TestLinear(HeadContract):
    kind = LinearHead
    config = HeadConfig(lr=0.05, batch_size=32, epochs=15)


class TestLinearLbfgs(HeadContract):
    kind = LinearHead
    config = HeadConfig(optimizer="lbfgs", epochs=5)


class TestMlp(HeadContract):
    kind = MLPHead
    config = HeadConfig(head="mlp", lr=0.02, hidden=(16,), dropout=0.2, batch_size=32, epochs=15)


class TestMlpPerKey(HeadContract):
    kind = MLPPerKeyHead
    config = HeadConfig(head="mlp-per-key", lr=0.02, hidden=(8,), dropout=0.2, batch_size=32, epochs=15)


class TestLogReg(HeadContract):
    kind = LogRegHead
    config = HeadConfig(head="logreg")


class TestLightGBM(HeadContract):
    kind = LightGBMHead
    config = HeadConfig(head="lightgbm", trees=20, feature_fraction=1.0)


def test_every_head_is_under_contract() -> None:
    assert {c.config.head for c in HeadContract.__subclasses__()} == set(HEADS)
