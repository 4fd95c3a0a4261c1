"""`finetune` on a tiny network: it learns, resumes after a real kill, freezes, and fit-heads is not fooled by it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import safetensors.torch
import torch

from cache import FeatureCache, id_array, ids_to_hex
from pipeline import Predictor, load_model
from pipeline.catalogue.generated.sample import write_sample
from pipeline.comparison.compare import compare
from pipeline.errors import HeadError, OptionError, RunError
from pipeline.experiment.fit_heads import fit_heads
from pipeline.experiment.kinds.own_heads import OWN_HEADS
from pipeline.features.backbone.network import load_backbone
from pipeline.features.backbone.provenance import product_ids, read_seen
from pipeline.features.extract import extract
from pipeline.features.vectors.origin import origins_of
from pipeline.finetuning.finetune import finetune
from pipeline.finetuning.network.averaging import SHARES
from pipeline.finetuning.outcome import Callbacks
from pipeline.finetuning.report import FinetuneReport
from pipeline.model.file import read_model
from pipeline.model.training import product_was_seen, was_seen
from pipeline.options import (
    BackboneOptions,
    CacheKeyOptions,
    CompareOptions,
    DataOptions,
    ExtractOptions,
    FinetuneOptions,
    FitOptions,
    SplitOptions,
)
from tests.finetuning.stripes import write_stripes

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
BACKBONE = BackboneOptions(backbone="test_resnet", weights="random:0", size=32)
QUICK = FinetuneOptions(
    attribute=("stripes",),
    lr=0.003,
    head_lr=0.01,
    schedule="constant",
    epochs=5,
    batch_size=12,
    train="last:3",
    norm="trained",
    ema=0.0,
    amp="off",
    device="cpu",
)
WHOLE: dict[str, Any] = {
    "attribute": (),
    "train": "all",
    "norm": "frozen",
    "schedule": "onecycle",
    "ema": 0.9,
    "head": "mlp",
}
"""What the default recipe does, and a hidden layer per attribute."""
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@dataclass(frozen=True)
class Tuned:
    data: DataOptions
    report: FinetuneReport

    @property
    def weights(self) -> BackboneOptions:
        return replace(BACKBONE, weights=str(self.report.weights))


def tune(data: DataOptions, out: Path, split: SplitOptions | None = None, **changes: Any) -> FinetuneReport:
    return finetune(data, BACKBONE, split or SplitOptions(), replace(QUICK, out=out, **changes))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    data = DataOptions(data=write_stripes(folder / "data"))
    torch.set_num_threads(1)
    return Tuned(data, tune(data, folder / "out"))


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def test_learning_falls_and_the_best_epoch_is_kept(tuned: Tuned) -> None:
    losses = [float(row["train_loss"]) for row in history(tuned.report.folder)]
    assert losses[-1] < 0.5 * losses[0]
    validation = [float(row["validation_loss"]) for row in history(tuned.report.folder)]
    assert tuned.report.best["validation_loss"] == min(validation)
    assert tuned.report.best["validation_score"] > 0.6


def test_folder_holds_what_is_promised_and_no_leftovers(tuned: Tuned) -> None:
    names = {path.name for path in tuned.report.folder.iterdir()}
    own = {"backbone.safetensors", "history.csv", "models", "run.json", "started.json", "lock"}
    assert names == {*own, "split.csv", "split.csv.sha256"}
    content = json.loads((tuned.report.folder / "run.json").read_text())
    assert content["weights_sha256"] == load_backbone(tuned.weights).weights_sha256 != content["start_sha256"]
    assert tuned.report.weights.stat().st_mode & 0o077 == (tuned.report.folder / "run.json").stat().st_mode & 0o077


def test_frozen_stages_are_the_start_s_bit_for_bit(tuned: Tuned) -> None:
    start = load_backbone(BACKBONE).net.state_dict()
    after = tensors(tuned.report.weights)
    same = {name for name, tensor in after.items() if torch.equal(tensor, start[name])}
    frozen = {name for name in after if name.startswith(("conv1", "bn1", "layer1"))}
    assert any("running_mean" in name for name in frozen)
    assert same == frozen


def test_weights_file_says_which_photos_trained_it_and_which_chose(tuned: Tuned) -> None:
    with (tuned.report.folder / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with tuned.data.data.open(newline="") as file:  # type: ignore[union-attr]
        known = {row["filename"] for row in csv.DictReader(file) if row["stripes"] != "#N/A"}
    assert "p00.png" not in {row["photo"] for row in rows}  # it cannot be decoded
    of = {part: {r["content"] for r in rows if r["part"] == part and r["photo"] in known} for part in ("train", "test")}
    chosen = {r["content"] for r in rows if r["part"] == "validation" and r["photo"] in known}
    seen = read_seen(str(tuned.report.weights))
    assert set(ids_to_hex(seen.train)) == of["train"] and len(seen.train) == tuned.report.used["train"]
    assert set(ids_to_hex(seen.choice)) == chosen
    assert not of["test"] & {*ids_to_hex(seen.train), *ids_to_hex(seen.choice)}


def test_a_killed_training_goes_on_and_ends_with_the_same_numbers(tuned: Tuned, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    words = f"""finetune --data {tuned.data.data} --backbone test_resnet --weights random:0 --size 32
        --attribute stripes --lr 0.003 --head-lr 0.01 --epochs 5 --batch-size 12
        --schedule constant --train last:3 --norm trained --ema 0 --amp off --device cpu --out {out}"""
    command = [sys.executable, "-c", f"import torch; torch.set_num_threads(1); import run; run.main({words.split()!r})"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 2/5" in line:
            break
    deadline = time.monotonic() + 60
    while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (out / "checkpoint.pt").exists() and not (out / "run.json").exists()
    report = tune(tuned.data, out)
    assert report.resumed_from in (1, 2, 3, 4)
    assert history(out) == history(tuned.report.folder)
    expected = tensors(tuned.report.weights)
    found = tensors(report.weights)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def whole(tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> FinetuneReport:
    """Every attribute, with what a training does when it is asked for nothing else."""
    return tune(tuned.data, tmp_path_factory.mktemp("whole") / "out", **WHOLE)


def test_every_attribute_trains_one_network(whole: FinetuneReport) -> None:
    assert whole.attributes == ("stripes", "tone") == tuple(whole.scores)
    assert whole.best["epoch"] == whole.epochs == 5  # one-cycle keeps its last epoch
    assert whole.best["validation_score"] == pytest.approx(sum(whole.scores.values()) / 2)


def test_its_own_heads_are_a_model_file_that_knows_whom_it_has_seen(tuned: Tuned, whole: FinetuneReport) -> None:
    model = load_model(whole.own_heads)
    images = sorted((tuned.data.data.parent / "images").glob("p*.png"))[1:]  # type: ignore[union-attr]
    frame = model.predict(images)
    with tuned.data.data.open(newline="") as file:  # type: ignore[union-attr]
        true = {row["filename"]: row["stripes"] for row in csv.DictReader(file)}
    with (whole.folder / "split.csv").open(newline="") as file:
        validation = {row["photo"] for row in csv.DictReader(file) if row["part"] == "validation"}
    rows = [(Path(name).name, value) for name, value in zip(frame["filename"], frame["stripes"], strict=True)]
    right = [value == true[name] for name, value in rows if name in validation and true[name] != "#N/A"]
    # The network in bf16 or single precision and extraction's runtime differ in a rounding, not in what they say.
    assert np.mean(right) == pytest.approx(whole.scores["stripes"], abs=1.5 / len(right))
    with (whole.folder / "split.csv").open(newline="") as file:
        part_of = {row["content"]: row["part"] for row in csv.DictReader(file)}
    seen = was_seen(read_model(whole.own_heads), id_array(bytes.fromhex(content) for content in part_of))
    assert seen is not None and [*seen] == [part != "test" for part in part_of.values()]


def test_the_default_recipe_goes_on_after_a_kill_bit_for_bit(
    tuned: Tuned, whole: FinetuneReport, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if "epoch 3/5" in line:
            raise Killed

    options = replace(QUICK, out=tmp_path / "out", **WHOLE)
    with pytest.raises(Killed):
        finetune(tuned.data, BACKBONE, SplitOptions(), options, Callbacks(kill))
    report = finetune(tuned.data, BACKBONE, SplitOptions(), options)
    assert report.resumed_from == 2
    assert history(report.folder) == history(whole.folder)
    expected, found = tensors(whole.weights), tensors(report.weights)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def finished(tuned: Tuned, whole: FinetuneReport) -> tuple[FinetuneReport, list[str]]:
    """The training of `whole` asked for once more, now with those that come after it, and what it said."""
    lines: list[str] = []
    options = replace(QUICK, out=whole.folder, refit=True, final=True, **WHOLE)
    return finetune(tuned.data, BACKBONE, SplitOptions(), options, Callbacks(lines.append)), lines


def test_a_final_training_has_seen_every_photo_and_keeps_what_was_chosen_before(
    tuned: Tuned, whole: FinetuneReport, finished: tuple[FinetuneReport, list[str]]
) -> None:
    report, lines = finished
    assert report.finished_before and report.best == whole.best  # the training before is what it was
    assert any("once more on all 47 photos, test photos included" in line for line in lines)
    assert report.final == whole.folder / "final" / "backbone.safetensors"
    with (whole.folder / "split.csv").open(newline="") as file:
        ids = id_array(bytes.fromhex(row["content"]) for row in csv.DictReader(file))
    before, after = (read_model(path.parent / OWN_HEADS) for path in (report.weights, report.final))
    seen = was_seen(after, ids)
    assert seen is not None and seen.all()
    assert (after["thresholds"] == before["thresholds"]).all() and after["labels"] == before["labels"]
    assert after["info"]["calibration"] == before["info"]["calibration"]
    assert "measured" in after["info"]
    assert not all(torch.equal(tensor, tensors(report.weights)[n]) for n, tensor in tensors(report.final).items())
    again: list[str] = []
    options = replace(QUICK, out=whole.folder, refit=True, final=True, **WHOLE)
    assert finetune(tuned.data, BACKBONE, SplitOptions(), options, Callbacks(again.append)).final == report.final
    assert not again


def test_a_refitted_training_has_learnt_from_validation_photos_and_never_saw_the_test(
    whole: FinetuneReport, finished: tuple[FinetuneReport, list[str]]
) -> None:
    report, lines = finished
    refit, final = report.refit, report.final
    assert refit == whole.folder / "refit" / "backbone.safetensors" and final is not None
    assert any("training and validation photos; what was chosen stays" in line for line in lines)
    with (whole.folder / "split.csv").open(newline="") as file:
        part_of = {row["content"]: row["part"] for row in csv.DictReader(file)}
    model, before = read_model(refit.parent / OWN_HEADS), read_model(whole.own_heads)
    seen = was_seen(model, id_array(bytes.fromhex(content) for content in part_of))
    assert seen is not None and [*seen] == [part != "test" for part in part_of.values()]
    assert len(read_seen(str(refit)).train) == sum(part != "test" for part in part_of.values())
    assert not len(read_seen(str(refit)).choice)
    assert model["info"]["calibration"] == before["info"]["calibration"]
    others = tensors(whole.weights), tensors(final)
    for other in others:
        assert not all(torch.equal(tensor, other[name]) for name, tensor in tensors(refit).items())


def test_a_refit_takes_the_vectors_of_the_refitted_network_for_its_test_figures_alone(
    tuned: Tuned, whole: FinetuneReport, finished: tuple[FinetuneReport, list[str]], own_cache: Path, tmp_path: Path
) -> None:
    refit, weights = str(finished[0].refit), str(whole.weights)
    for each in (weights, refit):
        run_extract(tuned, replace(BACKBONE, weights=each), own_cache)
    split = SplitOptions(split_from=whole.folder)
    asked = FitOptions(cache=own_cache, heads=("network",), refit=True, keep="all", thumbnails=0)
    key = CacheKeyOptions(weights=(weights,))
    before = fit_heads(tuned.data, key, split, replace(asked, out=tmp_path / "before")).run
    assert not [*(before / "models").glob("*-refit.joblib")], "the network's heads are not fit again"
    run = fit_heads(tuned.data, key, split, replace(asked, refit_weights=(refit,), out=tmp_path / "run")).run
    tables = {
        path.stem.endswith("-refit"): pandas.read_parquet(path) for path in (run / "predictions").glob("*.parquet")
    }
    first, again = tables[False], tables[True]
    chosen = first.part == "validation"
    assert first[chosen].equals(again[chosen]), "validation figures are those of the fit before"
    assert not first[~chosen].equals(again[~chosen])
    (model,) = (run / "models").glob("*-refit.joblib")
    tested = again[~chosen]
    images = tuned.data.data.parent / "images"  # type: ignore[union-attr]
    chances = Predictor(model).predict_proba([images / photo for photo in tested.photo])
    expected = tested["p:stripes=down"].to_numpy()
    found = [chance["stripes"]["down"] for chance in chances]  # type: ignore[index]
    assert found == pytest.approx(expected, abs=1e-3)
    with pytest.raises(OptionError, match="nothing can be chosen on it. Name it with --refit-weights"):
        fit_heads(tuned.data, CacheKeyOptions(weights=(refit,)), split, replace(asked, out=tmp_path / "chosen"))
    other = tmp_path / "of-another-square"
    run_extract(tuned, replace(BACKBONE, weights=weights), other)
    run_extract(tuned, replace(BACKBONE, weights=refit, resize="crop"), other)
    strange = replace(asked, cache=other, refit_weights=(refit,), out=tmp_path / "strange")
    with pytest.raises(OptionError, match=r"crop.*; expected vectors like .*squash.*, but for .* in .*fit: crop \| sq"):
        fit_heads(tuned.data, key, split, strange)
    run_extract(tuned, replace(BACKBONE, weights=str(finished[0].final)), own_cache)
    flattering = replace(asked, refit_weights=(str(finished[0].final),), out=tmp_path / "flattering")
    with pytest.raises(OptionError, match="has learnt from every labelled photo, test photos included"):
        fit_heads(tuned.data, key, split, flattering)
    with pytest.raises(OptionError, match="those of a refit model; add --refit, or leave them out"):
        fit_heads(tuned.data, key, split, replace(flattering, refit=False))


def test_a_training_that_stops_being_numbers_keeps_its_best(tuned: Tuned, tmp_path: Path) -> None:
    wild = {"optimizer": "sgd", "schedule": "onecycle", "norm": "frozen", "epochs": 6}
    report = tune(tuned.data, tmp_path / "out", lr=100.0, **wild)
    assert 1 <= report.epochs < 6
    assert any(f"epoch {report.best['epoch']} is kept; a smaller --lr" in note for note in report.notes)
    assert report.best["validation_loss"] == min(float(row["validation_loss"]) for row in history(report.folder))
    assert all(np.isfinite(tensor.numpy()).all() for tensor in tensors(report.weights).values())
    with pytest.raises(HeadError, match=r"epoch 1 ended with a training loss of .*try a smaller --lr"):
        tune(tuned.data, tmp_path / "at-once", lr=1e9, **wild)


def test_the_backbone_is_drawn_back_where_validation_likes_it(tuned: Tuned, tmp_path: Path) -> None:
    report = tune(tuned.data, tmp_path / "out", interpolate="auto", monitor="score")
    content = json.loads((report.folder / "run.json").read_text())
    assert content["interpolation"] in SHARES
    said = [note for note in report.notes if "of the way from its start" in note]
    assert bool(said) == (content["interpolation"] < 1)
    assert np.mean(list(report.scores.values())) >= report.best["validation_score"]


def test_squares_grow_and_options_that_mix_photos_train_too(tuned: Tuned, tmp_path: Path) -> None:
    report = tune(tuned.data, tmp_path / "out", start_size=16, mixup=0.2, randaugment=5, jitter=0.1, epochs=3)
    assert report.epochs == 3 and all(np.isfinite(float(row["train_loss"])) for row in history(report.folder))


def test_a_finished_training_is_reported_again_and_another_one_refused(tuned: Tuned) -> None:
    before = tuned.report.weights.read_bytes()
    again = tune(tuned.data, tuned.report.folder)
    assert again.finished_before and again.best == tuned.report.best
    with pytest.raises(OptionError, match=r"holds a training with other settings \(lr was 0.003, now 0.5\)"):
        tune(tuned.data, tuned.report.folder, lr=0.5)
    assert tuned.report.weights.read_bytes() == before
    test_folder_holds_what_is_promised_and_no_leftovers(tuned)


@pytest.fixture(scope="module")
def cached(tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cached") / "features"
    for backbone in (BACKBONE, tuned.weights):
        run_extract(tuned, backbone, cache)
    return cache


@pytest.fixture
def own_cache(cached: Path, tmp_path: Path) -> Path:
    """A copy to write further vectors to: which ones the shared cache has is part of other tests."""
    return Path(shutil.copytree(cached, tmp_path / "features"))


def run_extract(tuned: Tuned, backbone: BackboneOptions, cache: Path) -> str:
    images = sorted((tuned.data.data.parent / "images").iterdir())  # type: ignore[union-attr]
    options = ExtractOptions(cache=cache, runtime="torch", device="cpu", workers=1)
    return extract(images, backbone, options).key


def fit(tuned: Tuned, cache: Path, weights: str, split: SplitOptions, out: Path) -> Path:
    options = FitOptions(cache=cache, heads=("linear",), optimizers=("adam",), lr=(0.01,), epochs=20, out=out)
    return fit_heads(tuned.data, CacheKeyOptions(weights=(weights,)), split, options).run


def test_extract_takes_the_file_under_a_new_key_and_one_table_holds_both(
    tuned: Tuned, cached: Path, tmp_path: Path
) -> None:
    attributes = FeatureCache(cached).keys()
    assert len(attributes) == 2 and len({info.key.weights_sha256 for info in attributes}) == 2
    split = SplitOptions(split_from=tuned.report.folder)
    frozen = fit(tuned, cached, "random:0", split, tmp_path / "frozen")
    fine = fit(tuned, cached, tuned.weights.weights, split, tmp_path / "fine-tuned")
    digests = [json.loads((folder / "run.json").read_text())["split_digest"] for folder in (frozen, fine)]
    assert len({*digests, json.loads((tuned.report.folder / "run.json").read_text())["split_digest"]}) == 1
    comparison = compare([frozen, fine], CompareOptions(bootstrap=5))
    stripes = {c.run: c.metrics.attributes[0].accuracy for c in comparison.candidates}
    assert set(stripes) == {"frozen", "fine-tuned"}
    assert stripes["fine-tuned"] >= stripes["frozen"]  # type: ignore[operator]


def test_products_of_trained_photos_travel_with_weights_vectors_and_model(tuned: Tuned, tmp_path: Path) -> None:
    rows = tuned.data.data.read_text().splitlines()  # type: ignore[union-attr]
    table = tmp_path / "data.csv"
    lines = [f"{row},{'sku' if i == 0 else f'P{(i - 1) // 2}'}" for i, row in enumerate(rows)]
    table.write_text("\n".join(lines))
    data = DataOptions(data=table, images=tuned.data.data.parent / "images")  # type: ignore[union-attr]
    split = SplitOptions(group_column="sku")
    report = tune(data, tmp_path / "out", split, epochs=1)
    seen = read_seen(str(report.weights))
    with (report.folder / "split.csv").open(newline="") as file:
        trained = [row["photo"] for row in csv.DictReader(file) if row["part"] == "train"]
    names = {row.split(",")[0]: row.split(",")[-1] for row in table.read_text().splitlines()}
    assert seen.train_products.tolist() == product_ids(names[photo] for photo in trained).tolist()
    images = sorted(data.images.iterdir())  # type: ignore[union-attr]
    options = ExtractOptions(cache=tmp_path / "features", runtime="torch", device="cpu", workers=1)
    key = extract(images, replace(BACKBONE, weights=str(report.weights)), options).key
    cached = FeatureCache(tmp_path / "features").attached_ids(key, "trained_products")
    assert cached.tolist() == seen.train_products.tolist()
    model = read_model(report.own_heads)
    known = product_was_seen(model, [names[trained[0]], "a product of next month", None])
    assert known is not None and known.tolist() == [True, False, False]


def test_the_network_s_own_heads_are_one_more_candidate(
    tuned: Tuned, whole: FinetuneReport, finished: tuple[FinetuneReport, list[str]], own_cache: Path, tmp_path: Path
) -> None:
    weights, final = str(whole.weights), finished[0].final
    assert final is not None
    run_extract(tuned, replace(BACKBONE, weights=weights), own_cache)
    split = SplitOptions(split_from=whole.folder)
    options = FitOptions(
        cache=own_cache,
        heads=("linear", "network"),
        lr=(0.01,),
        epochs=3,
        ensemble=2,
        keep="all",
        refit=True,
        final=True,
    )
    kinds = {
        "alone": CacheKeyOptions(weights=(weights,)),
        "beside": CacheKeyOptions(weights=("random:0", weights), backbone=("test_resnet",)),
    }
    images = sorted((tuned.data.data.parent / "images").glob("p*.png"))[1:]  # type: ignore[union-attr]
    own = Predictor(whole.own_heads).predict_proba(images)
    for name, cache_key in kinds.items():
        run = fit_heads(tuned.data, cache_key, split, replace(options, out=tmp_path / name)).run
        (model,) = (run / "models").glob("network*.joblib")
        same = Predictor(model).predict_proba(images)
        for ours, theirs in zip(same, own, strict=True):
            assert ours.keys() == theirs.keys() == {"stripes", "tone"}  # type: ignore[union-attr]
            for attribute, chances in theirs.items():  # type: ignore[union-attr]
                assert ours[attribute] == pytest.approx(chances, abs=1e-3)  # type: ignore[index]
        assert (run / "models" / "final.joblib").is_file()
    options = replace(options, final_weights=("random:0", str(final)), out=tmp_path / "of-all")
    with pytest.raises(OptionError, match=r"no cached vectors .* fit .*final/backbone.safetensors"):
        fit_heads(tuned.data, kinds["beside"], split, options)
    run_extract(tuned, replace(BACKBONE, weights=str(final)), own_cache)
    run = fit_heads(tuned.data, kinds["beside"], split, options).run
    first, last = (read_model(run / "models" / f"{name}.joblib") for name in ("best", "final"))
    digest = load_backbone(replace(BACKBONE, weights=str(final))).weights_sha256
    of_first, of_last = ([o.cache_key["weights_sha256"] for o in origins_of(model)] for model in (first, last))
    assert digest in of_last and digest not in of_first
    with pytest.raises(OptionError, match="add --final, or leave them out"):
        fit_heads(tuned.data, kinds["beside"], split, replace(options, final=False, out=tmp_path / "not-final"))
    options = replace(options, final_weights=())
    with pytest.raises(OptionError, match=r"--heads network: no models/finetuned.joblib .* the weights random:0"):
        fit_heads(tuned.data, CacheKeyOptions(weights=("random:0",)), split, replace(options, out=tmp_path / "none"))


def test_heads_alone_have_seen_their_photos_too(tuned: Tuned, tmp_path: Path) -> None:
    report = tune(tuned.data, tmp_path / "head", attribute=(), train="head", epochs=1)
    cache = tmp_path / "features"
    run_extract(tuned, replace(BACKBONE, weights=str(report.weights)), cache)
    options = FitOptions(cache=cache, heads=("network",), out=tmp_path / "run")
    with (report.folder / "split.csv").open(newline="") as file:
        part_of = {row["content"]: row["part"] for row in csv.DictReader(file)}
    seen = was_seen(read_model(report.own_heads), id_array(bytes.fromhex(content) for content in part_of))
    assert seen is not None and [*seen] == [part != "test" for part in part_of.values()]
    with pytest.raises(OptionError, match=r"\d+ of the \d+ test photos had a part in them; take their split"):
        fit_heads(tuned.data, CacheKeyOptions(), SplitOptions(split_seed=7), options)
    report_of_fit = fit_heads(
        tuned.data, CacheKeyOptions(), SplitOptions(split_from=report.folder), replace(options, final=True)
    )
    assert any("no models/final.joblib" in note and "finetune --final" in note for note in report_of_fit.notes)
    assert not (report_of_fit.run / "models" / "final.joblib").exists()


def test_own_heads_take_their_block_of_several(
    tuned: Tuned, whole: FinetuneReport, finished: tuple[FinetuneReport, list[str]], tmp_path: Path
) -> None:
    images = sorted((tuned.data.data.parent / "images").iterdir())  # type: ignore[union-attr]
    cache = tmp_path / "features"
    for weights in ("random:0", str(whole.weights), str(finished[0].final)):
        options = ExtractOptions(cache=cache, features=("pooled", "levels"), runtime="torch", device="cpu", workers=1)
        extract(images, replace(BACKBONE, weights=weights), options)
    asked = FitOptions(
        cache=cache, use=("levels", "pooled"), vectors=("each",), heads=("linear", "network"), lr=(0.01,), epochs=1,
        keep="all", final=True, ensemble=2, ensemble_from="each-head", loss=("ce",), out=tmp_path / "run",
    )  # fmt: skip
    split, kinds = SplitOptions(split_from=whole.folder), CacheKeyOptions(weights=("random:0", str(whole.weights)))
    run = fit_heads(tuned.data, kinds, split, asked).run
    own = Predictor(whole.own_heads).predict_proba(images[1:])
    (network,) = (path for path in (run / "models").glob("network*.joblib"))
    assert read_model(network)["version"] == 3  # columns are said
    for ours, theirs in zip(Predictor(network).predict_proba(images[1:]), own, strict=True):
        assert max(ours["stripes"], key=ours["stripes"].get) == max(theirs["stripes"], key=theirs["stripes"].get)  # type: ignore
    final = replace(asked, final_weights=("random:0", "nowhere.safetensors"), out=tmp_path / "never")
    with pytest.raises(OptionError, match="nowhere.safetensors"):
        fit_heads(tuned.data, kinds, split, final)
    with pytest.raises(OptionError, match=r"has learnt from every labelled photo.*--final-weights"):
        fit_heads(
            tuned.data, CacheKeyOptions(weights=(str(finished[0].final),)), split, replace(asked, out=tmp_path / "no")
        )


def test_the_commands_that_it_names_can_be_run(tuned: Tuned) -> None:
    fit = next(line for line in tuned.report.next_commands if "fine-tuned" in line and "fit-heads" in line)
    assert "--heads" not in fit, "heads of one attribute are no candidates for two"


def test_a_final_training_is_begun_anew_when_a_test_label_changes(tuned: Tuned, tmp_path: Path) -> None:
    data = replace(tuned.data, data=tmp_path / "data.csv", images=tuned.data.data.parent / "images")  # type: ignore[union-attr]
    text = tuned.data.data.read_text()  # type: ignore[union-attr]
    data.data.write_text(text)  # type: ignore[union-attr]
    options = {"epochs": 1, "final": True, "attribute": ("stripes", "stripes")}
    report = tune(data, tmp_path / "out", **options)
    assert report.attributes == ("stripes",)
    with (report.folder / "split.csv").open(newline="") as file:
        tested = {row["photo"] for row in csv.DictReader(file) if row["part"] == "test"}
    changed, *_ = (line for line in text.splitlines() if line.split(",")[0] in tested and "#N/A" not in line)
    name, value, tone = changed.split(",")
    other = "plain" if value == "down" else "down"
    data.data.write_text(text.replace(changed, f"{name},{other},{tone}"))  # type: ignore[union-attr]
    with pytest.raises(OptionError, match="final holds a training with other settings .labels was"):
        tune(data, tmp_path / "out", **options)


def test_what_does_not_apply_is_left_out_or_known_to_be_absent_as_asked(tmp_path: Path) -> None:
    write_sample(tmp_path / "b", "B", 60)
    known = []
    for inapplicable in ("exclude", "negative"):
        data = DataOptions(data=tmp_path / "b", inapplicable=inapplicable)  # type: ignore[arg-type]
        report = tune(data, tmp_path / inapplicable, attribute=(), train="head", epochs=1)
        assert "category" in report.attributes
        known.append(int(read_model(report.own_heads)["training"]["known"].sum()))
    assert known[0] < known[1]


def test_fit_heads_refuses_to_judge_on_photos_the_backbone_learnt_from(
    tuned: Tuned, cached: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"\d+ of the \d+ test photos trained it.*--split-from .*out/split\.csv"):
        fit(tuned, cached, tuned.weights.weights, SplitOptions(split_seed=7), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    fit(tuned, cached, "random:0", SplitOptions(split_seed=7), tmp_path / "never-trained")


def test_a_bare_copy_of_the_weights_carries_the_ids_and_a_lost_list_is_said(tuned: Tuned, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.safetensors"
    copy.write_bytes(tuned.report.weights.read_bytes())
    attribute = run_extract(tuned, replace(BACKBONE, weights=str(copy)), tmp_path / "features")
    cache = FeatureCache(tmp_path / "features")
    listed = cache.attached_ids(attribute, "trained_on")
    assert listed.tolist() == read_seen(str(copy)).train.tolist()
    (path,) = (tmp_path / "features").glob("*/trained_on.ids")
    path.write_bytes(b"damaged")
    run_extract(tuned, replace(BACKBONE, weights=str(copy)), tmp_path / "features")
    assert cache.attached_ids(attribute, "trained_on").tolist() == listed.tolist()
    path.unlink()
    with pytest.raises(OptionError, match="list of photos .* is gone .* run the same extract command again"):
        fit(tuned, cache.root, str(copy), SplitOptions(split_seed=7), tmp_path / "run")
    run_extract(tuned, replace(BACKBONE, weights=str(copy)), tmp_path / "features")
    assert cache.attached_ids(attribute, "trained_on").tolist() == listed.tolist()


def test_vectors_of_a_file_that_did_not_say_learn_it_from_one_that_does(tuned: Tuned, tmp_path: Path) -> None:
    silent = tmp_path / "silent.pth"
    torch.save(tensors(tuned.report.weights), silent)
    attribute = run_extract(tuned, replace(BACKBONE, weights=str(silent)), tmp_path / "features")
    cache = FeatureCache(tmp_path / "features")
    assert not len(cache.attached_ids(attribute, "trained_on"))
    assert run_extract(tuned, tuned.weights, tmp_path / "features") == attribute
    assert len(cache.attached_ids(attribute, "trained_on")) == tuned.report.used["train"]


def test_training_the_classifier_alone_leaves_backbone_and_lists_alone(tuned: Tuned, tmp_path: Path) -> None:
    report = tune(tuned.data, tmp_path / "head", train="head", epochs=1)
    backbone = load_backbone(replace(BACKBONE, weights=str(report.weights)))
    assert backbone.weights_sha256 == load_backbone(BACKBONE).weights_sha256
    assert not backbone.provenance
    assert any("the backbone is what it was" in note for note in report.notes)


def test_a_second_fine_tuning_keeps_the_first_one_s_list_and_may_not_choose_on_it(tuned: Tuned, tmp_path: Path) -> None:
    options = replace(QUICK, attribute=("tone",), epochs=1, out=tmp_path / "second")
    with pytest.raises(OptionError, match="learnt from"):
        finetune(tuned.data, tuned.weights, SplitOptions(split_seed=7), options)
    report = finetune(tuned.data, tuned.weights, SplitOptions(split_from=tuned.report.folder), options)
    first, second = read_seen(str(tuned.report.weights)), read_seen(str(report.weights))
    assert set(first.train.tolist()) < set(second.train.tolist())  # photos unknown to the first attribute came in


def test_patience_stops_and_memory_changes_nothing(tuned: Tuned, tmp_path: Path) -> None:
    lines: list[str] = []
    options = replace(QUICK, lr=1e-9, head_lr=1e-9, epochs=9, patience=2, monitor="score")
    runs = []
    for memory in (None, 0.0):
        out = tmp_path / f"memory-{memory}"
        runs.append(
            finetune(
                tuned.data, BACKBONE, SplitOptions(), replace(options, memory=memory, out=out), Callbacks(lines.append)
            )
        )
    assert runs[0].epochs == runs[0].best["epoch"] + 2 < 9
    assert history(runs[0].folder) == history(runs[1].folder)
    assert len([line for line in lines if "epoch 2/9" in line]) == 2


def test_a_multi_valued_key_and_bf16_train_too(tuned: Tuned, tmp_path: Path) -> None:
    data = replace(tuned.data, multi=("stripes",))
    report = finetune(data, BACKBONE, SplitOptions(), replace(QUICK, amp="bf16", out=tmp_path / "multi"))
    losses = [float(row["train_loss"]) for row in history(report.folder)]
    assert losses[0] < 3 * 0.8 and losses[-1] < 0.8 * losses[0]  # three binary losses, each near log 2 at the start
    assert all(tensor.dtype != torch.bfloat16 for tensor in tensors(report.weights).values())


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"attribute": ("neck",)}, OptionError, "there is no attribute 'neck'; the attributes are: stripes, tone"),
        ({"amp": "fp16"}, OptionError, "--amp fp16 needs a GPU"),
        ({"betas": (0.9,)}, OptionError, "--betas takes two rates"),
        ({"train": "last:9"}, OptionError, "N from 1 to 5 stages"),
    ],
)
def test_options_that_cannot_work_are_refused(
    tuned: Tuned, tmp_path: Path, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        tune(tuned.data, tmp_path / "out", **changes)


def test_a_missing_attribute_is_said_before_the_weights_are_looked_for(tuned: Tuned, tmp_path: Path) -> None:
    nowhere = replace(BACKBONE, weights=str(tmp_path / "no-weights.safetensors"))
    with pytest.raises(OptionError, match="there is no attribute 'neck'"):
        finetune(tuned.data, nowhere, SplitOptions(), replace(QUICK, attribute=("neck",), out=tmp_path / "out"))


@pytest.mark.parametrize("split", [SplitOptions(regroup=True), SplitOptions(near_duplicates=0.9)])
def test_near_duplicates_are_not_what_finetune_can_look_for(tuned: Tuned, tmp_path: Path, split: SplitOptions) -> None:
    with pytest.raises(OptionError, match="leave out --near-duplicates and --regroup"):
        tune(tuned.data, tmp_path / "out", split)


def test_a_folder_of_other_things_is_left_alone(tuned: Tuned, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no training"):
        tune(tuned.data, tmp_path)


@needs_gpu
@pytest.mark.parametrize("amp", ["bf16", "fp16", "off"])
def test_a_gpu_trains_the_same_task(tuned: Tuned, tmp_path: Path, amp: str) -> None:
    report = tune(tuned.data, tmp_path / amp, device="cuda", amp=amp)
    losses = [float(row["train_loss"]) for row in history(report.folder)]
    assert losses[-1] < 0.6 * losses[0]
    assert all(np.isfinite(tensor.numpy()).all() for tensor in tensors(report.weights).values())
