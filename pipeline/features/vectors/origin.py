"""Which backbones some vectors are of, as model files and run.json say it.

Of one backbone the fields are `cache_key` and `weights_source`. Of several they are `sources`, a list of objects with
these two, in the order in which their vectors stand side by side; and each of `blocks` has the position of its own as
`source`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.options.forms.words import command

MOST_SOURCES = 64
"""Most backbones that a file may name."""

_BLOCK = ("name", "dim", "digest")


@dataclass(frozen=True)
class Origin:
    """One backbone.

    Attributes:
        cache_key: The full key of the backbone and its transform, as JSON.
        weights_source: Where its weights came from.
        blocks: Those of the vectors that are of it, in their order: {name, dim, digest}.
    """

    cache_key: Mapping[str, Any]
    weights_source: str
    blocks: tuple[Mapping[str, Any], ...]

    def __str__(self) -> str:
        key = self.cache_key
        return f"{key.get('architecture')} ({self.weights_source}, {key.get('size')} px, {key.get('fit')})"

    @property
    def random(self) -> bool:
        """Whether the backbone was never trained."""
        return self.weights_source.startswith("random:")

    def extract_command(self, views: Sequence[str]) -> str:
        """The command that makes these vectors."""
        key, blocks = self.cache_key, ",".join(str(block["name"]) for block in self.blocks)
        words = {"backbone": key.get("architecture"), "weights": self.weights_source, "size": key.get("size")}
        words |= {"resize": key.get("fit"), "precision": key.get("precision")}
        return f"{command('extract', words)} --features {blocks} --views {','.join(views)}"


def origins_of(content: Mapping[str, Any]) -> tuple[Origin, ...]:
    """The backbones that a checked model dict or run.json names, in the order of the vectors."""
    listed = content.get("sources") or [content]
    blocks = content.get("blocks") or ()

    def of(source: int) -> tuple[Mapping[str, Any], ...]:
        mine = (block for block in blocks if block.get("source", 0) == source)
        return tuple({name: block[name] for name in _BLOCK if name in block} for block in mine)

    return tuple(
        Origin(each.get("cache_key") or {}, str(each.get("weights_source") or ""), of(i))
        for i, each in enumerate(listed)
    )


def as_fields(origins: Sequence[Origin], listed: bool = False) -> dict[str, Any]:
    """The fields of a file that `origins_of` inverts.

    Args:
        origins: The backbones.
        listed: As a list even if there is one.
    """
    several = listed or len(origins) > 1
    said = [{"cache_key": dict(o.cache_key), "weights_source": o.weights_source} for o in origins]
    blocks = [
        {**block, "source": i} if several else dict(block)
        for i, origin in enumerate(origins)
        for block in origin.blocks
    ]
    return {**({"sources": said} if several else said[0]), "blocks": blocks}
