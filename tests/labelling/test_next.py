"""`next` and `labels` on a small cache: who is asked about what, the way to Label Studio and back, and refusals."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.catalogue import read_catalogue
from pipeline.cli.main import main
from pipeline.errors import CatalogueError, OptionError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.labelling.next_photos import NextReport, next_photos
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, NextOptions, SplitOptions
from tests.small_cache import NECKS, SmallCatalogue, read_rows, write_catalogue, write_rows


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"), photos=180, pictures=True)


@pytest.fixture(scope="module")
def model(small: SmallCatalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), lr=(0.01,), epochs=20, out=out)
    fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), options)
    return out / "models" / "best.joblib"


def chosen(small: SmallCatalogue, out: Path, data: DataOptions | None = None, **changes: object) -> NextReport:
    options = replace(NextOptions(cache=small.cache, count=5, near=0.9999, out=out), **changes)  # type: ignore[arg-type]
    return next_photos(data or DataOptions(data=small.data), CacheKeyOptions(), options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_only_what_is_not_labelled_is_asked_one_photo_per_product(
    small: SmallCatalogue, model: Path, tmp_path: Path
) -> None:
    unknown = {name for name, neck, _ in read_rows(small.data) if neck == "#N/A"}
    report = chosen(small, tmp_path / "next.csv", model=model)
    rows = table(tmp_path / "next.csv")
    assert report.candidates == len(unknown) and len(rows) == 5
    assert {row["photo"] for row in rows} <= unknown and {row["attribute"] for row in rows} == {"neck"}
    assert len({row["photo"].split("-")[0] for row in rows}) == 5
    for row, ask in zip(rows, report.asks, strict=True):
        likely = [text.split(" ")[0] for text in row["candidates"].split("|")]
        assert 2 <= len(likely) <= 3 and set(likely) <= set(NECKS) and row["value"] == row["by"] == ""
        assert f"{likely[0]} or {likely[1]}?" in row["why"] and "training photos" in row["why"]
        assert any(f"? {value} has an expected F1" in row["why"] for value in likely[:2])
        assert ask.candidates[0].p >= ask.candidates[1].p
    assert [float(row["doubt"]) for row in rows] == sorted((float(row["doubt"]) for row in rows), reverse=True)


def test_the_file_filled_in_is_what_fit_heads_takes(small: SmallCatalogue, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "next.csv"
    report = chosen(small, path, model=model)
    rows = table(path)
    for row in rows[:3]:
        row |= {"value": "2", "by": "anna"}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    data = DataOptions(data=small.data, labels=(path,))
    catalogue = read_catalogue(data)
    for ask in report.asks[:3]:
        assert catalogue.cells["neck"][list(catalogue.filenames).index(ask.photo)] == ("2",)
    again = chosen(small, tmp_path / "again.csv", data, model=model)
    assert again.candidates == report.candidates - 3, "what is labelled is asked no more"
    out = tmp_path / "run"
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), lr=(0.01,), epochs=2, out=out)
    fit_heads(data, CacheKeyOptions(), SplitOptions(), options)
    found = (out / "dropped.csv").read_text(encoding="utf-8")
    assert "labelled,neck,3 photo(s)" in found and "labels-open,next.csv" in found


def test_a_batch_per_attribute_and_a_pool_that_the_data_do_not_name(
    small: SmallCatalogue, model: Path, tmp_path: Path
) -> None:
    """The pool's photos lack every attribute, except those of which the data know something."""
    rows = read_rows(small.data)
    kept = tmp_path / "half.csv"
    write_rows(kept, rows[:90])
    images = small.data.parent / "images"
    pool = tmp_path / "pool.csv"
    named = [row[0] for row in rows[80:140]]
    pool.write_text("\n".join(["filename", *named]) + "\n", encoding="utf-8")
    data = DataOptions(data=kept, images=images)
    report = chosen(small, tmp_path / "n.csv", data, model=model, pool=(pool,), per="attribute", count=4)
    asked = [(ask.photo, ask.attribute) for ask in report.asks]
    assert [sum(a == name for _, a in asked) for name in ("neck", "sleeve_length")] == [4, 4]
    known = {name: neck for name, neck, _ in rows[:90]}
    assert {photo for photo, _ in asked} <= set(named)
    assert all(photo not in known for photo, attribute in asked if attribute == "sleeve_length")
    assert all(known.get(photo, "#N/A") == "#N/A" for photo, _ in asked)
    folder = chosen(small, tmp_path / "f.csv", data, model=model, pool=(images,), count=300)
    fresh = {row[0] for row in rows[90:]}
    assert fresh & {ask.photo for ask in folder.asks} and folder.candidates > len(fresh)


