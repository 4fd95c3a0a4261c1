"""The mapping file: filled lines are applied and reported, everything doubtful is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.catalogue import Finding, infer_schema, read_catalogue
from pipeline.catalogue.reading.mapping import MappingLine, read_mapping, write_mapping
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

A = "filename,neck,size\na.jpg,round,s\nb.jpg,rond,m\nc.jpg,Round,m\nd.jpg,v,s\n"
PHOTOS = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def mapping(folder: Path, text: str, name: str = "mapping.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def findings(table: Path, path: Path, **more: object) -> tuple[list[Finding], dict[str, list[object]]]:
    catalogue = read_catalogue(DataOptions(data=table, mapping=path, **more))  # type: ignore[arg-type]
    kinds = ("mapped", "mapping-unused")
    cells = {attribute: list(catalogue.cells[attribute]) for attribute in catalogue.attributes}
    return [f for f in catalogue.findings if f.kind in kinds], cells


def test_only_filled_lines_replace_and_each_is_reported(make: Maker, tmp_path: Path) -> None:
    path = mapping(
        tmp_path,
        "attribute,value,count,suggestion,note,replacement\nneck,round,1,,,round\nneck,rond,1,round,,round\n"
        "neck,Round,1,round,,\nneck,v,1,,,#N/A\nneck,gone,0,,,round\n",
        "m.csv",
    )
    found, cells = findings(make(A, *PHOTOS), path)
    assert cells == {"neck": [("round",), ("round",), ("Round",), None], "size": [("s",), ("m",), ("m",), ("s",)]}
    assert found == [
        Finding("mapped", "neck", "'rond' -> 'round': 1 photo(s)"),
        Finding("mapped", "neck", "'v' -> #N/A: 1 photo(s)"),
        Finding("mapping-unused", "neck", "1 replaced value(s), such as 'gone'"),
    ]


def test_yaml_is_read_as_text(make: Maker, tmp_path: Path) -> None:
    table = make("filename,neck\na.jpg,06\nb.jpg,6\nc.jpg,no\n", "a.jpg", "b.jpg", "c.jpg")
    path = mapping(
        tmp_path, "- {attribute: neck, value: 06, replacement: 6}\n- {attribute: neck, value: no}\n", "m.yaml"
    )
    assert findings(table, path)[1] == {"neck": [("6",), ("6",), ("no",)]}


def test_values_of_format_b_are_merged_within_a_cell_and_the_category_too(make: Maker, tmp_path: Path) -> None:
    table = make(
        "id,filename,category,attributes\n"
        "1,a.jpg,tee,\"{'p': ['dot', 'dots', 'plain']}\"\n2,b.jpg,T-shirt,\"{'p': ['odd']}\"\n3,c.jpg,tee,{}\n",
        "a.jpg",
        "b.jpg",
        "c.jpg",
    )
    path = mapping(
        tmp_path, "attribute,value,replacement\np,dots,dot\np,odd,#N/A\ncategory,T-shirt,tee\np,dot,\n", "m.csv"
    )
    catalogue = read_catalogue(DataOptions(data=table, mapping=path))
    assert list(catalogue.cells["p"]) == [("dot", "plain"), None, ()]
    assert list(catalogue.cells["category"]) == [("tee",)] * 3
    assert list(catalogue.categories or ()) == ["tee"] * 3
    assert infer_schema(catalogue).gate == {"tee": ("p",)}


def test_class_folders_can_be_merged(make: Maker, tmp_path: Path) -> None:
    for name in ("shirt/a.jpg", "Shirts/b.jpg"):
        place = tmp_path / "photos" / name
        place.parent.mkdir(parents=True)
        place.write_bytes(b"x")
    path = mapping(tmp_path, "attribute,value,replacement\nclass,Shirts,shirt\n")
    catalogue = read_catalogue(DataOptions(data=tmp_path / "photos", mapping=path))
    assert set(catalogue.cells["class"]) == {("shirt",)}


def test_lines_of_keys_not_in_use_are_passed_over(make: Maker, tmp_path: Path) -> None:
    path = mapping(tmp_path, "attribute,value,replacement\nsize,s,m\nneck,rond,round\n", "m.csv")
    found, cells = findings(make(A, *PHOTOS), path, attributes=("neck",))
    assert [f.filename for f in found] == ["neck"]
    assert cells["neck"][1] == ("round",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "attribute,value,replacement\nneck,rond,Round\nneck,Round,round\n",
            "itself becomes 'round'; write the last value",
        ),
        ("attribute,value,replacement\nneck,rond,Round\nneck,Round,rond\n", "itself becomes 'rond': a cycle; decide"),
        ("attribute,value,replacement\nneck,rond,round\nneck,rond,v\n", "line 3: neck=rond has two replacements"),
        ("attribute,value,replacement\nnek,rond,round\n", "no attribute 'nek' in this catalogue. Did you mean 'neck'"),
        ("attribute,value,replacement\nneck,rond,ruond\n", "no value of 'neck' in the data.*Did you mean 'round'"),
        ("attribute,value,replacement\n,rond,round\n", "line 2: attribute and value must not be empty"),
        ("attribute,value\nneck,rond\n", "no column replacement"),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Maker, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        findings(make(A, *PHOTOS), mapping(tmp_path, text, "m.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "cannot be read as YAML"), ("- [1, 2]", "entry 1: expected attribute, value and replacement as text")],
)
def test_yaml_of_another_shape_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_mapping(mapping(tmp_path, text, "m.yaml"))


def test_a_new_name_is_declared_by_a_line_of_its_own(make: Maker, tmp_path: Path) -> None:
    path = mapping(tmp_path, "attribute,value,replacement\nneck,crew,crew\nneck,round,crew\n", "m.csv")
    assert findings(make(A, *PHOTOS), path)[1]["neck"][0] == ("crew",)


@pytest.mark.parametrize("name", ["m.csv", "m.yaml"])
def test_written_files_are_read_back_and_never_overwritten(tmp_path: Path, name: str) -> None:
    lines = [MappingLine("neck", "06", 3, "6", "rare", ""), MappingLine("neck", 'a "b", no', 1, replacement="06")]
    write_mapping(tmp_path / name, lines)
    assert [(x.attribute, x.value, x.replacement) for x in read_mapping(tmp_path / name)] == [
        ("neck", "06", ""),
        ("neck", 'a "b", no', "06"),
    ]
    with pytest.raises(CatalogueError, match="exists and may have been edited"):
        write_mapping(tmp_path / name, lines)


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"a mapping file ends in \.csv, \.yaml or \.yml"):
        write_mapping(tmp_path / "m.txt", [])


def test_two_lines_of_one_value_agree_when_only_one_is_filled_in(tmp_path: Path) -> None:
    path = mapping(tmp_path, "attribute,value,replacement\nneck,rond,\nneck, rond,round\nneck,rond,\n")
    assert [(line.value, line.replacement) for line in read_mapping(path)] == [("rond", "round")]


def test_a_mapped_catalogue_is_the_one_that_was_clean_from_the_start(make: Maker, tmp_path: Path) -> None:
    path = mapping(tmp_path, "attribute,value,replacement\nneck,rond,round\nneck,Round,round\n")
    mapped = read_catalogue(DataOptions(data=make(A, *PHOTOS), mapping=path))
    clean = read_catalogue(DataOptions(data=make(A.replace("rond", "round").replace("Round", "round"), *PHOTOS)))
    assert mapped.digest == clean.digest
