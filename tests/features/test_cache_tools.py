"""`cache export --model`: a file that holds what a model takes; the program in docs/MODEL_FILE.md predicts from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from cache import Block, Column, FeatureCache
from pipeline.cli.main import main
from pipeline.errors import OptionError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.features.cache_tools import export
from pipeline.model.file import read_model
from pipeline.options import CacheKeyOptions, DataOptions, ExportOptions, FitOptions, SplitOptions
from tests.model.snippet import SNIPPET
from tests.small_cache import DIM, SmallCatalogue, write_catalogue


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"))


def fit(small: SmallCatalogue, out: Path, views: tuple[str, ...]) -> Path:
    options = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=5, views=views, out=out)
    return fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), options).run


def exported(small: SmallCatalogue, run: Path, out: Path) -> Path:
    model = run / "models" / "best.joblib"
    options = ExportOptions(out=out, cache=small.cache, model=model)
    export(DataOptions(data=small.data), CacheKeyOptions(), options, read_model(model))
    return out


@pytest.mark.parametrize("views", [("identity",), ("identity", "hflip"), ("hflip",)])
def test_the_snippet_on_exported_features_predicts_what_the_run_predicted(
    small: SmallCatalogue, tmp_path: Path, views: tuple[str, ...]
) -> None:
    run = fit(small, tmp_path / "run", views)
    with h5py.File(exported(small, run, tmp_path / "features.h5")) as file:
        X, names = file["features"][()], file["filename"].asstr()[()]
        assert list(file.attrs["columns"]) == [f"pooled/{view}" for view in views]
    assert X.shape == (120, DIM * len(views))
    np.save(tmp_path / "features.npy", X)
    (tmp_path / "best.joblib").write_bytes((run / "models" / "best.joblib").read_bytes())
    code = f"{SNIPPET}\nnp.save('P.npy', P)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(next((run / "predictions").glob("*.parquet"))).set_index("photo")
    P = pd.DataFrame(np.load(tmp_path / "P.npy"), names).loc[frame.index]
    np.testing.assert_allclose(P.to_numpy(), frame.filter(like="p:").to_numpy(), atol=1e-6)


def test_npz_holds_the_same_and_without_a_model_one_view_is_written_as_ever(
    small: SmallCatalogue, tmp_path: Path
) -> None:
    run = fit(small, tmp_path / "run", ("identity", "hflip"))
    both = np.load(exported(small, run, tmp_path / "both.npz"))["features"]
    export(DataOptions(data=small.data), CacheKeyOptions(), ExportOptions(out=tmp_path / "one.npz", cache=small.cache))
    one = np.load(tmp_path / "one.npz")["features"]
    assert one.shape == (120, DIM)
    assert (both[:, :DIM] == one).all() and np.allclose(both[:, DIM:], one + 0.1)


def test_contents_that_lack_a_block_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = write_catalogue(tmp_path)
    cache = FeatureCache(small.cache)
    ids = cache.reader(small.attribute.digest).ids(small.columns[0])
    levels = Column(Block("levels", 2), "identity")
    with cache.writer(small.attribute) as writer:
        writer.append(ids[:50], {levels: np.zeros((50, 2), np.float32)})
    words = ["cache", "export", "--cache", str(small.cache), "--out", str(tmp_path / "x.npz")]
    assert main([*words, "--use", "pooled,levels"]) == 0
    said = capsys.readouterr().out
    assert "50 rows of 14 numbers" in said and "70 cached contents lack a block or view that is written" in said
    assert main([*words, "--use", "pooled"]) == 0
    assert "left out" not in capsys.readouterr().out


def test_vectors_the_model_was_not_fitted_on_are_refused(small: SmallCatalogue, tmp_path: Path) -> None:
    path = fit(small, tmp_path / "run", ("identity",)) / "models" / "best.joblib"
    model = read_model(path)
    model["blocks"][0]["digest"] = "0" * 64
    options = ExportOptions(out=tmp_path / "x.h5", cache=small.cache, model=path)
    with pytest.raises(OptionError, match=r"lacks vectors that the model was fitted on .*extract --backbone resnet18"):
        export(DataOptions(data=small.data), CacheKeyOptions(), options, model)
    with pytest.raises(OptionError, match="leave out --use"):
        asked = ExportOptions(out=tmp_path / "x.h5", cache=small.cache, model=path, use=("pooled",))
        export(DataOptions(data=small.data), CacheKeyOptions(), asked, read_model(path))
    assert not (tmp_path / "x.h5").exists()
