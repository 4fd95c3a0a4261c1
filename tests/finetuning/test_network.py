"""Norms folded into convolutions, weights averaged over steps and drawn back, heads as plain layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from pipeline.features.backbone.network import load_backbone
from pipeline.features.backbone.weights import load_net
from pipeline.finetuning.network.averaging import averaged_model, between
from pipeline.finetuning.network.depthwise import DepthwiseConvolution
from pipeline.finetuning.network.folding import fold_frozen_norms
from pipeline.finetuning.network.model import NET, AttributeHeads, Model, head_layers, make_optimizer
from pipeline.finetuning.network.stages import Part
from pipeline.options import BackboneOptions, FinetuneOptions

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients(net: torch.nn.Module, bf16: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    images = torch.randn(3, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = net(images)
    net.zero_grad()
    (outputs.float() ** 2).mean().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None} | {
        "": outputs.detach().float()
    }


def trainable(name: str) -> torch.nn.Module:
    net = load_net(name, "random:0")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics as training leaves them
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return net.eval().requires_grad_(True)


class TestFolding:
    @pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_mambaout"])
    def test_outputs_and_every_gradient_stay(self, name: str) -> None:
        plain = trainable(name)
        folded = copy.deepcopy(plain)
        count = fold_frozen_norms(folded, 32)
        norms = [m for m in plain.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert count == len(norms) and (norms or name == "test_mambaout")
        expected, found = gradients(plain), gradients(folded)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5 * max(1.0, float(value.abs().max())))
        assert {*folded.state_dict()} == {*plain.state_dict()}

    def test_grouped_convolutions_in_bf16_have_gradients_near_those_of_single_precision(self) -> None:
        plain = trainable("test_efficientnet")
        folded = copy.deepcopy(plain)
        fold_frozen_norms(folded, 32)
        expected, found = gradients(plain), gradients(folded, bf16=True)
        depthwise = [n for n, m in plain.named_modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
        assert depthwise
        for name in depthwise:
            a, b = expected[f"{name}.weight"].flatten(), found[f"{name}.weight"].flatten()
            assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > 0.99

    @pytest.mark.parametrize("size", [7, 30])
    @pytest.mark.parametrize(
        ("side", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (5, 1, 2), (5, 2, 1), (5, 3, 2), (7, 1, 3), (7, 2, 0)]
    )
    def test_depthwise_gradients_are_those_of_single_precision_but_for_bf16_rounding(
        self, side: int, stride: int, padding: int, size: int
    ) -> None:
        torch.manual_seed(0)
        arrays = torch.randn(4, 3, size, size + 2), torch.randn(3, 1, side, side), torch.randn(3)
        # What bf16 can hold, so that only what is computed differs.
        x, weight, bias = (array.bfloat16().float().requires_grad_(True) for array in arrays)
        outputs = torch.nn.functional.conv2d(x, weight, bias, stride, padding, 1, 3)
        seen = DepthwiseConvolution.apply(x, weight, bias, stride, padding)
        told = torch.randn_like(outputs).bfloat16()
        expected = torch.autograd.grad(outputs, (x, weight, bias), told.float())
        found = torch.autograd.grad(seen, (x, weight, bias), told)
        for a, b in zip((outputs, *expected), (seen, *found), strict=True):
            assert b.shape == a.shape and float((a - b).detach().norm() / a.detach().norm()) < 0.005

    def test_a_norm_that_reads_something_else_is_left_alone(self) -> None:
        class Doubled(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.conv(x)
                return torch.as_tensor(self.norm(x) + x)

        net = Doubled().eval()
        torch.nn.init.uniform_(net.norm.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        images = torch.randn(2, 3, 8, 8)
        before = net(images)
        assert fold_frozen_norms(net, 8) == 0
        torch.testing.assert_close(net(images), before)


class TestAveraging:
    def test_the_average_forgets_its_start_and_then_moves_slowly(self) -> None:
        model = torch.nn.Linear(1, 1, bias=False)
        average = averaged_model(model, 0.9)
        expected = 0.0
        for step in range(200):
            weight = float(step)
            torch.nn.init.constant_(model.weight, weight)
            average.update_parameters(model)
            decay = min(0.9, (1 + step) / (10 + step))
            expected = weight if step == 0 else decay * expected + (1 - decay) * weight
            assert float(average.module.weight.detach()) == pytest.approx(expected, rel=1e-5)  # type: ignore[operator]
        assert 185 < expected < 199

    def test_between_moves_the_backbone_and_leaves_the_heads(self) -> None:
        start = {"w": torch.zeros(2), "steps": torch.tensor(0)}
        state = {NET + "w": torch.ones(2), NET + "steps": torch.tensor(7), "heads.b": torch.ones(1)}
        moved = between(start, state, 0.25)
        assert moved[NET + "w"].tolist() == [0.25, 0.25]
        assert int(moved[NET + "steps"]) == 7 and float(moved["heads.b"]) == 1
        assert between(start, state, 1.0) == state


class TestHeads:
    @pytest.mark.parametrize("hidden", [0, 5])
    def test_as_layers_they_compute_the_same(self, hidden: int) -> None:
        heads = AttributeHeads(7, [2, 3], hidden, 0.5).eval()
        for parameter in heads.parameters():
            torch.nn.init.normal_(parameter)
        X = torch.randn(4, 7)
        layers = head_layers({f"heads.{name}": tensor for name, tensor in heads.state_dict().items()})
        Z = X.numpy()
        for i, (W, b) in enumerate(layers):
            Z = (np.maximum(Z, 0) if i else Z) @ W + b
        np.testing.assert_allclose(Z, heads(X).detach().numpy(), rtol=1e-4, atol=1e-5)

    def test_an_attribute_s_hidden_units_serve_it_alone(self) -> None:
        heads = AttributeHeads(7, [2, 3], 5, 0.0)
        for layer in heads.values:
            torch.nn.init.ones_(layer.weight)  # type: ignore[arg-type]
        heads(torch.randn(4, 7))[:, :2].sum().backward()
        assert heads.hidden is not None and heads.hidden.weight.grad is not None
        assert heads.hidden.weight.grad[:5].any() and not heads.hidden.weight.grad[5:].any()


def test_a_lower_stage_learns_slower_by_the_decay() -> None:
    backbone = load_backbone(BackboneOptions(backbone="test_resnet", weights="random:0", size=32))
    options = FinetuneOptions(layer_decay=0.5, lr=0.01, head_lr=0.02)
    model, part = Model(backbone, [3], options), Part(backbone.net, "last:3", "frozen")
    shares = {
        id(parameter): group["share"]
        for group in make_optimizer(model, part, options).param_groups
        for parameter in group["params"]
    }
    of = {name: shares[id(p)] for name, p in model.named_parameters() if id(p) in shares}
    by_stage = {name.removeprefix(NET).split(".")[0]: share for name, share in of.items()}
    assert by_stage == {"layer4": 1.0, "layer3": 0.5, "layer2": 0.25, "heads": 2.0}