def test_what_does_not_apply_is_not_asked(small: SmallCatalogue, tmp_path: Path) -> None:
    """Bags have no neck: neither those that the data call so, nor those of the pool that the model takes for bags."""
    rows, images = read_rows(small.data), small.data.parent / "images"
    known, pool = rows[:120], rows[120:]
    lines = ["id,filename,category,attributes"]
    for i, (name, neck, sleeve) in enumerate(known):
        attributes = {} if sleeve == "long" and neck != "#N/A" else {"neck": [neck]}
        lines.append(f'{i},{name},{"bag" if sleeve == "long" else "tee"},"{attributes}"')
    (tmp_path / "b.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data, out = DataOptions(data=tmp_path / "b.csv", images=images), tmp_path / "run"
    heads = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), lr=(0.01,), epochs=20, out=out)
    fit_heads(data, CacheKeyOptions(), SplitOptions(), heads)
    (tmp_path / "pool.csv").write_text("\n".join(["photo", *(row[0] for row in rows)]) + "\n", encoding="utf-8")
    model, listed = out / "models" / "best.joblib", (tmp_path / "pool.csv",)
    report = chosen(small, tmp_path / "n.csv", data, model=model, pool=listed, count=200)
    asked: dict[str, set[str]] = {}
    for ask in report.asks:
        asked.setdefault(ask.attribute, set()).add(ask.photo)
    tees = {name for name, _, sleeve in rows if sleeve == "short"}
    of_data = {name for name, *_ in known}
    assert asked["neck"] & of_data and asked["neck"] & of_data <= tees
    taken_for = {ask.photo: ask.candidates[0].value for ask in report.asks if ask.attribute == "category"}
    assert set(taken_for) <= {name for name, *_ in pool} and set(taken_for.values()) == {"tee", "bag"}
    assert asked["neck"] - of_data == {photo for photo, category in taken_for.items() if category == "tee"}


def test_without_a_model_or_any_label(small: SmallCatalogue, tmp_path: Path) -> None:
    images = small.data.parent / "images"
    report = chosen(small, tmp_path / "n.csv", DataOptions(attributes=("neck", "fit")), pool=(images,), count=6)
    assert report.photos == 6 and report.candidates == 180 and not report.with_model
    assert [ask.attribute for ask in report.asks] == ["neck", "fit"] * 6
    assert {row["candidates"] for row in table(tmp_path / "n.csv")} == {""}
    with pytest.raises(OptionError, match="nothing says which neck has: give --model"):
        chosen(small, tmp_path / "t.json", DataOptions(attributes=("neck",)), pool=(images,), to="label-studio")


