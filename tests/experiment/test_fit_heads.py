"""`fit-heads` on a small cached catalogue: the run folder, who sees what, and errors before any work."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cache import FeatureCache, Reader
from pipeline.comparison.compare import compare
from pipeline.errors import HeadError, OptionError, RunError
from pipeline.experiment import rows as experiment
from pipeline.experiment.fit_heads import fit_heads
from pipeline.experiment.rows import Experiment, load_experiment
from pipeline.experiment.thumbnails import read_thumbnails
from pipeline.heads import HeadConfig, bytes_copied
from pipeline.model.file import decisions, proba, read_model
from pipeline.model.predictor import Predictor
from pipeline.options import (
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    FitOptions,
    PredictOptions,
    SplitOptions,
)
from tests import small_cache
from tests.small_cache import SmallCatalogue, base_key, read_rows, write_catalogue, write_rows


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallCatalogue:
    return write_catalogue(tmp_path_factory.mktemp("small"))


def options(small: SmallCatalogue, out: Path, **changes: object) -> FitOptions:
    quick = FitOptions(cache=small.cache, heads=("linear",), optimizers=("adam",), epochs=15, lr=(0.05,), out=out)
    return replace(quick, **changes)  # type: ignore[arg-type]


def fit(small: SmallCatalogue, fit_options: FitOptions, split: SplitOptions = SplitOptions()) -> Path:  # noqa: B008
    return fit_heads(DataOptions(data=small.data), CacheKeyOptions(), split, fit_options).run


@pytest.fixture(scope="module")
def run(small: SmallCatalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "all-heads"
    every = options(small, out, heads=("linear", "mlp", "logreg"), optimizers=("adam", "sgd"), hidden=(16,))
    return fit(small, every)


def test_run_folder_holds_every_file_that_other_code_relies_on(run: Path) -> None:
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    fixed = {
        "split.csv.sha256",
        "run.json",
        "split.csv",
        "labels.parquet",
        "configs.csv",
        "history.csv",
        "decisions.json",
        "dropped.csv",
    }
    fixed |= {"neighbours.csv"}
    configs = pd.read_csv(run / "configs.csv")["config_id"].tolist()
    assert len(configs) == 4 + 5  # of logreg, one per C
    best = json.loads((run / "run.json").read_text())["best"]
    expected = fixed | {"models/best.joblib", "models/best.joblib.sha256"}
    expected |= {f"predictions/uncalibrated/{best}.parquet"}
    for config_id in configs:
        expected |= {f"predictions/{config_id}.parquet"}
        expected |= {f"models/{config_id}.joblib", f"models/{config_id}.joblib.sha256"}
    assert names == expected


def test_digest_beside_a_model_is_the_digest_of_its_bytes(run: Path) -> None:
    text = (run / "models" / "best.joblib.sha256").read_text()
    assert text == f"{hashlib.sha256((run / 'models' / 'best.joblib').read_bytes()).hexdigest()}  best.joblib\n"


def test_products_stay_in_one_part_and_shares_are_near_what_was_asked(run: Path) -> None:
    split = pd.read_csv(run / "split.csv")
    assert split.groupby("group")["part"].nunique().max() == 1
    product = split["photo"].str.extract(r"(shirt\d+)-")[0]
    assert split.groupby(product)["part"].nunique().max() == 1
    shares = split["part"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.64, abs=0.06)
    assert shares["test"] == pytest.approx(0.20, abs=0.06)


def test_unknown_cells_are_null_and_known_ones_one_hot(run: Path, small: SmallCatalogue) -> None:
    labels = pd.read_parquet(run / "labels.parquet").set_index("photo")
    truth = {name: neck for name, neck, _ in read_rows(small.data)}
    necks = labels[["neck=0", "neck=1", "neck=2"]]
    unknown = [name for name, neck in truth.items() if neck == "#N/A"]
    assert unknown and necks.loc[unknown].isna().all(axis=None)
    for name, neck in truth.items():
        if neck != "#N/A":
            assert necks.loc[name].tolist() == [int(neck == value) for value in "012"]


def test_predictions_are_those_of_the_model_file_on_cached_features(run: Path, small: SmallCatalogue) -> None:
    split = pd.read_csv(run / "split.csv").set_index("photo")
    for config_id in pd.read_csv(run / "configs.csv")["config_id"]:
        frame = pd.read_parquet(run / "predictions" / f"{config_id}.parquet")
        assert set(frame["part"]) == {"validation", "test"}
        ids = np.array([bytes.fromhex(split.loc[photo, "content"]) for photo in frame["photo"]], "S32")
        X = FeatureCache(small.cache).reader(small.attribute.digest).read(ids, [small.columns[0]])
        P = proba(read_model(run / "models" / f"{config_id}.joblib"), X)
        np.testing.assert_allclose(frame.filter(like="p:").to_numpy(), P, atol=1e-6)


def test_what_is_best_is_the_users_choice_and_recorded(small: SmallCatalogue, tmp_path: Path) -> None:
    run = fit(small, options(small, tmp_path / "a", lr=(0.5, 0.05, 1e-4), choose="all-right", epochs=4))
    configs = pd.read_csv(run / "configs.csv").set_index("config_id")
    assert (configs["validation_score"] == configs["validation_all_keys_right"]).all()
    assert (configs["validation_balanced"] != configs["validation_score"]).any()
    recorded = json.loads((run / "run.json").read_text())
    assert recorded["options"]["fit"]["choose"] == "all-right"
    assert configs.loc[recorded["best"], "validation_score"] == configs["validation_score"].max()
    comparison = compare([run], CompareOptions(bootstrap=20))
    assert (comparison.choose, comparison.best_candidate.config_id) == ("all-right", recorded["best"])
    assert compare([run], CompareOptions(bootstrap=20, choose="balanced")).choose == "balanced"


def test_compare_finds_what_the_vectors_say(run: Path) -> None:
    comparison = compare([run], CompareOptions(bootstrap=20))
    assert comparison.best_candidate.config_id == json.loads((run / "run.json").read_text())["best"]
    accuracy, majority = (c.metrics.overall.accuracy for c in (comparison.best_candidate, comparison.majority))
    assert accuracy is not None and accuracy > 0.8
    assert majority is not None and majority < 0.7


@pytest.mark.parametrize("na", ["mask", "class"])
def test_values_that_only_test_photos_have_are_counted_as_missed(
    run: Path, small: SmallCatalogue, tmp_path: Path, na: str
) -> None:
    part = pd.read_csv(run / "split.csv").set_index("photo")["part"]
    rows = read_rows(small.data)
    odd = {row[0] for row in rows if row[1] == "1" and part[row[0]] == "test"}
    assert len(odd) > 1
    other = small.data.with_name(f"polo-{na}.csv")
    write_rows(other, [(name, "polo" if name in odd else neck, sleeve) for name, neck, sleeve in rows])
    try:
        spoiled = fit(replace(small, data=other), options(small, tmp_path / na, na=na), SplitOptions(split_from=run))
    finally:
        other.unlink()
    labels = pd.read_parquet(spoiled / "labels.parquet").set_index("photo")["neck=polo"]
    assert set(labels.index[labels == 1]) == odd
    assert set(labels.index[labels.isna()]) == {row[0] for row in rows if row[1] == "#N/A"}
    comparison = compare([spoiled], CompareOptions(bootstrap=20))
    neck = comparison.best_candidate.metrics.attributes[0]
    assert (neck.values, neck.scored_values) == (4, 3)
    assert neck.accuracy is not None and neck.accuracy <= 1 - len(odd) / neck.photos
    lost = next(row for row in comparison.values if row.value == "polo")
    assert (lost.support, lost.f1, lost.learnable) == (len(odd), 0.0, False)


def files_that_differ(first: Path, second: Path) -> set[str]:
    """Files of two run folders that differ, but for the clock, the folder and what is said of the data file itself."""
    names = {path.relative_to(run).as_posix() for run in (first, second) for path in run.rglob("*") if path.is_file()}
    return {name for name in names if _content(first / name) != _content(second / name)}


def _content(path: Path) -> object:
    if not path.is_file() or path.suffix == ".sha256":
        return path.is_file()  # a digest is of a file that is compared itself
    if path.suffix == ".joblib":
        model = read_model(path)
        model["info"] = {**model["info"], "run": ""}
        return joblib.hash(model)
    if path.name == "run.json":
        named = {"name", "created", "timings", "options", "data_digest", "findings", "not_measurable", "unseen"}
        return {name: value for name, value in json.loads(path.read_text()).items() if name not in named}
    if path.name == "configs.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv()
    if path.name == "dropped.csv":
        of_data = ("never-in-train", "unknown-cells", "alike-in-test")
        return [row for row in path.read_text().splitlines() if not row.startswith(of_data)]
    return path.read_bytes()


def fit_twice(small: SmallCatalogue, run: Path, folder: Path) -> tuple[Path, Path]:
    """Fits on one split, the second with every test label replaced by the rarest value or a value nobody else has."""
    part = pd.read_csv(run / "split.csv").set_index("photo")["part"]
    rows = read_rows(small.data)
    wrong = [(row[0], "2" if i % 2 else "99", "long") for i, row in enumerate(rows)]
    spoiled = [other if part[row[0]] == "test" else row for row, other in zip(rows, wrong, strict=True)]
    other = small.data.with_name("spoiled.csv")
    write_rows(other, spoiled)
    every = {"heads": ("linear", "mlp"), "hidden": (8,), "optimizers": ("adam", "sgd"), "ensemble": 2, "keep": "all"}
    try:
        return (
            fit(small, options(small, folder / "a", **every), SplitOptions(split_from=run)),
            fit(replace(small, data=other), options(small, folder / "b", **every), SplitOptions(split_from=run)),
        )
    finally:
        other.unlink()


def test_labels_of_test_photos_change_no_file_but_the_truth(run: Path, small: SmallCatalogue, tmp_path: Path) -> None:
    assert files_that_differ(*fit_twice(small, run, tmp_path)) == {"labels.parquet"}


def test_a_leak_of_test_labels_into_fitting_would_be_seen(
    run: Path, small: SmallCatalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same check on a program that fits on test rows too, with their labels, as a careless change might."""
    honest = Experiment.targets_of, Experiment.source
    monkeypatch.setattr(experiment, "without_rows", lambda targets, rows: targets)
    monkeypatch.setattr(Experiment, "targets_of", lambda self, *parts: honest[0](self, *_leaky(parts)))
    monkeypatch.setattr(Experiment, "source", lambda self, *parts, **room: honest[1](self, *_leaky(parts), **room))
    changed = files_that_differ(*fit_twice(small, run, tmp_path))
    assert {"history.csv", "decisions.json", "configs.csv", "models/best.joblib"} <= changed


