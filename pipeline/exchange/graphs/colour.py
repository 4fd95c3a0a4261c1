"""The block `colour` in PyTorch's operators, for graphs; `pipeline.features.backbone.colour` defines it.

Sums are of whole numbers in double precision, in which they are exact.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.features.backbone.colour import GREYS, GRID, HUES, SHADES, SIDE, VALUES, area_weights


class ColourModule(torch.nn.Module):
    """uint8 (b, s, s, 3), RGB, to float32 (b, 250), as `colour_of`.

    Args:
        size: s.
    """

    small: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        side = min(SIDE, size)
        small, whole = area_weights(size, side)
        (rows, height), (columns, width) = (area_weights(side, cells) for cells in GRID)
        self.area, self.cell = float(whole**2), float(height * width)
        for name, weights in (("small", small), ("rows", rows), ("columns", columns)):
            self.register_buffer(name, torch.from_numpy(weights.astype(np.float64)), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        channels = pixels.permute(0, 3, 1, 2).to(torch.float64)
        sums = torch.matmul(torch.matmul(self.small, channels), self.small.t())
        small = torch.floor((sums + self.area // 2) / self.area)
        cells = torch.matmul(torch.matmul(self.rows, small), self.columns.t()) / (255.0 * self.cell)
        shares = torch.cat(_histograms(small.flatten(2)), dim=1)
        return torch.cat([torch.sqrt(shares).float(), cells.permute(0, 2, 3, 1).flatten(1).float()], dim=1)


def _histograms(channels: Tensor) -> list[Tensor]:
    """Shares of the bins, of whole numbers from 0 to 255, float64 (b, 3, n)."""
    r, g, b = channels[:, 0], channels[:, 1], channels[:, 2]
    value, chroma = torch.amax(channels, dim=1), torch.amax(channels, dim=1) - torch.amin(channels, dim=1)
    shades = SHADES**2 * torch.floor(r / 64) + SHADES * torch.floor(g / 64) + torch.floor(b / 64)
    full = torch.full_like(r, 255.0)
    return [
        _shares(_hue(r, g, b, value, chroma), HUES, chroma),
        _shares(torch.floor(VALUES * value / 256), VALUES, 255.0 - chroma),
        _shares(torch.floor(GREYS * (r + g + b) / 768), GREYS, full),
        _shares(shades, SHADES**3, full),
    ]


def _hue(r: Tensor, g: Tensor, b: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    red, green = value == r, value == g
    difference = torch.where(red, g - b, torch.where(green, b - r, r - g))
    sixth = torch.where(red, torch.zeros_like(r), torch.where(green, torch.full_like(r, 6.0), torch.full_like(r, 12.0)))
    hue = torch.floor(3 * difference / torch.clamp(chroma, min=1.0)) + sixth
    return torch.where(hue < 0, hue + HUES, hue)


def _shares(bins: Tensor, number: int, weights: Tensor) -> Tensor:
    own = bins.unsqueeze(1) == torch.arange(number, dtype=bins.dtype).view(1, -1, 1)
    counts = torch.where(own, weights.unsqueeze(1), torch.zeros_like(weights).unsqueeze(1)).sum(dim=2)
    return counts / (255.0 * bins.shape[1])
