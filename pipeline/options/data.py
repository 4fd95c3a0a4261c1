"""The catalogue: where photos and labels are, how they are divided, and the generated one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["auto", "A", "B", "products", "folder"]


@dataclass(frozen=True)
class DataOptions:
    """Where the photos and their labels are.

    Attributes:
        data: A CSV file, or a folder holding one CSV (or one sub-folder of photos per class).
        images: Folder or URL (s3://BUCKET/PREFIX, gs://, az://, https://HOST/PATH/) the photo names are relative to
            (default: `images/` beside the CSV, or the CSV's folder).
        format: How to read the labels; auto decides by the header.
        attributes: Which attributes to use, separated by commas (default: all that the format offers, less
            identifiers, addresses, prices, texts and dates, which are named).
        image_column: Column of a products CSV that holds the photo's file name, or several, separated by commas.
        image_name: Pattern that makes a photo's file name from a row of a products CSV, such as "{id}.jpg"; with *, as
            in "{sku}/*" or "{sku}_*.jpg", all photos that match are of that row.
        separator: What stands between several values in one cell of format A or a products CSV, such as "|"; none for
            one value per cell (default: recognised where the values of such cells occur elsewhere too).
        unknown: More spellings of "unknown", beside the empty cell, #N/A, N/A, NA and nan.
        single: Attributes to take as single-valued (default: those of which no photo has two values).
        multi: Attributes to take as multi-valued.
        category_column: Column of format A or a products CSV that holds the category (default: `category`, if
            --category-attributes is given); attributes that none of its photos has are not asked of a category.
        category_attributes: JSON file {category: [attributes that apply to it]} (default: learnt from the training
            rows).
        mapping: Mapping file of `vocabulary`: values to replace, .csv or .yaml; only lines you filled in are applied.
        allowed_values: JSON file {attribute: [allowed values]}; values and attributes outside it are reported (default:
            no limits).
        outside: What becomes of values outside --allowed-values: drop (a cell left without a value is unknown), keep.
        inapplicable: Attributes that do not apply to a photo's category: exclude there, or negative (any value is
            wrong).
        labels: Files of labels that are laid over the data, separated by commas: .csv in the form that `next` and
            `audit` write, or a Label Studio export (.json); later ones win, conflicts are reported.
    """

    data: Path | None = None
    images: str | Path | None = None
    format: Format = "auto"
    attributes: tuple[str, ...] = ()
    image_column: tuple[str, ...] = ()
    image_name: str | None = None
    separator: str | None = None
    unknown: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    multi: tuple[str, ...] = ()
    category_column: str | None = None
    category_attributes: Path | None = None
    allowed_values: Path | None = None
    outside: Literal["drop", "keep"] = "drop"
    inapplicable: Literal["exclude", "negative"] = "exclude"
    mapping: Path | None = None
    labels: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SplitOptions:
    """How the photos are divided into train, validation and test.

    Attributes:
        split: Shares of train, validation and test, in percent.
        split_from: Take the parts from a split.csv or from a run folder; photos that it does not name are placed.
        split_seed: Seed of the split.
        split_by: What a new split goes by: hash (of the product's name; photos that are added, removed or labelled
            anew move no other) or labels (every part gets its share of each value; one photo more may move many).
        group_column: Column of the CSV that names the product; photos of one product stay in one part (default: a
            column or folders that look so; none for the file's name alone).
        group_regex: Regular expression whose first group (or whole match) in the file name is the product.
        near_duplicates: Cosine of pooled vectors from which photos of different parts are listed (0 is off).
        regroup: Keep photos with such a cosine in one part, as if they were of one product (with split_from: the new
            ones with those that have a part).
    """

    split: str = "64/16/20"
    split_from: Path | None = None
    split_seed: int = 0
    split_by: Literal["hash", "labels"] = "hash"
    group_column: str | None = None
    group_regex: str | None = None
    near_duplicates: float = 0.98
    regroup: bool = False


def grouping(column: str | None, regex: str | None) -> str | None:
    """The group column to read a catalogue with: a regular expression that says what a product is needs none found."""
    return "none" if column is None and regex is not None else column


@dataclass(frozen=True)
class SampleOptions:
    """What the sample catalogue is like.

    Attributes:
        format: Label format to write.
        images: Number of photos.
        seed: Same seed, same bytes.
    """

    format: Literal["A", "B"] = "A"
    images: int = 300
    seed: int = 0
