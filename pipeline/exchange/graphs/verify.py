"""A graph held against ours in ONNX Runtime, at several sizes of a batch, before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from pipeline.arrays import Float32, Pixels
from pipeline.exchange.graphs.graph import Refused
from pipeline.exchange.graphs.head import DECISIONS, PROBABILITIES
from pipeline.machine import cores
from pipeline.model.file import decisions
from pipeline.system import parsed

BATCHES = (1, 2, 7)
TOLERANCE = 1e-4
"""Largest difference of a probability."""


def largest_difference(
    made: onnx.ModelProto, model: Mapping[str, Any], batch: Callable[[int], tuple[Mapping[str, Any], Float32]]
) -> float:
    """How far a graph's probabilities are from ours, over all `BATCHES`.

    Args:
        made: The graph.
        model: The checked model dict that it is of.
        batch: For a number of photos, inputs by name and our probabilities (n, L) of them.

    Raises:
        Refused: It cannot run, differs by more than `TOLERANCE`, or decides otherwise.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = cores(), 3
    largest = 0.0
    with parsed(Refused, "ONNX Runtime cannot run it (", ")", 1):
        onnx.checker.check_model(made, full_check=True)
        session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for count in BATCHES:
            inputs, ours = batch(count)
            P, D = session.run([PROBABILITIES, DECISIONS], dict(inputs))
            largest = max(largest, _difference(P, ours, count))
            if not np.array_equal(D, decisions(model, P)):
                raise Refused(f"its decisions are others than ours at a batch of {count}")
    return largest


def _difference(P: Float32, ours: Float32, count: int) -> float:
    if P.shape != ours.shape:
        raise Refused(f"its probabilities have the shape {P.shape} at a batch of {count}, expected {ours.shape}")
    gap = float(np.abs(P - ours).max())
    if not gap <= TOLERANCE:
        raise Refused(f"its probabilities differ from ours by {gap:.2g} at a batch of {count}; at most {TOLERANCE:g}")
    return gap


def sample_pictures(sizes: Sequence[int], count: int) -> list[Pixels]:
    """Per size, that many pictures of soft patches and noise, uint8 (count, s, s, 3)."""
    rng = np.random.default_rng(count)
    pictures = []
    for size in sizes:
        patches = rng.integers(0, 256, (count, 5, 5, 3)).repeat(-(-size // 5), 1).repeat(-(-size // 5), 2)
        noise = rng.integers(-20, 21, (count, size, size, 3))
        pictures.append(np.clip(patches[:, :size, :size] + noise, 0, 255).astype(np.uint8))
    return pictures
