"""Losses: hand-computed values, gradients against autograd, masks, priors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.heads import HeadConfig, Targets
from pipeline.heads.config import LOSSES
from pipeline.heads.stacked.losses import LossData, StackedLoss, links, pos_weight, prior_logits
from tests.heads.problems import problem

CPU = torch.device("cpu")


def _loss(config: HeadConfig, targets: Targets) -> tuple[StackedLoss, LossData]:
    data = LossData(targets, targets, CPU, torch.float64)
    return StackedLoss([config], targets, data), data


def _value(loss: str, z: list[float], Y: list[int], sizes: list[int], single: list[bool]) -> float:
    targets = Targets.plain([Y], None, sizes, single)
    stacked, data = _loss(HeadConfig(loss=loss), targets)
    batch = data.batch(torch.tensor([0]))
    return float(stacked.value(torch.tensor(z, dtype=torch.float64).view(1, 1, -1), batch)[0] / stacked.pairs(batch))


def test_bce_of_one_photo() -> None:
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert _value("bce", [2.0, -1.0], [1, 0], [2], [False]) == pytest.approx(expected)


def test_ce_of_one_photo() -> None:
    expected = -2 + math.log(math.exp(2) + math.exp(-1) + 1)
    assert _value("ce", [2.0, -1.0, 0.0], [1, 0, 0], [3], [True]) == pytest.approx(expected)


def test_ce_leaves_multi_valued_keys_to_bce() -> None:
    mixed = _value("ce", [2.0, -1.0, 0.5, 0.1], [1, 0, 1, 1], [2, 2], [True, False])
    soft = _value("ce", [2.0, -1.0], [1, 0], [2], [True])
    hard = _value("bce", [0.5, 0.1], [1, 1], [2], [False])
    assert mixed == pytest.approx((soft + hard) / 2)


def test_focal_discounts_easy_cells() -> None:
    p = 1 / (1 + math.exp(-2))
    assert _value("focal", [2.0], [1], [1], [False]) == pytest.approx(-((1 - p) ** 2) * math.log(p))


def test_asymmetric_ignores_very_easy_negatives() -> None:
    assert _value("asymmetric", [-4.0], [0], [1], [False]) == 0.0
    assert _value("asymmetric", [0.0], [0], [1], [False]) == pytest.approx(-(0.45**4) * math.log(0.55))


def test_weighted_bce_weighs_positives_by_their_rarity() -> None:
    targets = Targets.plain([[1], [0], [0], [0]])
    assert pos_weight(targets).tolist() == [3.0]
    stacked, data = _loss(HeadConfig(loss="weighted-bce"), targets)
    z = torch.zeros((1, 4, 1), dtype=torch.float64)
    assert float(stacked.value(z, data.batch(torch.arange(4)))[0]) == pytest.approx(6 * math.log(2))


def test_weighted_ce_is_that_of_torch_with_the_weights_of_rare_classes() -> None:
    counts = np.array([6, 3, 1])
    classes = np.repeat([0, 1, 2], counts)
    targets = Targets.plain(np.eye(3)[classes], None, [3], [True])
    weights = (counts.sum() - counts) / (counts.sum() - counts).sum()
    z = torch.linspace(-2, 3, 30, dtype=torch.float64).view(1, 10, 3).sin() + torch.tensor([3.0, 0.0, 0.0])
    criterion = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights))
    stacked, data = _loss(HeadConfig(loss="weighted-ce"), targets)
    batch = data.batch(torch.arange(10))
    mean = stacked.value(z.clone(), batch)[0] / stacked.pairs(batch)
    assert float(mean) == pytest.approx(float(criterion(z[0], torch.tensor(classes))))
    plain, _ = _loss(HeadConfig(loss="ce"), targets)
    assert float(mean) != pytest.approx(float(plain.value(z.clone(), batch)[0] / plain.pairs(batch)), abs=0.01)


def test_priors_are_log_odds_or_log_shares() -> None:
    targets = Targets.plain([[1, 0], [1, 0], [0, 1], [1, 0]], None, [2], [True])
    assert prior_logits("bce", targets) == pytest.approx([math.log(4 / 2), math.log(2 / 4)])
    assert prior_logits("ce", targets) == pytest.approx([math.log(4 / 6), math.log(2 / 6)])


def test_a_key_of_one_value_stays_a_sigmoid() -> None:
    targets = Targets.plain([[1, 0, 1]], None, [1, 2], [True, True])
    assert links("ce", targets) == ("sigmoid", "softmax")
    assert links("bce", targets) == ("sigmoid", "sigmoid")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_slope_is_the_derivative_of_the_loss(loss: str, smoothing: float) -> None:
    """Central differences of J agree with the slope returned, cell by cell, unknown cells included."""
    _, targets = problem(5, unknown=0.4)
    config = HeadConfig(loss=loss, label_smoothing=smoothing, logit_adjust=0.5)
    stacked, data = _loss(config, targets)
    batch = data.batch(torch.arange(5))
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 5, 9)) * 2)
    _, slope = stacked.train(z.clone(), batch)
    for i in range(z.numel()):
        step = torch.zeros(z.numel(), dtype=torch.float64)
        step[i] = 1e-6
        up, _ = stacked.train(z + step.view_as(z), batch)
        down, _ = stacked.train(z - step.view_as(z), batch)
        expected = float((up - down)[0] / 2e-6 / stacked.pairs(batch))
        assert float(slope.flatten()[i]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_unknown_cells_change_nothing(loss: str) -> None:
    _, targets = problem(20, unknown=0.5)
    lies = Targets(np.where(targets.mask, targets.Y, 1 - targets.Y), targets.mask, targets.slices, targets.single)
    z = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 20, 9)))
    results = []
    for seen in (targets, lies):
        stacked, data = _loss(HeadConfig(loss=loss), seen)
        total, slope = stacked.train(z.clone(), data.batch(torch.arange(20)))
        results.append((float(total[0]), slope))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    unknown = ~torch.from_numpy(targets.mask)
    assert float(results[0][1][0][unknown].abs().max()) == 0.0


def test_a_known_key_without_value_is_no_target_for_softmax() -> None:
    """Such a photo carries a value never seen in training; a softmax can say nothing about it."""
    targets = Targets.plain([[0, 0], [1, 0]], None, [2], [True])
    stacked, data = _loss(HeadConfig(loss="ce"), targets)
    batch = data.batch(torch.tensor([0, 1]))
    total, slope = stacked.train(torch.zeros((1, 2, 2), dtype=torch.float64), batch)
    assert float(stacked.pairs(batch)) == 1.0
    assert float(total[0]) == pytest.approx(math.log(2))
    assert slope[0].tolist() == [[0.0, 0.0], [-0.5, 0.5]]
