"""Batches of a training: pixels, targets and what is known of them, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Int64, Pixels
from pipeline.finetuning.examples import Examples


def in_order(examples: Examples, size: int) -> list[Int64]:
    """Positions of the photos, in batches of at most `size`."""
    return np.array_split(np.arange(len(examples.rows)), -(-len(examples.rows) // size))


def loaded(
    examples: Examples, batches: Sequence[Int64], device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """uint8 (b, s, s, 3), Y uint8 (b, L) and mask bool (b, L) of each batch; the next is decoded while one computes."""
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(examples.photos.take, examples.rows[batches[0]])
        for at, following in zip(batches, [*batches[1:], None], strict=True):
            pixels = coming.result()
            if following is not None:
                coming = ahead.submit(examples.photos.take, examples.rows[following])
            Y, mask = (torch.from_numpy(each[at]).to(device) for each in (examples.Y, examples.mask))
            yield _moved(pixels, device), Y, mask


def _moved(pixels: Pixels, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(pixels)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
