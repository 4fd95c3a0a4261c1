"""The extract stage: what is computed, what is reused, what is refused, what an interrupt leaves."""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import signal
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cache import CacheBusy, FeatureCache, id_array
from cache.durable import FolderLock
from pipeline.cli.summaries.stages import cache_lines, extract_lines
from pipeline.errors import BackboneError, OptionError
from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.features.embed import Embedder
from pipeline.features.extract import extract
from pipeline.features.selection import select_key, weights_sources
from pipeline.options import BackboneOptions, ExtractOptions, VectorKind

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONE = BackboneOptions(backbone="test_resnet", weights="random:0", size=32, resize="squash")
INTERRUPTED = 130


@pytest.fixture
def photos(tmp_path):
    """12 photos; the 6th has the bytes of the 1st, the 8th is no photo and the 10th has the bytes of the 8th."""
    (tmp_path / "photos").mkdir()
    rng, paths = np.random.default_rng(0), []
    for number in range(12):
        path = tmp_path / "photos" / f"{number:02}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    shutil.copy(paths[0], paths[5])
    paths[7].write_bytes(b"no photo")
    shutil.copy(paths[7], paths[9])
    return paths


@pytest.fixture
def run(tmp_path, photos):
    def call(paths=None, progress=None, **changes):
        chosen = {"cache": tmp_path / "features", "runtime": "torch", "device": "cpu", "batch_size": 4, **changes}
        return extract(photos if paths is None else paths, BACKBONE, ExtractOptions(**chosen), progress)

    return call


def line_of(report):
    return next(iter(extract_lines(report)))


def ids_of(paths):
    return id_array(hashlib.sha256(path.read_bytes()).digest() for path in paths)


def shards(tmp_path):
    return {path.name: path.read_bytes() for path in (tmp_path / "features").rglob("*.h5")}


def test_every_content_is_computed_once_and_can_be_read_back(run, photos, tmp_path):
    report = run()
    assert (report.photos, report.unique, report.duplicates) == (12, 10, 2)
    assert (report.reused, report.written) == (0, 9)
    reason = "not an image in a known format"
    assert [(reject.path, reject.reason) for reject in report.rejects] == [(photos[7], reason), (photos[9], reason)]
    assert report.columns == (("pooled", "identity", 96),)
    reader = FeatureCache(tmp_path / "features").reader(report.key)
    good = [path for number, path in enumerate(photos) if number not in (7, 9)]
    backbone = load_backbone(BACKBONE)
    assert reader.key == base_key(backbone)
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in good]))
    with torch.inference_mode():
        expected = backbone.module(("pooled",))(pixels)["pooled"].numpy()
    found = reader.read(ids_of(good), reader.columns)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_random_weights_are_said_out_loud_and_noted_in_the_cache(run, tmp_path):
    report = run()
    assert report.notes == ("weights are random:0: untrained, for tests and speed only",)
    notes = FeatureCache(tmp_path / "features").reader(report.key).notes
    assert notes["weights_source"] == "random:0"
    assert notes["random_weights"] is True


def test_a_second_run_computes_nothing_and_writes_nothing(run, tmp_path):
    run()
    before = shards(tmp_path)
    report = run()
    assert (report.reused, report.written, len(report.rejects)) == (9, 0, 2)
    assert report.runtime == ""
    assert shards(tmp_path) == before


def test_new_photos_are_all_that_is_computed(run, photos, tmp_path):
    run(photos[:4])
    report = run()
    assert (report.reused, report.written) == (4, 5)


def test_only_so_many_are_computed_where_that_is_asked_for_and_the_rest_is_counted(photos, run, tmp_path):
    options = ExtractOptions(cache=tmp_path / "features", runtime="torch", device="cpu", batch_size=4)
    first = extract(photos, BACKBONE, options, most=3)
    assert (first.written, first.left) == (3, 7), "the one that is no photo is among the 7"
    report = run()
    assert (report.reused, report.written, report.left) == (3, 6, 0)
    assert extract(photos, BACKBONE, options, most=3).left == 0


def test_another_block_or_view_computes_just_that(run, tmp_path, monkeypatch):
    first = run()
    before = shards(tmp_path)
    report = run(features=("pooled", "grid"), views=("identity", "hflip"))
    after = shards(tmp_path)
    assert report.key == first.key
    assert report.written == report.extended == 9  # grid of the photos as they are, both blocks of the mirrored ones
    assert "9 computed (all of them had other blocks or views of these already), 0 already cached" in line_of(report)
    assert first.extended == 0 and "9 computed, 0 already cached" in line_of(first)
    assert {name: after[name] for name in before} == before
    columns = FeatureCache(tmp_path / "features").reader(report.key).columns
    assert {(column.block.name, column.view) for column in columns} == {
        ("pooled", "identity"), ("grid", "identity"), ("pooled", "hflip"), ("grid", "hflip"),
    }  # fmt: skip
    assert run(features=("pooled", "grid"), views=("identity", "hflip")).written == 0


