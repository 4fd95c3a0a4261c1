"""Files with a few bytes wrong: for tests that a reader answers with a result or a named error, never with another."""

from __future__ import annotations

import random

TOKENS: tuple[bytes, ...] = (
    *(b"\0", b"\xff", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b"'", b",", b";", b"\t", b"\\"),
    *(
        b"\\ud800",
        b"\\u0000",
        b"\\x00",
        b"\\N{X}",
        b"9" * 5000,
        b"0x" + b"f" * 5000,
        b"0x_",
        b"1e999",
        b"nan",
        b"-",
        b"_",
    ),
    *(
        b"[" * 300,
        b"{" * 300,
        b"(" * 300,
        b"- " * 300,
        b"[]",
        b"{}",
        b"{[]: 1}",
        b"null",
        b"true",
        b"&a [*a]",
        b"*a",
        b"<<: ",
    ),
    *(
        b"!!int ''",
        b"!!float x",
        b"!!timestamp x",
        b"!!binary x",
        b"!!set {a}",
        b"!!omap [a]",
        b"? [a]\n: b",
        b"1:1",
        b"%",
        b"@",
    ),
    b"x" * 140_000,
)
"""What is put into files beside random bytes: each once was too much for some parser."""


def damaged(data: bytes, seed: int) -> bytes:
    """The bytes with one to three changes: a byte, a token put in, a piece lost, doubled, or the end cut off."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 2, 8, 64)))
        change = rng.choice(("byte", "byte", "token", "token", "token", "lose", "double", "cut"))
        if change == "byte":
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif change == "token":
            # Over what stands there, or between.
            data = data[:at] + rng.choice(TOKENS) + data[rng.choice((at, end)) :]
        elif change == "lose":
            data = data[:at] + data[end:]
        elif change == "double":
            data = data[:end] + data[at:]
        else:
            data = data[:at]
    return data
