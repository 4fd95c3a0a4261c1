"""What requests are answered: values, probabilities and thresholds of photos, and what the models can say at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Float32, Float64
from pipeline.catalogue.labels import LabelSchema
from pipeline.errors import BadImage
from pipeline.evaluation.thresholds import decide
from pipeline.model.prediction import decided_values
from pipeline.options import ServeOptions
from pipeline.serving.models import ServedModel, Shelf
from pipeline.serving.refused import reason_of, status_of

Json = dict[str, Any]
DIGITS = 6


def answer(model: ServedModel, names: Sequence[str], found: Sequence[Float32 | BadImage], limits: Float64) -> Json:
    """The answer to a request: per photo what was predicted, or why nothing was.

    Args:
        model: What predicted them.
        names: What the answer calls them.
        found: Probabilities (L,) or error of each.
        limits: Thresholds (L,) to decide with.
    """
    photos = [
        {"photo": name, "error": {"reason": reason_of(row), "text": str(row)}}
        if isinstance(row, BadImage)
        else {"photo": name, **_predicted(model, row, limits)}
        for name, row in zip(names, found, strict=True)
    ]
    return {"model": model.name, "thresholds": by_value(model.predictor.schema, limits), "photos": photos}


def _predicted(model: ServedModel, row: Float32, limits: Float64) -> Json:
    schema = model.predictor.schema
    (values,) = decided_values(decide(row[None], schema, limits), schema)
    return {"values": values, "probabilities": by_value(schema, row)}


def by_value(schema: LabelSchema, row: npt.NDArray[Any]) -> dict[str, dict[str, float]]:
    """{attribute: {value: number}} of numbers (L,)."""
    numbers = np.round(row.astype(np.float64), DIGITS)
    columns = zip(schema.attributes, schema.values, schema.slices, strict=True)
    return {attribute: dict(zip(values, numbers[at].tolist(), strict=True)) for attribute, values, at in columns}


def labels(shelf: Shelf, options: ServeOptions) -> Json:
    """What the models know, how they decide, and what a request may hold."""
    return {
        "models": [_described(model) for model in shelf.models.values()],
        "limits": {
            "bytes": options.max_bytes,
            "photos": options.max_photos,
            "pixels": options.max_pixels,
            "seconds": options.request_timeout,
        },
    }


def _described(model: ServedModel) -> Json:
    schema, content = model.predictor.schema, model.predictor.model
    return {
        "name": model.name,
        "file": model.path.name,
        "sha256": model.digest,
        "attributes": [
            {"name": name, "values": list(values), "single": single}
            for name, values, single in zip(schema.attributes, schema.values, schema.single, strict=True)
        ],
        "category": schema.category_attribute,
        "gate": None if schema.gate is None else {value: list(names) for value, names in schema.gate.items()},
        "decision": model.predictor.options.threshold or content["decision"],
        "thresholds": by_value(schema, content["thresholds"]),
        "notes": list(model.notes),
    }


def status(found: Sequence[Float32 | BadImage]) -> int:
    """200 where a photo was predicted; else what is wrong with all of them."""
    errors = [row for row in found if isinstance(row, BadImage)]
    return 200 if len(errors) < len(found) else status_of(errors)