def test_fitting_never_holds_a_test_label_even_when_it_asks_for_one(small: SmallCatalogue, tmp_path: Path) -> None:
    whole = load_experiment(
        DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), options(small, tmp_path / "never")
    )
    held, truth, at = whole.targets_of("test"), whole.truth, whole.split.rows("test")
    assert truth.known[at].any() and truth.Y[at].any()
    assert not held.mask.any() and not held.Y.any() and not whole.targets.known[at].any()


def _leaky(parts: tuple[str, ...]) -> tuple[str, ...]:
    return (*parts, "test") if "train" in parts else parts


def test_a_feature_that_tells_the_label_on_test_rows_only_gains_nothing(tmp_path: Path) -> None:
    """A planted column is noise where fitting may look and the label on test rows: only a leak could use it."""
    small = write_catalogue(tmp_path / "noise", informative=False)
    first = fit(small, options(small, tmp_path / "first"))
    part = pd.read_csv(first / "split.csv").set_index("photo")["part"]
    planted = write_catalogue(tmp_path / "planted", informative=False, tell={n for n, p in part.items() if p == "test"})
    second = fit(planted, options(planted, tmp_path / "second"), SplitOptions(split_from=first))
    best = compare([second], CompareOptions(bootstrap=200))
    neck = best.best_candidate.metrics.attributes[0].accuracy
    assert neck is not None and neck < 0.65, "three values, drawn at random"
    told = write_catalogue(tmp_path / "told", informative=False, tell=set(part.index))
    third = fit(told, options(told, tmp_path / "third"), SplitOptions(split_from=first))
    assert (compare([third], CompareOptions(bootstrap=20)).best_candidate.metrics.attributes[0].accuracy or 0) > 0.9


