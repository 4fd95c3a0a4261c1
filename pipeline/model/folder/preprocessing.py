"""What becomes of a photo before the network sees it, as `model.json` states it for other programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_KEPT = re.compile(r"(\w+) \(keeps ([0-9.e+-]+)\)")

_RESIZES = {
    "squash": "resize to (size, size)",
    "pad": (
        "resize by size / max(width, height), each side rounded and at least 1; paste into a square of size filled with"
        " pad_colour, at ((size - width) // 2, (size - height) // 2)"
    ),
    "crop": (
        "keep the middle 8:1 of a longer photo; resize so that the shorter side is resize_to and the longer one"
        " int(resize_to * long / short); keep the middle size x size"
    ),
}


def preprocessing(cache_key: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a cache key that say it, in words that need no code of this program.

    Args:
        cache_key: The full key of a backbone and its transform; of a model that names none, nothing is said.

    Returns:
        size, resize, interpolation, antialias, mean and std (which the network's graph applies itself), pixels, steps;
        with `crop` crop_pct and resize_to, with `pad` pad_colour.
    """
    if not {"size", "fit", "interpolation", "mean", "std"} <= cache_key.keys():
        return {}
    size, fit, interpolation = int(cache_key["size"]), str(cache_key["fit"]), str(cache_key["interpolation"])
    found = _KEPT.fullmatch(interpolation)
    said: dict[str, Any] = {
        "size": size,
        "resize": fit,
        "interpolation": found[1] if found else interpolation,
        "antialias": True,
        "mean": list(cache_key["mean"]),
        "std": list(cache_key["std"]),
        "pixels": "uint8 (n, size, size, 3), RGB; mean and std are applied by the network's graph",
        "steps": [
            "decode the first frame, a JPEG at 1/2, 1/4 or 1/8 while its shorter side stays at least twice what the"
            " resize makes of it; turn it upright by EXIF",
            "16 bits to 8 by x / 257; transparency on white; RGB; no colour profile",
            _RESIZES.get(fit, fit),
        ],
    }
    if fit == "crop":
        kept = float(found[2]) if found else 1.0
        said |= {"crop_pct": kept, "resize_to": max(size, int(size / kept))}
    if fit == "pad":
        said["pad_colour"] = [int(each) for each in np.round(255 * np.array(cache_key["mean"]))]
    return said
