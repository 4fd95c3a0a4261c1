"""Feeding photos: order, rejects, one decoding for all views, memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import BackboneError, OptionError
from pipeline.features import embed as module
from pipeline.features import runtimes
from pipeline.features.backbone.network import load_backbone
from pipeline.features.embed import Embedder, EmbedOptions, embed
from pipeline.features.runtimes.eager import EagerRuntime
from pipeline.options import BackboneOptions

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(BackboneOptions(backbone="test_resnet", weights="random:0", size=SIZE, resize="squash"))


@pytest.fixture
def photos(tmp_path):
    """21 photos of the network's own size; the 3rd, 4th and last are no photos."""
    rng, paths = np.random.default_rng(0), []
    for number in range(21):
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
        if number in (2, 3, 20):
            path.write_bytes(b"" if number == 2 else b"no photo")
        paths.append(path)
    return paths


def options(**changes):
    return EmbedOptions(**{"device": "cpu", "runtime": "torch", "batch_size": 4, "workers": 2, **changes})


def collect(batches):
    batches = list(batches)
    keys = list(batches[0].features)
    return (
        np.concatenate([batch.indices for batch in batches]),
        np.concatenate([batch.ids for batch in batches]),
        {key: np.concatenate([batch.features[key] for batch in batches]) for key in keys},
        [reject for batch in batches for reject in batch.rejects],
    )


def expected(backbone, paths, flip=False):
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    pixels = np.ascontiguousarray(pixels[:, :, ::-1] if flip else pixels)
    with torch.inference_mode():
        return backbone.module(("pooled",))(torch.from_numpy(pixels))["pooled"].numpy()


def test_vectors_come_in_order_and_bad_photos_shift_none(backbone, photos):
    indices, ids, features, rejects = collect(embed(photos, backbone, ["pooled"], options=options()))
    good = [number for number in range(21) if number not in (2, 3, 20)]
    assert indices.tolist() == good
    assert [value.ljust(32, b"\0") for value in ids.tolist()] == [
        hashlib.sha256(photos[number].read_bytes()).digest() for number in good
    ]
    assert [(reject.index, reject.reason) for reject in rejects] == [
        (2, "empty file"),
        (3, "not an image in a known format"),
        (20, "not an image in a known format"),
    ]
    assert rejects[1].content_id == hashlib.sha256(b"no photo").digest()
    vectors = expected(backbone, [photos[number] for number in good])
    assert np.abs(features["pooled", "identity"] - vectors).max() <= 1e-5 * np.abs(vectors).max()


def test_batches_are_full_but_the_last(backbone, photos):
    assert [len(batch.indices) for batch in embed(photos, backbone, ["pooled"], options=options())] == [4, 4, 4, 4, 2]


def test_a_file_that_is_gone_is_a_reject(backbone, photos):
    photos[5].unlink()
    rejects = collect(embed(photos, backbone, ["pooled"], options=options()))[3]
    assert (5, "No such file or directory") in [(reject.index, reject.reason) for reject in rejects]


def test_a_pipe_in_the_place_of_a_photo_is_a_reject_and_no_wait(backbone, photos):
    photos[5].unlink()
    os.mkfifo(photos[5])

    def other_end():
        """Whoever waits for it gets it after a while, so that this test ends either way."""
        with contextlib.suppress(OSError):
            os.close(os.open(photos[5], os.O_WRONLY | os.O_NONBLOCK))

    timer = threading.Timer(5, other_end)
    timer.start()
    rejects = collect(embed(photos, backbone, ["pooled"], options=options()))[3]
    timer.cancel()
    assert (5, "not a regular file") in [(reject.index, reject.reason) for reject in rejects]


def test_who_leaves_early_waits_for_the_photos_in_hand_only(backbone, photos, monkeypatch):
    decode, started, left = module.content_pixels, [], threading.Event()

    def slow(*args):
        started.append(left.is_set())
        time.sleep(0.05)
        return decode(*args)

    monkeypatch.setattr(module, "content_pixels", slow)
    batches = embed(photos[4:20] * 50, backbone, ["pooled"], options=options(workers=2))
    next(batches)
    left.set()
    batches.close()
    # A thread may be between its look at the sign to stop and the photo; chunks of eight are not finished.
    assert started.count(True) <= 2