def test_same_seed_same_numbers(small: SmallCatalogue, tmp_path: Path) -> None:
    runs = [fit(small, options(small, tmp_path / name, heads=("mlp",), hidden=(8,))) for name in "ab"]
    assert (runs[0] / "history.csv").read_bytes() == (runs[1] / "history.csv").read_bytes()
    assert (runs[0] / "decisions.json").read_bytes() == (runs[1] / "decisions.json").read_bytes()


@pytest.mark.parametrize("na", ["mask", "class", "negative"])
def test_unknown_labels_can_be_masked_a_class_or_negative(small: SmallCatalogue, tmp_path: Path, na: str) -> None:
    run = fit(small, options(small, tmp_path / na, na=na))
    schema = json.loads((run / "run.json").read_text())["schema"]
    expected = ["0", "1", "2", "#N/A"] if na == "class" else ["0", "1", "2"]
    assert schema["values"][0] == expected
    model = read_model(run / "models" / "best.joblib")
    D = decisions(model, proba(model, model["selftest"]["X"]))
    if na == "class":
        assert not D[:, 3].any()
    assert compare([run], CompareOptions(bootstrap=10)).best_candidate.attributes == ("neck", "sleeve_length")


def test_two_views_are_trained_on_and_averaged(small: SmallCatalogue, tmp_path: Path) -> None:
    run = fit(small, options(small, tmp_path / "views", views=("identity", "hflip")))
    model = read_model(run / "models" / "best.joblib")
    assert model["views"] == ["identity", "hflip"]
    frame = pd.read_parquet(next((run / "predictions").glob("*.parquet")))
    split = pd.read_csv(run / "split.csv").set_index("photo")
    ids = np.array([bytes.fromhex(split.loc[photo, "content"]) for photo in frame["photo"]], "S32")
    reader = FeatureCache(small.cache).reader(small.attribute.digest)
    P = np.mean([proba(model, reader.read(ids, [column])) for column in small.columns], axis=0)
    np.testing.assert_allclose(frame.filter(like="p:").to_numpy(), P, atol=1e-6)


