"""How a GPU rounds the factors of its convolutions."""

from __future__ import annotations

import torch


def set_rounding(half: bool) -> None:
    """Have cuDNN convolve single precision in single precision, as the cache's key says.

    Left alone it rounds the factors to TF32, whose ten bits of mantissa are those of half precision. It is a setting of
    the whole process.

    Args:
        half: Half precision was asked for, so nothing is lost by it.
    """
    if not half:
        torch.backends.cudnn.allow_tf32 = False
