"""Modest augmentation of a batch on its device: mirrored, zoomed into a rectangle, colours changed, two photos mixed.

Geometry is one affine sampling of the pixels, bilinear, which also brings them to the size asked for. It acts on the
squares that `extract` would show the backbone, so without it training sees exactly what extraction will see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from pipeline.options import FinetuneOptions

_STRETCH = 0.1


@dataclass(frozen=True)
class Augmentation:
    """How a batch is changed.

    Attributes:
        hflip: Probability that a photo is mirrored.
        crop: Least share of the area kept (1 keeps all); the rectangle's sides differ by at most 10 % from a square's.
        jitter: Most change of brightness, contrast and saturation, each a factor from 1 - jitter to 1 + jitter.
        randaugment: Magnitude of RandAugment (Cubuk et al. 2020), from 0 (none) to 30.
        mixup: Both parameters of the beta distribution that says how much of a second photo is mixed in; 0 is none.
    """

    hflip: float
    crop: float
    jitter: float = 0.0
    mixup: float = 0.0
    randaugment: int = 0

    @classmethod
    def of(cls, options: FinetuneOptions, jitter: float) -> Augmentation:
        """That of a training."""
        return cls(options.hflip, options.crop, jitter, options.mixup, options.randaugment)

    def seen(self, pixels: Tensor, size: int, rng: np.random.Generator) -> Tensor:
        """Pixels of a batch, each photo in its own way: (b, s, s, 3) of any type to float32 (b, size, size, 3)."""
        pixels = _rand_augmented(pixels, self.randaugment) if self.randaugment else pixels
        images = self._placed(pixels.to(torch.float32), size, rng)
        return images if self.jitter == 0 else _recoloured(images, self.jitter, rng)

    def mixed(self, images: Tensor, Y: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of which each photo has a share of another one (Zhang et al. 2018), with its targets.

        Args:
            images: (b, s, s, 3).
            Y: (b, L) float32.
            mask: (b, L) bool; known is only what is known of both.
            rng: Where chance comes from.
        """
        if self.mixup == 0:
            return images, Y, mask
        share = float(rng.beta(self.mixup, self.mixup))
        other = torch.from_numpy(rng.permutation(len(images))).to(images.device)
        return torch.lerp(images[other], images, share), torch.lerp(Y[other], Y, share), mask & mask[other]

    def _placed(self, images: Tensor, size: int, rng: np.random.Generator) -> Tensor:
        if self.hflip == 0 and self.crop == 1:
            return images if images.shape[1] == size else shrunk(images, size)
        count = len(images)
        mirrored = np.where(rng.random(count) < self.hflip, -1.0, 1.0)
        side = np.sqrt(rng.uniform(self.crop, 1.0, count))
        stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH, count) / 2) if self.crop < 1 else np.ones(count)
        width, height = np.minimum(side * stretch, 1.0), np.minimum(side / stretch, 1.0)
        theta = np.zeros((count, 2, 3), np.float32)
        theta[:, 0, 0], theta[:, 1, 1] = width * mirrored, height
        theta[:, 0, 2] = (1 - width) * rng.uniform(-1, 1, count)
        theta[:, 1, 2] = (1 - height) * rng.uniform(-1, 1, count)
        planes = images.permute(0, 3, 1, 2)
        grid = affine_grid(torch.from_numpy(theta).to(planes.device), [count, 3, size, size], align_corners=False)
        # Without a border the half pixel beyond the outermost centres would fade to black.
        sampled = grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
        # Channels last in memory, as decoded photos are: convolutions of either pass take about half the time on a CPU.
        return sampled.permute(0, 2, 3, 1).contiguous()


def _rand_augmented(pixels: Tensor, magnitude: int) -> Tensor:
    """uint8 (b, s, s, 3), each photo by operations of its own, drawn from PyTorch's generator."""
    from torchvision.transforms.v2 import RandAugment

    policy = RandAugment(num_ops=2, magnitude=magnitude)
    return torch.stack([policy(photo) for photo in pixels.permute(0, 3, 1, 2)]).permute(0, 2, 3, 1)


def shrunk(images: Tensor, size: int) -> Tensor:
    """Pixels (b, s, s, 3) at another size, bilinear with antialiasing."""
    planes = images.to(torch.float32).permute(0, 3, 1, 2)
    resized = interpolate(planes, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()


def _recoloured(images: Tensor, most: float, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast about the photo's mean, saturation about each pixel's grey; 0 to 255 afterwards."""
    factors = torch.from_numpy(rng.uniform(1 - most, 1 + most, (3, len(images), 1, 1, 1)).astype(np.float32))
    brightness, contrast, saturation = factors.to(images.device)
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(dim=3, keepdim=True)
    coloured: Tensor = grey + (images - grey) * saturation
    return coloured.clamp(0, 255)
