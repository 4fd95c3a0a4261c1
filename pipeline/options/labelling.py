"""Which photos to label next, and labels that come back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class NextOptions:
    """Which photos are worth labelling, and how they are handed to whoever labels them.

    Attributes:
        model: Model file written by fit-heads; without one, photos that stand for many others are chosen.
        sha256: Refuse the model file unless its SHA-256 is this.
        pool: Photos to choose from: files, folders or patterns, or a CSV with a column photo or filename (default: the
            photos of --data); what --data knows of them is not asked.
        count: Photos to choose.
        per: One list of so many photos, each asked about all that it lacks (photo), or as many for each attribute.
        near: Cosine of the pooled vectors from which two photos show the same, so that only one is asked.
        cache: Folder of the embedding cache.
        use: Feature blocks that say what is alike where there is no model (default: all that are cached).
        group_column: Column of the CSV that names the product; one photo of a product is asked.
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        to: What is written: csv, a row per photo and attribute whose column `value` is to be filled in; or
            label-studio, tasks with predictions and, beside them, the labelling configuration.
        image_url: Where Label Studio finds a photo.
        seed: Seed of the clusters.
        out: File to write (default: next.csv, or next.json for label-studio).
    """

    model: Path | None = None
    sha256: str | None = None
    pool: tuple[Path, ...] = ()
    count: int = 200
    per: Literal["photo", "attribute"] = "photo"
    near: float = 0.98
    cache: Path = Path("features")
    use: tuple[str, ...] = ()
    group_column: str | None = None
    group_regex: str | None = None
    to: Literal["csv", "label-studio"] = "csv"
    image_url: str = "/data/local-files/?d={photo}"
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True)
class LabelsOptions:
    """What is made of files of labels.

    Attributes:
        out: CSV file of all that was said: photo, attribute, value, by whom, when and in which file.
        table: Also write the catalogue of --data with these labels, as a CSV of format A, or B where --data is in that
            format; without --data, of the labels alone.
    """

    out: Path = Path("said.csv")
    table: Path | None = None
