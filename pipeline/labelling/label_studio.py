"""Tasks for Label Studio, with predictions to start from and to sort by, and the labelling configuration they need.

The form is the documented one, https://labelstud.io/guide/predictions: a list of tasks with `data` and `predictions`.
The export that comes back is read by `--labels` (`pipeline.catalogue.reading.corrections.label_studio`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pipeline.catalogue import LabelSchema
from pipeline.errors import OptionError
from pipeline.labelling.asks import Ask
from pipeline.remote import is_url
from pipeline.system import write_text

_PHOTO = "photo"
"""What the image is called in the configuration."""

_WHY = "selvedge-why"
"""What the text that says why is called there: no attribute has this name."""

_NONE = "none"


def write_tasks(out: Path, asks: Sequence[Ask], schema: LabelSchema | None, image_url: str) -> Path:
    """Write tasks, one per photo, and beside them the configuration, an .xml file whose path is returned.

    A prediction's score is how sure the model is of the photo's attributes, so that sorting by it shows the doubtful
    photos first.

    Args:
        out: The file of tasks.
        asks: What is asked.
        schema: Attributes and values that can be chosen.
        image_url: Where a photo is, with {photo} for its name; one whose name is a URL is there.

    Raises:
        OptionError: Nothing says which values there are.
    """
    asked = dict.fromkeys(ask.attribute for ask in asks)
    if schema is None or not set(asked) <= set(schema.attributes):
        lacking = next((name for name in asked if schema is None or name not in schema.attributes), "")
        raise OptionError(
            f"Label Studio shows values to choose from, and nothing says which {lacking or 'an attribute'} has: give "
            "--model, or --data with some labels, or leave out --to label-studio"
        )
    single = dict(zip(schema.attributes, schema.single, strict=True))
    by_photo: dict[str, list[Ask]] = {}
    for ask in asks:
        by_photo.setdefault(ask.photo, []).append(ask)
    tasks = [_task(photo, of_photo, single, image_url) for photo, of_photo in by_photo.items()]
    config = out.with_suffix(".xml")
    write_text(config, _config(schema, asked))
    write_text(out, json.dumps(tasks, indent=1, ensure_ascii=False) + "\n")
    return config


def _task(photo: str, asks: Sequence[Ask], single: dict[str, bool], image_url: str) -> dict[str, Any]:
    data = {
        "image": photo if is_url(photo) else image_url.replace("{photo}", quote(photo)),
        "photo": photo,
        "why": "; ".join(f"{ask.attribute}: {ask.why}" for ask in asks),
        "doubt": round(sum(ask.doubt for ask in asks), 4),
    }
    results = [result for ask in asks if (result := _result(ask, single[ask.attribute]))]
    if not results:
        return {"data": data}
    sure = sum(1 - ask.doubt for ask in asks) / len(asks)
    return {"data": data, "predictions": [{"model_version": "selvedge", "score": round(sure, 4), "result": results}]}


def _result(ask: Ask, single: bool) -> dict[str, Any] | None:
    likely = ask.candidates[:1] if single else [each for each in ask.candidates if each.p >= 0.5]
    if not likely:
        return None
    return {
        "id": f"selvedge-{ask.attribute}",
        "from_name": ask.attribute,
        "to_name": _PHOTO,
        "type": "choices",
        "value": {"choices": [each.value for each in likely]},
        "score": round(min(each.p for each in likely), 4),
    }


def _config(schema: LabelSchema, asked: Sequence[str] | dict[str, None]) -> str:
    """The photo beside the questions: below it they would lie outside of the window."""
    photo = ['<View style="flex: 1">', f'  <Image name="{_PHOTO}" value="$image"/>', "</View>"]
    questions = ['<View style="flex: 1">', f'  <Text name="{_WHY}" value="$why"/>', *_choices(schema, asked), "</View>"]
    inner = (f"  {line}" for line in (*photo, *questions))
    return "\n".join(['<View style="display: flex; gap: 1em">', *inner, "</View>", ""])


def _choices(schema: LabelSchema, asked: Sequence[str] | dict[str, None]) -> Iterator[str]:
    for attribute, values, single in zip(schema.attributes, schema.values, schema.single, strict=True):
        if attribute not in asked:
            continue
        yield f"  <Header value={quoteattr(attribute)}/>"
        kind = "single" if single else "multiple"
        yield f'  <Choices name={quoteattr(attribute)} toName="{_PHOTO}" choice="{kind}" showInline="true">'
        # Where a photo may lack the attribute, "no value" must be distinguishable from "not answered".
        lack = (_NONE,) if (not single or schema.gate is not None) and _NONE not in values else ()
        yield from (f"    <Choice value={quoteattr(value)}/>" for value in (*values, *lack))
        yield "  </Choices>"
