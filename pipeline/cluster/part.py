"""Which share of a catalogue a photo is in, told from its name alone: machines agree without a word to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pipeline.arrays import Int64


def rows_of_part(names: Sequence[str], number: int, count: int) -> Int64:
    """The photos of one share.

    A name is in the same share whatever else is in the catalogue and wherever the photos' folder lies. Shares are as
    even as chance makes them: of n photos in k shares, one has n/k, give or take its square root.

    Args:
        names: File names as the catalogue has them.
        number: Which share, from 1.
        count: How many shares there are.

    Returns:
        Positions, int64 (m,), ascending. Every photo is in exactly one of the shares.
    """
    digests = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8] for name in names)
    heads = np.frombuffer(b"".join(digests), dtype=">u8")
    return np.flatnonzero(heads % count == number - 1).astype(np.int64)
