"""Every runtime against the eager module it stands for."""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import BackboneError, OptionError
from pipeline.features import runtimes
from pipeline.features.backbone.blocks import NETWORK_BLOCKS
from pipeline.features.backbone.network import load_backbone
from pipeline.features.converted_models import SEAL, check_converted, converted_models, store_converted
from pipeline.features.runtimes import RuntimeOptions, make_runtime
from pipeline.features.runtimes.openvino import OpenVinoRuntime
from pipeline.machine import choose_device
from pipeline.options import BackboneOptions

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, BATCH = 64, 4
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)


def load(name):
    return load_backbone(BackboneOptions(backbone=name, weights="random:0", size=SIZE, resize="squash"))


def options(**changes):
    return RuntimeOptions(**{"device": "cpu", "batch_size": BATCH, "threads": 1, **changes})


@functools.cache
def _pair(name, net, device, precision):
    """The eager reference and the runtime, made once for all tests of it."""
    return load(net), make_runtime(name, load(net), NETWORK_BLOCKS, options(device=device, precision=precision))


class RuntimeContract:
    """What every runtime must do; a subclass names the runtime and how far it may be off."""

    name = ""
    device = "cpu"
    precision = "fp32"
    cosine = 0.99999
    off = 1e-3

    @pytest.fixture(params=["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
    def pair(self, request):
        return _pair(self.name, request.param, self.device, self.precision)

    def test_gives_the_eager_vectors(self, pair, photos):
        reference, runtime = pair
        with torch.inference_mode():
            made = reference.module(NETWORK_BLOCKS)(torch.from_numpy(photos))
            expected = {name: rows.numpy() for name, rows in made.items()}
        found = runtime(photos)
        assert list(found) == list(NETWORK_BLOCKS)
        for name, rows in expected.items():
            lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(found[name], axis=1)
            assert ((rows * found[name]).sum(axis=1) >= self.cosine * lengths).all(), name
            assert np.abs(found[name] - rows).max() <= self.off * np.abs(rows).max(), name
            assert found[name].dtype == np.float32
        assert runtime.name == self.name
        assert runtime.note == ""

    def test_a_short_batch_gives_the_same_rows(self, pair, photos):
        runtime = pair[1]
        full, short = runtime(photos), runtime(photos[1:3])
        for name in NETWORK_BLOCKS:
            scale = np.abs(full[name]).max()
            assert short[name].shape == full[name][1:3].shape
            assert np.abs(short[name] - full[name][1:3]).max() <= 1e-5 * scale

    def test_results_are_not_overwritten_by_the_next_batch(self, pair, photos):
        runtime = pair[1]
        first = runtime(photos)["pooled"]
        kept = first.copy()
        runtime(255 - photos)
        assert np.array_equal(first, kept)

    def test_another_shape_is_refused(self, pair):
        for wrong in (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((BATCH + 1, SIZE, SIZE, 3), np.uint8)):
            with pytest.raises(ValueError, match=r"expected uint8 \(up to 4, 64, 64, 3\)"):
                pair[1](wrong)


def spoil(folder: Path, damage: str) -> None:
    if damage == "weights zeroed":
        content = (folder / "model.bin").read_bytes()
        (folder / "model.bin").write_bytes(content[:4096] + bytes(512) + content[4608:])
    elif damage == "graph":
        graph = (folder / "model.xml").read_text()
        (folder / "model.xml").write_text(graph.replace("ReLU", "Sigmoid", 1) + " ")
    elif damage == "seal":
        (folder / SEAL).write_text("{")
    elif damage == "other model":
        (folder / SEAL).write_text((folder / SEAL).read_text().replace(folder.name, "0" * 32))
    else:
        (folder / {"seal gone": SEAL, "file gone": "model.bin"}[damage]).unlink()


class TestTorch(RuntimeContract):
    name = "torch"


class TestOpenVino(RuntimeContract):
    name = "openvino"

    def test_a_second_start_uses_the_stored_model(self, tmp_path, photos, monkeypatch):
        stored = options(store=tmp_path / "runtimes")
        first = make_runtime("openvino", load("test_resnet"), ("pooled",), stored)(photos)
        monkeypatch.setattr(OpenVinoRuntime, "_converted", lambda *_: pytest.fail("converted again"))
        second = make_runtime("openvino", load("test_resnet"), ("pooled",), stored)(photos)
        assert np.array_equal(first["pooled"], second["pooled"])
        assert [path.name for path in (tmp_path / "runtimes").iterdir() if path.name.startswith(".")] == []

    @pytest.mark.parametrize("damage", ["weights zeroed", "graph", "seal", "seal gone", "file gone", "other model"])
    def test_a_damaged_stored_model_is_never_run_but_converted_again(self, tmp_path, photos, damage):
        def start():
            return make_runtime("openvino", load("test_resnet"), ("pooled",), options(store=tmp_path / "runtimes"))

        right = start()(photos)["pooled"]
        (folder,) = converted_models(tmp_path / "runtimes")
        assert check_converted(folder) is None
        spoil(folder, damage)
        assert check_converted(folder)
        again = start()
        assert again.note.endswith("; the model was converted again")
        assert np.array_equal(again(photos)["pooled"], right)
        assert converted_models(tmp_path / "runtimes") == [folder]
        assert check_converted(folder) is None
        assert start().note == ""
        assert [path.name for path in (tmp_path / "runtimes").iterdir()] == [folder.name]

    def test_no_flipped_bit_of_a_stored_model_goes_unseen(self, tmp_path):
        folder = tmp_path / "abc"
        store_converted(folder, lambda into: (into / "model.bin").write_bytes(bytes(range(40))))
        for path in sorted(folder.iterdir()):
            sound = path.read_bytes()
            for bit in range(8 * len(sound)):
                at = bit // 8
                path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << bit % 8]) + sound[at + 1 :])
                # A flipped space is a seal of the same meaning.
                assert check_converted(folder) or (path.name == SEAL and sound[at : at + 1].isspace())
            path.write_bytes(sound)
        assert check_converted(folder) is None

    def test_a_stored_model_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        steps = []
        sync, rename = os.fsync, Path.rename

        def noted(descriptor):
            steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", noted)
        monkeypatch.setattr(Path, "rename", lambda path, to: steps.append(f"-> {to.name}") or rename(path, to))
        store_converted(tmp_path / "abc", lambda into: (into / "model.bin").write_bytes(b"weights"))
        assert sorted(steps[:2]) == ["model.bin", SEAL]
        assert steps[2:] == ["ready", "-> abc", tmp_path.name]

    def test_other_weights_blocks_or_batches_are_other_stored_models(self, tmp_path):
        for seed, blocks, batch in ((0, ("pooled",), 4), (1, ("pooled",), 4), (0, ("grid",), 4), (0, ("pooled",), 2)):
            chosen = BackboneOptions(backbone="test_resnet", weights=f"random:{seed}", size=SIZE, resize="squash")
            make_runtime("openvino", load_backbone(chosen), blocks, options(store=tmp_path, batch_size=batch))
        assert len(list(tmp_path.iterdir())) == 4

    def test_a_store_that_cannot_be_written_is_no_obstacle(self, tmp_path, photos):
        (tmp_path / "file").write_text("in the way")
        runtime = make_runtime("openvino", load("test_resnet"), ("pooled",), options(store=tmp_path / "file" / "x"))
        assert runtime(photos)["pooled"].shape == (BATCH, 96)

    def test_without_the_package_eager_torch_stands_in(self, monkeypatch, photos):
        monkeypatch.setitem(sys.modules, "openvino", None)
        runtime = make_runtime("auto", load("test_resnet"), ("pooled",), options())
        assert runtime.name == "torch"
        assert runtime.note == (
            "runtime openvino is not available (pip install openvino); using eager PyTorch, which is slower"
        )
        assert runtime(photos)["pooled"].shape == (BATCH, 96)


