"""Names that become a file or a folder: one component of a path, on every system."""

from __future__ import annotations

import unicodedata

SEPARATORS = "/\\:"
"""Characters that separate the parts of a path on some system."""

RESERVED = SEPARATORS + '*?"<>|'
"""Those, and characters that may not stand in a file name on some system."""

LONGEST = 200
"""Bytes of the longest name: most file systems allow 255, and endings such as `.parquet` are added."""

BEGUN = ".begun-by-reproduce"
"""A file in every run folder that a reproduction began. Only a folder with it is ever removed."""


def wrong_name(name: str, refused: str = RESERVED) -> str:
    """What keeps a text from being the name of a file or folder.

    Args:
        name: The text, from a file that anybody may have written.
        refused: Characters it may not hold; `SEPARATORS` for a file that is only read.

    Returns:
        The reason, to stand behind the name in an error; "" when the name is one component of a path.
    """
    if not name.strip():
        return "is empty"
    if name in (".", "..") or name.endswith((".", " ")) or name.startswith(" "):
        return "may not begin with a blank, end with a dot or blank, or be a folder's . or .."
    if wrong := next((letter for letter in name if letter in refused), ""):
        return f"holds {wrong!r}, which no part of a path may hold"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "holds a control character"
    if len(name.encode("utf-8")) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    return ""


def tidied(name: str) -> str:
    """The name with a dash for every reserved character, such as those in `hf-hub:timm/resnet18`."""
    return name.translate(str.maketrans(RESERVED, "-" * len(RESERVED)))
