"""What a search for similar photos found, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalogue import UNKNOWN, Cell, Finding
from pipeline.catalogue.joined import joined
from pipeline.remote import RemotePhoto
from pipeline.spreadsheet import write_rows
from pipeline.system import whole_file


@dataclass(frozen=True)
class Similar:
    """One of the nearest photos.

    Attributes:
        photo: Its name.
        path: Its file.
        cosine: With the photo that was asked for.
        labels: Per attribute what its catalogue says.
    """

    photo: str
    path: Path | RemotePhoto
    cosine: float
    labels: Mapping[str, Cell]


@dataclass(frozen=True)
class Asked:
    """A photo that was asked for.

    Attributes:
        photo: Its name.
        path: Its file.
        nearest: The nearest others, nearest first.
    """

    photo: str
    path: Path | RemotePhoto
    nearest: tuple[Similar, ...]


@dataclass(frozen=True)
class SimilarReport:
    """What was found.

    Attributes:
        asked: Per photo what is nearest.
        attributes: Names of what is known of the photos that were searched.
        searched: How many these are.
        features: What was compared, in words.
        embedded: How many of the photos asked for had no vectors yet.
        rejects: Photos asked for that cannot be taken, and why.
        findings: The catalogue's, and what else should be known.
        seconds: How long the search took, all photos together, once vectors were in memory; reading them included where
            they have no room there.
    """

    asked: tuple[Asked, ...]
    attributes: tuple[str, ...]
    searched: int
    features: str
    embedded: int
    rejects: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    seconds: float


def label_text(cell: Cell) -> str:
    """A cell as the catalogue's CSV has it: values joined by `|`, `#N/A` where nothing is known."""
    return UNKNOWN if cell is None else joined(list(cell))


def write_similar(report: SimilarReport, out: Path) -> None:
    """Write photo, rank, similar, cosine and the labels of the similar photo; whole or not at all."""
    with whole_file(out) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        write_rows(file, [("photo", "rank", "similar", "cosine", *report.attributes), *_rows(report)])


def _rows(report: SimilarReport) -> Iterator[tuple[object, ...]]:
    for asked in report.asked:
        for rank, each in enumerate(asked.nearest, 1):
            labels = (label_text(each.labels[attribute]) for attribute in report.attributes)
            yield (asked.photo, rank, each.photo, f"{each.cosine:.4f}", *labels)
