"""What every reader that is fuzzed has: sound files, how they are changed, and what reads them."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

from benchmarks.fuzzing.mutations import IRREGULAR, by_bits, by_bytes
from pipeline.errors import CatalogueError

Mutation = Callable[[bytes, random.Random], bytes]


class Reader:
    """Reads files that are wrong.

    Attributes:
        samples: The sound bytes of each file, by its name; what stands before an `@` of a name says what reads it.
        errors: What it may answer with.
        seconds, megabytes: What one input may take.
    """

    name = ""
    errors: tuple[type[Exception], ...] = (CatalogueError,)
    seconds = 5.0
    megabytes = 512

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.samples: dict[str, bytes] = {}

    def mutations(self, sample: str) -> tuple[Mutation, ...]:
        """How this file is changed beside its bits and bytes."""
        return ()

    def made(self, sample: str, rng: random.Random) -> bytes | None:
        """This file made anew with other content than the sound one's; None where its bytes are changed instead."""
        return None

    def input(self, rng: random.Random) -> tuple[str, bytes]:
        """(sample, bytes) of one input; the same for the same state of `rng`."""
        sample = rng.choice(sorted(self.samples))
        if rng.random() < 0.01:
            return sample, rng.choice(IRREGULAR)
        made = self.made(sample, rng) if rng.random() < 0.5 else None
        data = self.samples[sample] if made is None else made
        for _ in range(rng.choice((1, 1, 1, 2)) if made is None else rng.choice((0, 0, 1))):
            own = rng.choice((by_bytes, by_bytes, by_bits, *self.mutations(sample), *self.mutations(sample)))
            try:
                data = own(data, rng)
            except (
                ValueError,
                LookupError,
                RecursionError,
                csv.Error,
            ):  # what is no JSON or CSV any more cannot be changed as such
                data = by_bytes(data, rng)
        return sample, data

    def read(self, sample: str, data: bytes) -> str:
        """Read one input as the program does; returns what is wrong with what was read, "" when nothing is."""
        raise NotImplementedError


def corpus_name(reader: Reader, sample: str, digest: str) -> str:
    """The name of the file of a kept input, which says what sample it is of."""
    assert sample in reader.samples
    return f"{Path(sample).stem}~{digest}{Path(sample).suffix}"


def sample_of(reader: Reader, path: Path) -> str:
    """The sample that a kept input is of, by the file's name."""
    name = path.stem.partition("~")[0] + path.suffix
    if name not in reader.samples:
        raise SystemExit(f"{path}: no sample {name!r} of {reader.name}; there are {', '.join(reader.samples)}")
    return name
