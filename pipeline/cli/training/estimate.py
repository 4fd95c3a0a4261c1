"""How long a training will take, from its first seconds: some photos extracted, some epochs on vectors made up.

What is measured is what the machine does now: the photos are the catalogue's own, and their vectors stay in the cache;
heads are tried on random vectors of the right width with the catalogue's own labels. Baselines that are fit column by
column have costs of their own (`pipeline.heads.estimate_seconds`). Epochs are counted in full, though many a head stops
earlier, so the heads' share is rather too long than too short.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.catalogue import Catalogue, infer_schema, parse_split
from pipeline.errors import HeadError
from pipeline.features.report import ExtractReport
from pipeline.finetuning.photos.squares import squares
from pipeline.heads import HeadConfig, SweepOptions, Targets, estimate_seconds, fit_many, grid
from pipeline.heads.config import NETWORK
from pipeline.options import FinetuneOptions, FitOptions

PHOTOS = 128
"""Photos that are extracted to learn how fast they go."""

_ROWS, _KERNEL_ROWS, _WARM_ROWS = 512, 1024, 32
_EPOCHS = (1, 3)
_COLUMN_BY_COLUMN = frozenset({"logreg", "lightgbm"})
_PER_PHOTO, _PER_RUN = 0.004, 3.0  # seconds of a run beyond its fits: pictures, near-duplicates, thresholds, files
_COMPARE_PER_RUN, _PER_RESAMPLED = 1.0, 2.5e-4  # seconds of compare: its page, and per test photo and attribute
_JUDGED, _START = 0.3, 5.0  # of a training step is what seeing a photo takes; seconds until an extraction begins
PREDICT = 5.0
"""Seconds of a few predictions: mostly the backbone being built."""


@dataclass(frozen=True)
class Sizes:
    """What decides how long heads take.

    Attributes:
        parts: Photos to train, to choose, and to test.
        kinds: (name, width) of the feature blocks of each kind of vectors.
        targets: Labels of some of the photos.
    """

    parts: tuple[int, int, int]
    kinds: tuple[tuple[tuple[str, int], ...], ...]
    targets: Targets

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """Those of all kinds, side by side."""
        return tuple(block for kind in self.kinds for block in kind)

    @property
    def photos(self) -> int:
        """All of them."""
        return sum(self.parts)


@dataclass(frozen=True)
class Expected:
    """An extraction that is still to be done.

    Attributes:
        seconds: What it will take.
        blocks: (name, width) of what it gives.
    """

    seconds: float
    blocks: tuple[tuple[str, int], ...]


def sizes_of(catalogue: Catalogue, extractions: Sequence[Expected], split: str) -> Sizes:
    """The sizes of a catalogue's fit on the vectors of these extractions."""
    rows = np.unique(np.linspace(0, len(catalogue) - 1, min(_KERNEL_ROWS, len(catalogue))).astype(np.int64))
    schema, some = infer_schema(catalogue), catalogue.take(rows)
    Y, known = schema.encode(some.cells, some.categories)
    # Those with a label first: heads are tried on the first few, and need some.
    order = np.argsort(~known.any(axis=1), kind="stable")
    Y, known = Y[order], known[order]
    parts = [round(share * len(catalogue)) for share in parse_split(split)]
    kinds = tuple(each.blocks for each in extractions)
    return Sizes((parts[0], parts[1], parts[2]), kinds, Targets(Y, known, schema.slices, schema.single))


def begun(first: ExtractReport) -> Expected:
    """What is left of an extraction whose first photos were computed."""
    seconds = first.seconds["start"] + first.left / max(first.images_per_second, 1e-9) if first.left else 0.0
    return Expected(seconds, tuple({block: width for block, _, width in first.columns}.items()))


def to_be_tuned(start: ExtractReport, photos: int, speed: float) -> Expected:
    """An extraction with a network that is still to be trained: pooled vectors of one view.

    Args:
        start: The extraction with the network it starts from.
        photos: All of them.
        speed: Photos per second of a training step.
    """
    pooled = {block: width for block, _, width in start.columns if block == "pooled"}
    return Expected(_START + photos * _JUDGED / max(speed, 1e-9), tuple(pooled.items()))


def finetune_seconds(options: FinetuneOptions, size: int | None, speed: float, parts: tuple[int, int, int]) -> float:
    """A call of finetune: its epochs, and those of the trainings that follow it.

    Args:
        options: How.
        size: Side of the full squares; None if nobody has said it.
        speed: Photos per second of a training step on them.
        parts: Photos to train, to choose, and to test.
    """
    train, validation, test = parts
    again = options.refit * (train + validation) + options.final * (train + validation + test)
    epochs: float = options.epochs
    if size is not None:
        # A step takes as long as its pixels are many.
        epochs = sum((side / size) ** 2 for side in squares(options, size))
    return (epochs * (train + again) + options.epochs * _JUDGED * validation) / max(speed, 1e-9)


