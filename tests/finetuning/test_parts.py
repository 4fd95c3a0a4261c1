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
from pipeline.catalogue import LabelSchema, Split
from pipeline.errors import CatalogueError, OptionError, RunError
from pipeline.features.backbone.provenance import (
    TrainingProvenance,
    joined,
    nothing_seen,
    product_ids,
    read_seen,
    require_unseen,
)
from pipeline.features.backbone.transform import Transform, to_pixels
from pipeline.features.backbone.weights import load_net
from pipeline.finetuning.checkpoint import load_checkpoint, only_one, save_checkpoint
from pipeline.finetuning.network.objective import attribute_scores, constant_attributes, objective
from pipeline.finetuning.network.stages import Part
from pipeline.finetuning.photos.augment import Augmentation
from pipeline.finetuning.photos.colour import colour_attributes
from pipeline.finetuning.photos.pixels import Feeding, decode_all
from pipeline.options import FinetuneOptions

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


class TestAugmentation:
    PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))

    def seen(self, augmentation: Augmentation, pixels: torch.Tensor | None = None, size: int = 8) -> torch.Tensor:
        return augmentation.seen(self.PIXELS if pixels is None else pixels, size, np.random.default_rng(0))

    def test_switched_off_it_changes_nothing(self) -> None:
        assert torch.equal(self.seen(Augmentation(0, 1)), self.PIXELS.float())

    def test_certain_mirroring_is_the_mirrored_photo(self) -> None:
        torch.testing.assert_close(self.seen(Augmentation(1, 1)), self.PIXELS.flip(2).float(), atol=1e-2, rtol=0)

    def test_a_crop_shows_a_part_of_each_photo_enlarged(self) -> None:
        ramp = torch.arange(64.0).view(1, 1, 64, 1).expand(200, 64, 64, 3)
        seen = self.seen(Augmentation(0, 0.5), ramp, 64)
        assert seen.min() >= 0 and seen.max() <= 63
        width = (seen[:, 0, -1, 0] - seen[:, 0, 0, 0]) / 63
        assert 0.65 < width.min() < 0.75 and 0.9 < width.max() <= 1.0
        assert seen[:, 0, 0, 0].std() > 2  # the place differs too

    @pytest.mark.parametrize("augmentation", [Augmentation(0, 1), Augmentation(0.5, 0.7)])
    def test_a_smaller_square_shows_the_whole_photo(self, augmentation: Augmentation) -> None:
        flat = torch.full((2, 8, 8, 3), 77.0)
        torch.testing.assert_close(self.seen(augmentation, flat, 4), torch.full((2, 4, 4, 3), 77.0))

    def test_colours_change_by_as_much_as_asked_and_grey_stays_grey(self) -> None:
        grey = torch.full((50, 2, 2, 3), 100.0)
        seen = self.seen(Augmentation(0, 1, jitter=0.2), grey, 2)
        assert 80 - 1e-3 <= seen.min() < 85 and 115 < seen.max() <= 120 + 1e-3
        torch.testing.assert_close(seen[..., 0], seen[..., 2])

    def test_mixed_photos_carry_both_targets_and_only_what_is_known_of_both(self) -> None:
        images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 1, 3)
        Y, mask = torch.eye(4), torch.ones(4, 4, dtype=torch.bool)
        mask[0] = False
        mixed, targets, known = Augmentation(0, 1, mixup=1.0).mixed(images, Y, mask, np.random.default_rng(1))
        torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(4.0))
        assert ((targets > 0).sum(dim=1) == 2).any()
        assert not known[targets[:, 0] > 0].any() and known[targets[:, 0] == 0].all()

    def test_randaugment_draws_from_the_seed(self) -> None:
        augmentation = Augmentation(0, 1, randaugment=9)
        draws = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            draws.append(self.seen(augmentation))
        assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def schema_of(*single: bool, width: int = 3) -> LabelSchema:
    names = tuple("abcdef"[: len(single)])
    return LabelSchema(names, tuple(tuple(f"{name}{i}" for i in range(width)) for name in names), single)


