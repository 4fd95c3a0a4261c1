"""Stacked training gives what each configuration gives alone under torch.nn and torch.optim."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.heads import FittedHead, HeadConfig, SweepOptions, Targets, fit_many
from pipeline.heads.source import ArraySource, moments
from pipeline.heads.stacked import optim
from pipeline.heads.stacked.losses import pos_weight, prior_logits
from pipeline.heads.stacked.networks import make_network
from pipeline.heads.stacked.stack import Dropout, initial_parameters
from tests.heads.problems import problem

_BASE = {"epochs": 9, "batch_size": 32, "patience": 0, "hidden": (5,)}

CONFIGS = [
    *(
        HeadConfig(head=head, optimizer=optimizer, lr=lr, weight_decay=decay, seed=seed, **_BASE)
        for head in ("linear", "mlp", "mlp-per-key")
        for optimizer, lr in (("adam", 0.02), ("adamw", 0.03), ("sgd", 0.1))
        for decay, seed in ((0.0, 1), (0.05, 2))
    ),
    *(
        HeadConfig(head="mlp", optimizer=optimizer, lr=lr, schedule=schedule, seed=3, **_BASE)
        for optimizer, lr in (("adam", 0.02), ("sgd", 0.2))
        for schedule in ("step", "plateau", "cosine", "onecycle")
    ),
    HeadConfig(optimizer="sgd", lr=0.1, nesterov=True, weight_decay=0.01, **_BASE),
    HeadConfig(optimizer="sgd", lr=0.2, momentum=0.5, **_BASE),
    HeadConfig(optimizer="sgd", lr=0.5, momentum=0.0, **_BASE),
    HeadConfig(optimizer="adam", lr=0.02, betas=(0.5, 0.99), **_BASE),
    HeadConfig(optimizer="adam", lr=0.5, schedule="plateau", epochs=30, batch_size=32, patience=0),
    *(HeadConfig(head="mlp", loss=loss, lr=0.02, **_BASE) for loss in ("ce", "weighted-bce", "focal", "asymmetric")),
    *(
        HeadConfig(loss=loss, lr=0.02, label_smoothing=0.1, logit_adjust=tau, **_BASE)
        for loss in ("bce", "ce", "weighted-bce")
        for tau in (0.0, 0.7)
    ),
    *(HeadConfig(head=head, lr=0.02, dropout=rate, **_BASE) for head in ("mlp", "mlp-per-key") for rate in (0.25, 0.5)),
    HeadConfig(head="mlp", lr=0.02, hidden=(7, 5), dropout=0.25, epochs=9, batch_size=32),
    HeadConfig(head="mlp", lr=0.02, hidden=(5,), epochs=4, batch_size=16),
    HeadConfig(head="mlp", lr=0.1, hidden=(5,), epochs=25, batch_size=32, patience=2),
]


class Alone(nn.Module):
    """The head of one configuration as ordinary torch modules, with the configuration's own initial numbers."""

    def __init__(self, config: HeadConfig, dim: int, train: Targets) -> None:
        super().__init__()
        self.drop = Dropout([config], torch.device("cpu"))
        network = make_network(config, dim, train)
        layers = network.dense([p.double().numpy() for p in initial_parameters(config, network, train)])
        if config.head == "mlp-per-key":
            (W1, b1), (W2, b2) = layers
            # hidden units are laid out bucket by bucket: the four values first, then three and two
            order, H = [2, 0, 1], config.hidden[0]
            self.keys = nn.ModuleList()
            for key, columns in enumerate(train.slices):
                rows = slice(order.index(key) * H, (order.index(key) + 1) * H)
                self.keys.append(_sequence([(W1[:, rows], b1[rows]), (W2[rows, columns], b2[columns])]))
        else:
            self.keys = nn.ModuleList([_sequence(layers)])

    def forward(self, x: Tensor) -> Tensor:
        if len(self.keys) == 1:
            for layer in self.keys[0]:
                x = self._dropped(layer(x)) if isinstance(layer, nn.ReLU) else layer(x)
            return x
        hidden = {k: torch.relu(self.keys[k][0](x)) for k in (2, 0, 1)}
        # one draw per bucket: key 2 (four values) with key 0 (three) and key 1 (two)
        joined = self._dropped(torch.cat([hidden[k] for k in (2, 0, 1)], dim=1))
        parts = dict(zip((2, 0, 1), joined.chunk(3, dim=1), strict=True))
        return torch.cat([self.keys[k][2](parts[k]) for k in range(3)], dim=1)

    def _dropped(self, h: Tensor) -> Tensor:
        if not (self.training and self.drop.active):
            return h
        return self.drop(h.unsqueeze(0))[0]


