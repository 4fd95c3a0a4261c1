"""Heads on frozen features: many configurations at once, baselines, and what they leave behind.

Names are imported on first use, so that reading a configuration does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.heads.baselines.fit import bytes_copied as bytes_copied
    from pipeline.heads.baselines.fit import estimate_seconds as estimate_seconds
    from pipeline.heads.config import DEFAULT_LR as DEFAULT_LR
    from pipeline.heads.config import HEADS as HEADS
    from pipeline.heads.config import HeadConfig as HeadConfig
    from pipeline.heads.config import grid as grid
    from pipeline.heads.fitted import FittedHead as FittedHead
    from pipeline.heads.fitted import ensemble as ensemble
    from pipeline.heads.source import FeatureSource as FeatureSource
    from pipeline.heads.stacked.sweep import SweepOptions as SweepOptions
    from pipeline.heads.stacked.sweep import fit_many as fit_many
    from pipeline.heads.stream import ChunkedSource as ChunkedSource
    from pipeline.heads.stream import FeatureChunk as FeatureChunk
    from pipeline.heads.targets import Targets as Targets

_HOME = {
    "DEFAULT_LR": "config",
    "HEADS": "config",
    "FeatureSource": "source",
    "FittedHead": "fitted",
    "HeadConfig": "config",
    "FeatureChunk": "stream",
    "ChunkedSource": "stream",
    "SweepOptions": "stacked.sweep",
    "Targets": "targets",
    "bytes_copied": "baselines.fit",
    "ensemble": "fitted",
    "estimate_seconds": "baselines.fit",
    "fit_many": "stacked.sweep",
    "grid": "config",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
