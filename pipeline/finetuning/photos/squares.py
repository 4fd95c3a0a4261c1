"""How large the squares are that a training sees, epoch by epoch."""

from __future__ import annotations

from pipeline.options import FinetuneOptions


def squares(options: FinetuneOptions, size: int) -> tuple[int, ...]:
    """Side of the squares of each epoch: `start_size`, half way, then the full one, a third of the epochs each.

    Args:
        options: How a network is trained.
        size: Side of the full squares; those at the start are no larger.
    """
    start = min(options.start_size or size, size)
    thirds = (min(2, 3 * epoch // options.epochs) for epoch in range(options.epochs))
    return tuple(round(start + third / 2 * (size - start)) for third in thirds)
