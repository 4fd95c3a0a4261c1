"""What an ensemble is made of: heads count alike, and networks as much as validation labels say."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.catalogue.labels import LabelSchema
from pipeline.experiment.candidates import Fit, JudgedHead, Truth, judge
from pipeline.experiment.kinds.averaging import averaged
from pipeline.heads import FittedHead, HeadConfig

PHOTOS = 400
ONE = LabelSchema(("neck",), (("a", "b", "c", "d"),), (True,))
TWO = LabelSchema(("neck", "style"), (("a", "b", "c", "d"), ("e", "f")), (True, False))


def truth_of(schema: LabelSchema, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    Y = np.zeros((PHOTOS, schema.size), np.uint8)
    Y[np.arange(PHOTOS), rng.integers(0, 4, PHOTOS)] = 1
    Y[:, 4:] = rng.random((PHOTOS, schema.size - 4)) < 0.3
    return Truth(schema, Y, np.ones(Y.shape, bool), np.arange(PHOTOS))


def saying(truth: Truth, head: str, knows: float, vectors: int = 1, lr: float = 0.1) -> JudgedHead:
    """A head that is sure of what is true on this share of the photos, and has no idea of the others."""
    rng = np.random.default_rng([vectors, round(1000 * knows)])
    sure = rng.random(PHOTOS) < knows
    P = np.where(truth.Y > 0, 0.97, 0.01).astype(np.float32)
    P[~sure, :4] = 0.25
    P[~sure, 4:] = 0.3
    config = HeadConfig(head=head, vectors=vectors, lr=lr)
    fitted = FittedHead(config, [], ("softmax",) * len(truth.schema.slices), truth.schema.slices)
    return judge(Fit(config.config_id, fitted, (fitted,)), P, truth, "best")


def counted(candidates: list[JudgedHead], truth: Truth, most: int = 3) -> dict[tuple[str, int], float]:
    members, shares = averaged(candidates, most, "each-head", truth)
    sums: dict[tuple[str, int], float] = {}
    for member, share in zip(members, shares, strict=True):
        of = member.config.head, member.config.vectors
        sums[of] = sums.get(of, 0.0) + share / sum(shares)
    return sums


def test_every_head_counts_alike_whatever_it_sees_and_however_often_it_was_tried() -> None:
    truth = truth_of(ONE)
    tried = [("linear", 1, 0.1), ("linear", 1, 0.2), ("linear", 1, 0.3), ("linear", 2, 0.1), ("mlp", 3, 0.1)]
    candidates = [saying(truth, head, 0.5, kind, lr) for head, kind, lr in tried]
    members, shares = averaged(candidates, 2, "each-head", truth)
    said = sorted((m.config.head, m.config.vectors, share) for m, share in zip(members, shares, strict=True))
    assert said == [("linear", 1, 0.25), ("linear", 1, 0.25), ("linear", 2, 0.5), ("mlp", 3, 1.0)]


def test_a_network_counts_the_more_the_better_it_knows_validation_photos() -> None:
    truth = truth_of(ONE)
    fitted = [saying(truth, "linear", 0.5), saying(truth, "mlp", 0.5)]
    shares = [counted([*fitted, saying(truth, "network", knows, 2)], truth)["network", 2] for knows in (0.1, 0.5, 0.9)]
    assert shares[0] < 0.15 and 0.25 < shares[1] < 0.75 < shares[2]


def test_fitted_heads_stay_alike_beside_a_network_and_networks_need_not_be() -> None:
    truth = truth_of(ONE)
    said = counted(
        [saying(truth, "linear", 0.2), saying(truth, "mlp", 0.8)]
        + [saying(truth, "network", knows, kind) for knows, kind in ((0.9, 2), (0.3, 3))],
        truth,
    )
    assert said["linear", 1] == pytest.approx(said["mlp", 1])
    assert said["network", 2] > 2 * said["network", 3]


def test_shares_are_those_under_which_the_known_labels_are_likeliest() -> None:
    """Beside what a search of all shares finds; belief in heads counting alike is worth 30 labels."""
    truth = truth_of(TWO)
    truth.known[::3, :4] = False
    fitted, network = saying(truth, "linear", 0.4), saying(truth, "network", 0.6, 2)

    def loss(share: float) -> float:
        P = (1 - share) * fitted.P.astype(np.float64) + share * network.P
        said = np.log(np.where(truth.Y > 0, P, 1 - P)) * truth.known
        necks = np.where(truth.Y[:, :4] > 0, said[:, :4], 0).sum()
        return float(-necks - said[:, 4:].sum() / 2 - 15 * np.log(share) - 15 * np.log(1 - share))

    grid = np.linspace(0.001, 0.999, 999)
    best = grid[np.argmin([loss(share) for share in grid])]
    assert counted([fitted, network], truth)["network", 2] == pytest.approx(best, abs=0.002)


def test_with_hardly_any_validation_label_heads_count_alike() -> None:
    truth = truth_of(ONE)
    truth.known[1:] = False
    fitted = [saying(truth, "linear", 0.5), saying(truth, "mlp", 0.5)]
    assert counted([*fitted, saying(truth, "network", 0.99, 2)], truth)["network", 2] == pytest.approx(1 / 3, abs=0.03)


def test_networks_alone_are_weighed_too() -> None:
    truth = truth_of(ONE)
    said = counted([saying(truth, "network", knows, kind) for knows, kind in ((0.9, 1), (0.3, 2))], truth)
    assert said["network", 1] > said["network", 2] and sum(said.values()) == pytest.approx(1.0)
