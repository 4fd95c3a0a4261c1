"""Parts of a catalogue: each photo in one of them, whatever else there is; four processes at once make the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureCache
from pipeline.cluster.part import rows_of_part
from pipeline.errors import OptionError
from pipeline.options import EngineOptions

ROOT = Path(__file__).resolve().parents[2]


def test_parts_are_even_and_together_the_whole():
    names = [f"{number}.jpg" for number in range(20_000)]
    parts = [rows_of_part(names, number, 16) for number in range(1, 17)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(20_000))
    assert all(abs(len(part) - 1250) < 5 * 1250**0.5 for part in parts)
    assert rows_of_part(names, 1, 1).tolist() == list(range(20_000))
    assert rows_of_part([], 1, 4).tolist() == []


def test_a_photo_stays_in_its_part_when_others_come():
    names = [f"{number}.jpg" for number in range(300)]
    before = {names[row] for row in rows_of_part(names, 2, 5)}
    more = ["new.jpg", *names[::-1], "ähnlich.jpg"]
    assert before == {more[row] for row in rows_of_part(more, 2, 5)} & set(names)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "a/4", "4", "1/4/2", "-1/4", "1/100001", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(OptionError, match="expected I/N with I from 1 to N, such as 3/16"):
        EngineOptions(part=text).share()


def test_options_of_ray_are_refused_without_it():
    with pytest.raises(OptionError, match="--workers-per-node is for --engine ray; found --engine local"):
        EngineOptions(workers_per_node=2).require_ray()
    with pytest.raises(OptionError, match="run this command on a machine of the cluster"):
        EngineOptions(engine="ray", address="ray://head:10001").require_ray()


def test_four_processes_with_a_part_each_fill_one_cache_at_once(photos, tmp_path):
    """The command itself; none waits, every content is computed once, the photo that is none is told by one of them."""
    paths = photos(41)
    (tmp_path / "data.csv").write_text("filename,colour\n" + "".join(f"{path.name},red\n" for path in paths))
    words = ["--data", "data.csv", "--images", "photos", "--backbone", "test_resnet", "--weights", "random:0"]
    words += ["--size", "32", "--runtime", "torch", "--device", "cpu", "--cache", "features"]
    command = [sys.executable, "-B", str(ROOT / "run.py"), "extract", *words, "--part"]
    children = [
        subprocess.Popen([*command, f"{number}/4"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for number in range(1, 5)
    ]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0] * 4, said
    assert sum(text.count("not an image in a known format") for text in said) == 1
    assert sum(int(text.partition("distinct contents: ")[2].partition(" ")[0]) for text in said) == 40
    cache = FeatureCache(tmp_path / "features")
    report = cache.verify(deep=True)
    assert (report.problems, report.rows, report.duplicate_rows) == ((), 40, 0)