def test_a_reject_is_not_tried_again_until_its_file_changes(run, photos):
    run()
    decoded = run(features=("grid",))
    assert len(decoded.rejects) == 2
    Image.new("RGB", (40, 40), (200, 10, 10)).save(photos[7])
    report = run()
    assert (report.written, [reject.path for reject in report.rejects]) == (1, [photos[9]])


def with_network_fault(monkeypatch, path):
    """Until undone, the network's output for the photo at `path` is not finite."""
    content, compute = ids_of([path])[0], Embedder.__call__

    def faulty(self, paths, wanted=None):
        for batch in compute(self, paths, wanted):
            for values in batch.features.values():
                values[batch.ids == content] = np.nan
            yield batch

    monkeypatch.setattr(Embedder, "__call__", faulty)


def test_what_one_network_cannot_take_is_rejected_for_it_alone_and_tried_again(run, photos, tmp_path, monkeypatch):
    cache, reason = FeatureCache(tmp_path / "features"), "the network's output for it is not finite"
    with monkeypatch.context() as patched:
        with_network_fault(patched, photos[2])
        for _ in range(2):
            report = run(photos[:5])
            assert [(reject.path, reject.reason) for reject in report.rejects] == [(photos[2], reason)]
    assert (report.reused, report.written) == (4, 0)
    assert cache.files.rejected(ids_of(photos)) == {}
    assert cache.files.rejected(ids_of(photos), report.key) == {2: reason}
    other = extract(
        photos[:5],
        replace(BACKBONE, weights="random:1"),
        ExtractOptions(cache=cache.root, runtime="torch", device="cpu", batch_size=4),
    )
    assert other.key != report.key
    assert (other.written, other.rejects) == (5, ())
    again = run(photos[:5])
    assert (again.reused, again.written, again.rejects) == (4, 1, ())
    assert cache.files.rejects() == []


def test_the_same_weights_from_another_source_are_found_under_every_name(run, photos, tmp_path):
    first = run(photos[:3])
    cache, path = FeatureCache(tmp_path / "features"), tmp_path / "same.safetensors"
    save_file(load_backbone(BACKBONE).net.state_dict(), path)
    options = ExtractOptions(cache=cache.root, runtime="torch", device="cpu", batch_size=4)
    for paths, written in ((photos[:3], 0), (photos[:4], 1)):
        second = extract(paths, replace(BACKBONE, weights=str(path)), options)
        assert (second.key, second.written) == (first.key, written)
        for source in ("random:0", str(path)):
            assert select_key(cache, VectorKind(weights=source), ids_of(photos[:3]), ((), ("identity",)))
    (info,) = cache.keys()
    assert weights_sources(info.notes) == ("random:0", str(path))
    assert info.notes["random_weights"] is True
    assert f"weights {path} (also given as random:0)" in "\n".join(cache_lines([info], cache.root))
    with pytest.raises(OptionError, match="no cached vectors"):
        select_key(cache, VectorKind(weights="hub"), ids_of(photos[:3]), ((), ("identity",)))


def test_notes_from_before_hold_one_source():
    assert weights_sources({"weights_source": "package"}) == ("package",)
    assert weights_sources({}) == ()


def test_a_raised_pixel_limit_lets_photos_in(run):
    first = run(max_pixels=1023)
    assert first.written == 0
    assert first.rejects[0].reason == "too many pixels: 32 x 32 is more than the limit of 1023"
    assert (run().written, len(run().rejects)) == (9, 2)


def test_a_missing_file_is_a_reject_and_the_rest_goes_on(run, photos, tmp_path):
    report = run([tmp_path / "gone.jpg", *photos[:3]])
    assert report.written == 3
    assert [(reject.path.name, reject.reason) for reject in report.rejects] == [
        ("gone.jpg", "No such file or directory")
    ]


def test_no_photos_make_no_cache(run, tmp_path):
    report = run([])
    assert (report.photos, report.unique, report.written) == (0, 0, 0)
    assert not (tmp_path / "features").exists()


def test_progress_counts_up_to_all_of_them(run):
    seen = []
    run(progress=seen.append)
    assert [(step.done, step.total) for step in seen] == [(4, 10), (9, 10), (10, 10)]
    assert all(step.per_second > 0 and step.seconds_left >= 0 for step in seen)


def test_an_interrupt_keeps_the_rows_so_far(run, tmp_path):
    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)
    report = run()
    assert (report.reused, report.written) == (4, 5)


def terminated_while_extracting(photos, options):
    with pytest.raises(KeyboardInterrupt):
        extract(photos, BACKBONE, options, lambda step: signal.raise_signal(signal.SIGTERM))
    sys.exit(INTERRUPTED)


