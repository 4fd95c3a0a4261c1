"""The frozen backbone, its one pass over the photos, on which machines, and which of the cached vectors are meant."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import OptionError

Resize = Literal["crop", "squash", "pad"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "half"]

_MOST_PARTS = 100_000


def names_file(weights: str) -> bool:
    """Whether weights are named by their file, which is of one network, and not as hub, package or random:SEED."""
    return weights not in ("hub", "package") and not weights.startswith("random:")


@dataclass(frozen=True)
class BackboneOptions:
    """Which frozen network turns a photo into a vector, and how the photo is shown to it.

    Attributes:
        backbone: Any timm model name.
        weights: hub (timm's pretrained), package (tf_efficientnet_lite0, lite1 or lite2), random:SEED, or a .pth or
            .safetensors file.
        size: Side of the square the network sees, in pixels (default: the model's own).
        resize: How a photo becomes that square: crop (resize, centre crop), squash (aspect ratio lost) or pad.
    """

    backbone: str = "resnext50_32x4d"
    weights: str = "hub"
    size: int | None = None
    resize: Resize = "squash"


@dataclass(frozen=True)
class VectorKind:
    """One kind of cached vectors, as far as it is said; what is None matches anything.

    Attributes:
        backbone: The timm model the vectors were made with.
        weights: Where its weights came from, as given to extract.
        size: Side of the square the network saw, in pixels.
        resize: How a photo became that square.
        precision: Arithmetic of the forward pass.
    """

    backbone: str | None = None
    weights: str | None = None
    size: int | None = None
    resize: Resize | None = None
    precision: Precision | None = None


@dataclass(frozen=True)
class CacheKeyOptions:
    """Which cached vectors are used, where the cache holds several kinds; what is not given matches anything.

    Several values of an option are as many kinds of vectors, used side by side; one value is that of all kinds.

    Attributes:
        backbone: The timm model the vectors were made with; several, separated by commas, are used side by side.
        weights: Where its weights came from, as given to extract; one per kind of vectors.
        size: Side of the square the network saw, in pixels; one per kind.
        resize: How a photo became that square; one per kind.
        precision: Arithmetic of the forward pass; one per kind.
    """

    backbone: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    resize: tuple[Resize, ...] = ()
    precision: tuple[Precision, ...] = ()

    def kinds(self) -> tuple[VectorKind, ...]:
        """The kinds of vectors, in the order in which they stand side by side; one where nothing is said.

        Raises:
            OptionError: Two options have different numbers of values, neither of them one.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        several = {name: values for name, values in given.items() if len(values) > 1}
        counts = {name: len(values) for name, values in several.items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"--{name} {count}" for name, count in counts.items())
            raise OptionError(f"several kinds of vectors need as many values of each option, or one; found {said}")
        count = max(counts.values(), default=1)
        kinds = []
        for i in range(count):
            of_kind = {name: values[i if name in several else 0] for name, values in given.items() if values}
            kinds.append(VectorKind(**of_kind))
        return tuple(kinds)

    def to_json(self) -> dict[str, Any]:
        """By name; of one kind plain values, as they were recorded before there were several."""
        kinds = self.kinds()
        return asdict(kinds[0]) if len(kinds) == 1 else asdict(self)


@dataclass(frozen=True)
class ExtractOptions:
    """How photos are turned into cached vectors.

    Attributes:
        cache: Folder of the embedding cache.
        features: Feature blocks to keep, separated by commas: pooled, levels, grid (of the forward pass), colour (of
            the pixels).
        views: Which views of each photo are computed: identity, hflip, vflip.
        device: Where to compute; auto takes the GPU when there is one.
        runtime: auto, torch or another installed runtime.
        precision: Arithmetic of the forward pass; half needs a GPU (part of the cache key).
        dtype: How vectors are stored.
        batch_size: Photos per forward pass (default: chosen by device and memory).
        workers: Decoding threads (default: the number of cores).
        max_pixels: Photos with more pixels than this are rejected, not decoded.
        rehash: Read and hash every photo again instead of trusting size and modification time.
        pool: More photos, which --data does not name: files, folders, patterns or URLs, or a CSV with a column photo or
            filename; alone, without --data, they are all.
        wait: Seconds to wait while the cache key is compacted, pruned or repaired (default: stop at once).
    """

    cache: Path = Path("features")
    features: tuple[str, ...] = ("pooled",)
    views: tuple[str, ...] = ("identity",)
    device: Device = "auto"
    runtime: str = "auto"
    precision: Precision = "fp32"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = 110_000_000
    rehash: bool = False
    pool: tuple[str | Path, ...] = ()
    wait: float = 0.0


@dataclass(frozen=True)
class EngineOptions:
    """Which machines see the photos.

    Attributes:
        engine: local (this process), or ray: workers on a cluster, or on this machine where none is joined (needs
            requirements-ray.txt).
        address: Ray cluster to join, auto or HOST:PORT (default: one is started here, and stopped again).
        workers_per_node: Ray workers on each machine (default: one per GPU, one where there is none).
        part: Only this share of the photos, such as 3/16; the others are for other processes, with the same cache.
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    workers_per_node: int | None = None
    part: str | None = None

    def share(self) -> tuple[int, int] | None:
        """Which part was asked for, from 1, and of how many; None for all photos.

        Raises:
            OptionError: It is no part.
        """
        if self.part is None:
            return None
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.part, re.ASCII)
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count <= _MOST_PARTS:
            raise OptionError(
                f"--part is {self.part!r}; expected I/N with I from 1 to N, such as 3/16, and N at most {_MOST_PARTS:,}"
            )
        return number, count

    def require_ray(self) -> None:
        """Refuse options of the ray engine where it is not asked for, and an address that no driver can work with.

        Raises:
            OptionError: It names the option.
        """
        given = {"--address": self.address, "--workers-per-node": self.workers_per_node}
        odd = [name for name, value in given.items() if value is not None]
        if self.engine != "ray" and odd:
            raise OptionError(f"{odd[0]} is for --engine ray; found --engine {self.engine}")
        if self.address is not None and self.address.startswith("ray://"):
            raise OptionError(
                f"--address is {self.address!r}, a Ray client's; run this command on a machine of the cluster, with "
                "--address auto, because it writes to the cluster's shared cache itself"
            )
