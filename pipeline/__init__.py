"""Garment photos to catalogue attributes: a frozen backbone, cached vectors, light heads, plain model files.

`load_model(path).predict(photos)` goes from photo files to a DataFrame; `Predictor(path)` serves programs: photos in
memory, values as dicts, probabilities with names, vectors. `fit_arrays(X, labels)` fits heads on arrays of one's own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.exchange.arrays import fit_arrays
    from pipeline.model.predictor import Predictor, load_model

__all__ = ["Predictor", "fit_arrays", "load_model"]


def __getattr__(name: str) -> Any:
    # Loading on first use keeps the import free of everything heavy.
    if name == "fit_arrays":
        from pipeline.exchange import arrays

        return arrays.fit_arrays
    if name in __all__:
        from pipeline.model import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _refuse_foreign_cache() -> None:
    """In a clone the package `cache` beside this one must be ours; installed, both lie under one name of their own."""
    ours = Path(__file__).resolve().parents[1] / "cache" / "__init__.py"
    there = find_spec("cache")
    if there is not None and (there.origin is None or Path(there.origin).resolve() != ours):
        place = there.origin or ", ".join(there.submodule_search_locations or ())
        raise ImportError(
            f"Selvedge's package `cache` ({ours.parent}) is hidden by another `cache` ({place}) that comes first on "
            f"sys.path. Put {ours.parents[1]} first, rename the other one, or install Selvedge (pip install "
            f"{ours.parents[1]}) and import `selvedge` instead of `pipeline`."
        )


if __name__ == "pipeline":
    _refuse_foreign_cache()
