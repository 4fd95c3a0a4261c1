"""The soak's small world: photos of known contents, a cache, and what must be true of both after every step."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HOME), str(HOME / "tests" / "cache")]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from cachekit import InProcess, unexpected_files  # noqa: E402
from PIL import Image  # noqa: E402
from soak_processes import Command, Ended, Limits  # noqa: E402

from cache.shard import ShardName  # noqa: E402
from cache.verify import ProblemKind, verify  # noqa: E402

PRODUCTS, VIEWS, SIDE = 10, 4, 32
NAMES = tuple(f"p{product}-{view}.png" for product in range(PRODUCTS) for view in range(VIEWS))
GOOD, BAD = 64, 3
ODD = ("folder", "pipe", "dangling")
WEIGHTS = ("random:0", "random:1")
BLOCKS = (("pooled",), ("levels",), ("pooled", "levels"))
MIRRORED = (("identity",), ("identity", "hflip"))
TOLERANCE = 1e-5
"""Of the row's scale: a batch is padded to a fixed shape, and more than that no batch's company may change a row."""

Where = tuple[str, bytes]
Rows = dict[Where, list[np.ndarray]]


class Violation(Exception):
    """Something that must be true is not."""


@dataclass(frozen=True)
class Wanted:
    """Which vectors a command is about."""

    weights: str
    blocks: tuple[str, ...]
    views: tuple[str, ...]

    def words(self) -> list[str]:
        """As `extract` takes them."""
        network = ["--backbone", "test_resnet", "--size", str(SIDE), "--weights", self.weights]
        kept = ["--features", ",".join(self.blocks), "--views", ",".join(self.views)]
        return [*network, *kept, "--runtime", "torch", "--device", "cpu", "--batch-size", "8", "--workers", "2"]


@dataclass
class World:
    """One catalogue and one cache.

    Attributes:
        home: Holds all of it but what the commands print.
        outputs: Folder for what they print.
        photos: Per name what lies there: the number of a content, a word of `ODD`, or None.
        leftovers: Temporary files of killed writers that no later one had to remove yet.
        reference: Every row as an undisturbed extraction computes it.
        equal, near: Rows compared that were bit-equal, and within the tolerance.
    """

    home: Path
    outputs: Path
    contents: list[bytes] = field(default_factory=list)
    photos: dict[str, int | str | None] = field(default_factory=dict)
    cache: Path = Path()
    run: Path | None = None
    leftovers: set[str] = field(default_factory=set)
    reference: dict[Where, np.ndarray] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    equal: int = 0
    near: int = 0
    commands: int = 0
    kills: int = 0

    def build(self) -> None:
        """Draw the contents, put a photo under every name, and compute the reference."""
        dice = np.random.default_rng(0)
        for _ in range(GOOD):
            stream = io.BytesIO()
            Image.fromarray(dice.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(stream, "PNG")
            self.contents.append(stream.getvalue())
        self.contents += [b"no photo", self.contents[0][:-40], b""]
        self.cache = self.home / "features"
        self.images.mkdir(parents=True)
        for number in range(GOOD):
            (self.images / f"r{number}.png").write_bytes(self.contents[number])
        names = [f"r{number}.png" for number in range(GOOD)]
        for weights in WEIGHTS:
            wanted = Wanted(weights, BLOCKS[-1], MIRRORED[-1])
            ended = self.start("extract", *self.data(names), *wanted.words()).wait()
            if ended.code != 0:
                raise RuntimeError(str(ended))
            new = rows_of(self.cache)
            (self.folders[weights],) = {where[0].split("/")[0] for where in new.keys() - self.reference.keys()}
            self.reference |= {where: rows[0] for where, rows in new.items()}
        shutil.rmtree(self.cache)
        shutil.rmtree(self.images)
        self.images.mkdir()
        for number, name in enumerate(NAMES):
            self.put(name, number)

    @property
    def images(self) -> Path:
        return self.home / "images"

    def put(self, name: str, what: int | str | None) -> None:
        """Lay something under a name, whatever lay there before; a photo comes in one step, as programs write files."""
        path = self.images / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        if isinstance(what, int):
            path.with_name(".new").write_bytes(self.contents[what])
            path.with_name(".new").replace(path)
        else:
            path.unlink(missing_ok=True)
            if what == "folder":
                path.mkdir()
            elif what == "pipe":
                os.mkfifo(path)
            elif what == "dangling":
                path.symlink_to(self.home / "nowhere.png")
        self.photos[name] = what

    def data(self, names: list[str]) -> list[str]:
        """Write a catalogue of these photos; the words that name it and the cache."""
        path = self.home / "catalogue.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("filename", "neck", "sleeve"))
            for name in names:
                product = int(name.split("-")[0].strip("pr.ng"))
                writer.writerow((name, ("round", "v", "polo")[product % 3], ("long", "short")[product // 3 % 2]))
        return ["--data", str(path), "--images", str(self.images), "--cache", str(self.cache)]

    def start(self, *words: str, fork: bool = True, limits: Limits | None = None) -> Command:
        """Start a command."""
        self.commands += 1
        return Command(words, self.outputs / f"{self.commands % 4}", fork, limits)

    def good(self, names: list[str]) -> dict[str, bytes]:
        """Content ids of those of these photos that can become a vector."""
        numbers = {name: self.photos.get(name) for name in names}
        return {
            name: hashlib.sha256(self.contents[number]).digest()
            for name, number in numbers.items()
            if isinstance(number, int) and number < GOOD
        }

    def places(self, names: list[str], wanted: Wanted) -> set[Where]:
        """The rows that an extraction of these photos must leave."""
        folder, contents = self.folders[wanted.weights], set(self.good(names).values())
        columns = {where[0] for where in self.reference if where[0].startswith(folder)}
        chosen = [c for c in columns if any(c.split("/")[1].startswith(f"{b}-{v}-") for b in wanted.blocks
                                            for v in wanted.views)]  # fmt: skip
        return {(column, content) for column in chosen for content in contents}

    def check_rows(self) -> set[Where]:
        """Every row in the cache is that of the undisturbed computation; returns which there are."""
        rows = rows_of(self.cache)
        for where, found in rows.items():
            if where not in self.reference:
                raise Violation(f"a row that no photo gives: {where[0]} {where[1].hex()[:16]}")
            expected = self.reference[where]
            for row in found:
                if row.tobytes() == expected.tobytes():
                    self.equal += 1
                elif np.abs(row - expected).max() <= TOLERANCE * max(np.abs(expected).max(), 1e-30):
                    self.near += 1
                else:
                    raise Violation(f"a wrong row: {where[0]} {where[1].hex()[:16]}")
        return set(rows)

    def check_files(self, killed: bool) -> None:
        """Nothing lies in the cache that should not, but temporary files of a writer that SIGKILL ended."""
        if not self.cache.exists():
            return
        odd = set(unexpected_files(self.cache))
        if not killed and odd - self.leftovers:
            raise Violation(f"stray files in the cache: {sorted(odd - self.leftovers)}")
        self.leftovers = odd
        report = verify(self.cache, deep=True, probe=InProcess())
        worse = [problem for problem in report.problems if problem.kind is not ProblemKind.TEMPORARY]
        if worse:
            raise Violation(f"verify: {worse}")


def rows_of(root: Path) -> Rows:
    """Every row by (folder/column, content id) as often as it lies there, read by h5py alone."""
    rows: Rows = {}
    for path in sorted(root.glob("*/*.h5")):
        if ShardName.parse(path.name) is not None:
            column = f"{path.parent.name}/{'-'.join(path.name.split('-')[:3])}"
            with h5py.File(path, "r") as file:
                for content, features in zip(file["ids"][:], file["features"][:], strict=True):
                    rows.setdefault((column, content.tobytes()), []).append(features)
    return rows


def check_ended(ended: Ended, codes: tuple[int, ...], says: str = "") -> None:
    """A command ended as documented: with one of these codes, a named error for 1, and never a traceback.

    Args:
        says: What the error must name, one of several separated by `|`.
    """
    if ended.hung:
        raise Violation(f"a hang: {ended}")
    if "Traceback" in ended.err or "Exception ignored" in ended.err or "Errno" in ended.err:
        raise Violation(f"no clear error: {ended}")
    if ended.sent:
        codes = (*codes, -ended.sent if ended.sent == 9 else 130)
    if ended.code not in codes:
        raise Violation(f"expected {codes}: {ended}")
    if ended.code == 130 and "interrupted" not in ended.err:
        raise Violation(f"an interrupt that is not said: {ended}")
    named = ended.err.startswith("error: ") and any(word in ended.err for word in says.split("|"))
    if ended.code == 1 and not named:
        raise Violation(f"expected an error that says {says}: {ended}")


def chosen_names(dice: random.Random, least: int = 1) -> list[str]:
    """Some of the names, in the catalogue's order."""
    picked = set(dice.sample(NAMES, dice.randint(least, len(NAMES))))
    return [name for name in NAMES if name in picked]
