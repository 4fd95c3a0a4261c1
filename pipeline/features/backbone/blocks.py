"""The feature blocks there are, in the order in which vectors stand side by side."""

from __future__ import annotations

NETWORK_BLOCKS = ("pooled", "levels", "grid")
"""What the forward pass gives."""
PIXEL_BLOCKS = ("colour",)
"""What is computed from the pixels that the network sees, without it."""
BLOCKS = NETWORK_BLOCKS + PIXEL_BLOCKS
