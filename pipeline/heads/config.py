"""What a head is and how it is trained: one frozen record per configuration, and the tables of known names.

Nothing here imports torch, scikit-learn or LightGBM, so that a grid can be built, checked and named cheaply.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

from pipeline.errors import HeadError, nearest
from pipeline.options import FitOptions


@dataclass(frozen=True)
class HeadSpec:
    """One row of the table of heads.

    Attributes:
        optimizers: Optimizers it can be trained with; empty for a baseline that brings its own.
        uses: Fields of `HeadConfig` that change this head beyond `head` itself.
    """

    optimizers: tuple[str, ...]
    uses: tuple[str, ...]

    @property
    def is_baseline(self) -> bool:
        """True for heads without epochs: scikit-learn's, LightGBM's and kernel ridge."""
        return not self.optimizers


_TRAINING = ("optimizer", "lr", "weight_decay", "momentum", "nesterov", "betas", "schedule", "epochs", "batch_size",
             "input_dropout", "loss", "label_smoothing", "logit_adjust", "monitor", "patience", "seed")  # fmt: skip
_FIRST_ORDER = ("adam", "sgd", "adamw")

NETWORK = "network"
"""The heads that a fine-tuned backbone brings; they are not fit here."""

HEADS: Mapping[str, HeadSpec] = {
    "linear": HeadSpec((*_FIRST_ORDER, "lbfgs"), _TRAINING),
    "mlp": HeadSpec(_FIRST_ORDER, (*_TRAINING, "hidden", "dropout")),
    "mlp-per-key": HeadSpec(_FIRST_ORDER, (*_TRAINING, "hidden", "dropout")),
    "logreg": HeadSpec((), ("C", "seed")),
    "multinomial": HeadSpec((), ("C", "seed")),
    "kernel-ridge": HeadSpec((), ("ridge", "bandwidth", "landmarks", "block_weights", "logit_adjust", "seed")),
    "lightgbm": HeadSpec((), ("trees", "leaves", "feature_fraction", "seed")),
    NETWORK: HeadSpec((), ("logit_adjust",)),
}
OPTIMIZERS = (*_FIRST_ORDER, "lbfgs")
SCHEDULES = ("constant", "step", "plateau", "cosine", "onecycle")
MONITORS = ("loss", "micro-f1")
LOSSES = ("bce", "weighted-bce", "ce", "weighted-ce", "focal", "asymmetric")

DEFAULT_LR: Mapping[str, float] = {"adam": 1e-3, "adamw": 1e-3, "sgd": 0.1, "lbfgs": 1.0}
"""Learning rate when none is given; features are standardised, so one rate per optimizer serves every backbone."""

_OPTIMIZER_USES: Mapping[str, tuple[str, ...]] = {
    "adam": ("betas",),
    "adamw": ("betas",),
    "sgd": ("momentum", "nesterov"),
    "lbfgs": (),
}
_ADDED = ("ridge", "bandwidth", "landmarks", "block_weights", "vectors")
"""Fields that came later: they are part of the id of the heads that use them, and leave those of all others alone."""

_LBFGS_IGNORES = ("schedule", "batch_size", "input_dropout", "seed")


@dataclass(frozen=True)
class HeadConfig:
    """One configuration of one head; a field its head or optimizer does not use is set back to its default.

    Attributes:
        head: linear, mlp, mlp-per-key, kernel-ridge, logreg, multinomial, lightgbm or network.
        optimizer: adam, sgd, adamw, lbfgs (linear only); empty picks adam, and stays empty for baselines.
        lr: Learning rate; 0 picks the optimizer's default (`DEFAULT_LR`).
        weight_decay: L2 penalty of the weights (not the biases), in the gradient, or decoupled for adamw.
        momentum: Momentum of sgd.
        nesterov: Nesterov's momentum for sgd.
        betas: Decay rates of adam and adamw.
        schedule: constant, step, plateau, cosine or onecycle (`pipeline.heads.schedules`).
        epochs: Most epochs.
        batch_size: Rows per step.
        input_dropout: Share of the standardised features dropped while training, drawn per batch (see `reading`).
        loss: bce, weighted-bce, ce, weighted-ce, focal or asymmetric (`pipeline.heads.stacked.losses`).
        hidden: Hidden layer sizes of mlp; exactly one for mlp-per-key.
        dropout: Share of hidden units dropped while training.
        label_smoothing: Share of the target spread over the other values.
        logit_adjust: Strength tau of logit adjustment; 0 is off.
        monitor: What chooses the epoch that is kept, on validation: loss (lowest) or micro-f1 (highest).
        patience: Epochs without a better one by `monitor` before training stops; 0 never stops.
        seed: Seed of initialisation and dropout (not of the batch order).
        C: Inverse regularisation strength of logreg and multinomial.
        trees: Trees per label of lightgbm.
        leaves: Leaves per tree of lightgbm.
        feature_fraction: Share of the features each tree of lightgbm sees.
        ridge: Penalty of kernel-ridge; the kernel of a photo and itself is 1.
        bandwidth: Width of kernel-ridge's Gaussian, in median distances between training photos.
        landmarks: Most training photos that kernel-ridge keeps in the model.
        block_weights: `block=weight` for each feature block whose weight in kernel-ridge's distance is not 1.
        vectors: Which of several kinds of vectors it takes, from 1; 0 is all of them side by side.

    Raises HeadError for an unknown name (naming the nearest), a pair that cannot work, or a value out of range.
    """

    head: str = "linear"
    optimizer: str = ""
    lr: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    epochs: int = 30
    batch_size: int = 256
    input_dropout: float = 0.0
    loss: str = "bce"
    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.0
    label_smoothing: float = 0.0
    logit_adjust: float = 0.0
    monitor: str = "loss"
    patience: int = 5
    seed: int = 0
    C: float = 1.0
    trees: int = 300
    leaves: int = 15
    feature_fraction: float = 0.1
    ridge: float = 0.03
    bandwidth: float = 0.5
    landmarks: int = 8000
    block_weights: tuple[str, ...] = ()
    vectors: int = 0

    def __post_init__(self) -> None:
        known("head", self.head, HEADS)
        known("schedule", self.schedule, SCHEDULES)
        known("loss", self.loss, LOSSES)
        known("monitor", self.monitor, MONITORS)
        if self.optimizer:
            known("optimizer", self.optimizer, OPTIMIZERS)
        self._settle()
        _check_ranges(self)

    @property
    def spec(self) -> HeadSpec:
        """The head's row in `HEADS`."""
        return HEADS[self.head]

    @property
    def used(self) -> frozenset[str]:
        """Fields that change what it is; those of other heads and optimizers do not."""
        of_others = set().union(*_OPTIMIZER_USES.values()) - set(_OPTIMIZER_USES.get(self.optimizer, ()))
        ignored = _LBFGS_IGNORES if self.optimizer == "lbfgs" else ()
        of_kind = {"vectors"} if self.vectors else set()
        return frozenset({"head", *self.spec.uses} - of_others - set(ignored) | of_kind)

    @property
    def reading(self) -> tuple[int, float]:
        """How it reads the features: batch size and input dropout. Configurations that read alike share one reading,
        so what is dropped depends on the sweep's seed, not on the configuration's."""
        return self.batch_size, self.input_dropout

    @property
    def config_id(self) -> str:
        """`<head>-<optimizer>-<hash8>`, as far as it has them, with `vectors2` on that kind alone; equals share it."""
        named = {name: value for name, value in asdict(self).items() if name not in _ADDED or name in self.used}
        canonical = json.dumps(named, sort_keys=True)
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
        kind = f"vectors{self.vectors}" if self.vectors else ""
        return "-".join(part for part in (self.head, self.optimizer, kind, digest) if part)

    def _settle(self) -> None:
        """Fill what depends on other fields, and reset what this head ignores, so that equal work has one id."""
        spec = self.spec
        if spec.is_baseline and self.optimizer:
            raise HeadError(f"head {self.head!r} has no optimizer to choose, got {self.optimizer!r}; leave it empty")
        optimizer = self.optimizer or (spec.optimizers[0] if spec.optimizers else "")
        if optimizer and optimizer not in spec.optimizers:
            raise HeadError(
                f"optimizer {optimizer!r} cannot train head {self.head!r}; it can use {', '.join(spec.optimizers)}"
            )
        object.__setattr__(self, "optimizer", optimizer)
        used = self.used
        for field in fields(self):
            if field.name not in used:
                object.__setattr__(self, field.name, field.default)
        object.__setattr__(self, "optimizer", optimizer)
        object.__setattr__(self, "hidden", tuple(self.hidden) if "hidden" in used else ())
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "block_weights", tuple(self.block_weights))
        if optimizer and self.lr == 0:
            object.__setattr__(self, "lr", DEFAULT_LR[optimizer])


