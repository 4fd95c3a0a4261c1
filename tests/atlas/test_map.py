"""`map` end to end: places, predictions of a run and of a model, the page within its size, the Parquet file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cache import FeatureCache
from pipeline.atlas.facets import facets
from pipeline.atlas.map import draw_map
from pipeline.atlas.report import MapReport, write_parquet
from pipeline.atlas.sheets import Sheets
from pipeline.catalogue import coded
from pipeline.cli.main import main
from pipeline.errors import OptionError, RunError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, MapOptions, SplitOptions
from tests.comparison.runfolder import write_run
from tests.small_cache import SmallCatalogue, write_catalogue


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"), photos=90, pictures=True)


@pytest.fixture(scope="module")
def run(small: SmallCatalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=5, lr=(0.05,), out=out)
    fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), options)
    return out


def drawn(small: SmallCatalogue, folder: Path, **changes: object) -> MapReport:
    options = replace(MapOptions(cache=small.cache, layout="pca", out=folder / "map.html"), **changes)
    return draw_map(DataOptions(data=small.data), CacheKeyOptions(), options)


def test_vectors_without_room_are_refused_with_the_option(small: SmallCatalogue, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"90 photos x \d+ numbers need .*Raise --memory"):
        drawn(small, tmp_path, memory=1e-9)


def test_a_run_gives_parts_and_predictions_of_photos_it_was_not_fit_on(
    small: SmallCatalogue, run: Path, tmp_path: Path
) -> None:
    report = drawn(small, tmp_path, run=run)
    assert report.pictured == 90 and report.parts is not None
    table = pq.read_table(tmp_path / "map.parquet").to_pydict()
    assert set(table["part"]) == {"train", "validation", "test"}
    predicted = [text is not None for text in table["neck predicted"]]
    assert predicted == [part != "train" for part in table["part"]]
    assert {True} == {(d is not None) == p for d, p in zip(table["neck doubt"], predicted, strict=True)}
    judged = {
        (true, said): verdict
        for true, said, verdict in zip(table["neck"], table["neck predicted"], table["neck verdict"], strict=True)
        if said is not None
    }
    assert all(v == (None if t == "#N/A" else "right" if t == s else "wrong") for (t, s), v in judged.items())
    assert np.abs(table["projection_x"]).max() <= 1


def test_a_model_predicts_every_photo_from_the_cache(small: SmallCatalogue, run: Path, tmp_path: Path) -> None:
    report = drawn(small, tmp_path, model=run / "models" / "best.joblib")
    assert report.parts is None and "fit on among them" in report.predicted
    assert None not in pq.read_table(tmp_path / "map.parquet")["sleeve_length predicted"].to_pylist()


def test_a_model_shows_its_predictions_without_a_catalogue_too(
    small: SmallCatalogue, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fresh file is not kept in the index, as it might change again within the clock's granularity.
    monkeypatch.setattr("cache.files.RACY_NS", 0)
    FeatureCache(small.cache).files.ids(sorted((small.data.parent / "images").iterdir()))
    options = MapOptions(cache=small.cache, layout="pca", out=tmp_path / "m.html", pictures=0)
    options = replace(options, model=run / "models" / "best.joblib")
    report = draw_map(DataOptions(), CacheKeyOptions(), options)
    assert [facet.attribute for facet in report.facets] == ["neck", "sleeve_length"]
    assert report.facets[0].predicted is not None and set(report.facets[0].true) == {"#N/A"}


def test_no_column_of_the_table_takes_the_place_of_another_and_odd_names_are_written(tmp_path: Path) -> None:
    cells = {name: coded([(f"a {name}",), None]) for name in ("photo", "part", "neck")}
    known = tuple(facets(cells, {}, None))
    parts, sheets = coded(["train", ""]), Sheets((), (), {})
    places = np.zeros((2, 2), np.float32)
    report = MapReport(("a.jpg", "b\udcff.jpg"), places, known, parts, sheets, "", "pca", "", (), 0.0)
    table = pq.read_table(write_parquet(report, tmp_path / "map.parquet")).to_pydict()
    assert table["photo"] == ["a.jpg", "b\\udcff.jpg"] and table["part"] == ["train", None]
    assert [table[name][0] for name in ("photo_", "part_", "neck")] == ["a photo", "a part", "a neck"]


def test_pictures_fill_what_the_page_may_have_and_no_more(small: SmallCatalogue, tmp_path: Path) -> None:
    page = tmp_path / "map.html"
    assert drawn(small, tmp_path, pictures=0).pictured == 0
    bare = page.stat().st_size
    assert drawn(small, tmp_path, pictures=30).pictured == 30
    assert bare < page.stat().st_size < 12e6
    most = bare + 1_000
    assert drawn(small, tmp_path, page_mb=most / 1e6).pictured == 0, "a sheet of 90 pictures is larger than that"
    assert page.stat().st_size <= most


def test_what_cannot_be_is_said_in_one_line(
    small: SmallCatalogue, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OptionError, match="name ending in .html"):
        drawn(small, tmp_path, out=tmp_path / "map.csv")
    with pytest.raises(OptionError, match="leave out one"):
        drawn(small, tmp_path, run=run, model=run / "models" / "best.joblib")
    with pytest.raises(RunError, match="is of other photos"):
        drawn(small, tmp_path, run=write_run(tmp_path / "other"))
    with pytest.raises(OptionError, match="--page-mb 0.01 before any picture"):
        drawn(small, tmp_path, page_mb=0.01)
    assert main(["map", "--data", str(small.data), "--cache", str(tmp_path / "none"), "--layout", "pca"]) == 1
    assert "run `python run.py extract`" in capsys.readouterr().err


def test_the_command_says_what_it_made(
    small: SmallCatalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.html"
    words = ["map", "--data", str(small.data), "--cache", str(small.cache), "--layout", "pca", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "map: 90 photos, pca in" in said and "90 with a picture" in said
    assert f"embedding-atlas {out.with_suffix('.parquet')} --x projection_x --y projection_y" in said