def _sequence(layers: list[tuple[np.ndarray, np.ndarray]]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for W, b in layers:
        linear = nn.Linear(W.shape[0], W.shape[1], dtype=torch.float64)
        linear.weight.data = torch.tensor(W.T.copy())
        linear.bias.data = torch.tensor(b.copy())
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _objective(config: HeadConfig, z: Tensor, targets: Targets, rows: np.ndarray, train: Targets | None) -> Tensor:
    """The loss written with torch.nn.functional, key by key; smoothing and adjustment only when `train` is given."""
    weights = torch.tensor(_POS_WEIGHT)
    y = torch.tensor(targets.Y[rows], dtype=torch.float64)
    known = torch.tensor(targets.mask[rows], dtype=torch.float64)
    smoothing = config.label_smoothing if train is not None else 0.0
    if train is not None:
        z = z + config.logit_adjust * torch.tensor(prior_logits(config.loss, train))
    total, pairs = z.new_zeros(()), z.new_zeros(())
    for single, columns in zip(targets.single, targets.slices, strict=True):
        k, zk, yk = known[:, columns.start], z[:, columns], y[:, columns]
        if config.loss == "ce" and single:
            each = functional.cross_entropy(zk, yk.argmax(dim=1), reduction="none", label_smoothing=smoothing)
        else:
            each = _SIGMOID[config.loss](zk, yk * (1 - smoothing) + smoothing / 2, weights[columns]).sum(dim=1)
        total, pairs = total + (each * k).sum(), pairs + k.sum()
    return total / pairs


def _asymmetric(z: Tensor, y: Tensor, _: Tensor) -> Tensor:
    p = torch.sigmoid(z)
    q = torch.relu(p - 0.05)
    return -y * torch.log(p) - (1 - y) * q**4 * torch.log(1 - q)


_SIGMOID: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "bce": lambda z, y, w: functional.binary_cross_entropy_with_logits(z, y, reduction="none"),
    "ce": lambda z, y, w: functional.binary_cross_entropy_with_logits(z, y, reduction="none"),
    "weighted-bce": lambda z, y, w: functional.binary_cross_entropy_with_logits(z, y, reduction="none", pos_weight=w),
    "focal": lambda z, y, w: (
        -y * (1 - torch.sigmoid(z)) ** 2 * functional.logsigmoid(z)
        - (1 - y) * torch.sigmoid(z) ** 2 * functional.logsigmoid(-z)
    ),
    "asymmetric": _asymmetric,
}


def _groups(net: nn.Module, config: HeadConfig) -> list[dict[str, object]]:
    """Weights decay, biases do not."""
    return [
        {"params": [p for name, p in net.named_parameters() if name.endswith(end)], "weight_decay": decay}
        for end, decay in (("weight", config.weight_decay), ("bias", 0.0))
    ]


_OPTIMIZERS = {
    "sgd": lambda groups, c: torch.optim.SGD(groups, c.lr, c.momentum, nesterov=c.nesterov),
    "adam": lambda groups, c: torch.optim.Adam(groups, c.lr, c.betas),
    "adamw": lambda groups, c: torch.optim.AdamW(groups, c.lr, c.betas),
}

_SCHEDULES = {
    "constant": lambda o, c, steps: torch.optim.lr_scheduler.ConstantLR(o, 1.0),
    "step": lambda o, c, steps: torch.optim.lr_scheduler.StepLR(o, 7, 0.1),
    "plateau": lambda o, c, steps: torch.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=3, min_lr=1e-6),
    "cosine": lambda o, c, steps: torch.optim.lr_scheduler.CosineAnnealingLR(o, c.epochs),
    "onecycle": lambda o, c, steps: torch.optim.lr_scheduler.OneCycleLR(
        o, c.lr, total_steps=c.epochs * steps, cycle_momentum=False
    ),
}

TRAIN_X, TRAIN = problem(150, seed=0)
HELD_X, HELD = problem(70, seed=1)
_POS_WEIGHT = pos_weight(TRAIN)


