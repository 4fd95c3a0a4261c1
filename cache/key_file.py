"""key.json: which key a folder is of, notes outside its digest, and a checksum over all of it.

    {"layout": 1, "digest": ..., "key": {...}, "notes": {...}, "created": ..., "checksum": SHA-256 of the others}

Files written before there was a checksum have none; they are read as they stand and sealed by the next writer. Every
shard carries key and notes as well, so that a damaged key.json can be made again from them; only the time is not in
them, because the same rows make the same bytes, and becomes that of the oldest shard.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cache.errors import CacheError
from cache.key import LAYOUT_VERSION, BaseKey, canonical_json, digest_of

MOST_BYTES = 16 * 1024 * 1024
_LATEST = 253_402_300_799  # the last second of the year 9999
_FIELDS = {"layout", "digest", "key", "notes", "created"}


class KeyFileDamaged(CacheError):
    """A key.json that was read and is not what was written."""


class OtherLayout(CacheError):
    """A sound key.json of another layout version.

    Attributes:
        layout: That version.
    """

    def __init__(self, layout: int) -> None:
        super().__init__(f"layout {layout}, expected {LAYOUT_VERSION}")
        self.layout = layout


@dataclass(frozen=True)
class KeyFile:
    """Content of a key.json.

    Attributes:
        base: The key.
        notes: JSON-able facts outside its digest.
        created: When the key was first written to, in seconds since 1970.
        sealed: Whether a checksum protects it.
    """

    base: BaseKey
    notes: Mapping[str, Any]
    created: float
    sealed: bool = True

    def to_bytes(self) -> bytes:
        """The file's bytes, with the checksum."""
        content = {
            "layout": LAYOUT_VERSION,
            "digest": self.base.digest,
            "key": self.base.to_json(),
            "notes": dict(self.notes),
            "created": self.created,
        }
        return (canonical_json({**content, "checksum": digest_of(content)}) + "\n").encode("ascii")


def merged_notes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Join notes: a later value replaces an earlier one, but lists keep the values of both, each once."""
    merged = {**before, **after}
    for name, value in after.items():
        there = before.get(name)
        if isinstance(value, list) and isinstance(there, list):
            merged[name] = there + [item for item in value if item not in there]
    return merged


def parse_key_file(data: bytes, folder_name: str) -> KeyFile:
    """Read and check the bytes of a key.json.

    Args:
        data: What the file holds.
        folder_name: Name of the folder it lies in, the first digits of the key's digest.

    Returns:
        Its content.

    Raises:
        OtherLayout: It was written by another layout version, is sound and belongs in this folder.
        KeyFileDamaged: Anything else than what was written.
    """
    try:
        content = json.loads(data)
        _require_layout(content, folder_name)
        sealed = "checksum" in content
        if sealed and content.pop("checksum") != digest_of(content):
            raise KeyFileDamaged("its checksum is not that of its content")
        if set(content) != _FIELDS:
            raise KeyFileDamaged("it has other fields than expected")
        base = BaseKey.from_json(content["key"])
        if content["digest"] != base.digest or folder_name != base.digest[:16]:
            raise KeyFileDamaged("its key has another digest than it and its folder say")
        if not isinstance(content["notes"], dict) or not _is_time(content["created"]):
            raise KeyFileDamaged("its notes or its time are not what they were written as")
        return KeyFile(base, content["notes"], float(content["created"]), sealed)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise KeyFileDamaged(f"it cannot be understood ({type(error).__name__})") from error
    except (KeyFileDamaged, OtherLayout):
        raise
    except CacheError as error:
        raise KeyFileDamaged(str(error)) from error


def _require_layout(content: dict[str, Any], folder_name: str) -> None:
    """Tell a sound key file of another layout from one that damage made look like it.

    The version stands in the key as well, and the key's digest in the file and in the folder's name: no one flipped
    bit, and no torn file, changes all of them.
    """
    layout, key = content["layout"], content["key"]
    if layout == LAYOUT_VERSION:
        return
    sealed = digest_of({name: value for name, value in content.items() if name != "checksum"})
    whole = content.get("checksum", sealed) == sealed
    digest = digest_of(key)
    belongs = content["digest"] == digest and folder_name == digest[:16]
    if whole and belongs and isinstance(layout, int) and key["layout"] == layout:
        raise OtherLayout(layout)
    raise KeyFileDamaged(f"it says layout {str(layout)[:20]!r}, and its key and digest do not agree")


def _is_time(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= _LATEST
