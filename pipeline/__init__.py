"""Garment photos to catalogue attributes: a frozen backbone, cached vectors, light heads, plain model files.

`pipeline.load_model(path).predict(photos)` goes from photo files to a DataFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.model.predict import Predictor, load_model

__all__ = ["Predictor", "load_model"]


def __getattr__(name: str) -> Any:
    # Loading on first use keeps `import pipeline` free of everything heavy.
    if name in __all__:
        from pipeline.model import predict

        return getattr(predict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