def test_a_termination_signal_is_an_interrupt(run, photos, tmp_path):
    # In a process of its own: what other tests have done with signals in this one decides nothing, and ends nothing.
    options = ExtractOptions(cache=tmp_path / "features", runtime="torch", device="cpu", batch_size=4)
    process = multiprocessing.get_context("spawn").Process(target=terminated_while_extracting, args=(photos, options))
    process.start()
    process.join()
    assert process.exitcode == INTERRUPTED
    assert run().reused >= 4


def test_a_photo_that_changes_after_it_was_hashed_is_stored_as_what_it_is_now(run, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    paths = [folder / f"{number:03}.png" for number in range(80)]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (number, 255 - number, 7)).save(path)
    old = ids_of(paths[-1:])

    def change(step):
        if step.done == 1:
            Image.new("RGB", (32, 32), (9, 9, 200)).save(paths[-1])

    report = run(paths, progress=change, batch_size=1, workers=1)
    reader = FeatureCache(tmp_path / "features").reader(report.key)
    (column,) = reader.columns
    assert reader.contains(ids_of(paths[-1:]), column).tolist() == [True]
    assert reader.contains(old, column).tolist() == [False]


def test_another_writer_is_no_hindrance(run, tmp_path):
    with FeatureCache(tmp_path / "features").writer(base_key(load_backbone(BACKBONE))):
        assert run().written == 9


def test_a_compact_under_way_is_waited_for_or_named(run, tmp_path):
    folder = tmp_path / "features" / base_key(load_backbone(BACKBONE)).digest[:16]
    folder.mkdir(parents=True)
    lock = FolderLock(folder)
    lock.acquire(0)
    with pytest.raises(CacheBusy, match="is compacting, pruning or repairing"):
        run()
    threading.Timer(0.3, lock.release).start()
    assert run(wait=30).written == 9


def test_bad_choices_are_refused_before_any_work(run, tmp_path):
    with pytest.raises(OptionError, match="no feature block 'pool'"):
        run(features=("pool",))
    with pytest.raises(OptionError, match="no view 'turned'"):
        run(views=("turned",))
    with pytest.raises(OptionError, match="no runtime 'tensorrt'"):
        run(runtime="tensorrt")
    with pytest.raises(BackboneError, match="half precision needs a GPU"):
        run(precision="half")
    assert shards(tmp_path) == {}


def test_sixteen_bit_storage_reads_back_close(run, photos, tmp_path):
    exact = run()
    whole = FeatureCache(tmp_path / "features").reader(exact.key)
    half = run(cache=tmp_path / "half", dtype="float16")
    stored = FeatureCache(tmp_path / "half").reader(half.key)
    ids = ids_of(photos[:3])
    assert np.allclose(stored.read(ids, stored.columns), whole.read(ids, whole.columns), rtol=1e-3, atol=1e-4)


def test_efficiency_is_a_share_of_the_forward_pass_of_the_same_job(run, monkeypatch):
    monkeypatch.setattr("pipeline.features.engines.local._PROBE_AFTER", 0.0)
    monkeypatch.setattr("pipeline.features.engines.local._ROUND_SECONDS", 0.01)
    report = run()
    assert report.forward_per_second > 0
    assert report.seconds["probe"] > 0


def test_extractions_of_several_kinds_have_no_single_forward_rate(run, photos, monkeypatch):
    monkeypatch.setattr("pipeline.features.engines.local._PROBE_AFTER", 0.0)
    run(photos[:3])
    assert run(features=("pooled", "levels")).forward_per_second is None


@pytest.mark.parametrize(
    ("rate", "alone", "share", "line"),
    [
        (50.0, 100.0, 0.5, "  50% of the forward pass alone (100.0 images/s)"),
        (110.0, 100.0, None, "  the forward pass alone, measured afterwards, was slower (100.0 images/s): the machine"),
        (50.0, None, None, None),
    ],
)
def test_a_share_above_one_is_never_claimed(run, rate, alone, share, line):
    report = replace(run(), images_per_second=rate, forward_per_second=alone)
    assert report.efficiency == share
    told = [text for text in extract_lines(report) if "forward pass alone" in text]
    assert [text[: len(line or "")] for text in told] == ([line] if line else [])


def test_a_photo_that_this_run_had_no_memory_for_is_tried_again(photos, tmp_path, monkeypatch):
    photos, cache = photos[:2], tmp_path / "features"

    def starved(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", starved)
        first = extract(photos, BACKBONE, ExtractOptions(cache=cache))
    assert [reject.reason for reject in first.rejects] == ["not enough memory here to open it"] * 2
    assert extract(photos, BACKBONE, ExtractOptions(cache=cache)).written == 2
