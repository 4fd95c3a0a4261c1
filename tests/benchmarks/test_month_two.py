"""A small run of the benchmark of the second month: nobody moves, and both sets of test photos are answered for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HOME / "benchmarks"))

import month_two  # noqa: E402


def test_the_second_month_moves_nobody_and_is_compared_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = "--heads linear --optimizers adam --epochs 2 --thumbnails 0 --near-duplicates 0"
    network = ["--backbone", "test_resnet", "--weights", "random:0", "--size", "32", "--fit", fit]
    month_two.main(["--photos", "120", "--new", "30", "--relabelled", "20", "--work", str(tmp_path), *network])
    told = capsys.readouterr().out
    assert re.search(r"by hash, month 1 to 2: 0 of \d+ photos moved; the new ones: ", told)
    assert re.search(r"by hash, month 2 to 3: 0 of \d+ photos moved$", told, re.MULTILINE)
    assert re.search(r"by labels, month 1 to 2: [1-9]\d* of \d+ photos moved", told)
    given = told.split("--split-from month1:")[1]
    assert re.search(r"keep the part that runs/month1/split.csv gives them; of \d+ new one", given)
    assert re.search(r"^0 of \d+ photos moved; the new ones: ", given, re.MULTILINE)
    answer = given.split("$ python run.py compare")[1]
    assert "not shared: the runs were not fit on the same photos" in answer
    assert re.search(r"On the \d+ test photos? of all runs", answer)
    assert re.search(r"month3/\S+ (is|shows) .* month1/\S+ \(attribute acc [+-]", answer)
