"""Modest augmentation of a batch on its device: mirrored, and zoomed into a random rectangle of the square.

Both are one affine sampling of the pixels, bilinear. It acts on the squares that `extract` would show the backbone, so
without it training sees exactly what extraction will see.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

_STRETCH = 0.1


def augment(pixels: Tensor, hflip: float, crop: float, rng: np.random.Generator) -> Tensor:
    """Pixels of a batch, each photo seen in its own way: (b, s, s, 3) of any type to float32 (b, s, s, 3), 0 to 255.

    Args:
        hflip: Probability that a photo is mirrored.
        crop: Least share of the area kept (1 keeps all); the rectangle's sides differ by at most 10 % from a square's.
    """
    images = pixels.to(torch.float32)
    if hflip == 0 and crop == 1:
        return images
    count = len(pixels)
    mirrored = np.where(rng.random(count) < hflip, -1.0, 1.0)
    side = np.sqrt(rng.uniform(crop, 1.0, count))
    stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH, count) / 2) if crop < 1 else np.ones(count)
    width, height = np.minimum(side * stretch, 1.0), np.minimum(side / stretch, 1.0)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirrored, height
    theta[:, 0, 2] = (1 - width) * rng.uniform(-1, 1, count)
    theta[:, 1, 2] = (1 - height) * rng.uniform(-1, 1, count)
    planes = images.permute(0, 3, 1, 2)
    grid = affine_grid(torch.from_numpy(theta).to(planes.device), list(planes.shape), align_corners=False)
    # Without a border the half pixel beyond the outermost centres would fade to black.
    sampled = grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Channels last in memory, as decoded photos are: convolutions of either pass take about half the time on a CPU.
    return sampled.permute(0, 2, 3, 1).contiguous()
