"""What every head promises, checked for every head."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import ClassVar

import joblib
import numpy as np
import pytest

from pipeline.errors import HeadError
from pipeline.heads import HEADS, FittedHead, HeadConfig, Targets, fit_many
from pipeline.heads.config import NETWORK
from tests.heads.problems import key_accuracy, problem

X, TARGETS = problem(200)
Y, MASK = TARGETS.Y, TARGETS.mask
ORDER = np.random.default_rng(0).permutation(200)
TRAIN, HELD = np.sort(ORDER[40:]), np.sort(ORDER[:40])


def fit(config: HeadConfig, X: np.ndarray, targets: Targets) -> FittedHead:
    """One head fitted on 160 of the 200 photos; the other 40 choose the epoch."""
    train, held = ((X[rows], targets.take(rows)) for rows in (TRAIN, HELD))
    return fit_many([config], train, held)[0]


class HeadContract:
    """Subclass and set `config`; `rounding` is what single precision may change in a probability."""

    config: ClassVar[HeadConfig]
    rounding: ClassVar[float] = 1e-6

    @pytest.fixture(scope="class")
    @classmethod
    def fitted(cls) -> FittedHead:
        return fit(cls.config, X, TARGETS)

    def test_probabilities_are_photos_by_labels(self, fitted: FittedHead) -> None:
        P = fitted.predict_proba(X)
        assert P.shape == Y.shape and P.dtype == np.float32
        assert P.min() >= 0 and P.max() <= 1

    def test_it_learns(self, fitted: FittedHead) -> None:
        assert key_accuracy(fitted.predict_proba(X), TARGETS, 0) > 0.8

    def test_unknown_cells_are_never_read(self, fitted: FittedHead) -> None:
        lies = np.where(MASK, Y, 1 - Y)
        again = fit(self.config, X, replace(TARGETS, Y=lies))
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))

    def test_refit_gives_the_same_numbers(self, fitted: FittedHead) -> None:
        again = fit(self.config, X, TARGETS)
        assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))

    def test_a_photo_does_not_depend_on_its_company(self, fitted: FittedHead) -> None:
        assert np.allclose(fitted.predict_proba(X[:1]), fitted.predict_proba(X)[:1], rtol=0, atol=self.rounding)

    def test_no_photos_no_probabilities(self, fitted: FittedHead) -> None:
        assert fitted.predict_proba(X[:0]).shape == (0, 9)

    def test_views_are_averaged(self, fitted: FittedHead) -> None:
        two = fitted.predict_proba(np.stack([X, X[::-1]]))
        P = fitted.predict_proba(X)
        assert np.allclose(two, (P + P[::-1]) / 2, atol=1e-6)

    def test_one_class_columns_are_constant_and_listed(self) -> None:
        """In a many-valued attribute beside columns to learn, and in a single-valued one of which one value is true."""
        only = Y.copy()
        only[:, 5], only[:, 6] = 0, 1
        only[:, :3] = 0, 1, 0
        head = fit(self.config, X, replace(TARGETS, Y=only))
        P = head.predict_proba(X)
        assert head.not_learnable == (0, 1, 2, 5, 6)
        assert P[:, [0, 2, 5]].max() < 0.3 and P[:, [1, 6]].min() > 0.6

    def test_a_column_without_known_cells_is_no_obstacle(self) -> None:
        mask = MASK.copy()
        mask[:, 3:5] = False
        head = fit(self.config, X, replace(TARGETS, mask=mask))
        assert head.not_learnable == (3, 4)
        assert np.isfinite(head.predict_proba(X)).all()

    def test_one_label(self) -> None:
        head = fit(self.config, X, Targets.plain(Y[:, :1], MASK[:, :1]))
        assert head.predict_proba(X).shape == (200, 1)

    def test_survives_joblib(self, fitted: FittedHead) -> None:
        file = io.BytesIO()
        joblib.dump(fitted.members, file)
        file.seek(0)
        members = joblib.load(file)
        assert np.array_equal(
            FittedHead(self.config, members, fitted.links, fitted.slices).predict_proba(X),
            fitted.predict_proba(X),
        )

    def test_other_features_are_refused(self, fitted: FittedHead) -> None:
        with pytest.raises(HeadError, match="features have 5 numbers per photo, this head was fitted on 6"):
            fitted.predict_proba(X[:, :5])

    def test_bad_input(self) -> None:
        broken = X.copy()
        broken[TRAIN[3]] = np.nan
        with pytest.raises(HeadError, match="features must be finite, row 3 holds a NaN"):
            fit(self.config, broken, TARGETS)
        with pytest.raises(HeadError, match="every label of the training photos is unknown"):
            fit(self.config, X, replace(TARGETS, mask=np.zeros_like(MASK)))
        with pytest.raises(HeadError, match="no training photos"):
            fit_many([self.config], (X[:0], TARGETS.take(ORDER[:0])), (X, TARGETS))

    def test_rows_that_do_not_fit_their_targets(self) -> None:
        with pytest.raises(HeadError, match="199"):
            fit_many([self.config], (X[:-1], TARGETS), (X, TARGETS))


class TestLinear(HeadContract):
    config = HeadConfig(lr=0.05, batch_size=32, epochs=15)


class TestLinearLbfgs(HeadContract):
    config = HeadConfig(optimizer="lbfgs", epochs=5)


class TestMlp(HeadContract):
    config = HeadConfig(head="mlp", lr=0.02, hidden=(16,), dropout=0.2, batch_size=32, epochs=15)


class TestMlpPerKey(HeadContract):
    config = HeadConfig(head="mlp-per-key", lr=0.02, hidden=(8,), dropout=0.2, batch_size=32, epochs=15)


class TestLogReg(HeadContract):
    config = HeadConfig(head="logreg")


class TestMultinomial(HeadContract):
    config = HeadConfig(head="multinomial", C=0.1)


class TestLightGBM(HeadContract):
    config = HeadConfig(head="lightgbm", trees=20, feature_fraction=1.0)


class TestKernelRidge(HeadContract):
    config = HeadConfig(head="kernel-ridge")
    # Its scores sum a similarity for each photo that it keeps, with weights of tens to both sides.
    rounding = 2e-5


class TestKernelRidgeLandmarks(HeadContract):
    config = HeadConfig(head="kernel-ridge", landmarks=60)
    rounding = 2e-5


def test_every_head_is_under_contract() -> None:
    assert {c.config.head for c in HeadContract.__subclasses__()} == set(HEADS) - {NETWORK}  # that one is not fit


@pytest.mark.parametrize(
    ("labels", "mask", "message"),
    [
        (Y, MASK[:, :8], r"targets \(200, 9\) and mask \(200, 8\) must both be"),
        (np.where(MASK, Y.astype(float), np.nan), None, "targets must be 0 or 1; give unknown cells through the mask"),
        (Y[:, 0], None, r"targets must be \(photos, labels\), got shape \(200,\)"),
    ],
)
def test_targets_that_do_not_fit(labels: np.ndarray, mask: np.ndarray | None, message: str) -> None:
    with pytest.raises(HeadError, match=message):
        Targets.plain(labels, mask)
