"""Vocabularies: near-identical spellings, rare values, and a file of suggestions that merges nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from rapidfuzz import fuzz

from pipeline.audit import spelling
from pipeline.audit.spelling import TooManyValues, alike_pairs, suggest_spellings
from pipeline.audit.vocabulary import vocabulary
from pipeline.catalogue import read_catalogue
from pipeline.cli.summaries.audit import vocabulary_lines
from pipeline.errors import CatalogueError
from pipeline.options import DataOptions, VocabularyOptions


def targets(**counts: int) -> dict[str, str]:
    return {value: found.target for value, found in suggest_spellings(counts).items()}


def test_spellings_point_at_the_frequent_one_and_never_along_a_chain() -> None:
    found = targets(elasticated=40, elasticted=3, elastcted=2, elastic=20, lastic=1)
    assert found == {"elasticted": "elasticated", "lastic": "elastic"} | (
        {"elastcted": "elasticated"} if "elastcted" in found else {}
    )
    assert not set(found) & set(found.values())


@pytest.mark.parametrize("similar", [60.0, 88.0, 100.0])
def test_every_pair_that_is_alike_is_found_whatever_its_length(similar: float) -> None:
    rng = np.random.default_rng(3)
    letters = ["".join(rng.choice(list("ab -"), int(rng.integers(1, 12)))) for _ in range(300)]
    values = list(dict.fromkeys([*letters, *(f"{text}{i % 3}" for i, text in enumerate(letters)), "! !", "!  !"]))
    first, second, similarity = alike_pairs(values, similar)
    found = {(int(i), int(j)): float(score) for i, j, score in zip(first, second, similarity, strict=True)}
    assert list(found) == sorted(found)
    forms = [(spelling.folded(v), " ".join(sorted(spelling.folded(v).split()))) for v in values]
    for i, (a, b) in enumerate(forms):
        for j, (c, d) in enumerate(forms):
            score = max(fuzz.ratio(a, c), fuzz.ratio(b, d))
            numbers = [sorted(spelling._DIGITS.findall(text)) for text in (a, c)]
            if i == j or score < similar or numbers[0] != numbers[1]:
                assert (i, j) not in found
            elif sorted(a.split()) == sorted(c.split()):
                assert found[i, j] == pytest.approx(score, abs=1e-4), (values[i], values[j])


def test_codes_are_told_apart_by_their_numbers_without_comparing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "MOST_PAIRS", 20_000)
    assert suggest_spellings({f"SKU-{i:07d}": 1 for i in range(20_000)}) == {}


def test_more_values_than_can_be_compared_are_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "MOST_PAIRS", 1_000)
    words = ["".join(chr(97 + int(d)) for d in f"{i:06d}") for i in range(500)]
    with pytest.raises(TooManyValues):
        suggest_spellings(dict.fromkeys(words, 1))
    (tmp_path / "values.json").write_text(json.dumps({"title": words}))
    options = VocabularyOptions(out=tmp_path / "m.csv", values=tmp_path / "values.json")
    with pytest.raises(CatalogueError, match=r"attribute 'title' has 500 values, more than can be compared"):
        vocabulary(DataOptions(), options)
    assert not options.out.exists()


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("V-Neck", "v neck", True),
        ("zip, button", "button,zip", True),
        ("trackpant", "track pants", True),
        ("ｒound", "round", True),
        ("2 button", "3 button", False),
        ("women high waist blue yoga tights", "women high waist red yoga tights", False),
        ("red", "bed", False),
        ("men", "women", False),
        ("??", "!!", False),
    ],
)
def test_what_counts_as_near_identical(a: str, b: str, alike: bool) -> None:
    assert bool(suggest_spellings({a: 2, b: 1})) is alike


def test_allowed_values_are_never_replaced() -> None:
    found = suggest_spellings({"buttons": 90, "button": 0}, allowed=("button",))
    assert {value: each.target for value, each in found.items()} == {"buttons": "button"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = ["round"] * 6 + ["Round", "rounded up", "v", "v", "#N/A"]
    (tmp_path / "images").mkdir()
    for i in range(len(rows)):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(b"x")
    lines = [f"{i}.jpg,{value}" for i, value in enumerate(rows)]
    (tmp_path / "a.csv").write_text("\n".join(["filename,neck", *lines]), encoding="utf-8")
    return tmp_path / "a.csv"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_file_holds_every_value_with_suggestions_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "mapping.csv"
    report = vocabulary(DataOptions(data=data), VocabularyOptions(out=out, min_support=3))
    assert [list(row.values()) for row in read(out)] == [
        ["neck", "round", "6", "", "", ""],
        ["neck", "Round", "1", "round", "100 % alike, rare", ""],
        ["neck", "v", "2", "", "rare", ""],
        ["neck", "rounded up", "1", "", "rare", ""],
    ]
    before = read_catalogue(DataOptions(data=data))
    after = read_catalogue(DataOptions(data=data, mapping=out))
    assert list(before.cells["neck"]) == list(after.cells["neck"])
    assert before.findings == after.findings
    text = "\n".join(vocabulary_lines(report))
    assert "neck: 4 values, 1 like another, 3 rare" in text
    assert "'Round' is like 'round' (1 and 6 photos)" in text


def test_replacements_of_an_earlier_file_are_taken_over(data: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.csv"
    first.write_text("attribute,value,replacement\nneck,Round,round\nneck,gone,v\n", encoding="utf-8")
    report = vocabulary(DataOptions(data=data, mapping=first), VocabularyOptions(out=tmp_path / "second.yaml"))
    assert report.carried == 2
    catalogue = read_catalogue(DataOptions(data=data, mapping=tmp_path / "second.yaml"))
    assert ("Round",) not in set(catalogue.cells["neck"])
    with pytest.raises(CatalogueError, match="exists and may have been edited"):
        vocabulary(DataOptions(data=data), VocabularyOptions(out=first))


def test_allowed_values_alone_and_beside_the_data(data: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed.json"
    allowed.write_text(json.dumps({"neck": ["Round", "v"], "fit": ["slim", "slimm", "none"]}), encoding="utf-8")
    alone = vocabulary(DataOptions(), VocabularyOptions(out=tmp_path / "alone.csv", values=allowed))
    assert {each.attribute: dict(each.counts) for each in alone.attributes}["fit"] == {"slim": 0, "slimm": 0, "none": 0}
    assert [each.attribute for each in alone.attributes if each.suggestions] == ["fit"]
    vocabulary(DataOptions(data=data), VocabularyOptions(out=tmp_path / "both.csv", values=allowed, min_support=1))
    notes = {row["value"]: (row["suggestion"], row["note"]) for row in read(tmp_path / "both.csv")}
    assert notes == {
        "Round": ("", ""),
        "v": ("", ""),
        "round": ("Round", "100 % alike, not allowed"),
        "rounded up": ("", "not allowed"),
    }


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": "b"}', "{"])
def test_allowed_values_of_another_shape_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "allowed.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError, match="--values"):
        vocabulary(DataOptions(), VocabularyOptions(out=tmp_path / "m.csv", values=path))


def test_thousands_of_values_over_many_keys(tmp_path: Path) -> None:
    words = [f"{a}{b} {c}" for a in "bcdfgklm" for b in ("olar", "utton", "rill") for c in ("closure", "knot")]
    content = {
        f"attribute{i}": [f"{w} {'xyzw'[i % 4]}{'abcdefghij'[j]}" for w in words for j in range(10)] for i in range(6)
    }
    path = tmp_path / "allowed.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    report = vocabulary(DataOptions(), VocabularyOptions(out=tmp_path / "m.csv", values=path))
    assert sum(len(each.counts) for each in report.attributes) == len(read(tmp_path / "m.csv")) == 2880
