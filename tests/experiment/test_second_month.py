"""New photos with a new value, and labels corrected: fit again, nobody moves, and both months are compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.comparison.compare import compare, table
from pipeline.errors import CatalogueError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.options import CacheKeyOptions, CompareOptions, DataOptions, FitOptions, SplitOptions
from tests.small_cache import SmallCatalogue, write_catalogue

NEW = 40
"""Photos that come in the second month."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("months"), photos=240 + NEW)


def month(small: SmallCatalogue, folder: Path, which: int, **split: object) -> Path:
    """The run of the first month, without the last photos, or of the second, where they have the neck "polo"."""
    with small.data.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    old, coming = [*rows[:238], *rows[240:242]], [rows[238], rows[239], *rows[242:]]
    coming = [[name, "polo", *rest] for name, _, *rest in coming]
    if which == 2:
        corrected = {name for name, neck, *_ in old[:100] if neck == "1"}
        old = [[name, "2" if name in corrected else neck, *rest] for name, neck, *rest in old]
    data = folder / f"month{which}.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(coming if which == 2 else []), *old])
    options = FitOptions(
        cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=10, lr=(0.05,), out=folder / f"run{which}"
    )
    where = DataOptions(data=data, images=small.data.parent / "images")
    return fit_heads(where, CacheKeyOptions(), SplitOptions(**split), options).run  # type: ignore[arg-type]


def parts_of(run: Path) -> dict[str, str]:
    return dict(pd.read_csv(run / "split.csv").set_index("photo")["part"])


def test_next_months_model_is_compared_on_the_old_test_photos_and_on_the_new_ones(
    small: SmallCatalogue, tmp_path: Path
) -> None:
    first, second = (month(small, tmp_path, which) for which in (1, 2))
    before, after = parts_of(first), parts_of(second)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + NEW
    comparison = compare([first, second], CompareOptions(bootstrap=50))
    old = [name for name, part in before.items() if part == "test"]
    fresh = [name for name, part in after.items() if part == "test" and name not in before]
    assert comparison.parts["test"] == len(old) > 20 and fresh
    everybody, apart = comparison.photo_sets
    assert (everybody.photos, apart.photos) == (len(old), len(fresh))
    assert {runs.runs for runs in (everybody, apart)} >= {("run2",)}
    told = table(comparison)
    assert "neck: only run2 can decide polo" in told
    assert "another label for neck in one run than in another" in told
    judged = {c.run: c.metrics.attributes[0] for c in comparison.candidates}
    assert judged["run1"].photos == judged["run2"].photos < len(old), "corrected labels count for nobody"


def test_a_given_split_is_kept_and_what_it_does_not_name_is_placed(small: SmallCatalogue, tmp_path: Path) -> None:
    """Whatever the split was, here by labels under another seed: the second month takes it and deals the new photos."""
    first = month(small, tmp_path, 1, split_by="labels", split_seed=4)
    second = month(small, tmp_path, 2, split_from=first)
    before, after = parts_of(first), parts_of(second)
    assert {name: after[name] for name in before} == before
    polo = [after[name] for name in after if name not in before]
    assert min(polo.count(part) for part in ("train", "validation", "test")) >= 4
    dropped = pd.read_csv(second / "dropped.csv")
    (said,) = dropped[dropped["kind"] == "split-taken"]["detail"]
    assert said.startswith(f"{len(before)} photo(s) keep the part that {first / 'split.csv'} gives them; of {NEW} new")
    assert json.loads((second / "run.json").read_text())["findings"]["split-taken"] == 1


def test_the_split_of_another_catalogue_is_refused(small: SmallCatalogue, tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("photo,content,group,part\nother.jpg,,0,train\n")
    with pytest.raises(CatalogueError, match="names none of the 240 photos.*its own are such as 'other.jpg'"):
        month(small, tmp_path, 1, split_from=tmp_path / "split.csv")
