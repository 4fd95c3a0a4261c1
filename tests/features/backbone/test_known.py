"""What a folder remembers of a network is believed only if everything is as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cache import FeatureCache, digest_of
from pipeline.errors import BackboneError
from pipeline.features.backbone import resize
from pipeline.features.backbone.network import Backbone, base_key, known, load_backbone, weights_file
from pipeline.features.backbone.network.module import FeatureModule
from pipeline.features.backbone.weights import load_net
from pipeline.features.extract import extract
from pipeline.features.runtimes import RuntimeOptions, make_runtime
from pipeline.options import BackboneOptions, ExtractOptions

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[3]


def write_weights(path: Path, seed: int) -> None:
    save_file(load_net("test_resnet", f"random:{seed}").state_dict(), path)


@pytest.fixture
def asked(tmp_path: Path) -> BackboneOptions:
    write_weights(tmp_path / "weights.safetensors", 0)
    return BackboneOptions("test_resnet", str(tmp_path / "weights.safetensors"), 32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runtimes"


def is_remembered(backbone: Backbone) -> bool:
    return backbone.known_blocks is not None


def names(backbone: Backbone) -> object:
    return base_key(backbone), backbone.blocks(["pooled", "levels", "grid", "colour"]), backbone.provenance.facts


def test_what_is_remembered_names_the_same_vectors(asked: BackboneOptions, store: Path) -> None:
    whole = load_backbone(asked, store)
    again = load_backbone(asked, store)
    assert (is_remembered(whole), is_remembered(again)) == (False, True)
    assert names(again) == names(whole) == names(load_backbone(asked))
    pixels = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    assert torch.equal(again.module()(pixels)["pooled"], whole.module()(pixels)["pooled"])


def test_other_words_are_another_network(asked: BackboneOptions, store: Path) -> None:
    load_backbone(asked, store)
    for other in (replace(asked, size=64), replace(asked, resize="pad")):
        assert not is_remembered(load_backbone(other, store))
        assert is_remembered(load_backbone(other, store))


def test_other_bytes_in_the_weights_file_are_loaded(asked: BackboneOptions, store: Path) -> None:
    before = load_backbone(asked, store)
    write_weights(Path(asked.weights), 1)
    after = load_backbone(asked, store)
    assert not is_remembered(after)
    assert after.weights_sha256 != before.weights_sha256
    Path(asked.weights).unlink()
    with pytest.raises(BackboneError, match="no such file"):
        load_backbone(asked, store)


def test_weights_that_change_in_use_are_no_other_networks_vectors(asked: BackboneOptions, store: Path) -> None:
    load_backbone(asked, store)
    remembered = load_backbone(asked, store)
    write_weights(Path(asked.weights), 1)
    with pytest.raises(BackboneError, match="changed while they were in use; run the same command again"):
        remembered.module()


@pytest.mark.parametrize("name", ["torch", "timm", "numpy", "machine", "code"])
def test_another_version_is_loaded(
    asked: BackboneOptions, store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    load_backbone(asked, store)
    there = known.made_with()
    assert name in there
    monkeypatch.setattr(known, "made_with", lambda: {**there, name: "another"})
    assert not is_remembered(load_backbone(asked, store))
    assert is_remembered(load_backbone(asked, store))


def test_no_flipped_bit_of_a_record_is_believed(asked: BackboneOptions, store: Path) -> None:
    whole = names(load_backbone(asked, store))
    (record,) = store.glob("*.json")
    sound = record.read_bytes()
    dice = np.random.default_rng(0)
    for at in dice.choice(len(sound), 150, replace=False):
        record.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << dice.integers(8))]) + sound[at + 1 :])
        found = known.recall(store, asked)
        assert found is None or sound[at : at + 1].isspace()
    record.write_text(json.dumps({"checksum": digest_of({})}))
    assert names(load_backbone(asked, store)) == whole
    assert is_remembered(load_backbone(asked, store))


def test_a_record_of_a_network_under_another_ones_name_is_not_believed(asked: BackboneOptions, store: Path) -> None:
    load_backbone(asked, store)
    (small,) = store.glob("*.json")
    load_backbone(replace(asked, size=64), store)
    (large,) = set(store.glob("*.json")) - {small}
    large.write_bytes(small.read_bytes())
    assert load_backbone(replace(asked, size=64), store).transform.size == 64


def test_drawn_weights_and_an_unknown_resize_are_not_remembered(
    asked: BackboneOptions, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_backbone(replace(asked, weights="random:0"), store)
    monkeypatch.setattr(known, "is_exact", lambda: False)
    load_backbone(asked, store)
    assert not list(store.glob("*"))


def test_the_hubs_weights_are_remembered_by_the_file_that_was_downloaded(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.safetensors"
    write_weights(file, 0)
    monkeypatch.setattr(
        weights_file.HubFile, "path", property(lambda self: file if "test_resnet" in self.repo else None)
    )
    monkeypatch.setattr(
        "pipeline.features.backbone.weights._SOURCES", {"hub": lambda name, _: load_net(name, str(file))}
    )
    hub = BackboneOptions("test_resnet", "hub", 32)
    whole, again = load_backbone(hub, store), load_backbone(hub, store)
    assert is_remembered(again)
    assert names(again) == names(whole)
    write_weights(file, 1)
    assert not is_remembered(load_backbone(hub, store))
    # timm took another file than the one that lies there.
    monkeypatch.setattr(
        "pipeline.features.backbone.weights._SOURCES", {"hub": lambda name, _: load_net(name, "random:2")}
    )
    for _ in range(2):
        assert not is_remembered(load_backbone(replace(hub, size=64), store))


def test_the_version_of_pytorch_is_read_without_its_import() -> None:
    code = "import sys; from pipeline.features.backbone.network.known import torch_version; print(torch_version())"
    code += "; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(torch.__version__), "False"]


@pytest.mark.skipif(any(Path("/dev").glob("nvidia*")) or sys.platform != "linux", reason="there may be a GPU")
def test_where_no_gpu_has_a_file_pytorch_is_not_asked_for_one() -> None:
    code = "import sys; from pipeline.machine import choose_device"
    code += "; print(choose_device('auto'), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["cpu", "False"]


def test_a_second_start_needs_neither_pytorch_nor_timm(asked: BackboneOptions, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    cache, photos = tmp_path / "cache", [tmp_path / f"{i}.png" for i in range(2)]
    dice = np.random.default_rng(0)
    for photo in photos:
        Image.fromarray(dice.integers(0, 256, (50, 40, 3), np.uint8)).save(photo)
    options = ExtractOptions(cache, device="cpu")
    first = extract(photos[:1], asked, options)
    code = f"""