@needs_gpu
class TestTorchOnGpu(RuntimeContract):
    name = "torch"
    device = "cuda"


@needs_gpu
class TestCuda(RuntimeContract):
    name = "cuda"
    device = "cuda"


@needs_gpu
class TestCudaHalf(RuntimeContract):
    name = "cuda"
    device = "cuda"
    precision = "half"
    cosine = 0.999
    off = 3e-2


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("half", True)])
def test_single_precision_on_a_gpu_rounds_no_factor(monkeypatch, precision, rounded):
    """Else cuDNN would round them to TF32's ten bits, and the key would not say so."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    loaded = load("test_resnet")
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    runtimes.RUNTIMES["torch"](loaded, ("pooled",), options(device="cuda", precision=precision))
    assert torch.backends.cudnn.allow_tf32 is rounded


class TestChoice:
    def test_auto_is_openvino_on_a_cpu(self):
        assert make_runtime("auto", load("test_resnet"), ("pooled",), options()).name == "openvino"

    def test_an_unknown_runtime_is_named(self):
        with pytest.raises(OptionError, match="no runtime 'openvin'; there are auto, .*; did you mean openvino?"):
            make_runtime("openvin", load("test_resnet"), ("pooled",), options())

    def test_an_unknown_device_is_named(self):
        with pytest.raises(OptionError, match="device is 'tpu'; it can be auto, cpu or cuda"):
            choose_device("tpu")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there_is_an_error_only_when_asked_for(self):
        assert choose_device("auto") == "cpu"
        with pytest.raises(OptionError, match="device is cuda, but PyTorch sees no GPU here"):
            choose_device("cuda")

    def test_a_runtime_of_another_device_is_refused(self):
        with pytest.raises(OptionError, match="runtime cuda does not run on device cpu"):
            make_runtime("cuda", load("test_resnet"), ("pooled",), options())

    def test_half_precision_is_for_gpus(self):
        with pytest.raises(BackboneError, match="half precision needs a GPU"):
            make_runtime("torch", load("test_resnet"), ("pooled",), options(precision="half"))

    def test_streams_may_be_called_at_once(self, photos):
        from concurrent.futures import ThreadPoolExecutor

        runtime = make_runtime("openvino", load("test_resnet"), ("pooled",), options(threads=2))
        assert runtime.streams == 2
        alone = [runtime(np.roll(photos, shift, axis=1))["pooled"] for shift in range(6)]
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(lambda shift: runtime(np.roll(photos, shift, axis=1))["pooled"], range(6)))
        assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_every_registered_runtime_has_its_contract_here():
    tested = {cls.name for cls in RuntimeContract.__subclasses__()}
    assert tested == set(runtimes.RUNTIMES)


def test_an_interrupt_waits_until_openvino_has_read_the_model(monkeypatch):
    """The reader calls Python for every node, and what is raised there it takes for a model that it cannot read."""
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    asked = []

    def interrupted(self, *words):
        if not asked:
            asked.append(True)
            signal.raise_signal(signal.SIGINT)
        return op_type(self, *words)

    op_type = TorchScriptPythonDecoder.get_op_type
    monkeypatch.setattr(TorchScriptPythonDecoder, "get_op_type", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        make_runtime("openvino", load("test_resnet"), NETWORK_BLOCKS, options())
    assert asked and signal.getsignal(signal.SIGINT) is before
    make_runtime("openvino", load("test_resnet"), NETWORK_BLOCKS, options())
