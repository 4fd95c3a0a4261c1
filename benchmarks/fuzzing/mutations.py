"""Files with something wrong in them: bytes, cells, values, and things that are no files."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import socket
from pathlib import Path
from typing import Any

from tests.byte_mutations import TOKENS, damaged
from tests.mutations import STRANGE, mutated

IRREGULAR = (b"@fifo@", b"@folder@", b"@socket@", b"@link to nothing@", b"@link to itself@", b"@device@", b"@nothing@")
"""In place of a file's bytes: what is put there instead of a file."""

_TEXTS = tuple(each.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for each in STRANGE if isinstance(each, str))  # fmt: skip  # noqa: E501


def put(path: Path, data: bytes) -> None:
    """Make a file of these bytes, or what `IRREGULAR` names; what was there before is removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if data not in IRREGULAR:
        path.write_bytes(data)
    elif data == b"@fifo@":
        os.mkfifo(path)
    elif data == b"@folder@":
        path.mkdir()
    elif data == b"@socket@":
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(path.parent)  # the name of a socket has a hundred characters at most
            try:
                made.bind(path.name[-90:])
                Path(path.name[-90:]).rename(path.name)
            finally:
                os.chdir(here)
    elif data == b"@device@":
        path.symlink_to("/dev/zero")
    elif data != b"@nothing@":
        path.symlink_to(path.name if data == b"@link to itself@" else "not-there")


def by_bytes(data: bytes, rng: random.Random) -> bytes:
    return damaged(data, rng.randrange(2**32))


def by_bits(data: bytes, rng: random.Random) -> bytes:
    """One to four bits flipped, or some bytes replaced by others of the file."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not changed:
            break
        at = rng.randrange(len(changed))
        if rng.random() < 0.8:
            changed[at] ^= 1 << rng.randrange(8)
        else:
            source = rng.randrange(len(changed))
            changed[at : at + 16] = changed[source : source + 16]
    return bytes(changed)


def by_json(data: bytes, rng: random.Random) -> bytes:
    """One thing in the content changed, a name doubled, or nested beyond all measure."""
    kind = rng.random()
    if kind < 0.05:
        depth = rng.choice((60, 900, 5_000, 100_000))
        return b"[" * depth + b"]" * depth if rng.random() < 0.5 else b'{"a":' * depth + b"1" + b"}" * depth
    content, _ = mutated({"": json.loads(data)}, rng.randrange(2**32))
    text = json.dumps(content.get("", content))
    if kind < 0.15:
        text = text.replace(":", ": " + rng.choice(("9" * 5_000, "1e999", "NaN", "-Infinity", '"\\ud800"')) + ", ", 1)
    if kind > 0.9:
        text = "{" + f'"{rng.choice(_TEXTS[:3])}": 1, ' + text[1:]
    return text.encode("utf-8", "surrogatepass")


def by_cells(data: bytes, rng: random.Random) -> bytes:
    """Cells of a CSV file replaced, columns and rows lost, doubled, swapped or very many."""
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    for _ in range(rng.choice((1, 1, 2))):
        row = rng.choice(rows)
        at = rng.randrange(len(row)) if row else 0
        change = rng.choice(("cell", "cell", "cell", "lose", "double", "row", "swap", "wide", "long", "copy"))
        if change == "cell" and row:
            row[at] = rng.choice((*_TEXTS, str(rng.choice(STRANGE))[:6_000], nested(rng)))
        elif change == "lose":
            del row[at : at + 1]
        elif change == "double" and row:
            row.insert(at, row[at])
        elif change == "row":
            rows.insert(rng.randrange(len(rows) + 1), list(row))
        elif change == "swap":
            rng.shuffle(rows)
        elif change == "wide" and rng.random() < 0.1:
            for each in rows:
                each.extend(f"c{i}" for i in range(rng.choice((300, 20_000))))
        elif change == "long" and row:
            row[at] = "x" * rng.choice((20_001, 140_000, 1_000_000))
        elif change == "copy" and row:
            other = rng.choice(rows)
            row[at] = rng.choice(other or [""])
    stream = io.StringIO()
    csv.writer(stream, lineterminator=rng.choice(("\n", "\n", "\r\n", "\r"))).writerows(rows)
    return stream.getvalue().encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")


def nested(rng: random.Random) -> str:
    """The literal of a dict that nobody writes."""
    depth = rng.choice((3, 90, 250, 3_000))
    return rng.choice(
        (
            "{'neck': " + "[" * depth + "]" * depth + "}",
            "{'neck': " + "9" * rng.choice((40, 5_000)) + "}",
            "{'neck': 0x" + "f" * 5_000 + "}",
            "{'neck': ['a'], 'neck': ['b']}",
            "{'neck': '\\ud800', '\\udfff': ['x']}",
            "{'neck': b'x', 'fit': 1j, 3: 4}",
            "{'neck': {'fit'}, **{'a': 1}}",
            "-" * depth + "1",
            "{'neck': ['" + "x" * 30_000 + "']}",
            "{" + ", ".join(f"'a{i}': ['v']" for i in range(1_000)) + "}",
        )
    )


def by_yaml(data: bytes, rng: random.Random) -> bytes:
    """A line replaced by, or followed by, one of YAML's odd corners."""
    lines = data.split(b"\n")
    odd = (
        *(b"&a [*a]", b"&a {x: *a}", b"!!int ''", b"!!binary x", b"!!set {a}", b"!!omap [a]"),
        *(b"0x_", b"1" + b":00" * 3_000, b"9" * 5_000, b"[" * 400, b"{" * 5_000, b"? [a]\n: b"),
        *(b"!!timestamp 2001-99-99", b"!!python/name:os.system"),
        *(b'"\\ud800"', b'"\\0"', b"<<: [1]", b"<<: *none", b".nan", b".inf", b"0o9", b"2001-01-01", b"~", b"[]"),
        *(b"%YAML 9.9", b"---", b"...", b"@", b"!!float x", b"- - - -", b"'", b"|\n x", b"!<!x> y", b"!!null x"),
        b"&a0 [x]\n" + b"".join(b"k%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 9)),
    )
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        name, colon, _ = lines[at].partition(b":")
        new = rng.choice((*odd, *TOKENS))
        lines[at] = name + colon + b" " + new if colon and rng.random() < 0.7 else new
    return b"\n".join(lines)


def reshaped(content: Any, rng: random.Random, extra: tuple[Any, ...] = ()) -> Any:
    """Plain content with one to three things changed."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not content:
            break
        content, _ = mutated(content, rng.randrange(2**32), extra)
    return content