class TestObjective:
    Y = np.eye(3, dtype=np.uint8)[[0, 0, 0, 1, 1, 2]]
    KNOWN = np.ones((6, 3), np.bool_)
    RARITY = FinetuneOptions(class_weights="rarity", label_smoothing=0.0)
    PLAIN = FinetuneOptions(class_weights="none", label_smoothing=0.0)

    def test_rare_values_weigh_by_the_share_of_photos_without_them(self) -> None:
        (attribute,) = objective(self.Y, self.KNOWN, schema_of(True), self.RARITY).attributes
        torch.testing.assert_close(attribute.weights / attribute.weights.sum(), torch.tensor([3, 4, 5]) / 12)
        assert float((attribute.weights * torch.tensor([3, 2, 1])).sum() / 6) == pytest.approx(1)

    def test_single_valued_loss_is_torch_s_weighted_cross_entropy(self) -> None:
        goal, z = objective(self.Y, self.KNOWN, schema_of(True), self.RARITY), torch.randn(6, 3)
        total, weight = goal.loss(z, torch.from_numpy(self.Y), torch.from_numpy(self.KNOWN))
        weights = goal.attributes[0].weights
        expected = torch.nn.CrossEntropyLoss(weight=weights)(z, torch.tensor([0, 0, 0, 1, 1, 2]))
        torch.testing.assert_close(total / weight, expected)

    def test_smoothing_is_torch_s_and_judging_goes_without(self) -> None:
        options = FinetuneOptions(class_weights="none", label_smoothing=0.1)
        goal, z = objective(self.Y, self.KNOWN, schema_of(True), options), torch.randn(6, 3)
        targets = torch.from_numpy(self.Y), torch.from_numpy(self.KNOWN)
        for each, smoothing in ((goal, 0.1), (goal.plain(), 0.0)):
            total, weight = each.loss(z, *targets)
            expected = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(z, torch.tensor([0, 0, 0, 1, 1, 2]))
            torch.testing.assert_close(total / weight, expected)

    def test_logit_adjustment_asks_more_of_rare_values_in_training_alone(self) -> None:
        goal = objective(self.Y, self.KNOWN, schema_of(True), FinetuneOptions(logit_adjust=1.0))
        prior = goal.attributes[0].prior
        torch.testing.assert_close(prior.exp(), torch.tensor([4, 3, 2]) / 9)
        assert not goal.plain().attributes[0].prior.any()

    def test_multi_valued_loss_is_the_binary_cross_entropy_over_the_values_per_photo(self) -> None:
        Y, z = np.array([[1, 1, 0], [0, 0, 0]], np.uint8), torch.randn(2, 3)
        goal = objective(Y, self.KNOWN[:2], schema_of(False), self.PLAIN)
        total, weight = goal.loss(z, torch.from_numpy(Y), torch.from_numpy(self.KNOWN[:2]))
        torch.testing.assert_close(total / weight, 3 * torch.nn.BCEWithLogitsLoss()(z, torch.from_numpy(Y).float()))

    def test_the_loss_is_the_mean_over_known_pairs_of_photo_and_attribute(self) -> None:
        schema, Y = schema_of(True, True), np.concatenate([self.Y, self.Y[::-1]], axis=1)
        mask = np.ones((6, 6), np.bool_)
        mask[:4, 3:] = False  # the second attribute is known of two photos
        goal, z = objective(Y, mask, schema, self.PLAIN), torch.randn(6, 6)
        total, weight = goal.loss(z, torch.from_numpy(Y), torch.from_numpy(mask))
        first = torch.nn.functional.cross_entropy(z[:, :3], torch.tensor([0, 0, 0, 1, 1, 2]), reduction="sum")
        second = torch.nn.functional.cross_entropy(z[4:, 3:], torch.tensor([0, 0]), reduction="sum")
        assert float(weight) == 8
        torch.testing.assert_close(total, first + second)

    def test_unknown_cells_have_no_gradient(self) -> None:
        mask = self.KNOWN.copy()
        mask[2] = False
        for single in (True, False):
            z = torch.randn(6, 3, requires_grad=True)
            goal = objective(self.Y, mask, schema_of(single), self.PLAIN)
            goal.loss(z, torch.from_numpy(self.Y), torch.from_numpy(mask))[0].backward()
            assert z.grad is not None and not z.grad[2].any() and z.grad[[0, 1, 3, 4, 5]].any(dim=1).all()

    def test_scores_are_per_attribute_and_on_known_cells(self) -> None:
        logits = np.array([[2, -1, -1], [1, 2, -3], [0, 0, 9]], np.float32)
        Y, mask = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]], np.uint8), np.ones((3, 3), np.bool_)
        mask[2] = False
        assert attribute_scores(logits, Y, mask, schema_of(True)) == {"a": 0.5}
        assert attribute_scores(logits, Y, mask, schema_of(False)) == {"a": pytest.approx(2 * 2 / (3 + 2))}
        assert attribute_scores(logits, Y, np.zeros_like(mask), schema_of(True)) == {}

    def test_one_value_is_nothing_to_learn(self) -> None:
        with pytest.raises(
            OptionError, match=r"nothing to learn: all of the 3 training photos .* have the same \(a: a0\)"
        ):
            objective(self.Y[:3, :1], self.KNOWN[:3, :1], schema_of(True, width=1), self.PLAIN)

    def test_one_attribute_of_one_value_stands_in_no_other_s_way(self) -> None:
        schema = LabelSchema(("a", "b"), (("a0", "a1", "a2"), ("b0",)), (True, True))
        Y = np.concatenate([self.Y, np.ones((6, 1), np.uint8)], axis=1)
        mask = np.ones(Y.shape, np.bool_)
        assert constant_attributes(Y, mask, schema) == ("b",)
        z = torch.randn(6, 4, requires_grad=True)
        objective(Y, mask, schema, self.RARITY).loss(z, torch.from_numpy(Y), torch.from_numpy(mask))[0].backward()
        assert z.grad is not None and not z.grad[:, 3].any() and z.grad[:, :3].any()


