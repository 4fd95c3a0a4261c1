"""The shapes of a run folder's JSON files: what the comparison and its page rely on, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.catalogue.labels import LabelSchema, wrong_labels
from pipeline.errors import RunError
from pipeline.features.vectors.origin import MOST_SOURCES
from pipeline.names import SEPARATORS, wrong_name
from pipeline.shapes import (
    Shape,
    WrongShape,
    anything,
    either,
    flag,
    mapping,
    number,
    one_of,
    optional,
    record,
    sequence,
    text,
    whole,
)

SCHEMA = record(
    {
        "keys": sequence(text, least=1),
        "values": sequence(sequence(text, least=1), least=1),
        "single": sequence(flag, least=1),
    },
    {"gate": optional(mapping(sequence(text))), "category_key": optional(text)},
)

OPTIONS = mapping(either(mapping(anything), optional(text)))
"""Per group of options, those that were given; older files hold the data's path in place of its group."""

NEAR = record({"pairs": mapping(whole()), "cosine": number(), "test_photos": whole(), "closest": sequence(text)})

EVALUATED = record(
    {"model": text, "at_precision": sequence(number()), "notes": sequence(text)},
    {"sha256": text, "training": optional(record({"positives": sequence(whole()), "known": sequence(whole())}))},
)
"""What `evaluate` says of a fitted model that it tried on labelled photos, the run's test part.

training: how often each value is true, and known, in the model's training photos; null where its file does not say.
"""

ORIGIN = {"cache_key": optional(mapping(anything)), "weights_source": optional(text)}
"""A backbone; of several, each of `sources` has these fields."""

RUN = record(
    {"schema": SCHEMA},
    {
        "name": text,
        "created": text,
        "options": optional(OPTIONS),
        **ORIGIN,
        "sources": optional(sequence(record({}, ORIGIN), least=1, most=MOST_SOURCES)),
        "blocks": optional(sequence(record({"name": text, "dim": whole(1)}, {"source": whole()}))),
        "views": optional(sequence(text)),
        "random_weights": optional(flag),
        "findings": optional(mapping(whole())),
        "unseen": optional(sequence(sequence(text, least=2, most=2))),
        "not_measurable": optional(sequence(either(sequence(text, least=2, most=2), text))),
        "near_duplicates": optional(NEAR),
        "evaluated": optional(EVALUATED),
        "versions": optional(mapping(text)),
        "host": optional(mapping(anything)),
    },
)
"""run.json. Of options, cache key and host only texts are made."""

POLICY = record({"thresholds": sequence(number()), "validation_score": number(nan=True)})

CALIBRATION = record({"scale": sequence(number()), "shift": sequence(number())})

DECISIONS = mapping(
    record(
        {"policies": mapping(POLICY, least=1), "chosen": text},
        {"links": sequence(one_of("sigmoid", "softmax")), "calibration": optional(CALIBRATION)},
    )
)
"""decisions.json: per configuration, its thresholds under every policy."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_run_info(path: Path) -> tuple[Mapping[str, Any], LabelSchema]:
    """run.json and the label schema in it; RunError names the file and the field that is wrong."""
    info = _read(path, RUN)
    schema = LabelSchema.from_json(info["schema"])
    if wrong := wrong_labels(schema):
        raise RunError(f"{path}: schema: {wrong}")
    for attribute, value in info.get("unseen") or ():
        if attribute not in schema.attributes or (attribute, value) in schema.labels:
            raise RunError(f"{path}: unseen: {attribute}={value} is no value beside those of the schema's attributes")
    training = (info.get("evaluated") or {}).get("training") or {}
    for name, counts in training.items():
        _check_length(counts, schema.size, f"{path}: evaluated.training.{name} needs {{}} counts")
    return info, schema


def read_decisions(path: Path, schema: LabelSchema) -> Mapping[str, Mapping[str, Any]]:
    """decisions.json of a run with this schema; RunError names the file and the field that is wrong."""
    decisions = _read(path, DECISIONS)
    for config_id, entry in decisions.items():
        check_config_id(path, config_id)
        where = f"{path}: {config_id}"
        if entry["chosen"] not in entry["policies"]:
            there = ", ".join(entry["policies"])
            raise RunError(f"{where}.chosen is {entry['chosen']!r}, which is none of its policies ({there})")
        for name, policy in entry["policies"].items():
            _check_length(policy["thresholds"], schema.size, f"{where}.policies.{name} needs {{}} thresholds")
        calibration = entry.get("calibration")
        if calibration is None and "links" not in entry:
            continue
        lists = {"links": entry.get("links", ()), **{f"calibration.{k}": calibration[k] for k in calibration or ()}}
        for name in {"links", *(f"calibration.{field}" for field in ("scale", "shift") if calibration)}:
            _check_length(lists[name], len(schema.attributes), f"{where}.{name} needs {{}} entries")
    return decisions


def check_config_id(path: Path, config_id: str) -> None:
    """RunError unless a configuration's name can only be a file of its own run folder."""
    if wrong := wrong_name(config_id, SEPARATORS):
        raise RunError(f"{path}: the configuration {config_id[:80]!r} {wrong}; its files are named by it")


def _check_length(values: Any, expected: int, need: str) -> None:
    if len(values) != expected:
        raise RunError(f"{need.format(expected)}, found {len(values)}")


def _read(path: Path, shape: Shape) -> dict[str, Any]:
    try:
        source = path.read_text(encoding="utf-8")
        content = json.loads(source)
        if _SURROGATE.search(source):
            json.dumps(content, ensure_ascii=False).encode("utf-8")
        if not isinstance(content, dict):
            raise RunError(f"{path} holds a {type(content).__name__}, not an object")
        shape(content, "")
    except WrongShape as error:
        raise RunError(f"{path}: {error}") from error
    except RunError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is not valid JSON: {error}") from error
    return content