def test_features_larger_than_the_memory_allowed_are_streamed_to_the_same_model(
    small: SmallCatalogue, tmp_path: Path
) -> None:
    quick = {"heads": ("linear",), "optimizers": ("lbfgs",), "lr": (1.0,), "weight_decay": (0.01,), "epochs": 60}
    held = fit(small, options(small, tmp_path / "held", **quick))
    streamed = fit(small, options(small, tmp_path / "streamed", memory=1e-6, **quick))
    name = next((held / "predictions").glob("*.parquet")).name
    first, second = (pd.read_parquet(run / "predictions" / name) for run in (held, streamed))
    assert first["photo"].tolist() == second["photo"].tolist()
    np.testing.assert_allclose(second.filter(like="p:"), first.filter(like="p:"), atol=1e-4)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_several_views_are_streamed_to_the_same_model(small: SmallCatalogue, tmp_path: Path, head: str) -> None:
    """Both train on batches in the same order with the same view drawn for each row, and predict averages."""
    quick = {"heads": (head,), "hidden": (8,), "views": ("identity", "hflip"), "epochs": 6, "batch_size": (16,)}
    held = fit(small, options(small, tmp_path / "held", **quick))
    streamed = fit(small, options(small, tmp_path / "streamed", memory=1e-6, **quick))
    name = next((held / "predictions").glob("*.parquet")).name
    first, second = (pd.read_parquet(run / "predictions" / name) for run in (held, streamed))
    assert first["photo"].tolist() == second["photo"].tolist()
    np.testing.assert_allclose(second.filter(like="p:"), first.filter(like="p:"), atol=1e-5)
    assert read_model(streamed / "models" / "best.joblib")["views"] == ["identity", "hflip"]


def test_memory_bounds_parts_views_and_copies_together(small: SmallCatalogue, tmp_path: Path) -> None:
    """Logistic regression cannot stream: it fits into just what all of it takes, and is refused a byte less."""
    quick = {"heads": ("logreg",), "views": ("identity", "hflip")}
    whole = load_experiment(
        DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), options(small, tmp_path, **quick)
    )
    train, validation = (4 * whole.features.dim * len(whole.split.rows(part)) for part in ("train", "validation"))
    bound = 3 * (train + validation) + bytes_copied([HeadConfig(head="logreg")], train)
    fit(small, options(small, tmp_path / "enough", memory=bound / 2**30, **quick))
    with pytest.raises(HeadError, match="head 'logreg' needs the features and copies of them in memory; leave"):
        fit(small, options(small, tmp_path / "tight", memory=(bound - 1) / 2**30, **quick))


