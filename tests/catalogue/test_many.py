"""Catalogues of very many columns, attributes, values and repeats: work grows with the file, not its square."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pipeline.catalogue import (
    Catalogue,
    LabelSchema,
    coded,
    empty_attributes,
    infer_schema,
    never_in_train,
    read_catalogue,
    same_content,
)
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker


@contextmanager
def seconds_of_work(most: float) -> Iterator[None]:
    """At most this much of the processor's time; what is bounded here took five times as long or more when it grew
    with the square."""
    start = time.process_time()
    yield
    assert time.process_time() - start < most


def test_a_header_of_many_columns(make: Maker) -> None:
    names = [f"column {i}" for i in range(25_000)]
    data = make(f"filename,{','.join(names)}\na.jpg,{','.join('x' for _ in names)}\n", "a.jpg")
    with seconds_of_work(2.5):
        catalogue = read_catalogue(DataOptions(data=data))
        schema = infer_schema(catalogue)
        assert empty_attributes(catalogue, schema) == ()
    assert schema.attributes == tuple(names)


def test_a_column_of_many_values() -> None:
    values = tuple(f"value {i}" for i in range(8_000))
    schema = LabelSchema(("name",), (values[:7_999],), (True,))
    cells = {"name": coded([(value,) for value in values])}
    with seconds_of_work(1.2):
        Y, mask = schema.encode(cells)
        catalogue = Catalogue(images=None, filenames=values, paths=(), attributes=("name",), cells=cells)  # type: ignore[arg-type]  # fmt: skip
        found = never_in_train(catalogue, schema)
    assert np.array_equal(Y, np.eye(8_000, 7_999, dtype=np.uint8)) and mask.all()
    assert [finding.detail.partition(":")[0] for finding in found] == ["name=value 7999"]


def test_many_categories_and_attributes() -> None:
    attributes = tuple(f"a{i}" for i in range(10_000))
    gate = {f"c{i}": attributes[20 * i : 20 * i + 20] for i in range(500)}
    schema = LabelSchema(attributes, tuple(("x",) for _ in attributes), (True,) * 10_000, gate, None)
    with seconds_of_work(0.5):
        applies = schema.applies([*gate, None, "other"], 502)
    assert applies.sum(axis=1).tolist() == [20] * 500 + [10_000] * 2
    assert applies[7, 140:160].all()


def test_many_repeated_rows_and_contents(make: Maker) -> None:
    cells = ["{" + ", ".join(f"'a{i}': 'x'" for i in range(at, at + 1_400)) + "}" for at in (0, 1_400)]
    first = "".join(f'{i},{i}.jpg,shirt,"{cell}"\n' for i, cell in enumerate(cells))
    repeats = "".join(f"{i},b.jpg,shirt,{{}}\n" for i in range(3_000))
    text = f"id,filename,category,attributes\n{first}{repeats}9,b.jpg,shirt,{{'a7': 'y'}}\n"
    data = make(text, "0.jpg", "1.jpg", "b.jpg")
    with seconds_of_work(1.5):
        catalogue = read_catalogue(DataOptions(data=data))
    repeated = [finding.detail for finding in catalogue.findings if finding.kind == "repeated"]
    assert len(repeated) == 3_000
    assert repeated[4] == "line 9 names the photo of line 4, which is kept; the labels agree"
    assert repeated[-1] == "line 3004 names the photo of line 4, which is kept; a7: none kept, y dropped"


def test_photos_of_the_same_bytes_are_held_against_the_first() -> None:
    ids = np.array([b"1", b"2", b"1", b"2", b"1"], "S32")
    cells = {"neck": coded([("v",), ("u",), ("v",), ("w",), None])}
    small = Catalogue(images=None, filenames=tuple("abcde"), paths=(), attributes=("neck",), cells=cells)  # type: ignore[arg-type]  # fmt: skip
    assert [(f.filename, f.detail) for f in same_content(small, ids)] == [
        ("", "3 photo(s) repeat the bytes of another; all kept"),
        ("e", "same bytes as a, other labels; neck: v and #N/A; both kept"),
        ("d", "same bytes as b, other labels; neck: u and w; both kept"),
    ]
