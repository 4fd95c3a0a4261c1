"""`fit-heads --mlflow FOLDER`: one run per configuration in a local store, and a clear word where MLflow is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import OptionError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.options import CacheKeyOptions, DataOptions, FitOptions, SplitOptions
from tests.small_cache import SmallCatalogue, write_catalogue


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"))


def fit(small: SmallCatalogue, out: Path, store: Path) -> tuple[str, ...]:
    asked = FitOptions(
        cache=small.cache, heads=("linear", "logreg"), optimizers=("adam",), epochs=3, lr=(0.05, 0.01), logreg_c=(1.0,),
        out=out, mlflow=store,
    )  # fmt: skip
    return fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), asked).notes


def test_every_configuration_is_a_run_with_what_was_asked_and_what_came_out(
    small: SmallCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the optional package mlflow-skinny is not installed")
    from mlflow.tracking import MlflowClient

    for variable in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(variable, raising=False)
    store = tmp_path / "store"
    notes = fit(small, tmp_path / "first", store)
    assert notes[-1] == f"3 configurations logged to MLflow in {store}"
    fit(small, tmp_path / "second", store)
    client = MlflowClient(tracking_uri=store.as_uri())
    experiment = client.get_experiment_by_name("selvedge")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 6
    by_id = {r.data.tags["config_id"]: r for r in runs if r.data.tags["run_folder"] == str(tmp_path / "first")}
    configs = pd.read_csv(tmp_path / "first" / "configs.csv").set_index("config_id")
    history = pd.read_csv(tmp_path / "first" / "history.csv")
    assert set(by_id) == set(configs.index)
    for config_id, row in configs.iterrows():
        logged = by_id[config_id]
        assert logged.info.status == "FINISHED" and logged.info.run_name == config_id
        assert logged.data.params["head"] == row["head"]
        assert float(logged.data.params["lr"]) == row["lr"]
        assert logged.data.metrics["validation_score"] == pytest.approx(row["validation_score"])
        assert "validation_score" not in logged.data.params and "lr" not in logged.data.metrics
        losses = history[(history["config_id"] == config_id) & (history["split"] == "validation")]
        steps = client.get_metric_history(logged.info.run_id, "validation_loss_per_epoch")
        assert [(m.step, m.value) for m in steps] == list(zip(losses["epoch"], losses["loss"], strict=True))


def test_without_the_package_nothing_is_fitted_and_the_error_says_what_to_install(
    small: SmallCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(OptionError, match="--mlflow needs a package .* pip install mlflow-skinny"):
        fit(small, tmp_path / "run", tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