def known(what: str, name: str, names: Iterable[str]) -> None:
    """Raise HeadError, naming the nearest match, unless `name` is one of `names`."""
    listed = list(names)
    if name in listed:
        return
    near = nearest(name, listed)
    hint = f"did you mean {near!r}? " if near else ""
    raise HeadError(f"unknown {what} {name!r}; {hint}known: {', '.join(listed)}")


def _check_ranges(config: HeadConfig) -> None:
    """Raise HeadError for the first value that no fit could use."""
    rules = (
        ("lr", config.spec.is_baseline or (math.isfinite(config.lr) and config.lr > 0), "a positive number"),
        ("weight_decay", math.isfinite(config.weight_decay) and config.weight_decay >= 0, "0 or more"),
        ("momentum", 0 <= config.momentum < 1, "at least 0 and below 1"),
        ("nesterov", not config.nesterov or config.momentum > 0, "off unless momentum is above 0"),
        ("betas", len(config.betas) == 2 and all(0 <= b < 1 for b in config.betas), "two numbers from 0 to below 1"),
        ("epochs", config.epochs >= 1, "1 or more"),
        ("batch_size", config.batch_size >= 1, "1 or more"),
        ("hidden", _hidden_fits(config), "one or more positive sizes (exactly one for mlp-per-key)"),
        ("dropout", 0 <= config.dropout < 1, "at least 0 and below 1"),
        ("input_dropout", 0 <= config.input_dropout < 1, "at least 0 and below 1"),
        ("label_smoothing", 0 <= config.label_smoothing < 1, "at least 0 and below 1"),
        ("logit_adjust", math.isfinite(config.logit_adjust) and config.logit_adjust >= 0, "0 or more"),
        ("patience", config.patience >= 0, "0 (never stop early) or more"),
        ("C", math.isfinite(config.C) and config.C > 0, "a positive number"),
        ("trees", config.trees >= 1, "1 or more"),
        ("leaves", config.leaves >= 2, "2 or more"),
        ("ridge", math.isfinite(config.ridge) and config.ridge > 0, "a positive number"),
        ("bandwidth", math.isfinite(config.bandwidth) and config.bandwidth > 0, "a positive number"),
        ("landmarks", config.landmarks >= 1, "1 or more"),
        ("feature_fraction", 0 < config.feature_fraction <= 1, "above 0 and at most 1"),
    )
    for name, fine, expected in rules:
        if not fine:
            raise HeadError(f"{name} of head {config.head!r} is {getattr(config, name)!r}, expected {expected}")


