"""What commands say of their reports: numbers and nouns agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.cli.summaries.audit import vocabulary_lines
from pipeline.errors import counted
from pipeline.options import DataOptions, VocabularyOptions


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1000, "1000 entries")]
)
def test_a_noun_agrees_with_its_number(count: int, words: str) -> None:
    assert counted(count, "entry", "entries") == words
    assert counted(count, "photo") == f"{count} photo" + ("" if count == 1 else "s")


def test_one_attribute_of_one_value_is_said_in_the_singular(tmp_path: Path) -> None:
    from pipeline.audit.vocabulary import vocabulary

    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "c.csv").write_text("filename,neck\na.jpg,round\n")
    report = vocabulary(DataOptions(data=tmp_path / "c.csv"), VocabularyOptions(out=tmp_path / "m.csv"))
    lines = [line for line in vocabulary_lines(report) if "vocabulary:" in line or "neck:" in line]
    assert lines[0].startswith("vocabulary: 1 attribute, 1 value, 0 spellings like another -> ")
    assert lines[1].startswith("  neck: 1 value")


def test_one_sample_photo_is_said_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tmp_path / "s"), "--images", "1"]) == 0
    said = capsys.readouterr().out
    assert "sample: 1 photo of 1 product, " in said
    assert "1 photos" not in said