class TestColours:
    @pytest.mark.parametrize(
        ("name", "values", "about"),
        [
            ("colour", ("x",), True),
            ("baseColor", ("x",), True),
            ("tint", ("navy blue", "Red", "other"), True),
            ("pattern", ("striped", "floral", "red check"), False),
        ],
    )
    def test_an_attribute_is_about_colours_by_its_name_or_half_of_its_values(
        self, name: str, values: tuple[str, ...], about: bool
    ) -> None:
        assert bool(colour_attributes(LabelSchema((name,), (values,), (True,)))) == about


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

    PRODUCTS = TrainingProvenance(
        ids("a", "b"), ids("c"), {}, product_ids(["shirt 1", "shirt 2", None]), product_ids(["shirt 3"])
    )

    def test_products_travel_with_the_photos(self, tmp_path: Path) -> None:
        safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors", self.PRODUCTS.metadata())
        read = read_seen(str(tmp_path / "w.safetensors"))
        assert {n: i.tolist() for n, i in read.lists.items()} == {n: i.tolist() for n, i in self.PRODUCTS.lists.items()}
        assert len(read.train_products) == 2
        both = joined(
            read, TrainingProvenance(ids("c"), ids("e"), {}, product_ids(["shirt 3"]), product_ids(["shirt 4"]))
        )
        assert both.train_products.tolist() == product_ids(["shirt 1", "shirt 2", "shirt 3"]).tolist()
        assert both.choice_products.tolist() == product_ids(["shirt 4"]).tolist()

    @pytest.mark.parametrize(
        ("products", "text"),
        [
            (["shirt 8", None, "shirt 9"], None),
            (None, None),
            (["shirt 8", "shirt 2", "shirt 9"], "1 of the 1 validation photos trained it"),
            (["shirt 8", "shirt 3", "shirt 1"], "1 of the 1 test photos trained it"),
            (["shirt 1", "shirt 3", "shirt 3"], "1 of the 1 test photos chose its epoch"),
        ],
    )
    def test_another_photo_of_a_product_is_no_new_one(
        self, products: list[str | None] | None, text: str | None
    ) -> None:
        split, new = Split(np.array(["train", "validation", "test"])), ids("x", "y", "z")
        if text is None:
            return require_unseen(self.PRODUCTS, new, split, "w", products)
        with pytest.raises(OptionError, match=rf"{text} \(themselves or by another photo of their product\)"):
            require_unseen(self.PRODUCTS, new, split, "w", products)

    def test_nothing_seen_refuses_nothing(self) -> None:
        require_unseen(nothing_seen(), ids("a", "b"), Split(np.array(["test", "test"])), "w")
        assert not len(as_ids(()))
