"""The leaves of fine-tuning: what trains, augmentation, the objective, squares, checkpoints, what weights have seen."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from cache import as_ids, id_array
from pipeline.catalogue import Split
from pipeline.errors import CatalogueError, OptionError, RunError
from pipeline.features.backbone.provenance import TrainingProvenance, joined, nothing_seen, read_seen, require_unseen
from pipeline.features.backbone.transform import Transform, to_pixels
from pipeline.features.backbone.weights import load_net
from pipeline.finetuning.augment import augment
from pipeline.finetuning.checkpoint import load_checkpoint, only_one, save_checkpoint
from pipeline.finetuning.objective import objective, score
from pipeline.finetuning.pixels import Feeding, decode_all
from pipeline.finetuning.stages import Part

TRANSFORM = Transform(16, "squash", "bilinear", (0.5,) * 3, (0.5,) * 3)


def ids(*names: str) -> np.ndarray:
    return np.sort(id_array(name.encode().ljust(32, b".") for name in names))


class TestPart:
    def part(self, train: str, norm: str = "trained") -> tuple[torch.nn.Module, Part]:
        net = load_net("test_resnet", "random:0")
        part = Part(net, train, norm)
        part.mark()
        part.train_mode()
        return net, part

    def trained(self, net: torch.nn.Module) -> set[str]:
        return {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}

    def test_last_stages_train_and_the_rest_stays_in_evaluation_mode(self) -> None:
        net, part = self.part("last:2")
        assert part.stages == 5
        assert self.trained(net) == {"layer3", "layer4"}
        modes = {name: m.training for name, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
        assert {name for name, training in modes.items() if training} == {
            n for n in modes if n[:6] in self.trained(net)
        }
        assert not net.training  # the whole is not trained, so what belongs to no stage is not either

    def test_all_and_head(self) -> None:
        net, _ = self.part("all")
        assert all(p.requires_grad for p in net.parameters()) and all(m.training for m in net.modules())
        net, part = self.part("head")
        assert not part.parameters() and not any(m.training for m in net.modules())

    def test_frozen_statistics_keep_every_batchnorm_in_evaluation_mode(self) -> None:
        net, _ = self.part("all", "frozen")
        norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert norms and not any(m.training for m in norms)
        assert all(p.requires_grad for m in norms for p in m.parameters())

    @pytest.mark.parametrize("train", ["last:0", "last:6", "last:x", "lots"])
    def test_other_parts_are_refused(self, train: str) -> None:
        with pytest.raises(OptionError, match=f"--train is '{train}'.* N from 1 to 5 stages"):
            Part(load_net("test_resnet", "random:0"), train, "frozen")


class TestAugment:
    PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))

    def test_switched_off_it_changes_nothing(self) -> None:
        assert torch.equal(augment(self.PIXELS, 0, 1, np.random.default_rng(0)), self.PIXELS.float())

    def test_certain_mirroring_is_the_mirrored_photo(self) -> None:
        seen = augment(self.PIXELS, 1, 1, np.random.default_rng(0))
        torch.testing.assert_close(seen, self.PIXELS.flip(2).float(), atol=1e-2, rtol=0)

    def test_a_crop_shows_a_part_of_each_photo_enlarged(self) -> None:
        ramp = torch.arange(64.0).view(1, 1, 64, 1).expand(200, 64, 64, 3)
        seen = augment(ramp, 0, 0.5, np.random.default_rng(0))
        assert seen.min() >= 0 and seen.max() <= 63
        width = (seen[:, 0, -1, 0] - seen[:, 0, 0, 0]) / 63
        assert 0.65 < width.min() < 0.75 and 0.9 < width.max() <= 1.0
        assert seen[:, 0, 0, 0].std() > 2  # the place differs too


class TestObjective:
    Y = np.eye(3, dtype=np.uint8)[[0, 0, 0, 1, 1, 2]]

    def test_rare_values_weigh_by_the_share_of_photos_without_them(self) -> None:
        weights = objective(self.Y, True, "rarity").weights
        torch.testing.assert_close(weights, torch.tensor([3, 4, 5]) / 12)

    def test_single_valued_loss_is_torch_s_weighted_cross_entropy(self) -> None:
        goal, z = objective(self.Y, True, "rarity"), torch.randn(6, 3)
        total, weight = goal.loss(z, torch.from_numpy(self.Y))
        expected = torch.nn.CrossEntropyLoss(weight=goal.weights)(z, torch.tensor([0, 0, 0, 1, 1, 2]))
        torch.testing.assert_close(total / weight, expected)

    def test_multi_valued_loss_is_the_mean_binary_cross_entropy(self) -> None:
        Y, z = np.array([[1, 1, 0], [0, 0, 0]], np.uint8), torch.randn(2, 3)
        total, weight = objective(Y, False, "rarity").loss(z, torch.from_numpy(Y))
        torch.testing.assert_close(total / weight, torch.nn.BCEWithLogitsLoss()(z, torch.from_numpy(Y).float()))

    def test_scores(self) -> None:
        logits = np.array([[2, -1, -1], [1, 2, -3]], np.float32)
        Y = np.array([[1, 0, 0], [1, 0, 0]], np.uint8)
        assert score(logits, Y, single=True) == 0.5
        assert score(logits, Y, single=False) == pytest.approx(2 * 2 / (3 + 2))

    def test_one_value_is_nothing_to_learn(self) -> None:
        with pytest.raises(OptionError, match="nothing to learn"):
            objective(self.Y[:3, :1], True, "rarity")


@pytest.mark.parametrize("limit", [10**9, 0])
def test_decoded_photos_are_what_extract_sees_whether_held_in_memory_or_not(tmp_path: Path, limit: int) -> None:
    rng, paths = np.random.default_rng(0), []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(paths[-1])
    paths[2].write_bytes(b"no photo")
    good, photos = decode_all([*paths, tmp_path / "absent.png"], Feeding(TRANSFORM, 2, limit))
    assert good.tolist() == [0, 1, 3, 4]
    assert photos.rejects == {2: "not an image in a known format", 5: "No such file or directory"}
    assert (photos.held is None) == (limit == 0)
    expected = [to_pixels(paths[i].read_bytes(), TRANSFORM) for i in (4, 0)]
    np.testing.assert_array_equal(photos.take(np.array([3, 0])), expected)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    if limit == 0:
        paths[0].write_bytes(paths[1].read_bytes())
        with pytest.raises(CatalogueError, match=r"0\.png changed while the backbone was being trained"):
            photos.take(np.array([0]))


class TestCheckpoint:
    def test_a_failed_write_leaves_the_one_before_and_nothing_else(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path, {"history": [{"epoch": 1}], "model": {"w": torch.ones(2)}})
        with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
            save_checkpoint(tmp_path, {"model": {"w": torch.ones(2)}, "history": lambda: None})
        held = load_checkpoint(tmp_path)
        assert held is not None and held["history"] == [{"epoch": 1}]
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]

    def test_damage_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "checkpoint.pt").write_bytes(b"half")
        with pytest.raises(RunError, match="is damaged .*; remove it to start again"):
            load_checkpoint(tmp_path)

    def test_a_second_training_in_the_folder_is_refused(self, tmp_path: Path) -> None:
        with only_one(tmp_path), pytest.raises(RunError, match="another process is training in"), only_one(tmp_path):
            pass


class TestSeen:
    SEEN = TrainingProvenance(ids("a", "b"), ids("c"), {"split": "f/split.csv"})

    def test_a_weights_file_carries_it_in_its_header_alone(self, tmp_path: Path) -> None:
        safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors", self.SEEN.metadata())
        read = read_seen(str(tmp_path / "w.safetensors"))
        assert (read.train.tolist(), read.choice.tolist()) == (self.SEEN.train.tolist(), self.SEEN.choice.tolist())
        assert read.facts == {"split": "f/split.csv"}
        assert list(safetensors.torch.load_file(tmp_path / "w.safetensors")) == ["w"]

    @pytest.mark.parametrize("weights", ["hub", "package", "random:3", "absent.safetensors"])
    def test_other_weights_have_seen_nothing(self, weights: str) -> None:
        assert not read_seen(weights)

    def test_a_second_fine_tuning_adds_to_the_first(self) -> None:
        both = joined(self.SEEN, TrainingProvenance(ids("c", "d"), ids("e"), {}))
        assert both.train.tolist() == ids("a", "b", "c", "d").tolist()
        assert both.choice.tolist() == ids("e").tolist()

    @pytest.mark.parametrize(
        ("parts", "text"),
        [
            ("train train validation", None),
            ("train test validation", "1 of the 1 test photos trained it"),
            (
                "validation train test",
                "1 of the 1 validation photos trained it, 1 of the 1 test photos chose its epoch",
            ),
        ],
    )
    def test_what_trained_is_not_judged_on(self, parts: str, text: str | None) -> None:
        split = Split(np.array(parts.split()))
        if text is None:
            return require_unseen(self.SEEN, ids("a", "b", "c"), split, "w")
        with pytest.raises(OptionError, match=f"{text}. Take the split .* --split-from f/split.csv"):
            require_unseen(self.SEEN, ids("a", "b", "c"), split, "w")

    def test_nothing_seen_refuses_nothing(self) -> None:
        require_unseen(nothing_seen(), ids("a", "b"), Split(np.array(["test", "test"])), "w")
        assert not len(as_ids(()))
