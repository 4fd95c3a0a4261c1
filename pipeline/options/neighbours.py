"""Photos by where they lie among each other: the nearest ones, and all of them on a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.options.features import Device


@dataclass(frozen=True)
class SimilarOptions:
    """Which photos are nearest, among which others.

    Attributes:
        cache: Folder of the embedding cache.
        use: Feature blocks that are compared, separated by commas; each counts as much as any other.
        count: Nearest photos that are listed for each photo.
        where: Only photos with these labels, such as colour=red; several values of one attribute are alternatives.
        device: Where new photos are embedded; auto takes the GPU when there is one.
        memory: GiB that the vectors may take (default: half of the memory); more are read once from the cache.
        out: CSV file to write.
        report: Page of pictures to write (default: beside the CSV file).
    """

    cache: Path = Path("features")
    use: tuple[str, ...] = ("pooled",)
    count: int = 24
    where: tuple[str, ...] = ()
    device: Device = "auto"
    memory: float | None = None
    out: Path = Path("similar.csv")
    report: Path | None = None


@dataclass(frozen=True)
class MapOptions:
    """How a catalogue becomes a map, and what its points are coloured by.

    Attributes:
        cache: Folder of the embedding cache.
        use: Feature blocks that decide who lies beside whom, separated by commas; each counts as much as any other.
        layout: tsne (neighbours stay neighbours; openTSNE), or pca (the two directions of most variance; in seconds).
        run: Run folder of fit-heads: parts, and the best configuration's predictions of validation and test photos.
        model: Model file: its predictions of all photos, those it was fit on among them.
        sha256: Refuse the model file unless its SHA-256 is this.
        pictures: Small pictures of at most this many photos are put into the page, as far as its size allows.
        page_mb: Most megabytes that the page may have.
        device: Where to compute; auto takes the GPU when there is one.
        memory: GiB that the vectors may take (default: half of the memory).
        seed: Seed of the layout.
        out: Page to write; a Parquet file of the same name lies beside it.
    """

    cache: Path = Path("features")
    use: tuple[str, ...] = ("pooled",)
    layout: Literal["tsne", "pca"] = "tsne"
    run: Path | None = None
    model: Path | None = None
    sha256: str | None = None
    pictures: int = 20_000
    page_mb: float = 12.0
    device: Device = "auto"
    memory: float | None = None
    seed: int = 0
    out: Path = Path("map.html")
