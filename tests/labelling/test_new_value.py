"""A value that comes next month, by a file of labels alone: no extraction, the old split, old and new compared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.comparison.compare import compare, table
from pipeline.errors import OptionError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.labelling.next_photos import next_photos
from pipeline.options import (
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    EvaluateOptions,
    FitOptions,
    NextOptions,
    SplitOptions,
)
from pipeline.trial.evaluate import evaluate
from tests.small_cache import SmallCatalogue, read_rows, write_catalogue, write_rows

NEW = 60


def fit(small: SmallCatalogue, data: DataOptions, out: Path, split: SplitOptions) -> Path:
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=10, lr=(0.05,), out=out)
    return fit_heads(data, CacheKeyOptions(), split, options).run


def parts_of(run: Path) -> dict[str, str]:
    return dict(pd.read_csv(run / "split.csv").set_index("photo")["part"])


def stored(cache: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in cache.rglob("*.h5")}


def test_a_new_value_needs_no_extraction_and_the_old_model_misses_it(tmp_path: Path) -> None:
    """The new photos lie in the folder and have vectors; no table names them, only the labels do."""
    small = write_catalogue(tmp_path, photos=200 + NEW)
    rows = read_rows(small.data)
    old, new = rows[:200], [(name, "polo", sleeve) for name, _, sleeve in rows[200:]]
    data, images = tmp_path / "old.csv", small.data.parent / "images"
    write_rows(data, old)
    labels = tmp_path / "labels.csv"
    lines = [f"{name},neck,{neck}\n{name},sleeve_length,{sleeve}\n" for name, neck, sleeve in new]
    labels.write_text("photo,attribute,value\n" + "".join(lines), encoding="utf-8")
    before = DataOptions(data=data, images=images)
    grown = DataOptions(data=data, images=images, labels=(labels,))
    vectors = stored(small.cache)

    first = fit(small, before, tmp_path / "month1", SplitOptions())
    second = fit(small, grown, tmp_path / "month2", SplitOptions(split_from=first))
    assert stored(small.cache) == vectors
    parts = parts_of(second)
    assert {name: parts[name] for name, *_ in old} == parts_of(first) and len(parts) == 200 + NEW

    comparison = compare([first, second], CompareOptions(bootstrap=50))
    shared, fresh = comparison.photo_sets
    assert fresh.photos == [parts[name] for name, *_ in new].count("test") > 0
    assert shared.photos == [parts[name] for name, *_ in old].count("test")
    assert "neck: only month2 can decide polo" in table(comparison)

    model = first / "models" / "best.joblib"
    asked = EvaluateOptions(model=(model,), cache=small.cache, out=tmp_path / "e")
    judged = compare(evaluate(grown, asked).folders, CompareOptions(bootstrap=50)).candidates[0].metrics
    of_old = compare([first], CompareOptions(bootstrap=50)).candidates[0].metrics
    assert (judged.attributes[0].accuracy or 0) < (of_old.attributes[0].accuracy or 0) - 0.2, "polo is a miss"

    options = NextOptions(model=model, cache=small.cache, pool=(images,), count=10, out=tmp_path / "n.csv")
    asks = next_photos(before, CacheKeyOptions(), options).asks
    assert {each.value for ask in asks for each in ask.candidates if ask.attribute == "neck"} <= {"0", "1", "2"}
    assert {ask.photo for ask in asks} & {name for name, *_ in new}

    (images / "late.jpg").write_bytes(b"no vectors of this yet")
    labels.write_text("photo,attribute,value\nlate.jpg,neck,polo\n", encoding="utf-8")
    with pytest.raises(OptionError, match=r"first: late.jpg.*run.py extract.*the same --labels"):
        fit(small, grown, tmp_path / "month3", SplitOptions())