def test_views_are_read_into_one_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two views of large vectors, made without the reader's own buffers: the peak is that of three, not of four."""
    monkeypatch.setattr(small_cache, "DIM", 2048)
    many = write_catalogue(tmp_path)
    both = options(many, tmp_path / "out", views=("identity", "hflip"))
    whole = load_experiment(DataOptions(data=many.data), CacheKeyOptions(), SplitOptions(), both)
    monkeypatch.setattr(Reader, "read", lambda self, ids, columns: np.ones((len(ids), 2048), np.float32))
    whole.source("train", limit=2**30)  # opens the reader and imports what it needs, which is not what is measured
    tracemalloc.start()
    X = whole.source("train", limit=2**30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(X, np.ndarray) and X.shape[0] == 2
    assert peak < whole.bytes_of("train") + 100_000


def test_losses_and_sizes_are_compared_by_one_fit(small: SmallCatalogue, tmp_path: Path) -> None:
    """The best of each value keeps its predictions, so that `--by` can name a judged candidate for each of them."""
    asked = {"loss": ("bce", "ce"), "batch_size": (16, 64), "lr": (0.05, 0.0001)}
    run = fit(small, options(small, tmp_path / "losses", **asked))
    configs = pd.read_csv(run / "configs.csv")
    assert len(configs) == configs["config_id"].nunique() == 8
    kept = {path.stem for path in (run / "predictions").glob("*.parquet")}
    for field, values in (("loss", ["bce", "ce"]), ("batch_size", ["16", "64"])):
        rows = compare([run], CompareOptions(by=field, bootstrap=10)).by_rows
        assert [row.value for row in rows] == values
        assert {row.config_id for row in rows} <= kept and None not in {row.candidate for row in rows}
        for row in rows:
            same = configs[configs[field].astype(str) == row.value]
            assert row.config_id == same.loc[same["validation_score"].idxmax(), "config_id"]


def test_every_strength_of_a_logistic_regression_is_kept_beside_heads_that_have_none(
    small: SmallCatalogue, tmp_path: Path
) -> None:
    run = fit(small, options(small, tmp_path / "c", heads=("linear", "multinomial"), logreg_c=(0.1, 1.0), epochs=2))
    kept = {path.stem for path in (run / "predictions").glob("*.parquet")}
    assert kept == set(pd.read_csv(run / "configs.csv")["config_id"])
    assert [c.name for c in sorted(compare([run], CompareOptions(bootstrap=10)).candidates, key=lambda c: c.name)] == [
        "linear",
        "multinomial · C 0.1",
        "multinomial · C 1",
    ]


def test_ensemble_is_one_more_configuration_and_one_model_file(small: SmallCatalogue, tmp_path: Path) -> None:
    run = fit(small, options(small, tmp_path / "ens", lr=(0.05, 0.02, 0.01), ensemble=2))
    configs = pd.read_csv(run / "configs.csv")
    assert configs["config_id"].iloc[-1] == "ensemble-2"
    assert len(read_model(run / "models" / "ensemble-2.joblib")["members"]) == 2


def test_a_final_model_has_learnt_from_every_label_and_nothing_else_has(small: SmallCatalogue, tmp_path: Path) -> None:
    several = {"heads": ("linear",), "lr": (0.05, 0.02), "keep": "all", "ensemble": 2}
    plain = fit(small, options(small, tmp_path / "plain", **several))
    final = fit(small, options(small, tmp_path / "final", **several, final=True))
    assert {path.name for path in final.rglob("*.joblib")} - {path.name for path in plain.rglob("*.joblib")} == {
        "final.joblib"
    }
    for name in ("best", "ensemble-2"):
        before, after = (read_model(run / "models" / f"{name}.joblib")["selftest"]["P"] for run in (plain, final))
        assert np.array_equal(before, after)
    best, last = (read_model(final / "models" / f"{name}.joblib") for name in ("best", "final"))
    assert len(last["training"]["seen"]) > len(best["training"]["seen"])
    assert (last["training"]["known"] > best["training"]["known"]).all()
    assert last["info"]["fitted_on"] == "train + validation + test" and last["info"]["photos"] == 120
    assert np.array_equal(last["thresholds"], best["thresholds"])
    assert not np.array_equal(last["selftest"]["P"], best["selftest"]["P"])
    test = pd.read_csv(final / "split.csv")["part"].eq("test").sum()
    said = f"fit on all 120 photos; measured before on {test} test photos"
    assert any(said in note for note in Predictor(last, PredictOptions()).notes)
    of_version_before = {**last, "info": {"fitted_on": "train", "measured": "by x"}}
    assert "fit on train; measured by x" in Predictor(of_version_before, PredictOptions()).notes
    assert any(
        f"models/final.joblib was {said}" in note for note in compare([final], CompareOptions(bootstrap=10)).notes
    )
    assert not any("final.joblib" in note for note in compare([plain], CompareOptions(bootstrap=10)).notes)


def test_an_ensemble_of_each_head_counts_every_head_alike(small: SmallCatalogue, tmp_path: Path) -> None:
    several = {"heads": ("linear", "kernel-ridge"), "loss": ("ce",), "lr": (0.05, 0.02), "keep": "all"}
    run = fit(small, options(small, tmp_path / "each", **several, ensemble=3, ensemble_from="each-head", refit=True))
    model = read_model(run / "models" / "ensemble-3.joblib")
    weights = {member["kind"]: member["weight"] for member in model["members"]}
    assert len(model["members"]) == 3 and weights == {"dense": 0.5, "kernel": 1.0}
    best = read_model(run / "models" / "best.joblib")
    assert best["version"] == (2 if best["members"][0]["kind"] == "kernel" or len(best["members"]) > 1 else 1)


@pytest.mark.parametrize("ensemble", [0, 2])
def test_a_refit_keeps_every_choice_and_is_the_best_model(small: SmallCatalogue, tmp_path: Path, ensemble: int) -> None:
    run = fit(small, options(small, tmp_path / "refit", lr=(0.05, 0.02), ensemble=ensemble, refit=True))
    info = json.loads((run / "run.json").read_text())
    assert info["best"].endswith("-refit")
    before = info["best"].removesuffix("-refit")
    decisions_of = json.loads((run / "decisions.json").read_text())
    assert decisions_of[info["best"]] == decisions_of[before]
    first, again = (pd.read_parquet(run / "predictions" / f"{c}.parquet") for c in (before, info["best"]))
    validation, test = first["part"] == "validation", first["part"] == "test"
    pd.testing.assert_frame_equal(first[validation], again[validation])
    assert not np.allclose(first[test].filter(like="p:"), again[test].filter(like="p:"))
    fitted_on = {c: read_model(run / "models" / f"{c}.joblib")["info"]["fitted_on"] for c in (before, info["best"])}
    assert fitted_on == {before: "train", info["best"]: "train + validation"}
    assert compare([run], CompareOptions(bootstrap=10)).best_candidate.config_id == info["best"]


def test_lines_of_a_refit_say_that_they_are_its_own(small: SmallCatalogue, tmp_path: Path) -> None:
    """It trains configurations of the same names, and its validation losses are of rows it has trained on."""
    lines: list[str] = []
    asked = options(small, tmp_path / "refit", optimizers=("lbfgs", "adam"), epochs=3, refit=True)
    fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), asked, lines.append)
    refit = [line for line in lines if line.startswith("refit on train + validation: ")]
    first = [line for line in lines if line not in refit]
    assert refit and lines == first + refit
    assert sum(": validation loss" in line for line in first) == 1


