"""How fast a network would train here, from its first steps on photos of the catalogue."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.catalogue import LabelSchema
from pipeline.errors import OptionError, counted
from pipeline.features.backbone.network import load_backbone
from pipeline.finetuning.examples import Examples
from pipeline.finetuning.loop import Training
from pipeline.finetuning.network.objective import objective
from pipeline.finetuning.outcome import Callbacks
from pipeline.finetuning.photos.augment import Augmentation
from pipeline.finetuning.photos.pixels import Feeding, decode_all
from pipeline.machine import memory_limit
from pipeline.options import BackboneOptions, FinetuneOptions
from pipeline.remote import RemotePhoto

BATCHES = 4
"""Batches that are trained on to learn how fast they go, the first of which warms up and is not counted."""

_SCHEMA = LabelSchema(("value",), (("one", "other"),), (True,))
"""Labels cost next to nothing beside the network, so any will do."""


def training_speed(paths: Sequence[Path | RemotePhoto], backbone: BackboneOptions, options: FinetuneOptions) -> float:
    """Photos per second of a training step.

    Args:
        paths: Photos of the catalogue; some of them are decoded.
        backbone: What would be trained.
        options: How.

    Raises:
        OptionError: Fewer than two photos can be decoded.
        BackboneError: The backbone cannot be had.
    """
    loaded = load_backbone(backbone)
    wanted = min(len(paths), BATCHES * options.batch_size)
    some = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, wanted).astype(np.int64)).tolist()]
    good, photos = decode_all(some, Feeding(loaded.transform, options.workers, memory_limit(options.memory)))
    if len(good) < 2:
        raise OptionError(f"{counted(len(good), 'photo')} of {len(some)} can be decoded: nothing to train on")
    every = np.arange(len(good))
    Y = np.eye(2, dtype=np.uint8)[every % 2]
    known = np.ones(Y.shape, np.bool_)
    at: list[tuple[float, int]] = []
    callbacks = Callbacks(trained=lambda done, _total: at.append((time.perf_counter(), done)))
    batch = min(options.batch_size, max(1, len(good) // 2))
    once = replace(options, epochs=1, start_size=None, schedule="constant", batch_size=batch)
    training = Training(
        loaded, objective(Y, known, _SCHEMA, once), _SCHEMA, Augmentation.of(once, once.jitter or 0.0), once
    )
    with tempfile.TemporaryDirectory() as folder:
        training.run(Examples(photos, every, Y, known), None, Path(folder), callbacks)
    return (at[-1][1] - at[0][1]) / (at[-1][0] - at[0][0])