def test_the_way_to_label_studio_and_back(small: SmallCatalogue, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tasks.json"
    report = chosen(small, out, model=model, to="label-studio", image_url="https://example.org/shop/{photo}")
    tasks = json.loads(out.read_text(encoding="utf-8"))
    assert [task["data"]["photo"] for task in tasks] == [ask.photo for ask in report.asks]
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == pytest.approx([1 - ask.doubt for ask in report.asks], abs=1e-4)
    root = ET.parse(report.config or "").getroot()
    assert [(text.get("name"), text.get("value")) for text in root.iter("Text")] == [("selvedge-why", "$why")]
    assert all("neck: " in task["data"]["why"] for task in tasks)
    (choices,) = root.iter("Choices")
    assert (choices.get("name"), choices.get("toName"), choices.get("choice")) == ("neck", "photo", "single")
    assert [each.get("value") for each in choices] == list(NECKS)
    for task, ask in zip(tasks, report.asks, strict=True):
        (result,) = task["predictions"][0]["result"]
        assert result["from_name"] == "neck" and result["to_name"] == "photo" and result["type"] == "choices"
        assert result["value"]["choices"] == [ask.candidates[0].value]
    for i, task in enumerate(tasks):
        given = [{**task["predictions"][0]["result"][0], "value": {"choices": ["1"]}, "origin": "manual"}]
        task |= {"id": i, "annotations": [{"id": i, "completed_by": 7, "result": given, "was_cancelled": i == 0}]}
    out.write_text(json.dumps(tasks), encoding="utf-8")
    catalogue = read_catalogue(DataOptions(data=small.data, labels=(out,)))
    cells = dict(zip(catalogue.filenames, catalogue.cells["neck"], strict=True))
    assert [cells[ask.photo] for ask in report.asks] == [None, *[("1",)] * 4]


def test_labels_keeps_who_said_what_and_writes_the_catalogue(
    small: SmallCatalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = next(name for name, neck, _ in read_rows(small.data) if neck == "#N/A")
    said, out, whole = tmp_path / "in.csv", tmp_path / "said.csv", tmp_path / "whole.csv"
    said.write_text(f"photo,attribute,value,by\n{photo},neck,a|b,anna\n{photo},neck,=1+1,ben\n", encoding="utf-8")
    words = ["labels", "--labels", str(said), "--out", str(out)]
    assert main([*words, "--data", str(small.data), "--table", str(whole)]) == 0
    shown = capsys.readouterr().out
    assert "labels-differ (1)" in shown and "by anna 1, ben 1" in shown and f"180 rows -> {whole}" in shown
    assert [(row["by"], row["value"], row["source"]) for row in table(out)] == [
        ("anna", "a|b", "in.csv line 2"),
        ("ben", "'=1+1", "in.csv line 3"),
    ]
    with_labels = read_catalogue(DataOptions(data=small.data, labels=(out,)))
    images = small.data.parent / "images"
    written = read_catalogue(DataOptions(data=whole, images=images, separator="|"))
    assert list(written.filenames) == list(with_labels.filenames)
    assert {name: list(column) for name, column in written.cells.items()} == {
        name: list(column) for name, column in with_labels.cells.items()
    }
    assert main([*words, "--table", str(whole)]) == 0
    assert table(whole) == [{"filename": photo, "neck": "'=1+1"}]
    assert main(["labels", "--out", str(out)]) == 1
    assert "no labels given" in capsys.readouterr().err


def test_a_catalogue_of_format_b_comes_back_with_its_labels(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(b"x")
    data, said, whole = (tmp_path / name for name in ("b.csv", "said.csv", "whole.csv"))
    data.write_text(
        "id,filename,category,attributes\n1,a.jpg,tee,\"{'look': ['x', 'y']}\"\n2,b.jpg,,\"{'neck': ['#N/A']}\"\n"
    )
    said.write_text("photo,attribute,value\na.jpg,neck,v\nb.jpg,category,tee\nb.jpg,look,none\n")
    words = ["labels", "--data", str(data), "--labels", str(said), "--out", str(tmp_path / "o.csv")]
    assert main([*words, "--table", str(whole)]) == 0
    one, other = (
        read_catalogue(DataOptions(data=data, labels=(said,))),
        read_catalogue(DataOptions(data=whole, images=tmp_path / "images")),
    )
    assert list(one.categories or ()) == list(other.categories or ()) == ["tee", "tee"]
    assert {name: list(column) for name, column in one.cells.items()} == {
        name: list(column) for name, column in other.cells.items()
    }


def test_what_cannot_work_is_said_in_a_line(small: SmallCatalogue, model: Path, tmp_path: Path) -> None:
    out, images = tmp_path / "n.csv", small.data.parent / "images"
    (tmp_path / "odd.csv").write_text("colour\nred\n")
    (tmp_path / "gone.csv").write_text("photo\ngone.jpg\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "x.jpg").write_bytes(b"no vectors of this")
    full = tmp_path / "full.csv"
    write_rows(full, [row for row in read_rows(small.data) if row[1] != "#N/A"])
    cases: list[tuple[DataOptions, dict[str, object], str]] = [
        (DataOptions(), {}, "no photos to choose from: give --data, or --pool"),
        (DataOptions(data=small.data, attributes=("nek",)), {"model": model}, "does not know .* 'nek'.*Did you mean"),
        (DataOptions(data=small.data), {"pool": (tmp_path / "gone.csv",)}, "no such photo, 'gone.jpg'"),
        (DataOptions(data=small.data), {"pool": (tmp_path / "odd.csv",)}, "no column photo or filename; it has colour"),
        (DataOptions(data=small.data), {"pool": (tmp_path / "nowhere",)}, "nowhere"),
        (DataOptions(), {"pool": (tmp_path / "new",)}, r"1 of 1 photo has no vectors .*run.py extract .*--pool"),
        (DataOptions(data=full, images=images), {"model": model}, "nothing is left to label"),
        (DataOptions(data=small.data), {"to": "label-studio", "image_url": "x"}, "--image-url is 'x'"),
    ]
    for data, changes, message in cases:
        with pytest.raises((OptionError, CatalogueError), match=message):
            chosen(small, out, data, **changes)
    assert not out.exists()


def test_the_command_says_what_was_chosen(
    small: SmallCatalogue, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["next", "--model", model, "--data", small.data, "--cache", small.cache, "--count", 3]
    assert main([str(word) for word in [*words, "--near", 0.9999, "--out", tmp_path / "n.csv"]]) == 0
    shown = capsys.readouterr().out
    assert "next: 3 photos of" in shown and "asked: neck 3" in shown
    assert f"fit-heads --labels {tmp_path / 'n.csv'}" in shown


def test_photos_that_no_table_names_are_extracted(small: SmallCatalogue, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "new").mkdir()
    Image.new("RGB", (40, 60), (9, 8, 7)).save(tmp_path / "new" / "x.jpg")
    backbone = ["--backbone", "test_resnet", "--weights", "random:0", "--size", "32", "--runtime", "torch"]
    words = ["extract", "--pool", str(tmp_path / "new"), "--cache", str(tmp_path / "features"), *backbone]
    assert main(words) == 0
    options = NextOptions(cache=tmp_path / "features", pool=(tmp_path / "new",), out=tmp_path / "n.csv")
    assert next_photos(DataOptions(), CacheKeyOptions(), options).photos == 1
