"""Try a reader of outside bytes with files that are wrong: each must end in a result or in a named error.

    python benchmarks/fuzz.py READER --minutes 5 [--seed 0] [--keep FOLDER]
    python benchmarks/fuzz.py all --minutes 5 --markdown
    python benchmarks/fuzz.py READER --replay FILE

Small files are made, then changed: bits and bytes, and what their format makes of them (cells, values, nesting, digits,
aliases, wrong types, headers), or replaced by what is no file. Each input is read in a forked child with limits of time
and memory. What breaks (a traceback, a hang, too much memory, or other content than the sound file's where that is
promised) is minimised and kept; the exit code is 1 then. Same seed, same inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from benchmarks.fuzzing.mutations import IRREGULAR  # noqa: E402
from benchmarks.fuzzing.reader import Reader, corpus_name, sample_of  # noqa: E402
from benchmarks.fuzzing.readers import READERS  # noqa: E402
from benchmarks.fuzzing.sandbox import BREAKS, HANG, KINDS, Outcome, Sandbox  # noqa: E402

MOST_ALIKE = 2
"""Inputs that are kept of one place and kind of breaking."""


@dataclass
class Tally:
    """What became of one reader's inputs, and the slowest and largest of them."""

    reader: str
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    breaks: Counter[str] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    def count(self, outcome: Outcome) -> None:
        self.kinds[outcome.kind] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.largest = max(self.largest, outcome.megabytes)
        if outcome.broken:
            self.breaks[f"{outcome.kind}: {outcome.text}"] += 1

    @property
    def broken(self) -> int:
        return sum(self.kinds[kind] for kind in BREAKS)

    def line(self) -> str:
        counts = ", ".join(f"{self.kinds[kind]} {kind}" for kind in KINDS)
        return (
            f"{self.reader}: {self.kinds.total()} inputs in {self.seconds:.0f} s: {counts}; "
            f"slowest {self.slowest:.1f} s, most memory {self.largest} MB"
        )

    def row(self) -> str:
        cells = (self.reader, self.kinds.total(), *(self.kinds[kind] for kind in KINDS))
        return "| " + " | ".join(map(str, (*cells, f"{self.slowest:.1f} s", f"{self.largest} MB"))) + " |"


HEAD = "| reader | inputs | " + " | ".join(KINDS) + " | slowest | most memory |\n|" + "---|" * (len(KINDS) + 4)


def fuzz(reader: Reader, seconds: float, seed: int, keep: Path, inputs: int = sys.maxsize) -> Tally:
    """Try inputs until the time is up or there were enough.

    Args:
        reader: What is tried.
        keep: Folder for what broke it.
    """
    tally, started = Tally(reader.name), time.monotonic()
    with Sandbox(reader.read, reader.errors, reader.seconds, reader.megabytes) as sandbox:
        for sample, data in reader.samples.items():
            outcome = sandbox.run(sample, data)
            if outcome.kind != "result":
                raise RuntimeError(f"{reader.name}: the sound {sample} gave {outcome}")
        for number in range(inputs):
            if time.monotonic() - started >= seconds:
                break
            sample, data = reader.input(random.Random(f"{seed} {reader.name} {number}"))
            outcome = sandbox.run(sample, data)
            tally.count(outcome)
            if outcome.broken and tally.breaks[f"{outcome.kind}: {outcome.text}"] <= MOST_ALIKE:
                small = minimised(sandbox, (sample, data), outcome)
                path = keep / corpus_name(reader, sample, hashlib.sha256(small).hexdigest()[:8])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(small)
                tally.kept.append(path)
                print(f"  {outcome.kind}: {outcome.text}  -> {path} ({len(small)} bytes)", flush=True)
    tally.seconds = time.monotonic() - started
    return tally


def minimised(sandbox: Sandbox, broken: tuple[str, bytes], outcome: Outcome, tries: int = 80) -> bytes:
    """A smaller or emptier input that breaks in the same way: pieces are left out, then zeroed, while it does."""
    sample, data = broken
    if data in IRREGULAR:
        return data
    tries = 6 if outcome.kind == HANG else tries
    for zeroed in (False, True):
        size = len(data) // 2
        while size and tries > 0:
            at = 0
            while at < len(data) and tries > 0:
                piece = b"\0" * len(data[at : at + size]) if zeroed else b""
                smaller = data[:at] + piece + data[at + size :]
                if smaller != data:
                    tries -= 1
                    again = sandbox.run(sample, smaller)
                    if (again.kind, again.text) == (outcome.kind, outcome.text):
                        data = smaller
                        at += size if zeroed else 0
                        continue
                at += size
            size //= 2
    return data


def replay(reader: Reader, path: Path) -> Outcome:
    """What one kept input does now."""
    with Sandbox(reader.read, reader.errors, reader.seconds, reader.megabytes) as sandbox:
        return sandbox.run(sample_of(reader, path), path.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=[*READERS, "all"])
    parser.add_argument("--minutes", type=float, default=1.0, help="per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-breaks"), help="folder for inputs that broke something")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one kept input")
    parser.add_argument("--markdown", action="store_true", help="end with a table in Markdown")
    args = parser.parse_args()
    if args.replay is not None and args.reader == "all":
        parser.error("--replay needs the name of one reader")
    tallies = []
    for name in READERS if args.reader == "all" else (args.reader,):
        with tempfile.TemporaryDirectory() as folder:
            reader = READERS[name](Path(folder))
            if args.replay is not None:
                outcome = replay(reader, args.replay)
                print(f"{outcome.kind}: {outcome.text} ({outcome.seconds:.1f} s)")
                return int(outcome.broken)
            tallies.append(fuzz(reader, 60 * args.minutes, args.seed, args.keep / name))
        print(tallies[-1].line(), flush=True)
        for text, times in tallies[-1].breaks.most_common(20):
            print(f"  {times} x {text}", flush=True)
    if args.markdown:
        print("\n".join([HEAD, *(tally.row() for tally in tallies)]))
    return int(any(tally.broken for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