def test_thumbnails_of_test_photos_outlive_the_photos(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path, photos=60, pictures=True)
    run = fit(small, options(small, tmp_path / "first"))
    split = pd.read_csv(run / "split.csv").set_index("photo")["part"]
    test = set(split.index[split == "test"])
    kept = read_thumbnails(run, split.index)
    assert set(kept) == test
    assert {Image.open(io.BytesIO(picture)).size for picture in kept.values()} == {(72, 96)}
    few = fit(small, options(small, tmp_path / "few", thumbnails=3), SplitOptions(split_from=run))
    assert len(read_thumbnails(few, test)) == 3
    none = fit(small, options(small, tmp_path / "none", thumbnails=0), SplitOptions(split_from=run))
    assert not (none / "thumbnails").exists()
    with pytest.raises(OptionError, match="--thumbnails is -1; expected 0"):
        fit(small, options(small, tmp_path / "x", thumbnails=-1))


def test_photos_that_are_no_pictures_any_more_are_one_finding_and_no_failure(run: Path) -> None:
    dropped = pd.read_csv(run / "dropped.csv").set_index("kind")
    tests = (pd.read_csv(run / "split.csv")["part"] == "test").sum()
    expected = f"{tests} of {tests} test photos have no thumbnail, such as this one: not an image in a known format"
    assert dropped.loc["no-thumbnail", "detail"] == expected
    assert json.loads((run / "run.json").read_text())["findings"]["no-thumbnail"] == 1


def test_near_duplicates_across_parts_are_listed_and_regroup_keeps_them_together(
    small: SmallCatalogue, tmp_path: Path
) -> None:
    apart = fit(small, options(small, tmp_path / "apart"), SplitOptions(near_duplicates=0.93))
    near = pd.read_csv(apart / "neighbours.csv")
    assert list(near.columns) == ["photo_a", "part_a", "photo_b", "part_b", "cosine"]
    part = pd.read_csv(apart / "split.csv").set_index("photo")["part"]
    assert len(near) and (near["cosine"] >= 0.93).all()
    for side in "ab":
        assert part[near[f"photo_{side}"]].tolist() == near[f"part_{side}"].tolist()
    info = json.loads((apart / "run.json").read_text())["near_duplicates"]
    assert sum(info["pairs"].values()) == info["listed"] == len(near)
    told = compare([apart], CompareOptions(bootstrap=10)).notes
    first = f"first: {near['photo_a'][0]} ~ {near['photo_b'][0]}; neighbours.csv lists them"
    assert any(f"{len(near)} near-duplicate pairs" in note and first in note for note in told)
    together = fit(small, options(small, tmp_path / "together"), SplitOptions(near_duplicates=0.93, regroup=True))
    assert len(pd.read_csv(together / "neighbours.csv")) == 0
    group = pd.read_csv(together / "split.csv").set_index("photo")["group"]
    assert group[near["photo_a"]].tolist() == group[near["photo_b"]].tolist()
    assert (
        group[[f"shirt{i}-0.jpg" for i in range(60)]].tolist() == group[[f"shirt{i}-1.jpg" for i in range(60)]].tolist()
    )


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            SplitOptions(near_duplicates=0.2, regroup=True),
            r"--regroup joins \d+ of 120 photos into one group .*raise --near",
        ),
        (SplitOptions(near_duplicates=0.0, regroup=True), "--regroup needs the cosine .* --near-duplicates is 0"),
        (SplitOptions(near_duplicates=98), "--near-duplicates is 98; expected a cosine"),
    ],
)
def test_near_duplicate_options_that_cannot_work_are_named(
    small: SmallCatalogue, tmp_path: Path, split: SplitOptions, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        fit(small, options(small, tmp_path / "x"), split)
    assert not (tmp_path / "x").exists()


def test_search_for_near_duplicates_can_be_off(small: SmallCatalogue, tmp_path: Path) -> None:
    off = fit(small, options(small, tmp_path / "off"), SplitOptions(near_duplicates=0))
    assert not (off / "neighbours.csv").exists()
    assert json.loads((off / "run.json").read_text())["near_duplicates"] is None


def test_near_duplicates_are_the_same_where_the_vectors_do_not_fit(small: SmallCatalogue, tmp_path: Path) -> None:
    split = SplitOptions(near_duplicates=0.9)
    roomy = fit(small, options(small, tmp_path / "roomy"), split)
    tight = fit(small, options(small, tmp_path / "tight", memory=1e-6), split)
    listed = (roomy / "neighbours.csv").read_text()
    assert (tight / "neighbours.csv").read_text() == listed
    assert len(listed.splitlines()) > 10


def test_photos_without_vectors_name_the_command_that_makes_them(small: SmallCatalogue, tmp_path: Path) -> None:
    new = small.data.parent / "images" / "new-1.jpg"
    new.write_bytes(b"never extracted")
    more = small.data.with_name("more.csv")
    write_rows(more, [*read_rows(small.data), ("new-1.jpg", "1", "long")])
    try:
        with pytest.raises(OptionError, match=r"1 of 121 photos has no vectors .*new-1.jpg.*extract --backbone"):
            fit(replace(small, data=more), options(small, tmp_path / "x"))
    finally:
        new.unlink()
        more.unlink()
    assert not (tmp_path / "x").exists()


def test_two_kinds_of_vectors_are_told_apart(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path, photos=60)
    cache = FeatureCache(small.cache)
    reader = cache.reader(small.attribute.digest)
    ids = reader.ids(small.columns[0])
    other = base_key(architecture="resnet34")
    with cache.writer(other, notes={"weights_source": "random:0"}) as writer:
        writer.append(ids, {small.columns[0]: reader.read(ids, [small.columns[0]])})
    with cache.writer(base_key(architecture="resnet50"), notes={"weights_source": "random:0"}) as writer:
        writer.append(ids[:3], {small.columns[0]: reader.read(ids[:3], [small.columns[0]])})
    with pytest.raises(OptionError, match=r"differ in architecture: resnet18 \| resnet34 \| resnet50"):
        fit(small, options(small, tmp_path / "x", views=("vflip",)))
    for model in ("resnet18", "resnet34"):
        cache.prune(drop_keys=[base_key(architecture=model).digest], dry_run=False)
    with pytest.raises(OptionError, match="no cached vectors .* fit backbone vgg; the cache holds: resnet50"):
        fit_heads(
            DataOptions(data=small.data),
            CacheKeyOptions(backbone=("vgg",)),
            SplitOptions(),
            options(small, tmp_path / "x"),
        )


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"heads": ("liner",)}, HeadError, "did you mean 'linear'"),
        ({"heads": ("mlp",), "optimizers": ("lbfgs",)}, HeadError, "cannot train head 'mlp'"),
        ({"use": ("levels",)}, OptionError, "block 'levels' of view 'identity' is not in the cache"),
        ({"views": ("vflip",)}, OptionError, "of view 'vflip' is not in the cache"),
        ({"threshold": "per-lable"}, OptionError, "did you mean 'per-label'"),
        ({"cache": Path("nowhere")}, OptionError, "no embedding cache at nowhere"),
    ],
)
def test_options_that_cannot_work_fail_before_anything_is_written(
    small: SmallCatalogue, tmp_path: Path, changes: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        fit(small, options(small, tmp_path / "x", **changes))
    assert not (tmp_path / "x").exists()


def test_an_extraction_with_other_settings_breaks_no_command(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path, photos=60)
    first = fit(small, options(small, tmp_path / "first", epochs=1))
    cache = FeatureCache(small.cache)
    reader = cache.reader(small.attribute.digest)
    ids = reader.ids(small.columns[0])
    for size, count in ((288, 60), (320, 59)):
        with cache.writer(base_key(size=size), notes={"weights_source": "random:0"}) as writer:
            writer.append(ids[:count], {small.columns[0]: reader.read(ids[:count], [small.columns[0]])})
    report = fit_heads(
        DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), options(small, tmp_path / "new")
    )
    assert json.loads((report.run / "run.json").read_text())["cache_key"]["size"] == 288, "320 lacks a photo"
    (said,) = [finding.detail for finding in report.findings if finding.kind == "kind-of-vectors"]
    assert "differ in size: 288 | 320 | 64." in said and "the newest that has all these photos" in said
    again = fit(small, options(small, tmp_path / "again", epochs=1), SplitOptions(split_from=first))
    assert json.loads((again / "run.json").read_text())["cache_key"]["size"] == 64, "that of the run it goes on from"
    named = fit_heads(
        DataOptions(data=small.data), CacheKeyOptions(size=(64,)), SplitOptions(), options(small, tmp_path / "named")
    )
    assert "kind-of-vectors" not in {finding.kind for finding in named.findings}