def _hidden_fits(config: HeadConfig) -> bool:
    if "hidden" not in config.spec.uses:
        return True
    return all(h >= 1 for h in config.hidden) and (
        len(config.hidden) == 1 if config.head == "mlp-per-key" else bool(config.hidden)
    )


def grid(options: FitOptions) -> tuple[HeadConfig, ...]:
    """Every configuration the options ask for, without repeats, heads in the order given.

    Raises:
        HeadError: For unknown names and for pairs that cannot work, such as lbfgs with mlp.
    """
    made: dict[str, HeadConfig] = {}
    for head in options.heads:
        known("head", head, HEADS)
        for config in _grid_of(head, options):
            made.setdefault(config.config_id, config)
    return tuple(made.values())


def _grid_of(head: str, options: FitOptions) -> Iterable[HeadConfig]:
    if head == "kernel-ridge":
        points = itertools.product(options.ridge, options.bandwidth, options.logit_adjust)
        for ridge, bandwidth, logit_adjust in points:
            yield HeadConfig(
                head=head,
                ridge=ridge,
                bandwidth=bandwidth,
                logit_adjust=logit_adjust,
                landmarks=options.landmarks,
                block_weights=options.block_weights,
                seed=options.seed[0],
            )
        return
    if "C" in HEADS[head].uses:
        if not options.logreg_c:
            raise HeadError("nothing to try for logreg-c; give it one value or more, or leave it out")
        yield from (HeadConfig(head=head, C=C, seed=options.seed[0]) for C in options.logreg_c)
        return
    if head == NETWORK:
        yield from (HeadConfig(head=head, logit_adjust=strength) for strength in options.logit_adjust)
        return
    if HEADS[head].is_baseline:
        yield HeadConfig(head=head, trees=options.trees, seed=options.seed[0])
        return
    axes = {
        "optimizer": options.optimizers,
        "lr": options.lr or (0.0,),
        "weight_decay": options.weight_decay,
        "hidden": [(size,) for size in options.hidden],
        "dropout": options.dropout,
        "loss": options.loss,
        "label_smoothing": options.label_smoothing,
        "logit_adjust": options.logit_adjust,
        "schedule": options.schedule,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }
    if empty := [name for name, values in axes.items() if not values]:
        raise HeadError(f"nothing to try for {empty[0]}; give it one value or more, or leave it out")
    for point in itertools.product(*axes.values()):
        yield HeadConfig(
            head=head,
            momentum=options.momentum,
            nesterov=options.nesterov,
            betas=options.betas,  # type: ignore[arg-type]  # the length is checked with the ranges
            epochs=options.epochs,
            input_dropout=options.input_dropout,
            monitor=options.monitor,
            patience=options.patience,
            **dict(zip(axes, point, strict=True)),  # type: ignore[arg-type]  # each axis has its field's type
        )
