"""A catalogue's second month: new photos with a new value, then corrected labels; who moves, what `compare` answers.

    python benchmarks/month_two.py [--photos 2000] [--new 200] [--relabelled 50] [--seed 0] [--work FOLDER]
                                   [--backbone tf_efficientnet_lite0] [--weights package] [--size 224]
                                   [--fit "--heads linear,mlp --optimizers adam"]

A generated catalogue (format A) is drawn with so many photos as both months have. The first month lacks the new ones,
among which are all photos of one value of pattern, so that this value is new in the second. In the third month the
necks of some of the old photos are labelled anew. Every month is fit by the same command, on its own split of the hash
of products' names, and once more by labels, to see what that moves; the third month also with --split-from the first.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.catalogue import PARTS, read_split
from pipeline.cli.main import main as run

Row = dict[str, str]


def command(*words: object) -> str:
    """What a command prints; the benchmark ends where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run([str(word) for word in words])
    if code:
        sys.exit(said.getvalue())
    return said.getvalue()


def months(rows: Sequence[Row], new: int, relabelled: int, seed: int) -> tuple[list[list[Row]], str]:
    """The rows of three months, and the value of pattern that comes with the second."""
    draw = random.Random(seed)
    counts = Counter(row["pattern"] for row in rows if row["pattern"] != "#N/A")
    value = min((name for name, count in counts.items() if count <= new), key=lambda name: (-counts[name], name))
    own = [row for row in rows if row["pattern"] == value]
    others = [row for row in rows if row["pattern"] != value]
    draw.shuffle(others)
    coming, old = [*own, *others[: new - len(own)]], others[new - len(own) :]
    known = sorted({row["neck"] for row in rows} - {"#N/A"})
    corrected = {row["filename"] for row in [row for row in old if row["neck"] != "#N/A"][:relabelled]}
    third = [
        {**row, "neck": draw.choice([neck for neck in known if neck != row["neck"]])}
        if row["filename"] in corrected
        else row
        for row in old
    ]
    return [old, [*coming, *old], [*coming, *third]], value


def save(path: Path, rows: Sequence[Row]) -> Path:
    """A CSV of format A."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def moved(old: Path, new: Path) -> str:
    """How many photos of one run are in another part in the next, and where those went that it did not have."""
    before, after = (dict(zip(t.photos, t.parts, strict=True)) for t in (read_split(old), read_split(new)))
    count = sum(after[photo] != part for photo, part in before.items() if photo in after)
    fresh = Counter(part for photo, part in after.items() if photo not in before)
    placed = ", ".join(f"{fresh[part]} {part}" for part in PARTS)
    return f"{count} of {len(before):,} photos moved" + (f"; the new ones: {placed}" if fresh else "")


def story(work: Path, asked: argparse.Namespace) -> None:
    """Draw, extract once, fit each month, and say what moved and what the comparison says."""
    images, cache = work / "catalogue" / "images", work / "features"
    total = asked.photos + asked.new
    command("sample", work / "catalogue", "--images", total, "--seed", asked.seed)
    with next((work / "catalogue").glob("*.csv")).open(newline="", encoding="utf-8") as file:
        every = {row["filename"]: row for row in csv.DictReader(file) if (images / row["filename"]).is_file()}
    catalogues, value = months(list(every.values()), asked.new, asked.relabelled, asked.seed)
    paths = [save(work / f"month{i}.csv", rows) for i, rows in enumerate(catalogues, 1)]
    counts = [sum(row["pattern"] == value for row in rows) for rows in catalogues]
    more = len(catalogues[1]) - len(catalogues[0])
    print(f"month 1: {len(catalogues[0]):,} photos")
    print(f"month 2: {more} more, {counts[1]} of them of a new value, pattern {value}")
    print(f"month 3: {asked.relabelled} necks of the first month's photos labelled anew")
    backbone = ("--backbone", asked.backbone, "--weights", asked.weights, "--size", asked.size)
    command("extract", "--data", paths[1], "--images", images, "--cache", cache, *backbone)

    def fit(month: int, name: str, *words: object) -> Path:
        heads = (*asked.fit.split(), "--out", work / name)
        said = command("fit-heads", "--data", paths[month - 1], "--images", images, "--cache", cache, *heads, *words)
        for line in said.splitlines():
            if "keep the part that" in line:
                print(line.strip().removeprefix("-: ").replace(str(work), "runs"))
        return work / name

    first, second, third = (fit(i, f"month{i}") for i in (1, 2, 3))
    print(f"\nby hash, month 1 to 2: {moved(first, second)}\nby hash, month 2 to 3: {moved(second, third)}")
    stratified = [fit(i, f"by-labels-{i}", "--split-by", "labels") for i in (1, 2, 3)]
    for i in (0, 1):
        print(f"by labels, month {i + 1} to {i + 2}: {moved(stratified[i], stratified[i + 1])}")
    print("\nmonth 3 with --split-from month1:")
    print(moved(first, fit(3, "given", "--split-from", first)))
    print("\n$ python run.py compare runs/month1 runs/month3")
    lines = command("compare", first, third, "--report", work / "report.html").splitlines()
    sets = [i for i, line in enumerate(lines) if line.startswith("On the")]
    end = next(i for i, line in enumerate(lines) if i > sets[-1] and "Per attribute" in line)
    print(*(line for line in lines if line.startswith("not shared")), "", *lines[sets[0] : end], sep="\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse and tell the story, in a folder of its own unless one is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("photos", 2000), ("new", 200), ("relabelled", 50), ("seed", 0), ("size", 224)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="package")
    parser.add_argument("--fit", default="--heads linear,mlp --optimizers adam", help="words of every fit-heads")
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        story(asked.work or Path(temporary), asked)


if __name__ == "__main__":
    main()
