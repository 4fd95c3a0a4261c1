"""Files of a catalogue that nobody meant: each is read, or refused with a named error that says where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.catalogue import read_split
from pipeline.catalogue.cells import natural
from pipeline.catalogue.reading.allowed_values import read_allowed_values
from pipeline.catalogue.reading.attributes import read_category_attributes
from pipeline.catalogue.reading.mapping import read_mapping, write_mapping
from pipeline.catalogue.reading.read import read_catalogue
from pipeline.catalogue.records import Catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.byte_mutations import damaged
from tests.catalogue.conftest import Maker

A = "filename,neck,sleeve\na.jpg,round,1\nb.jpg,v,2\n"
B = (
    "id,filename,category,attributes\n1,a.jpg,dress,\"{'neck': ['round', 'v'], 'size': [1, 0x2]}\"\n"
    "2,b.jpg,skirt,\"{'fit': 'loose'}\"\n"
)
LISTS = '{"neck": ["round", "v"], "sleeve": ["1", "2"]}'
MAPPING_CSV = "attribute,value,replacement\nneck,rond,round\nneck,round,\n"
MAPPING_YAML = '- {attribute: neck, value: rond, replacement: round}\n- attribute: neck\n  value: "v"\n'
SPLIT = "photo,content,group,part\na.jpg," + "a" * 64 + ",0,train\nb.jpg," + "b" * 64 + ",1,test\n"

READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.csv": (lambda path: written(read_catalogue(DataOptions(data=path)), path), A),
    "b.csv": (lambda path: written(read_catalogue(DataOptions(data=path)), path), B),
    "products.csv": (
        lambda path: written(read_catalogue(DataOptions(data=path, image_name="{id}.jpg"), "kind"), path),
        "id;kind;neck\na;x;round\nb;y;v\n",
    ),
    "column.csv": (
        lambda path: written(read_catalogue(DataOptions(data=path, image_column=("photo",))), path),
        A.replace("filename", "photo"),
    ),
    "values.json": (read_allowed_values, LISTS),
    "attributes.json": (read_category_attributes, LISTS),
    "m.csv": (read_mapping, MAPPING_CSV),
    "m.yaml": (read_mapping, MAPPING_YAML),
    "split.csv": (read_split, SPLIT),
}


def written(catalogue: Catalogue, path: Path) -> Catalogue:
    """What is read can also be ordered and written."""
    for column in catalogue.cells.values():
        for value in sorted({value for cell in column for value in cell or ()}, key=natural):
            value.encode()
    for text in (*catalogue.attributes, *catalogue.filenames, *(f.detail + f.filename for f in catalogue.findings)):
        text.encode()
    return catalogue


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_damaged_bytes_give_a_result_or_a_named_error(photos: Path, name: str) -> None:
    read, text = READERS[name]
    path = photos / name
    path.write_text(text)
    read(path)
    forms = [text.encode()] * 3 + ([text.encode("utf-16")] if name.endswith(".csv") else [])
    outcomes = []
    for seed in range(150):
        path.write_bytes(damaged(forms[seed % len(forms)], seed))
        try:
            read(path)
            outcomes.append(True)
        except CatalogueError as error:
            assert str(error).encode()
            outcomes.append(False)
    assert {*outcomes} == {True, False}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(photos: Path, name: str) -> None:
    os.mkfifo(photos / name)
    with pytest.raises(CatalogueError, match="not a regular file"):
        READERS[name][0](photos / name)


def test_utf16_that_ends_in_half_a_character_is_refused_with_its_line(make: Maker) -> None:
    rows = "".join(f"{i}.jpg,round,1\n" for i in range(20_000))
    table = make(("filename,neck,sleeve\n" + rows).encode("utf-16") + b"x", "0.jpg")
    with pytest.raises(CatalogueError, match=r"after line 20001: .*truncated data.* begins as utf-16"):
        read_catalogue(DataOptions(data=table))


def test_a_nul_in_the_header_is_named(make: Maker) -> None:
    with pytest.raises(CatalogueError, match=r"line 1, column 1: a NUL character .* UTF-16 without a byte order mark"):
        read_catalogue(DataOptions(data=make("f\0" + A, "a.jpg")))


def test_a_nul_in_a_value_is_refused_with_line_and_column(make: Maker) -> None:
    with pytest.raises(CatalogueError, match=r"line 3, column 'neck': the cell holds a NUL character"):
        read_catalogue(DataOptions(data=make(A.replace("v,", "v\0,"), "a.jpg", "b.jpg")))


def test_a_cell_beyond_the_limit_is_refused_with_its_line(make: Maker) -> None:
    with pytest.raises(CatalogueError, match=r"line 3: field larger than field limit"):
        read_catalogue(DataOptions(data=make(A.replace("v,", "v" * 200_000 + ","), "a.jpg", "b.jpg")))


def test_numbers_of_thousands_of_digits_are_values_in_order_of_size(make: Maker) -> None:
    long = "1" + "0" * 5000
    assert sorted([long, "x", "0012", "a10", "9", "a9", "12"], key=natural) == [
        "9",
        "0012",
        "12",
        long,
        "a9",
        "a10",
        "x",
    ]
    table = make(B.replace("'round', 'v'", f"'{long}', '9'"), "a.jpg", "b.jpg")
    assert read_catalogue(DataOptions(data=table)).cells["neck"][0] == ("9", long)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("'r\\ud800', 'v'", "of 'neck' holds a lone surrogate, \\ud800"),
        ("'r\\0', 'v'", "of 'neck' holds a NUL character"),
        ("0x" + "f" * 5000, "a number of 'neck' has too many digits"),
        ("'v'], 'neck': ['w'", "the attribute 'neck' is there twice"),
        ("'v'], ' neck': ['w'", "the attribute 'neck' is there twice"),
        ("9" * 5000, "no dict literal"),
        ("-" * 5000 + "1", "no dict literal"),
        ("(" * 500 + "1" + ")" * 500, "no dict literal"),
    ],
)
def test_what_is_no_value_leaves_the_rows_attributes_unknown_and_names_the_line(
    make: Maker, new: str, said: str
) -> None:
    catalogue = read_catalogue(DataOptions(data=make(B.replace("'round', 'v'", new), "a.jpg", "b.jpg")))
    (finding,) = [f for f in catalogue.findings if f.kind == "bad-attributes"]
    assert finding.detail.startswith("line 2: ")
    assert said in finding.detail
    assert catalogue.cells["fit"][0] is None


def test_a_surrogate_in_an_attributes_name_is_refused_too(make: Maker) -> None:
    catalogue = read_catalogue(DataOptions(data=make(B.replace("neck", "n\\udfff"), "a.jpg", "b.jpg")))
    assert "holds a lone surrogate" in next(f.detail for f in catalogue.findings if f.kind == "bad-attributes")
    assert "n\udfff" not in catalogue.attributes


def test_a_pattern_that_no_file_name_can_have_is_refused(make: Maker) -> None:
    with pytest.raises(CatalogueError, match="--image-name .* holds a lone surrogate"):
        read_catalogue(DataOptions(data=make("id,neck\na,v\n", "a.jpg"), image_name="\udcff{id}.jpg"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"neck": ["a"], "neck": ["b"]}', "'neck' is there twice; keep one of them"),
        ('{"neck": ["a"], " neck": ["b"]}', "' neck' is there twice"),
        (f'{{"neck": [{"9" * 5000}]}}', "cannot be read as JSON .*4300"),
        ("[" * 100_000, "cannot be read as JSON .*recursion"),
        ('{"neck": ["a\\ud800"]}', "under 'neck', holds a lone surrogate"),
        ('{"n\\u0000": ["a"]}', "holds a NUL character"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "values.json").write_text(text)
    with pytest.raises(CatalogueError, match=message):
        read_allowed_values(tmp_path / "values.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {attribute: neck, value: a, value: b}", "'value' is there twice"),
        ("[" * 5000, "cannot be read as YAML .*recursion"),
        ("&a [*a]", "found unconstructable recursive node"),
        ('- {attribute: neck, value: "\\ud800", replacement: b}', "(?s)lone surrogate|invalid Unicode character"),
        ("- {attribute: neck, ? [a] : b}", "found unhashable key"),
    ],
)
def test_a_yaml_mapping_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(CatalogueError, match=message):
        read_mapping(tmp_path / "m.yaml")


def test_a_mapping_that_is_read_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(MAPPING_CSV.replace("rond", "ro\0nd").encode())
    with pytest.raises(CatalogueError, match=r"line 2: the value 'ro.x00nd' holds a NUL character"):
        write_mapping(tmp_path / "n.csv", read_mapping(tmp_path / "m.csv"))


def test_a_split_file_with_what_no_file_name_holds_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text(SPLIT.replace("b.jpg", "b\0.jpg"))
    with pytest.raises(CatalogueError, match=r"line 3: the photo's name holds a NUL character"):
        read_split(tmp_path)
