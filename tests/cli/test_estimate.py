"""How long a training is expected to take: what it grows with, and that what is done costs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.catalogue import read_catalogue
from pipeline.cli.training import estimate
from pipeline.cli.training.estimate import (
    Expected,
    Sizes,
    begun,
    compare_seconds,
    finetune_seconds,
    fit_seconds,
    sizes_of,
    to_be_tuned,
)
from pipeline.cli.training.tuning_speed import training_speed
from pipeline.errors import OptionError
from pipeline.features.report import ExtractReport
from pipeline.heads import HEADS, Targets
from pipeline.options import BackboneOptions, DataOptions, FinetuneOptions, FitOptions
from tests.finetuning.stripes import write_stripes

Y = np.eye(4, dtype=np.uint8)[np.arange(64) % 4]
SIZES = Sizes((640, 160, 200), ((("pooled", 16), ("levels", 8)),), Targets.plain(Y, sizes=[4], single=[True]))


def report(**changes: object) -> ExtractReport:
    columns = (("pooled", "identity", 16), ("levels", "identity", 8))
    done = ExtractReport("ab", columns, 100, 100, 0, 0, 64, (), {"start": 2.0}, images_per_second=8.0)
    return replace(done, **changes)  # type: ignore[arg-type]


def test_an_extraction_takes_what_its_first_photos_say() -> None:
    assert begun(report(left=80)).seconds == 2.0 + 10.0
    assert begun(report(left=0, images_per_second=0.0)).seconds == 0.0
    assert begun(report(left=0)).blocks == (("pooled", 16), ("levels", 8))


def test_a_network_takes_its_epochs_and_those_of_the_trainings_after_it() -> None:
    options, parts = FinetuneOptions(epochs=10), (600, 0, 200)
    once = finetune_seconds(options, None, 50.0, parts)
    assert once == pytest.approx(120.0)
    assert finetune_seconds(options, None, 50.0, (600, 200, 0)) > once
    assert finetune_seconds(replace(options, final=True), None, 50.0, parts) == pytest.approx(once + 160.0)
    assert finetune_seconds(replace(options, refit=True), None, 50.0, parts) == pytest.approx(2 * once)
    assert finetune_seconds(options, 96, 50.0, parts) == pytest.approx(once)
    growing = replace(options, epochs=9, start_size=48)
    assert finetune_seconds(growing, 96, 50.0, parts) == pytest.approx(3 * 12.0 * (0.25 + 0.5625 + 1.0))
    vectors = to_be_tuned(report(), 1000, 50.0)
    assert vectors.blocks == (("pooled", 16),)
    assert 0 < vectors.seconds < 1000 / 50.0


def test_the_speed_of_a_training_is_that_of_its_first_steps(tmp_path: Path) -> None:
    write_stripes(tmp_path)
    photos = sorted((tmp_path / "images").iterdir())
    backbone = BackboneOptions(backbone="test_resnet", weights="random:0", size=32)
    options = FinetuneOptions(device="cpu")
    assert training_speed(photos, backbone, options) > 0
    with pytest.raises(OptionError, match=r"1 photo of 2 can be decoded: nothing to train on"):
        training_speed(photos[:2], backbone, options)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What was tried as (rows, epochs, numbers per row); each try takes a millisecond per row and epoch."""
    calls: list[tuple[int, int, int]] = []
    clock = [0.0]

    def fit_many(configs, train, validation, options):  # type: ignore[no-untyped-def]
        epochs = max(1, *(config.epochs for config in configs)) if not configs[0].spec.is_baseline else 1
        calls.append((train[0].shape[-2], epochs, train[0].shape[-1]))
        clock[0] += 1e-3 * train[0].shape[-2] * epochs
        return []

    monkeypatch.setattr(estimate, "fit_many", fit_many)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: clock[0])
    return calls


def fits(options: FitOptions, sizes: Sizes = SIZES) -> float:
    """Seconds of the fits alone."""
    nothing = replace(options, heads=("logreg",), optimizers=(), refit=False, final=False, ensemble=0, use=("none",))
    return fit_seconds(options, sizes) - fit_seconds(nothing, sizes)


