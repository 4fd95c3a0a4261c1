"""What can change a vector, as frozen dataclasses with a canonical JSON form and its SHA-256."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cache.errors import CacheError, CacheLayoutError

LAYOUT_VERSION = 1
PRECISIONS = ("fp32", "half")

_SLUG = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def canonical_json(value: object) -> str:
    """One text for one value: sorted names, no spaces, ASCII only, shortest float form; NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(value: object) -> str:
    """SHA-256 of the canonical JSON of a value, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def _plain(value: object) -> Any:
    """Turn tuples, mappings and NumPy scalars into what JSON knows, so equal values have one form."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (bytes, str)):
        return _plain(value.item())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CacheError(f"a key can hold numbers, texts, lists and mappings; found {value!r} ({type(value).__name__})")


def _require_json_type(name: str, value: object) -> None:
    """Refuse a field of a key that a file gives in another type than it is written in."""
    if name in ("mean", "std"):
        fine = isinstance(value, list) and all(_is_number(item) for item in value)
    elif name in ("size", "pixel_policy", "layout"):
        fine = isinstance(value, int) and not isinstance(value, bool)
    else:
        fine = isinstance(value, str)
    if not fine:
        raise CacheError(f"the field {name} of a key holds {type(value).__name__}, which it never does")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


@dataclass(frozen=True)
class BaseKey:
    """Everything that can change a vector, whatever block or view it is of; every field changes the digest.

    Attributes:
        weights_sha256: Digest of the tensors (names, shapes, dtypes, bytes): 64 lower-case hex digits.
        architecture: Name of the network.
        size: Side of the square that the network sees, in pixels.
        fit: How a photo is brought to that square.
        interpolation: Name of the filter it is resized with.
        mean: Subtracted from each channel, in the unit interval, one value per channel.
        std: Each channel is divided by it, in the unit interval, one value per channel.
        pixel_policy: Version of the rules that turn a file into pixels.
        decoder: Family of the decoder.
        precision: "fp32" or "half": the class of arithmetic, not the runtime.
        layout: Layout version of the files.
    """

    weights_sha256: str
    architecture: str
    size: int
    fit: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_policy: int
    decoder: str
    precision: str
    layout: int = LAYOUT_VERSION

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.weights_sha256):
            raise CacheError(f"weights_sha256 is {self.weights_sha256!r}; expected 64 lower-case hex digits")
        if self.precision not in PRECISIONS:
            raise CacheError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if not all(math.isfinite(value) for value in values):
                raise CacheError(f"{name} is {values}; expected finite numbers")
            # An int and a float that are equal, or -0.0 and 0.0, must not make two keys.
            object.__setattr__(self, name, tuple(value + 0.0 for value in values))
        for name in ("size", "pixel_policy", "layout"):
            object.__setattr__(self, name, int(getattr(self, name)))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Fields as plain JSON values."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_json(cls, data: object) -> BaseKey:
        """Read what `to_json` made, from a place that may hold anything.

        Args:
            data: A JSON value.

        Returns:
            The key.

        Raises:
            CacheLayoutError: The key is of another layout version.
            CacheError: A field is missing, unknown, or of another type.
        """
        if not isinstance(data, Mapping):
            raise CacheError(f"a key is {type(data).__name__}, expected a mapping")
        layout = data.get("layout")
        if layout != LAYOUT_VERSION:
            raise CacheLayoutError(
                f"a key of cache layout {layout!r} was found; this version reads layout {LAYOUT_VERSION}. "
                "Run `python run.py cache prune` to list what can be removed, then `extract` again."
            )
        names = {item.name for item in fields(cls)}
        if names != set(data):
            odd = ", ".join(sorted(names ^ set(data)))
            raise CacheError(f"a key with missing or unknown fields was found: {odd}")
        for name, value in data.items():
            _require_json_type(name, value)
        return cls(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


@dataclass(frozen=True)
class Block:
    """A named kind of vector: what is read out of the network, its length and its parameters.

    Attributes:
        name: Lower-case letters, digits and _.
        dim: Length of a vector.
        params: Any JSON-able mapping (level names, grid shape); it is part of the digest.
    """

    name: str
    dim: int
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.name):
            raise CacheError(f"block name {self.name!r}: expected lower-case letters, digits and _ (at most 32)")
        try:
            dim = operator.index(self.dim)
        except TypeError:
            dim = 0
        if dim < 1:
            raise CacheError(f"block {self.name} has {self.dim!r:.40} dimensions; expected a whole number, 1 or more")
        object.__setattr__(self, "dim", dim)
        object.__setattr__(self, "params", _plain(dict(self.params)))

    def __hash__(self) -> int:
        return hash(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Fields as plain JSON values."""
        return {"name": self.name, "dim": self.dim, "params": dict(self.params)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Block:
        """Read what `to_json` made; whatever else it is given is a KeyError, a TypeError or a `CacheError`."""
        return cls(data["name"], data["dim"], data["params"])

    def digest(self, base: BaseKey) -> str:
        """SHA-256 over the block and its base key, 64 hex digits."""
        return digest_of({"base": base.digest, "block": self.to_json()})


@dataclass(frozen=True)
class Column:
    """One block of one view of the photos: the unit in which shards are stored.

    Attributes:
        block: What is read out of the network.
        view: How the photo is turned before; lower-case letters, digits and _.
    """

    block: Block
    view: str = "identity"

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.view):
            raise CacheError(f"view {self.view!r}: expected lower-case letters, digits and _ (at most 32)")

    @property
    def name(self) -> str:
        """Readable name, `block/view`."""
        return f"{self.block.name}/{self.view}"

    def digest(self, base: BaseKey) -> str:
        """SHA-256 over base key, block and view, 64 hex digits."""
        return digest_of({"block": self.block.digest(base), "view": self.view})
