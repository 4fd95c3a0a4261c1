"""Labels looked through: their spellings, and what vectors say of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.options.features import Device


@dataclass(frozen=True)
class VocabularyOptions:
    """How the values of each attribute are looked through.

    Attributes:
        out: Mapping file to write, .csv or .yaml; it must not exist yet.
        values: JSON file {attribute: [allowed values]} to look through, instead of the catalogue's values or beside
            them.
        similar: Least similarity of two spellings, 0 to 100, for one to be suggested for the other.
        min_support: Values on fewer photos than this are noted as rare.
    """

    out: Path = Path("mapping.csv")
    values: Path | None = None
    similar: float = 88.0
    min_support: int = 5


@dataclass(frozen=True)
class AuditOptions:
    """How labels are judged by cached vectors.

    Attributes:
        cache: Folder of the embedding cache.
        use: Feature blocks to use, separated by commas (default: all that are cached).
        head: Head whose out-of-fold probabilities judge the labels: mlp, linear or mlp-per-key.
        folds: Parts of the catalogue, each judged by heads fitted on the others; a product stays in one part.
        min_support: Values shown by fewer products than this are not judged.
        near: Cosine of the pooled vectors from which two photos count as near-duplicates.
        neighbours: Nearest photos that an outlier is far from.
        far: Modified z-score of that distance from which a photo counts as an outlier.
        gallery: Most entries that each part of the page shows.
        group_column: Column of the CSV that names the product.
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        device: Where to compute; auto takes the GPU when there is one.
        memory: GiB of vectors and their copies held in memory; more are streamed from the cache (default: half of
            the memory).
        seed: Seeds of the heads, which are averaged; the first one also deals the folds.
        out: Folder for the tables and the page; it must be new or empty.
    """

    cache: Path = Path("features")
    use: tuple[str, ...] = ()
    head: str = "mlp"
    folds: int = 5
    min_support: int = 5
    near: float = 0.98
    neighbours: int = 10
    far: float = 3.5
    gallery: int = 100
    group_column: str | None = None
    group_regex: str | None = None
    device: Device = "auto"
    memory: float | None = None
    seed: tuple[int, ...] = (0, 1)
    out: Path = Path("audit")