def test_epochs_are_scaled_by_photos_from_few_of_them(tried: list[tuple[int, int, int]]) -> None:
    options = FitOptions(heads=("linear",), optimizers=("adam",), epochs=30, use=("pooled",), thumbnails=0)
    found = fits(options)
    assert tried[:3] == [(32, 1, 16), (64, 1, 16), (64, 3, 16)], "what the first fit alone takes is not counted"
    assert found == pytest.approx(0.064 + 30 * 0.640)
    assert fits(replace(options, refit=True)) == pytest.approx(found * (1 + 800 / 640))
    assert fits(replace(options, refit=True, final=True)) == pytest.approx(found * (1 + 800 / 640 + 1000 / 640))
    twice = replace(options, lr=(0.1, 0.2), final=True)
    assert fits(twice) == pytest.approx(found * (1 + 0.5 * 1000 / 640)), "one of the two is fit again"


def test_heads_on_each_kind_of_vectors_see_its_numbers_alone(tried: list[tuple[int, int, int]]) -> None:
    two = replace(SIZES, kinds=((("pooled", 16), ("levels", 8)), (("pooled", 10),)))
    options = FitOptions(heads=("linear",), optimizers=("adam",), epochs=3, thumbnails=0)
    for vectors, seen in ((("joined",), [34]), (("each",), [24, 10]), (("2", "joined"), [10, 34])):
        tried.clear()
        fit_seconds(replace(options, vectors=vectors), two)
        assert [dim for rows, epochs, dim in tried if epochs == 3] == seen
    alone = fits(replace(options, vectors=("1",)), two)
    assert fits(replace(options, vectors=("each",)), two) == pytest.approx(2 * alone)


def test_heads_are_tried_on_photos_with_labels(tmp_path: Path) -> None:
    rows = [f"p{i:03}.png,{'a' if i % 2 else 'b'}" if i >= 40 else f"p{i:03}.png,#N/A" for i in range(80)]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,stripes", *rows]) + "\n")
    (tmp_path / "images").mkdir()
    for i in range(80):
        (tmp_path / "images" / f"p{i:03}.png").write_bytes(b"%d" % i)
    catalogue = read_catalogue(DataOptions(data=tmp_path / "labels.csv", images=tmp_path / "images"))
    sizes = sizes_of(catalogue, [Expected(0.0, (("pooled", 16),))], "64/16/20")
    assert sizes.targets.mask[:40].any(axis=1).all() and not sizes.targets.mask[40:].any()
    assert fit_seconds(FitOptions(heads=("linear",), optimizers=("adam",), epochs=3), sizes) > 0


def test_a_refit_of_the_best_of_several_kinds_is_one_fit(tried: list[tuple[int, int, int]]) -> None:
    two = replace(SIZES, kinds=(SIZES.kinds[0], SIZES.kinds[0]))
    options = FitOptions(heads=("linear",), optimizers=("adam",), epochs=30, vectors=("each",), thumbnails=0)
    once, again = (fits(replace(options, refit=refit), two) for refit in (False, True))
    assert again == pytest.approx(once * (1 + 0.5 * 800 / 640)), "one of two"
    averaged = replace(options, refit=True, ensemble=2, ensemble_from="each-head")
    assert fits(averaged, two) == pytest.approx(once * (1 + 800 / 640)), "both"


def test_kernel_ridge_grows_with_the_cube_of_the_photos_that_are_kept(tried: list[tuple[int, int, int]]) -> None:
    options = FitOptions(heads=("kernel-ridge",), optimizers=(), thumbnails=0)
    more = replace(SIZES, parts=(6400, 160, 200))
    grown = fits(options, more) / fits(options)
    assert 100 < grown < 1000
    assert fits(replace(options, landmarks=640), more) < fits(options, more) / 10
    assert tried[0] == (64, 1, 24)


def test_baselines_have_costs_of_their_own_and_what_is_unknown_is_tried(
    tried: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FitOptions(heads=("logreg",), optimizers=(), thumbnails=0)
    assert fits(options) > 0 and tried == []
    monkeypatch.setattr(estimate, "_COLUMN_BY_COLUMN", frozenset())
    fit_seconds(options, SIZES)
    assert tried == [(64, 1, 24)]


def test_a_comparison_grows_with_runs_and_test_photos() -> None:
    assert compare_seconds(SIZES, 2) == 2 * compare_seconds(SIZES, 1)
    assert compare_seconds(replace(SIZES, parts=(640, 160, 2000)), 1) > compare_seconds(SIZES, 1)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_estimated_by_what_really_fits_it(head: str) -> None:
    options = FitOptions(heads=(head,), trees=2, max_labels=100)
    assert fit_seconds(options, SIZES) > 0