def fit_seconds(options: FitOptions, sizes: Sizes) -> float:
    """A call of fit-heads: every configuration, the fits again of the best, and the files."""
    # The heads that a network brings are not fit.
    configs = [config for config in grid(options) if config.head != NETWORK]
    dims = list(_dims(options, sizes))
    once = sum(_fits(configs, dim, len(options.views), sizes) for dim in dims)
    train, validation, test = sizes.parts
    fitted = len({config.head for config in configs}) * len(dims)
    members = max(1, options.ensemble) * (fitted if options.ensemble_from == "each-head" else 1)
    share = min(1.0, members / max(1, len(configs) * len(dims)))
    again = options.refit * (train + validation) / train + options.final * sizes.photos / train
    pictures = min(test, options.thumbnails)
    return once * (1 + share * again) + _PER_RUN + _PER_PHOTO * (pictures + 0.1 * sizes.photos)


def compare_seconds(sizes: Sizes, runs: int) -> float:
    """The table and the page of some runs."""
    return runs * (_COMPARE_PER_RUN + _PER_RESAMPLED * sizes.parts[2] * len(sizes.targets.slices))


def _dims(options: FitOptions, sizes: Sizes) -> Iterator[int]:
    """How many numbers the heads see, for each of the ways in which they see the kinds of vectors."""
    for way in options.vectors:
        seen = sizes.kinds[int(way) - 1 : int(way)] if way.isdigit() else sizes.kinds
        for blocks in [sizes.blocks] if way == "joined" else seen:
            if dim := sum(width for name, width in blocks if not options.use or name in options.use):
                yield dim


def _fits(configs: Sequence[HeadConfig], dim: int, views: int, sizes: Sizes) -> float:
    train, labels = sizes.parts[0], sizes.targets.size
    trained = [config for config in configs if not config.spec.is_baseline]
    columns = [config for config in configs if config.head in _COLUMN_BY_COLUMN]
    kernels = [config for config in configs if config.head == "kernel-ridge"]
    others = [config for config in configs if config not in (*trained, *columns, *kernels)]
    seconds = sum(estimate_seconds(config, train, dim, labels) for config in columns)
    if others:
        rows = min(_ROWS, len(sizes.targets))
        # A head that cannot be fit on made-up vectors is said to be unable by the fit itself, if it is so there too.
        with contextlib.suppress(HeadError):
            seconds += _tried(others, dim, views, sizes, rows) * train / rows
    if trained:
        seconds += _epochs(trained, dim, views, sizes)
    if kernels:
        rows = min(_KERNEL_ROWS, len(sizes.targets))
        work = _work(train, dim, kernels[0].landmarks, sizes) / _work(rows, dim, kernels[0].landmarks, sizes)
        seconds += len(kernels) * work * _tried(kernels[:1], dim, views, sizes, rows)
    return seconds


def _epochs(configs: Sequence[HeadConfig], dim: int, views: int, sizes: Sizes) -> float:
    """All epochs of heads that have them, from the difference between few and fewer."""
    rows = min(_ROWS, len(sizes.targets))
    # The first fit of a process loads PyTorch, which is not to be counted again for every fit that follows.
    _tried([replace(configs[0], epochs=1)], dim, views, sizes, min(_WARM_ROWS, rows))
    few, more = (_tried([replace(c, epochs=epochs) for c in configs], dim, views, sizes, rows) for epochs in _EPOCHS)
    per_epoch = max(more - few, 0.1 * more) / (_EPOCHS[1] - _EPOCHS[0])
    return few + per_epoch * max(c.epochs for c in configs) * sizes.parts[0] / rows


def _tried(configs: Sequence[HeadConfig], dim: int, views: int, sizes: Sizes, rows: int) -> float:
    """Seconds of a fit on so many rows of random vectors."""
    random = np.random.default_rng(0)
    shape = (rows, dim) if views == 1 else (views, rows, dim)
    X = random.standard_normal(shape, dtype=np.float32)
    every, some = np.arange(rows), np.arange(max(1, rows // 4))
    train, validation = (X, sizes.targets.take(every)), (X[..., some, :], sizes.targets.take(some))
    started = time.perf_counter()
    fit_many(configs, train, validation, SweepOptions(blocks=sizes.blocks if dim == _width(sizes) else ()))
    return time.perf_counter() - started


def _width(sizes: Sizes) -> int:
    return sum(width for _, width in sizes.blocks)


def _work(rows: int, dim: int, landmarks: int, sizes: Sizes) -> float:
    """Multiplications of kernel ridge: distances, products of the kernel, and a solution per attribute."""
    kept = min(rows, landmarks)
    products = rows * kept**2 if rows > kept else 0
    return 2 * rows * kept * dim + len(sizes.targets.slices) * (products + kept**3 / 3)
