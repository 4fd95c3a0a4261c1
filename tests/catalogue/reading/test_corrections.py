"""Labels laid over a catalogue: what counts, what is said of it, and what is refused, from CSV and Label Studio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.catalogue import Catalogue, read_catalogue
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions
from tests.catalogue.conftest import Maker

A = "filename,neck,size\na.jpg,round,s\nb.jpg,#N/A,m\nc.jpg,v,m\n"
PHOTOS = ("a.jpg", "b.jpg", "c.jpg")


def labels(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def said(catalogue: Catalogue, kind: str) -> list[tuple[str, str]]:
    return [(f.filename, f.detail) for f in catalogue.findings if f.kind == kind]


def test_filled_lines_count_later_ones_win_and_every_change_is_said(make: Maker, tmp_path: Path) -> None:
    first = labels(
        tmp_path,
        "photo,attribute,value,by,why\na.jpg,neck,v,anna,doubt\nb.jpg,neck,v,anna,\nb.jpg,size,,,not yet\n"
        "c.jpg,size,#N/A,anna,\n",
    )
    second = labels(tmp_path, "filename,key,value,by\nb.jpg,neck,polo,ben\na.jpg,neck,v,ben\n", "later.csv")
    catalogue = read_catalogue(DataOptions(data=make(A, *PHOTOS), labels=(first, second)))
    assert list(catalogue.cells["neck"]) == [("v",), ("polo",), ("v",)]
    assert list(catalogue.cells["size"]) == [("s",), ("m",), None]
    assert said(catalogue, "labels-differ") == [
        ("b.jpg", "neck: v (anna, labels.csv line 3), then polo (ben, later.csv line 2); the last counts")
    ]
    assert said(catalogue, "relabelled") == [
        ("a.jpg", "neck: round -> v (ben, later.csv line 3)"),
        ("c.jpg", "size: m -> #N/A (anna, labels.csv line 5)"),
    ]
    assert said(catalogue, "labelled") == [("neck", "1 photo(s)")]
    assert said(catalogue, "labels-new-value") == [("neck", "'polo' on 1 photo(s)")]
    assert said(catalogue, "labels-open") == [("labels.csv", "1 without a value, 3 with one")]
    assert said(catalogue, "unknown-cells") == [("size", "1 of 3 photos have no known value")]


def test_photos_that_only_the_labels_name_become_rows(make: Maker, tmp_path: Path) -> None:
    table = make(A, *PHOTOS, "new/d.jpg", "e.jpg")
    path = labels(
        tmp_path, "photo,attribute,value\nnew/d.jpg,neck,v\n./new/d.jpg,size,s\nC.JPG,neck,round\nlost.jpg,neck,v\n"
    )
    catalogue = read_catalogue(DataOptions(data=table, labels=(path,)))
    assert list(catalogue.filenames) == [*PHOTOS, "new/d.jpg"]
    assert [p.is_file() for p in catalogue.paths] == [True] * 4
    assert (catalogue.cells["neck"][3], catalogue.cells["size"][3]) == (("v",), ("s",))
    assert catalogue.cells["neck"][2] == ("round",)
    assert said(catalogue, "labels-without-photo") == [("lost.jpg", "no such photo; its labels are left out")]
    assert "C.JPG" in said(catalogue, "found-by-base-name")[0][1]
    assert len(said(catalogue, "labels-new-photo")) == 1


def test_what_a_text_means_goes_by_the_values_that_are_there(make: Maker, tmp_path: Path) -> None:
    """A bar within a known value does not separate, nor is `none` no value where it is one; 1.0 is 1."""
    table = make("filename,look,fit,size\na.jpg,Red|White,none,1\nb.jpg,plain,slim,2\nc.jpg,#N/A,slim,2\n", *PHOTOS)
    path = labels(
        tmp_path, "photo,attribute,value\nc.jpg,look,Red|White\nb.jpg,fit,none\nb.jpg,size,1.0\na.jpg,look,a|b\n"
    )
    catalogue = read_catalogue(DataOptions(data=table, labels=(path,)))
    assert list(catalogue.cells["look"]) == [("a", "b"), ("plain",), ("Red|White",)]
    assert catalogue.cells["fit"][1] == ("none",) and catalogue.cells["size"][1] == ("1",)
    assert [name for name, _ in said(catalogue, "labels-several")] == ["look"]


def test_class_folders_products_and_format_b(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    for name in ("tee/a.jpg", "polo/b.jpg"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(b"x")
    path = labels(tmp_path, "photo,attribute,value\ntee/a.jpg,class,polo\n")
    assert list(read_catalogue(DataOptions(data=images, labels=(path,))).cells["class"]) == [("polo",), ("polo",)]

    products = labels(tmp_path, "id,colour\n7,red\n8,blue\n", "p.csv")
    for name in ("7.jpg", "8.jpg", "9.jpg"):
        (tmp_path / name).write_bytes(b"x")
    path = labels(tmp_path, "photo,attribute,value\n8.jpg,colour,red\n9.jpg,colour,green\n")
    options = DataOptions(data=products, images=tmp_path, image_name="{id}.jpg", attributes=("colour",), labels=(path,))
    assert list(read_catalogue(options).cells["colour"]) == [("red",), ("red",), ("green",)]

    b = labels(
        tmp_path,
        "id,filename,category,attributes\n1,7.jpg,tee,\"{'look': ['a', 'b'], 'neck': ['v']}\"\n2,8.jpg,bag,\"{}\"\n",
        "b.csv",
    )
    path = labels(tmp_path, "photo,attribute,value\n7.jpg,look,none\n8.jpg,category,tee\n8.jpg,neck,v\n")
    catalogue = read_catalogue(DataOptions(data=b, images=tmp_path, labels=(path,)))
    assert list(catalogue.cells["look"]) == [(), ()] and list(catalogue.categories or ()) == ["tee", "tee"]
    assert list(catalogue.cells["category"]) == [("tee",), ("tee",)] and catalogue.cells["neck"][1] == ("v",)


def test_the_mapping_and_the_allowed_values_hold_for_labels_too(make: Maker, tmp_path: Path) -> None:
    path = labels(tmp_path, "photo,attribute,value\nb.jpg,neck,vee\na.jpg,neck,boat\n")
    mapping = labels(tmp_path, "attribute,value,replacement\nneck,vee,v\n", "m.csv")
    allowed = labels(tmp_path, '{"neck": ["round", "v"], "size": ["s", "m"]}', "allowed.json")
    options = DataOptions(data=make(A, *PHOTOS), labels=(path,), mapping=mapping, allowed_values=allowed)
    assert list(read_catalogue(options).cells["neck"]) == [None, ("v",), ("v",)]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("photo,attribute,value\na.jpg,nek,v\n", "l.csv", r"line 2: .*'nek'.*mean 'neck'.*: neck, size"),
        ("photo,attribute,value\nx.jpg,neck,v\n", "l.csv", "not one of the 1 photo is in the catalogue"),
        ("photo,attribute,value\na.jpg,neck,\n", "l.csv", "no label yet"),
        ("photo,neck\na.jpg,v\n", "l.csv", "no column attribute, value; it has photo, neck"),
        ("[]", "l.json", "no label yet"),
        ("{", "l.json", "cannot be read"),
        ('[{"id": 1, "image": "a.jpg", "annotation_id": 3, "neck": "v"}]', "l.json", "looks like JSON-MIN"),
        ('[{"data": {"text": "fine"}, "annotations": [{"result": [{"type": "choices", "from_name": "sentiment", '
         '"value": {"choices": ["good"]}}]}]}]', "l.json", "task 1: its data have no photo .there are text"),
        ('[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": "rectanglelabels", "from_name": "tag", '
         '"value": {"x": 1}}]}]}]', "l.json", "its annotations are rectanglelabels, not choices"),
        ('[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": "choices", "from_name": "mood", '
         '"value": {"choices": ["good"]}}]}]}]', "l.json", "task 1: there is no attribute 'mood'.*another project"),
        ('[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": "choices", "from_name": "neck", '
         '"value": {"choices": "v"}}]}]}]', "l.json", "task 1: choices is 'v'; expected a list"),
        ('[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": "choices", "from_name": "neck", '
         '"value": {"choices": ["v\\u0000"]}}]}]}]', "l.json", "the value .* holds a NUL"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_meant_are_refused_in_a_line(
    make: Maker, tmp_path: Path, text: str, name: str, message: str
) -> None:
    path = labels(tmp_path, text, name)
    with pytest.raises(CatalogueError, match=message) as caught:
        read_catalogue(DataOptions(data=make(A, *PHOTOS), labels=(path,)))
    assert "--labels" in str(caught.value) and len(str(caught.value)) < 400


def annotation(number: int, by: object, choices: dict[str, list[str]], at: str, **more: Any) -> dict[str, Any]:
    """An annotation as Label Studio exports it."""
    result = [
        {
            "id": f"r{number}-{name}",
            "type": "choices",
            "value": {"choices": values},
            "origin": "manual",
            "to_name": "photo",
            "from_name": name,
        }
        for name, values in choices.items()
    ]
    return {
        "id": number,
        "completed_by": by,
        "result": result,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": at,
        "updated_at": at,
        "lead_time": 4.288,
        "prediction": {},
        "result_count": len(result),
        "task": number,
        **more,
    }


def task(number: int, data: dict[str, str], *annotations: dict[str, Any]) -> dict[str, Any]:
    """A task as Label Studio exports it, with a prediction of ours that says nothing of the truth."""
    prediction = {
        "id": 70 + number,
        "model_version": "selvedge",
        "score": 0.4,
        "result": [
            {"from_name": "neck", "to_name": "photo", "type": "choices", "value": {"choices": ["predicted"]}},
        ],
    }
    return {
        "id": number,
        "annotations": list(annotations),
        "file_upload": "3f2a-tasks.json",
        "drafts": [],
        "predictions": [prediction],
        "data": data,
        "meta": {},
        "created_at": "2026-11-01T09:00:00.000000Z",
        "updated_at": "2026-11-02T09:00:00.000000Z",
        "inner_id": number,
        "total_annotations": len(annotations),
        "cancelled_annotations": 0,
        "total_predictions": 1,
        "comment_count": 0,
        "project": 83,
        "updated_by": 1,
        "comment_authors": [],
    }


def test_an_export_of_label_studio(make: Maker, tmp_path: Path) -> None:
    """Single and multiple choices, several annotators, one skipped, a ground truth, an upload, a task left open."""
    anna = {"id": 1, "email": "anna@example.org", "first_name": "Anna", "last_name": ""}
    tasks = [
        task(
            1,
            {"image": "/data/local-files/?d=shop/a.jpg", "photo": "a.jpg"},
            annotation(1, anna, {"neck": ["v"], "look": ["x", "y"]}, "2026-11-02T09:10:00Z"),
            annotation(2, 7, {"neck": ["polo"]}, "2026-11-02T09:05:00Z"),
            annotation(3, 7, {"neck": ["boat"]}, "2026-11-02T09:20:00Z", was_cancelled=True),
        ),
        task(
            2,
            {"image": "/data/upload/4/1a2b3c4d-b.jpg"},
            annotation(4, 7, {"neck": ["round"]}, "2026-11-02T09:30:00Z", ground_truth=True),
            annotation(5, anna, {"neck": ["v"]}, "2026-11-02T09:40:00Z"),
        ),
        task(3, {"image": "https://example.org/shop/c.jpg?w=300"}),
    ]
    path = labels(tmp_path, json.dumps(tasks), "export.json")
    table = make("filename,neck,look\na.jpg,#N/A,#N/A\nb.jpg,#N/A,none\nc.jpg,v,x|y\n", *PHOTOS)
    catalogue = read_catalogue(DataOptions(data=table, separator="|", labels=(path,)))
    assert list(catalogue.cells["neck"]) == [("v",), ("round",), ("v",)]
    assert list(catalogue.cells["look"]) == [("x", "y"), (), ("x", "y")]
    assert said(catalogue, "labels-differ") == [
        ("a.jpg", "neck: polo (user 7, export.json task 1), then v (anna@example.org, export.json task 1); "
                  "the last counts"),
        ("b.jpg", "neck: v (anna@example.org, export.json task 2), then round (user 7, export.json task 2); "
                  "the last counts"),
    ]  # fmt: skip
    assert said(catalogue, "labels-open") == [("export.json", "1 without a value, 5 with one")]