def notes_of(small: SmallCatalogue, out: Path, **changes: object) -> str:
    fit_options = options(small, out, **{"epochs": 2, **changes})
    return "\n".join(fit_heads(DataOptions(data=small.data), CacheKeyOptions(), SplitOptions(), fit_options).notes)


def test_calibration_that_is_not_shown_to_help_is_left_out_and_said(small: SmallCatalogue, tmp_path: Path) -> None:
    """After two epochs sleeves are told about as surely as they should be, necks are not."""
    said = notes_of(small, tmp_path / "a")
    recorded = json.loads((tmp_path / "a" / "run.json").read_text())
    stored = json.loads((tmp_path / "a" / "decisions.json").read_text())[recorded["best"]]["calibration"]
    pairs = zip(recorded["schema"]["keys"], stored["scale"], stored["shift"], strict=True)
    alone = [name for name, scale, shift in pairs if (scale, shift) == (1.0, 0.0)]
    assert alone == ["sleeve_length"]
    assert f"not calibrated ({len(alone)} of 2 attributes): other validation photos were not shown to gain" in said
    methods = [row.method for row in compare([tmp_path / "a"], CompareOptions(bootstrap=10)).calibration]
    assert methods.count("none") == len(alone)


def test_labels_that_are_all_alike_are_nothing_to_learn(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path, photos=60)
    write_rows(small.data, [(name, "1", "short") for name, *_ in read_rows(small.data)])
    with pytest.raises(OptionError, match=r"nothing to learn: .*training photos \(neck: 1, sleeve_length: short\)"):
        fit(small, options(small, tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    # Not all alike, if unknown is a value too.
    unknown = [(name, "#N/A" if i % 4 < 2 else "1", "short") for i, (name, *_) in enumerate(read_rows(small.data))]
    write_rows(small.data, unknown)
    fit(small, options(small, tmp_path / "x", na="class", epochs=1))


def test_options_that_do_nothing_for_the_heads_are_named(small: SmallCatalogue, tmp_path: Path) -> None:
    said = notes_of(small, tmp_path / "a", dropout=(0.5,), trees=10, nesterov=True, ensemble=3)
    assert "--nesterov, --dropout, --trees do nothing for linear under adam" in said
    assert "--ensemble 3: one configuration was fit, so there is nothing to average" in said
    lr, optimizers = (0.01,), ("adam", "sgd")
    said = notes_of(small, tmp_path / "b", nesterov=True, heads=("linear", "mlp"), optimizers=optimizers, lr=lr)
    assert "do nothing" not in said and "does nothing" not in said
    said = notes_of(small, tmp_path / "c", heads=("logreg",), optimizers=("sgd",), lr=lr, logreg_c=(0.5,))
    assert "--optimizers, --lr, --epochs do nothing for logreg" in said


def test_a_best_that_only_names_the_most_common_value_is_said_to(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path / "small", photos=60)
    split = pd.read_csv(fit(small, options(small, tmp_path / "first", epochs=1)) / "split.csv")
    odd = set(split[split["part"] == "train"]["photo"][:4])
    write_rows(small.data, [(name, "0" if name in odd else "1", "short") for name, *_ in read_rows(small.data)])
    said = notes_of(small, tmp_path / "run")
    assert "no better on validation than always naming the most common value" in said
    assert "can hardly tell heads from each other" in said


def test_an_attribute_that_is_alike_on_all_test_photos_is_a_finding(tmp_path: Path) -> None:
    small = write_catalogue(tmp_path / "small", photos=60)
    first = fit(small, options(small, tmp_path / "first", epochs=1))
    split = pd.read_csv(first / "split.csv")
    tests = set(split[split["part"] == "test"]["photo"])
    write_rows(small.data, [(name, "1" if name in tests else n, s) for name, n, s in read_rows(small.data)])
    found = pd.read_csv(fit(small, options(small, tmp_path / "run", epochs=1)) / "dropped.csv")
    alike = found[found["kind"] == "alike-in-test"]
    assert alike["photo"].tolist() == ["neck"]
    assert f"all {len(tests)} test photos on which it is known have 1" in alike["detail"].item()
    assert "alike-in-test" not in pd.read_csv(first / "dropped.csv")["kind"].tolist()


def test_a_good_head_on_many_products_is_not_doubted(tmp_path: Path) -> None:
    said = notes_of(write_catalogue(tmp_path, photos=400), tmp_path / "run", epochs=15)
    assert "no better" not in said and "hardly tell" not in said


def test_a_learning_rate_that_is_far_off_is_no_best(small: SmallCatalogue, tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="every configuration diverged; try smaller learning rates"):
        fit(small, options(small, tmp_path / "x", lr=(1e4,), epochs=3))
    said = notes_of(small, tmp_path / "y", lr=(1e4, 0.05), epochs=3)
    assert "diverged: validation loss" in said and "lower the learning rate" in said
    assert len(list((tmp_path / "y" / "predictions").glob("*.parquet"))) == 1


def test_a_run_folder_is_no_cache(small: SmallCatalogue, run: Path, tmp_path: Path) -> None:
    for folder, what in ((run, "a run folder, whose run.json says"), (small.data.parent, "such as attributes.csv")):
        with pytest.raises(OptionError, match=f"is no embedding cache but .*{what}"):
            fit(small, options(small, tmp_path / "x", cache=folder))


def test_a_bare_number_is_a_fixed_threshold(small: SmallCatalogue, tmp_path: Path) -> None:
    run = fit(small, options(small, tmp_path / "run", threshold="0.7", epochs=2))
    (entry,) = json.loads((run / "decisions.json").read_text()).values()
    assert entry["chosen"] == "fixed:0.7"
    assert set(entry["policies"]["fixed:0.7"]["thresholds"]) == {0.7}


def test_an_attribute_is_not_single_and_multi_valued_at_once(small: SmallCatalogue, tmp_path: Path) -> None:
    data = DataOptions(data=small.data, single=("neck",), multi=("sleeve", "neck"))
    with pytest.raises(OptionError, match="--single and --multi both name neck"):
        fit_heads(data, CacheKeyOptions(), SplitOptions(), options(small, tmp_path / "x"))


def test_a_run_folder_is_never_overwritten(small: SmallCatalogue, run: Path) -> None:
    before = (run / "run.json").read_bytes()
    with pytest.raises(RunError, match="already exists and is not empty"):
        fit(small, options(small, run))
    assert (run / "run.json").read_bytes() == before