import sys
from pathlib import Path
class Nothing:
    def find_spec(self, name, *_):
        assert name.partition(".")[0] not in ("torch", "timm"), f"{{name}} was imported"
from importlib.util import find_spec
spec = find_spec("torch")
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: spec if name == "torch" else real(name, *args)
sys.meta_path.insert(0, Nothing())
from pipeline.features.extract import extract
from pipeline.options import BackboneOptions, ExtractOptions
report = extract([Path({str(photos[1])!r})], BackboneOptions(*{(asked.backbone, asked.weights, asked.size)!r}),
                 ExtractOptions(Path({str(cache)!r}), device="cpu"))
print(report.key, report.written, report.runtime, report.notes)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout.startswith(f"{first.key} 1 openvino"), told.stderr[-500:]
    ids = FeatureCache(cache).files.ids(photos)[0]
    reader = FeatureCache(cache).reader(first.key)
    quick = reader.read(ids, reader.columns)
    whole = extract(photos, asked, replace(options, cache=tmp_path / "whole"))
    again = FeatureCache(tmp_path / "whole").reader(whole.key)
    np.testing.assert_array_equal(quick, again.read(ids, again.columns))


def test_a_network_that_another_timm_builds_otherwise_is_converted_again(
    asked: BackboneOptions, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    options = RuntimeOptions("cpu", batch_size=2, threads=1, store=store)
    before = make_runtime("openvino", load_backbone(asked, store), ("pooled",), options)(pixels)["pooled"]
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "another" if name == "timm" else version(name))
    forward = FeatureModule.forward
    monkeypatch.setattr(FeatureModule, "forward", lambda self, x: {n: 2 * v for n, v in forward(self, x).items()})
    after = make_runtime("openvino", load_backbone(asked, store), ("pooled",), options)(pixels)["pooled"]
    np.testing.assert_allclose(after, 2 * before, rtol=1e-4, atol=1e-5)


def test_a_tampered_model_or_weights_are_converted_and_loaded_again(asked: BackboneOptions, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    photo, options = tmp_path / "photo.png", ExtractOptions(tmp_path / "cache", device="cpu")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)).save(photo)
    first = extract([photo], asked, options)
    expected = read_row(options.cache, first.key)
    (binary,) = options.cache.glob("runtimes/*/model.bin")
    damaged = bytearray(binary.read_bytes())
    damaged[len(damaged) // 2] ^= 64
    binary.write_bytes(damaged)
    drop_rows(options.cache, first.key)
    second = extract([photo], asked, options)
    assert any("the model was converted again" in note for note in second.notes)
    np.testing.assert_array_equal(read_row(options.cache, second.key), expected)
    write_weights(Path(asked.weights), 1)
    third = extract([photo], asked, options)
    assert third.key != first.key
    assert not np.array_equal(read_row(options.cache, third.key), expected)


def read_row(cache: Path, key: str) -> np.ndarray:
    reader = FeatureCache(cache).reader(key)
    return reader.read(reader.ids(reader.columns[0]), reader.columns)


def drop_rows(cache: Path, key: str) -> None:
    for shard in (cache / key[:16]).glob("*.h5"):
        shard.unlink()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_numpy_resizes_to_the_bits_of_pytorch(interpolation: str) -> None:
    assert resize.is_exact()
    dice = np.random.default_rng(1)
    for _ in range(40):
        height, width, to_height, to_width = dice.integers(1, 300, 4).tolist()
        pixels = dice.integers(0, 256, (height, width, 3), np.uint8)
        expected = resize.by_torch(pixels, to_width, to_height, interpolation)
        np.testing.assert_array_equal(resize.by_numpy(pixels, to_width, to_height, interpolation), expected)
