"""Fitting configurations on the vectors that each of them takes: all kinds side by side, or one kind alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.errors import OptionError, counted
from pipeline.experiment.kinds.own_heads import own_head
from pipeline.experiment.rows import Experiment
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, Targets, bytes_copied, fit_many
from pipeline.heads.config import NETWORK
from pipeline.heads.stacked.sweep import Features
from pipeline.machine import memory_limit
from pipeline.options import FitOptions


def on_kinds(configs: Sequence[HeadConfig], ways: Sequence[str], kinds: int) -> tuple[HeadConfig, ...]:
    """The configurations on all kinds of vectors side by side (joined), on each kind alone (each), or on one of them.

    Args:
        configs: For all vectors.
        ways: joined, each, or the number of a kind; of one kind there is nothing to choose.
        kinds: How many kinds there are.

    Raises:
        OptionError: A way is none of these.
    """
    each = tuple(range(1, kinds + 1)) if kinds > 1 else (0,)
    ways_of = {"joined": (0,), "each": each} | {str(i): ((i if kinds > 1 else 0),) for i in range(1, kinds + 1)}
    for way in ways:
        if way not in ways_of:
            raise OptionError(f"--vectors is {way!r}; with {counted(kinds, 'kind')} of vectors: {', '.join(ways_of)}")
    taken = dict.fromkeys(kind for way in ways for kind in ways_of[way])
    made = (
        # A network's heads take the vectors of that network, whatever others are fit on.
        replace(config, vectors=kind)
        for config in configs
        for kind in (each if config.head == NETWORK else taken)
    )
    return tuple({config.config_id: config for config in made}.values())


def fit_on_kinds(
    configs: Sequence[HeadConfig],
    experiment: Experiment,
    parts: tuple[str, ...],
    options: FitOptions,
    sweep: SweepOptions,
) -> list[FittedHead]:
    """Fit configurations, those that take the same vectors together.

    Args:
        configs: What to fit.
        experiment: With all kinds of vectors.
        parts: Of the split, that are trained on.
        options: How much memory there is.
        sweep: How to run; what is halved is halved among those that take the same vectors.

    Returns:
        Heads that take X of all kinds, in the order of the configurations.
    """
    fitted = {i: own_head(config, experiment) for i, config in enumerate(configs) if config.head == NETWORK}
    for kind in dict.fromkeys(config.vectors for i, config in enumerate(configs) if i not in fitted):
        at = [i for i, config in enumerate(configs) if config.vectors == kind and config.head != NETWORK]
        on, mine = experiment.on(kind), [configs[i] for i in at]
        stops = tuple(sweep.stop_at[i] for i in at) if sweep.stop_at else ()
        heads = fit_many(
            mine, *_sides(on, options, mine, *parts), replace(sweep, stop_at=stops, blocks=on.features.blocks)
        )
        if kind:
            heads = [head.on_columns(*experiment.features.span(kind - 1)) for head in heads]
        fitted |= zip(at, heads, strict=True)
    return [fitted[i] for i in range(len(configs))]


def _sides(
    experiment: Experiment, options: FitOptions, configs: Sequence[HeadConfig], *training: str
) -> tuple[tuple[Features, Targets], tuple[Features, Targets]]:
    """What is trained on and what is judged on; --memory bounds both, and the copies that baselines make, together."""
    sides = (training, ("validation",))
    rows = len(experiment.split.rows(*training))
    in_use = sum(experiment.bytes_of(*parts) for parts in sides) + bytes_copied(
        configs, 4 * experiment.features.dim * rows, rows
    )

    def side(parts: tuple[str, ...]) -> tuple[Features, Targets]:
        beside = in_use - experiment.bytes_of(*parts)
        source = experiment.source(*parts, limit=memory_limit(options.memory), beside=beside)
        return source, experiment.targets_of(*parts)

    return side(sides[0]), side(sides[1])
