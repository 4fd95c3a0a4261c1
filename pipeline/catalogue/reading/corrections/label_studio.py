"""An export of Label Studio, in its documented JSON form: tasks with annotations, whose results are choices.

Skipped annotations, drafts and predictions say nothing. Of several annotations of a task the one that was changed last
counts, unless one is the ground truth. See https://labelstud.io/guide/task_format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.catalogue.joined import joined
from pipeline.catalogue.reading.corrections.said import Said
from pipeline.errors import CatalogueError
from pipeline.shapes import WrongShape, anything, either, flag, mapping, optional, record, sequence, text, whole
from pipeline.system import parsed, read_text

_MOST_BYTES = 2**30
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""How Label Studio calls a file that was uploaded to it."""

_RESULT = record({"type": text, "value": mapping(anything)}, {"from_name": text})
_BY = optional(either(whole(), text, mapping(anything)))
_ANNOTATION = record(
    {"result": sequence(_RESULT)},
    {"completed_by": _BY, "was_cancelled": flag, "ground_truth": flag, "updated_at": text, "created_at": text},
)
_TASKS = sequence(record({"data": mapping(anything), "annotations": sequence(_ANNOTATION)}))
_CHOICES = sequence(text)

_EXPECTED = (
    "Expected Label Studio's export as JSON: a list of tasks with `data` and `annotations`, whose results are choices"
)


def read_label_studio(path: Path) -> tuple[tuple[Said, ...], int]:
    """The labels of an export, in the order in which they count, and how many of its tasks have none.

    Raises:
        CatalogueError: It is no such export, or one of a project that asks for something else than choices.
    """
    if not path.exists():
        raise CatalogueError(f"--labels {path}: no such file.")
    with parsed(CatalogueError, f"--labels {path}: cannot be read (", f"). {_EXPECTED}"):
        tasks = json.loads(read_text(path, _MOST_BYTES))
        try:
            _TASKS(tasks, "")
        except WrongShape as wrong:
            raise CatalogueError(f"--labels {path}: {wrong}. {_EXPECTED}{_other_form(tasks)}") from None
    _require_choices(path, tasks)
    said: list[Said] = []
    left = 0
    for number, task in enumerate(tasks, 1):
        of_task = list(_of_task(path, number, task))
        said += of_task
        left += not of_task
    return tuple(said), left


def _other_form(tasks: object) -> str:
    """What else Label Studio exports that this may be."""
    if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) and "annotation_id" in tasks[0]:
        return "; this looks like JSON-MIN"
    return ""


def _require_choices(path: Path, tasks: list[Any]) -> None:
    kinds = {result["type"] for task in tasks for each in task["annotations"] for result in each["result"]}
    if kinds and "choices" not in kinds:
        raise CatalogueError(
            f"--labels {path}: its annotations are {', '.join(sorted(kinds))}, not choices; is it the export of "
            f"another project? {_EXPECTED}"
        )


def _of_task(path: Path, number: int, task: Mapping[str, Any]) -> Iterator[Said]:
    counted = [each for each in task["annotations"] if not each.get("was_cancelled")]
    source = f"{path.name} task {task.get('id', number)}"
    for annotation in sorted(counted, key=_when):
        for result in annotation["result"]:
            if result["type"] != "choices":
                continue
            try:
                _CHOICES(result["value"].get("choices"), "choices")
            except WrongShape as wrong:
                raise CatalogueError(f"--labels {path}, task {task.get('id', number)}: {wrong}. {_EXPECTED}") from None
            yield Said(
                photo=_photo(path, number, task["data"]),
                attribute=str(result.get("from_name", "")),
                value=joined(each.strip() for each in result["value"]["choices"]) or "none",
                by=_who(annotation.get("completed_by")),
                at=_when(annotation),
                source=source,
                last=bool(annotation.get("ground_truth")),
            )


def _when(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _who(by: object) -> str:
    if isinstance(by, dict):
        name = by.get("email") or by.get("username") or by.get("id")
        return "" if name is None else str(name)
    return "" if by is None else f"user {by}" if isinstance(by, int) else str(by)


def _photo(path: Path, number: int, data: Mapping[str, Any]) -> str:
    """The photo's name: as our tasks carry it, else what its address ends with."""
    given = data.get("photo")
    if isinstance(given, str) and given:
        return given
    addresses = [value for name, value in data.items() if isinstance(value, str) and (name == "image" or "/" in value)]
    if not addresses:
        raise CatalogueError(
            f"--labels {path}, task {number}: its data have no photo (there are {', '.join(data) or 'no fields'}); is "
            "it the export of another project?"
        )
    parts = urlsplit(addresses[0])
    named = parse_qs(parts.query).get("d", [""])[0] or unquote(parts.path)
    if "/upload/" not in named:
        return named.lstrip("/")
    name = PurePosixPath(named).name
    uploaded = _UPLOADED.fullmatch(name)
    return uploaded[1] if uploaded else name
