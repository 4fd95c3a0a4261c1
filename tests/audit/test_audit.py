"""`audit` end to end on a small cache: planted errors, conflicting look-alikes, the tables, the page, the command."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audit.audit import audit
from pipeline.audit.page import render_gallery, shown_photos
from pipeline.audit.report import AuditReport, Conflict, LabelIssue, Outlier
from pipeline.errors import OptionError, RunError
from pipeline.experiment.thumbnails import make_thumbnails
from pipeline.options import AuditOptions, CacheKeyOptions, DataOptions
from tests.audit.planting import plant_errors
from tests.comparison.page.test_page import HOSTILE, Page
from tests.small_cache import SmallCatalogue, write_catalogue

QUICK = AuditOptions(folds=3, seed=(0,), near=0.999)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"), photos=240)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_planted_errors_are_found_and_written_worst_first(small: SmallCatalogue, tmp_path: Path) -> None:
    data = tmp_path / "planted.csv"
    planted = plant_errors(small.data, data, 0.05, 0)
    before = data.read_bytes()
    options = replace(QUICK, cache=small.cache, out=tmp_path / "audit")
    report = audit(DataOptions(data=data, images=small.data.parent / "images"), CacheKeyOptions(), options)
    assert data.read_bytes() == before
    found = [(issue.photo, issue.attribute) for issue in report.issues]
    assert len(set(found[:15]) & planted) >= 12
    assert {issue.kind for issue in report.issues} == {"wrong"}
    rows = read(tmp_path / "audit" / "label_issues.csv")
    assert [(row["photo"], row["attribute"]) for row in rows] == found
    assert [float(row["score"]) for row in rows] == sorted(float(row["score"]) for row in rows)
    labels = {row["filename"]: row for row in read(data)}
    assert all(labels[row["photo"]][row["attribute"]] == row["given"] != row["suggested"] for row in rows)
    asks = read(tmp_path / "audit" / "labels.csv")
    assert [(row["photo"], row["attribute"]) for row in asks] == found and {row["value"] for row in asks} == {""}
    assert asks[0]["why"] == f"is {rows[0]['given']}, looks like {rows[0]['suggested']}"
    assert (tmp_path / "audit" / "outliers.csv").read_text().startswith("photo,attribute,value,distance,score\n")
    with pytest.raises(RunError, match="not empty"):
        audit(DataOptions(data=data, images=small.data.parent / "images"), CacheKeyOptions(), options)


def test_look_alikes_with_other_labels_are_conflicts(small: SmallCatalogue, tmp_path: Path) -> None:
    """The same bytes under another name have the same vector; only attributes known on both can conflict."""
    copy = tmp_path / "data"
    (copy / "images").mkdir(parents=True)
    for photo in (small.data.parent / "images").iterdir():
        (copy / "images" / photo.name).write_bytes(photo.read_bytes())
    (copy / "images" / "twin.jpg").write_bytes((copy / "images" / "shirt1-0.jpg").read_bytes())
    text = small.data.read_text(encoding="utf-8") + "twin.jpg,2,#N/A\n"
    (copy / "a.csv").write_text(text, encoding="utf-8")
    options = replace(QUICK, cache=small.cache, out=tmp_path / "audit", head="linear", folds=2)
    report = audit(DataOptions(data=copy / "a.csv"), CacheKeyOptions(), options)
    assert [vars(c) | {"cosine": round(c.cosine, 4)} for c in report.conflicts] == [
        {
            "photo": "shirt1-0.jpg",
            "other": "twin.jpg",
            "cosine": 1.0,
            "attribute": "neck",
            "given": "1",
            "other_given": "2",
            "same_product": True,
            "kind": "same-bytes",
        }
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"near": 0.0}, "--near is 0.0"),
        ({"min_support": 1}, "--min-support is 1"),
        ({"folds": 1}, "--folds 1"),
    ],
)
def test_options_that_cannot_work_leave_nothing(
    small: SmallCatalogue, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    options = replace(QUICK, cache=small.cache, out=tmp_path / "audit", **changes)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=message):
        audit(DataOptions(data=small.data), CacheKeyOptions(), options)
    assert not (tmp_path / "audit").exists()


def test_format_b_judges_several_values_and_no_value(small: SmallCatalogue, tmp_path: Path) -> None:
    """Absent attributes that apply are known to have no value; unknown ones are never an issue."""
    rows = read(small.data)
    out = ["id,filename,category,attributes"]
    for i, row in enumerate(rows):
        if row["neck"] == "#N/A":
            attributes: dict[str, list[str]] = {"neck": ["#N/A"]}
        else:
            attributes = {"neck": [row["neck"]]} if row["neck"] != "0" else {}
        attributes["look"] = ["plain"] + (["long"] if row["sleeve_length"] == "long" else [])
        out.append(f'{i},{row["filename"]},tee,"{attributes}"')
    flipped, unknown = rows[2]["filename"], {row["filename"] for row in rows if row["neck"] == "#N/A"}
    out[3] = f"2,{flipped},tee,\"{{'neck': ['2'], 'look': ['long']}}\""
    (tmp_path / "b.csv").write_text("\n".join(out) + "\n", encoding="utf-8")
    data = DataOptions(data=tmp_path / "b.csv", images=small.data.parent / "images", multi=("look",))
    report = audit(data, CacheKeyOptions(), replace(QUICK, cache=small.cache, out=tmp_path / "audit"))
    assert rows[2]["neck"] == "1" and rows[2]["sleeve_length"] == "short"
    named = {(i.photo, i.attribute, i.given, i.suggested, i.kind) for i in report.issues}
    assert {(flipped, "neck", "2", "1", "wrong"), (flipped, "look", "long", "", "extra")} <= named
    assert not {i.photo for i in report.issues if i.attribute == "neck"} & unknown
    assert report.counts["neck"][0] == len(rows) - len(unknown)
    asks = {(row["photo"], row["attribute"]): row["why"] for row in read(tmp_path / "audit" / "labels.csv")}
    assert asks[flipped, "look"].startswith("is long, ") and "seems to have no long" in asks[flipped, "look"]


def test_the_page_shows_pictures_and_escapes_everything(tmp_path: Path) -> None:
    from PIL import Image

    name = f"{HOSTILE}.jpg"
    Image.new("RGB", (300, 400), "red").save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"no photo")
    pictures, problems = make_thumbnails([name, "b"], [tmp_path / "a.jpg", tmp_path / "b.jpg"])
    assert (list(pictures), list(problems)) == ([name], ["b"])
    report = AuditReport(
        out=tmp_path,
        photos=2,
        seconds=1.0,
        counts={HOSTILE: (10, 1)},
        issues=(LabelIssue(name, HOSTILE, HOSTILE, HOSTILE, 0.1, 0.1, 0.9, "wrong"),) * 3,
        conflicts=(Conflict(name, "b", 1.0, HOSTILE, HOSTILE, HOSTILE, False, "same-bytes"),),
        outliers=(Outlier("c", HOSTILE, HOSTILE, 1.0, 9.0),),
        rare=(HOSTILE,),
        findings=(),
        files={},
    )
    assert shown_photos(report, 2) == (name, "b", "c")
    source = render_gallery(report, pictures, 2)
    page = Page(source)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 and all((i["src"] or "").startswith("data:image/webp;base64,UklGR") for i in images)
    assert page.headings == ["Attributes", "Labels in doubt", "Look-alikes with different labels", "Outliers"]
    assert "<script" not in source and "http" not in source.replace("http-equiv", "")
    assert "2 of 3 shown" in source


def test_vectors_that_do_not_fit_are_read_as_they_are_needed(small: SmallCatalogue, tmp_path: Path) -> None:
    data = tmp_path / "planted.csv"
    planted = plant_errors(small.data, data, 0.05, 0)
    given = DataOptions(data=data, images=small.data.parent / "images")
    options = replace(QUICK, cache=small.cache, out=tmp_path / "audit", near=0.9)
    roomy = audit(given, CacheKeyOptions(), options)
    tight = audit(given, CacheKeyOptions(), replace(options, out=tmp_path / "tight", memory=1e-6))
    assert len({(issue.photo, issue.attribute) for issue in tight.issues[:15]} & planted) >= 12
    assert tight.conflicts == roomy.conflicts
    assert [outlier.photo for outlier in tight.outliers] == [outlier.photo for outlier in roomy.outliers]
