"""split.csv: the split of a run, written beside it and usable by another run."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.arrays import Bool, Ids, Int64, Texts, UInt8
from pipeline.catalogue.findings import Finding
from pipeline.catalogue.keyed_split import keyed_split
from pipeline.catalogue.labels import LabelSchema
from pipeline.catalogue.records import Catalogue
from pipeline.catalogue.split_digest import check_digest
from pipeline.catalogue.splits import PARTS, Split, identities_of, lacking_labels, parse_split
from pipeline.catalogue.stratified import make_split, place_groups
from pipeline.errors import CatalogueError
from pipeline.options import SplitOptions
from pipeline.spreadsheet import read_dicts, write_rows
from pipeline.system import digest_path, file_digest, open_regular, parsed, whole_file, write_digest, wrong_text

COLUMNS = ("photo", "content", "group", "part")

_MOST_DIGITS = 18
_CONTENT = re.compile(r"(?:[0-9a-fA-F]{64})?")


@dataclass(frozen=True)
class SplitFile:
    """The rows of a split.csv: photo names, content ids (hex, "" for unreadable), groups and parts."""

    path: Path
    photos: list[str]
    contents: list[str]
    groups: list[int]
    parts: list[str]


def hex_ids(ids: Ids) -> list[str]:
    """Content ids S32 (n,) as hex text, "" for the all-zero id of a photo that could not be read."""
    raw = np.ascontiguousarray(ids.astype("S32")).view(np.uint8).reshape(len(ids), 32)
    return [row.tobytes().hex() if row.any() else "" for row in raw]


def write_split(path: Path, filenames: Sequence[str], ids: Ids, groups: Int64, split: Split) -> None:
    """Write split.csv in one step: photo, content (hex), group, part; then its digest beside it."""
    # Without a digest the split is merely unverified; with an old one it would look damaged.
    digest_path(path).unlink(missing_ok=True)
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, [COLUMNS])
        write_rows(file, zip(filenames, hex_ids(ids), groups.tolist(), split.parts.tolist(), strict=True))
    write_digest(path, file_digest(path))


def read_split(path: Path) -> SplitFile:
    """Read a split.csv, or the one in a run folder.

    Raises:
        CatalogueError: There is none, it is no regular file, it is not what its digest says, a line of it is damaged,
            a photo is on two lines, or one content is in two parts: which line is meant is not ours to guess, and a
            test photo that was trained on flatters every figure.
    """
    path = path / "split.csv" if path.is_dir() else path
    table = SplitFile(path, [], [], [], [])
    if not path.exists():
        raise CatalogueError(f"--split-from {path}: no such file. It takes a split.csv or a run folder.")
    with parsed(CatalogueError, f"{path}: cannot be read as a split file (", ")."):
        with open_regular(path) as file:
            data = file.read()
        check_digest(path, data)
        header, rows = read_dicts(io.StringIO(data.decode("utf-8-sig"), newline=""))
        if header != COLUMNS:
            raise CatalogueError(f"{path}: expected a split file with the columns {', '.join(COLUMNS)}.")
        for line, row in rows:
            _check_row(row, f"{path}, line {line}")
            table.photos.append(row["photo"])
            table.contents.append(row["content"].lower())
            table.groups.append(int(row["group"]))
            table.parts.append(row["part"])
    _check_unique(table)
    return table


def _check_row(row: Mapping[str | None, object], where: str) -> None:
    """Raise CatalogueError unless the cells of a line are what their columns promise."""
    group = row["group"] if isinstance(row["group"], str) else ""
    if row["part"] not in PARTS or not group.isdecimal() or len(group) > _MOST_DIGITS:
        raise CatalogueError(
            f"{where}: group {row['group']!r}, part {row['part']!r}; expected a number and one of {', '.join(PARTS)}."
        )
    if wrong := wrong_text(str(row["photo"])):
        raise CatalogueError(f"{where}: the photo's name holds {wrong}.")
    if None in row or not _CONTENT.fullmatch(str(row["content"])):
        raise CatalogueError(
            f"{where}: content {row['content']!r}; expected 64 hexadecimal digits, or nothing, in {len(COLUMNS)} cells."
        )


def _check_unique(table: SplitFile) -> None:
    parts: dict[str, str] = {}
    held: dict[str, tuple[str, str]] = {}
    for photo, content, part in zip(table.photos, table.contents, table.parts, strict=True):
        if photo in parts:
            raise CatalogueError(
                f"{table.path}: {photo} is on two lines, in part {parts[photo]} and in part {part}; keep one of them."
            )
        parts[photo] = part
        other, first = held.setdefault(content, (photo, part))
        if content and first != part:
            raise CatalogueError(
                f"{table.path}: {other} in part {first} and {photo} in part {part} have the same content; "
                "put them in one part."
            )


def apply_split(
    table: SplitFile, filenames: Sequence[str], ids: Ids, groups: Int64
) -> tuple[list[str], tuple[Finding, ...]]:
    """The part that a split made earlier gives to each photo: by its name, else by its content, else its product's.

    A new photo of a product that the file spreads over parts joins the one in train, else in validation: no photo is
    tested on whose product was trained on. Rows of the file whose photo is gone are reported; so are such products, and
    photos whose bytes are others than those the file has under their name, which keep the part of the name.

    Returns:
        The part of each photo, "" of one that is neither named nor of a product that is; and what was found.

    Raises:
        CatalogueError: The file names no photo at all, or a name says one part and the bytes another (the same picture
            would then be in two parts).
    """
    contents = hex_ids(ids)
    given = _given(table, filenames, contents)
    if filenames and not any(given):
        raise CatalogueError(
            f"{table.path} names none of the {len(filenames)} photos, such as {filenames[0]!r}; its own are such as "
            f"{next(iter(table.photos), 'none')!r}. Is it the split of another catalogue? Leave out --split-from for a "
            "new one."
        )
    named = sorted((-PARTS.index(part), group) for group, part in zip(groups.tolist(), given, strict=True) if part)
    of_group = {group: PARTS[-place] for place, group in named}
    parts = [part or of_group.get(group, "") for group, part in zip(groups.tolist(), given, strict=True)]
    found = [*_unused(table, filenames, contents), *_changed(table, filenames, contents), *_crossing(groups, given)]
    return parts, tuple(found)


def _given(table: SplitFile, filenames: Sequence[str], contents: Sequence[str]) -> list[str]:
    """The part that the file gives to each photo, "" for none."""
    by_name = dict(zip(table.photos, table.parts, strict=True))
    by_content = {c: p for c, p in zip(table.contents, table.parts, strict=True) if c}
    parts: list[str] = []
    for name, content in zip(filenames, contents, strict=True):
        named, seen = by_name.get(name), by_content.get(content)
        if named is not None and seen is not None and named != seen:
            raise CatalogueError(
                f"{name} is in part {named} of {table.path}, but the same bytes are in part {seen} there: the photo "
                "was replaced. Make a new split, or restore the photo."
            )
        parts.append(named or seen or "")
    return parts


def _unused(table: SplitFile, filenames: Sequence[str], contents: Sequence[str]) -> list[Finding]:
    names, present = set(filenames), set(contents)
    unused = sum(p not in names and c not in present for p, c in zip(table.photos, table.contents, strict=True))
    detail = f"{unused} row(s) of {table.path} name no photo of this catalogue"
    return [Finding("split-row-unused", "", detail)] if unused else []


def _changed(table: SplitFile, filenames: Sequence[str], contents: Sequence[str]) -> list[Finding]:
    written = dict(zip(table.photos, table.contents, strict=True))
    changed = [n for n, c in zip(filenames, contents, strict=True) if c and c != (written.get(n) or c)]
    if not changed:
        return []
    detail = f"{len(changed)} photo(s) have other bytes than {table.path} says; each keeps the part of its name"
    return [Finding("split-content-changed", changed[0], detail)]


def _crossing(groups: Int64, parts: list[str]) -> list[Finding]:
    pairs = {(group, part) for group, part in zip(groups.tolist(), parts, strict=True) if part}
    crossing = len(pairs) - len({group for group, _ in pairs})
    if not crossing:
        return []
    detail = f"the given split puts photos of one product in two parts, {crossing} time(s)"
    return [Finding("group-crosses-parts", "", detail)]


def split_rows(
    catalogue: Catalogue, schema: LabelSchema, ids: Ids, groups: Int64, options: SplitOptions
) -> tuple[Split, tuple[Finding, ...]]:
    """The parts of a catalogue's photos: those that `options` names a file or run for, the others made anew.

    Args:
        catalogue: n photos.
        schema: Holds the labels of every part.
        ids: Content ids, S32 (n,).
        groups: Photos of one product share a number; (n,).
        options: How to split.
    """
    Y, mask = schema.encode(catalogue.cells, catalogue.categories)
    fractions, seed, labels = parse_split(options.split), options.split_seed, schema.column_names
    if options.split_from is not None:
        table = read_split(options.split_from)
        given, found = apply_split(table, catalogue.filenames, ids, groups)
        parts = _with_new_ones(given, groups, (Y, mask), fractions, seed)
        taken = _taken(table, catalogue.filenames, hex_ids(ids), (given, parts))
        return Split(parts, lacking_labels(parts, Y, mask, labels)), (*found, taken)
    if options.split_by == "labels":
        return make_split(groups, Y, mask, fractions, seed, labels), ()
    by_class = catalogue.format == "folder"
    names = identities_of(catalogue.filenames, options.group_regex, catalogue.groups, ids, by_class)
    parts = keyed_split(groups, names, fractions, seed)
    return Split(parts, lacking_labels(parts, Y, mask, labels)), ()


def _with_new_ones(
    given: Sequence[str], groups: Int64, labels: tuple[UInt8, Bool], fractions: tuple[float, float, float], seed: int
) -> Texts:
    """The given parts, (n,) with "" for none, and those of the other photos, dealt around them."""
    places = np.array([PARTS.index(part) if part else -1 for part in given], np.int64)
    placed = np.full(int(groups.max(initial=-1)) + 1, -1, np.int64)
    placed[groups[places >= 0]] = places[places >= 0]
    dealt = place_groups(groups, placed, *labels, fractions, seed)
    return np.array(PARTS)[np.where(places >= 0, places, dealt[groups])]


def _taken(
    table: SplitFile,
    filenames: Sequence[str],
    contents: Sequence[str],
    parts: tuple[Sequence[str], Texts],
) -> Finding:
    """How many photos the file named, how many joined their product, and where the others were placed."""
    given, made = parts
    named, seen = set(table.photos), {content for content in table.contents if content}
    own = sum(name in named or content in seen for name, content in zip(filenames, contents, strict=True))
    counts = Counter(part for part, known in zip(made.tolist(), given, strict=True) if not known)
    detail = f"{own} photo(s) keep the part that {table.path} gives them"
    if new := len(filenames) - own:
        dealt = ", ".join(f"{counts[part]} {part}" for part in PARTS)
        joined = new - counts.total()
        detail += f"; of {new} new one(s) {joined} joined the part of their product, the others were placed: {dealt}"
    return Finding("split-taken", "", detail)