def test_nothing_but_bad_photos_gives_one_empty_batch(backbone, photos):
    (batch,) = embed(photos[2:4], backbone, ["pooled"], ["identity", "hflip"], options())
    assert batch.features["pooled", "hflip"].shape == (0, 96)
    assert [reject.index for reject in batch.rejects] == [0, 1]
    assert list(embed([], backbone, ["pooled"], options=options())) == []


def test_views_share_one_decoding(backbone, photos, monkeypatch):
    decoded = []
    decode = module.content_pixels
    monkeypatch.setattr(module, "content_pixels", lambda *args: decoded.append(1) or decode(*args))
    good = photos[4:20]
    features = collect(embed(good, backbone, ["pooled", "grid"], ["identity", "hflip"], options()))[2]
    assert set(features) == {(b, v) for b in ("pooled", "grid") for v in ("identity", "hflip")}
    assert len(decoded) == 16
    vectors = expected(backbone, good, flip=True)
    assert np.abs(features["pooled", "hflip"] - vectors).max() <= 1e-5 * np.abs(vectors).max()


def test_reading_runs_only_so_far_ahead(backbone, photos, monkeypatch):
    decoded = []
    decode = module.content_pixels
    monkeypatch.setattr(module, "content_pixels", lambda *args: decoded.append(1) or decode(*args))
    batches = embed(photos[4:20] * 50, backbone, ["pooled"], options=options())
    next(batches)
    assert len(decoded) < 100
    batches.close()
    assert len(decoded) < 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "forward"))]


class _Small(EagerRuntime):
    """Eager torch on a device that holds two photos at once."""

    holds = 2

    def _run(self, pixels):
        if len(pixels) > self.holds:
            raise torch.OutOfMemoryError("out of memory")
        return super()._run(pixels)


class TestMemory:
    def test_a_batch_too_large_is_halved_until_it_fits(self, backbone, photos, monkeypatch):
        monkeypatch.setitem(runtimes.RUNTIMES, "torch", _Small)
        embedder = Embedder(backbone, ["pooled"], ["identity"], options(batch_size=8))
        indices, _, features, _ = collect(embedder(photos))
        assert embedder.batch_size == 2
        good = [number for number in range(21) if number not in (2, 3, 20)]
        assert indices.tolist() == good
        vectors = expected(backbone, [photos[number] for number in good])
        assert np.abs(features["pooled", "identity"] - vectors).max() <= 1e-5 * np.abs(vectors).max()

    def test_no_room_for_one_photo_is_an_error(self, backbone, photos, monkeypatch):
        monkeypatch.setitem(runtimes.RUNTIMES, "torch", _Small)
        monkeypatch.setattr(_Small, "holds", 0)
        with pytest.raises(BackboneError, match="the GPU has not memory enough for test_resnet"):
            list(embed(photos, backbone, ["pooled"], options=options()))


def test_an_unknown_view_is_named_before_any_work(backbone):
    with pytest.raises(OptionError, match="no view 'rot90'"):
        Embedder(backbone, ["pooled"], ["rot90"], options())


def test_the_rate_of_the_forward_pass_alone_is_measured(backbone, photos):
    embedder = Embedder(backbone, ["pooled"], ["identity"], options())
    collect(embedder(photos))
    assert embedder.forward_rate(1) > 0
    assert embedder.timings.photos == 18
    assert min(embedder.timings.read, embedder.timings.decode, embedder.timings.forward) > 0


def test_threads_that_share_an_embedder_get_the_vectors_of_their_own_photos(photos):
    """The network's stem is tapped by a hook, through which one thread could be handed another's maps."""
    convnext = load_backbone(BackboneOptions("test_convnext", "random:0", 32))
    module = convnext.module(("levels",))
    assert not module.reentrant and convnext.module(("pooled",)).reentrant
    shared = Embedder(convnext, ["levels"], ["identity"], options(batch_size=2, workers=1))
    good = photos[4:16]
    alone = [collect(shared([photo]))[2]["levels", "identity"] for photo in good]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            together = threads.map(lambda photo: collect(shared([photo]))[2]["levels", "identity"], good)
            assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
