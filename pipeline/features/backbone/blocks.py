"""The feature blocks there are, in the order in which vectors stand side by side."""

from __future__ import annotations

BLOCKS = ("pooled", "levels", "grid")