def train_alone(config: HeadConfig) -> np.ndarray:
    """Probabilities (n, L) on the held-out photos of one configuration trained by plain torch."""
    source = ArraySource(TRAIN_X)
    mean, deviation = moments(source)
    x, held = ((torch.tensor(X, dtype=torch.float64) - mean) / deviation for X in (TRAIN_X, HELD_X))
    net = Alone(config, x.shape[1], TRAIN)
    optimizer = _OPTIMIZERS[config.optimizer](_groups(net, config), config)
    steps = -(-len(x) // config.batch_size)
    total = config.epochs * steps
    schedule = _SCHEDULES[config.schedule](optimizer, config, steps)
    best, best_loss, best_epoch = copy.deepcopy(net), np.inf, 0
    for epoch in range(1, config.epochs + 1):
        net.train()
        sums = np.zeros(2)
        for i, (rows, _) in enumerate(source.batches(config.batch_size, (0, epoch - 1))):
            optimizer.zero_grad()
            loss = _objective(config, net(x[rows]), TRAIN, rows.numpy(), TRAIN)
            loss.backward()
            optimizer.step()
            pairs = _pairs(config, rows.numpy())
            sums += (float(loss.detach()) * pairs, pairs)
            if config.schedule == "onecycle" and (epoch - 1) * steps + i + 1 < total:
                schedule.step()
        if config.schedule == "plateau":
            schedule.step(sums[0] / sums[1])
        elif config.schedule != "onecycle":
            schedule.step()
        net.eval()
        with torch.no_grad():
            held_loss = float(_objective(config, net(held), HELD, np.arange(len(held)), None))
        if held_loss < best_loss or (config.schedule in ("cosine", "onecycle") and epoch == config.epochs):
            best, best_loss, best_epoch = copy.deepcopy(net), held_loss, epoch
        if config.patience and epoch - best_epoch >= config.patience:
            break
    with torch.no_grad():
        z = best.eval()(held)
    return _probabilities(config, z)


def _pairs(config: HeadConfig, rows: np.ndarray) -> float:
    return float(sum(TRAIN.mask[rows][:, s.start].sum() for s in TRAIN.slices))


def _probabilities(config: HeadConfig, z: Tensor) -> np.ndarray:
    P = torch.sigmoid(z)
    if config.loss == "ce":
        for single, columns in zip(TRAIN.single, TRAIN.slices, strict=True):
            if single:
                P[:, columns] = torch.softmax(z[:, columns], dim=1)
    return P.numpy()


@pytest.fixture(scope="module")
def together() -> list[FittedHead]:
    """Every configuration above, in one call."""
    return fit_many(CONFIGS, (TRAIN_X, TRAIN), (HELD_X, HELD), SweepOptions(device="cpu", dtype="float64"))


@pytest.mark.parametrize("i", range(len(CONFIGS)), ids=[f"{i}-{c.head}-{c.optimizer}" for i, c in enumerate(CONFIGS)])
def test_same_probabilities_as_alone(together: list[FittedHead], i: int) -> None:
    expected = train_alone(CONFIGS[i])
    assert np.abs(together[i].predict_proba(HELD_X) - expected).max() <= 1e-6


def test_stacked_formula_agrees_with_fused_kernels(together: list[FittedHead], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stacked formula runs (on a GPU) the numbers are those of torch.optim on each configuration."""
    monkeypatch.setattr(optim, "FUSED_ON", frozenset())
    plain = fit_many(CONFIGS, (TRAIN_X, TRAIN), (HELD_X, HELD), SweepOptions(device="cpu", dtype="float64"))
    for ours, fused in zip(plain, together, strict=True):
        assert np.abs(ours.predict_proba(HELD_X) - fused.predict_proba(HELD_X)).max() <= 1e-6


def test_compacted_neighbours_do_not_matter() -> None:
    """A configuration that goes on after its neighbours stopped gives what it gives without neighbours."""
    options = SweepOptions(device="cpu", dtype="float64")
    short = HeadConfig(head="mlp", lr=0.02, hidden=(5,), epochs=2, batch_size=32, dropout=0.25)
    long = HeadConfig(head="mlp", lr=0.01, hidden=(5,), epochs=8, batch_size=32, dropout=0.25, seed=4)
    last = HeadConfig(head="mlp", lr=0.03, hidden=(5,), epochs=5, batch_size=32, dropout=0.5, seed=5)
    stacked = fit_many([short, long, last], (TRAIN_X, TRAIN), (HELD_X, HELD), options)[1]
    alone = fit_many([long], (TRAIN_X, TRAIN), (HELD_X, HELD), options)[0]
    assert np.abs(stacked.predict_proba(HELD_X) - alone.predict_proba(HELD_X)).max() <= 1e-6
    assert len(stacked.history) == 16


@pytest.mark.parametrize("loss", ["bce", "ce", "weighted-bce", "focal"])
def test_lbfgs_ends_where_that_of_torch_ends(loss: str) -> None:
    """A history and a step per label or softmax key, or one for all of them: the optimum is the same."""
    config = HeadConfig(optimizer="lbfgs", loss=loss, weight_decay=0.05, epochs=60, patience=0)
    (head,) = fit_many([config], (TRAIN_X, TRAIN), (TRAIN_X, TRAIN), SweepOptions(device="cpu", dtype="float64"))
    mean, deviation = moments(ArraySource(TRAIN_X))
    x, held = ((torch.tensor(X, dtype=torch.float64) - mean) / deviation for X in (TRAIN_X, HELD_X))
    net = Alone(config, x.shape[1], TRAIN)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=500, tolerance_change=1e-12, line_search_fn="strong_wolfe")
    rows = np.arange(len(x))

    def objective() -> Tensor:
        optimizer.zero_grad()
        penalty = sum(p.square().sum() for name, p in net.named_parameters() if name.endswith("weight"))
        value = _objective(config, net(x), TRAIN, rows, TRAIN) + 0.05 / 2 * penalty
        value.backward()
        return value

    optimizer.step(objective)
    with torch.no_grad():
        expected = _probabilities(config, net(held))
    assert np.abs(head.predict_proba(HELD_X) - expected).max() < 0.01
    assert len(head.history) < 2 * 60 and head.note.startswith("converged at epoch")
