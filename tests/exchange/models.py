"""Small models of every kind of head, fitted by the real fits on vectors of tiny real networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from pipeline.arrays import Float32, Pixels
from pipeline.catalogue.labels import LabelSchema
from pipeline.features.backbone.network import base_key, load_backbone
from pipeline.features.embed import EmbedOptions
from pipeline.features.runtimes.forward import ForwardPass
from pipeline.heads import FittedHead, HeadConfig, SweepOptions, Targets, ensemble, fit_many
from pipeline.model.file import Decision, FeatureOrigin, Parts, build_model
from pipeline.options import BackboneOptions

HEADS = {
    "linear": HeadConfig(head="linear", epochs=2),
    "mlp": HeadConfig(head="mlp", hidden=(8,), epochs=2),
    "mlp-per-key": HeadConfig(head="mlp-per-key", hidden=(4,), epochs=2, loss="ce"),
    "kernel-ridge": HeadConfig(head="kernel-ridge", landmarks=30),
    "multinomial": HeadConfig(head="multinomial"),
    "logreg": HeadConfig(head="logreg"),
    "lightgbm": HeadConfig(head="lightgbm", trees=6, leaves=4, feature_fraction=0.5),
}
SMALL = ((3, 2, 4), (True, True, False))
MANY = ((2, 3) * 23, (True, False) * 23)
"""46 attributes."""


@cache
def origin(
    seed: int = 0, size: int = 32, blocks: tuple[str, ...] = ("pooled",), views: tuple[str, ...] = ("identity",)
) -> tuple[FeatureOrigin, Float32]:
    """A tiny network, and the vectors (v, n, d) that it makes of drawn pictures."""
    backbone = load_backbone(BackboneOptions("test_resnet", f"random:{seed}", size))
    key = base_key(backbone)
    found = backbone.blocks(blocks)
    listed = [{"name": name, "dim": block.dim, "digest": block.digest(key)} for name, block in found.items()]
    made = ForwardPass(backbone, blocks, views, EmbedOptions("cpu", "torch"))(pictures(size))
    X = np.stack([np.concatenate([made[block, view] for block in blocks], axis=1) for view in views])
    return FeatureOrigin(listed, key.to_json(), f"random:{seed}", views), X


def pictures(size: int, count: int = 60) -> Pixels:
    """Soft patches of colour, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (count, 4, 4, 3))
    return coarse.repeat(size // 4, 1).repeat(size // 4, 2).astype(np.uint8)


def targets(sizes: Sequence[int], single: Sequence[bool], count: int = 60) -> Targets:
    """Targets that depend on nothing; the last column has one class."""
    rng = np.random.default_rng(3)
    Y = (rng.random((count, sum(sizes))) < 0.4).astype(np.uint8)
    for start, width, one in zip(np.cumsum([0, *sizes]), sizes, single, strict=False):
        if one:
            Y[:, start : start + width] = np.eye(width, dtype=np.uint8)[rng.integers(0, width, count)]
    Y[:, -1] = 0
    return Targets.plain(Y, rng.random(Y.shape) < 2.0, sizes, single)


def schema_of_sizes(sizes: Sequence[int], single: Sequence[bool]) -> LabelSchema:
    values = tuple(tuple(f"v{j}" for j in range(width)) for width in sizes)
    return LabelSchema(tuple(f"a{i}" for i in range(len(sizes))), values, tuple(single))


def fitted(config: HeadConfig, X: Float32, kind: tuple[Sequence[int], Sequence[bool]] = SMALL) -> FittedHead:
    truth = targets(*kind)
    return fit_many([config], (X, truth), (X, truth), SweepOptions(device="cpu"))[0]


def as_model(
    head: FittedHead, origins: FeatureOrigin | Sequence[FeatureOrigin], X: Float32, schema: LabelSchema
) -> dict[str, Any]:
    parts = Parts(head.members, head.links, {"head": head.config.head, "loss": float("nan")})
    thresholds = np.linspace(0, 0.5, schema.size)
    return build_model(schema, parts, Decision(thresholds, "per-label"), origins, X[0])


@cache
def model_of(name: str) -> dict[str, Any]:
    """A model by the name of its head, or `ensemble` (weighted, two views, three blocks), `backbones` (two of them)."""
    if name == "ensemble":
        from_, X = origin(blocks=("pooled", "levels", "colour"), views=("identity", "hflip"))
        heads = [fitted(HEADS[each], X) for each in ("mlp-per-key", "kernel-ridge")]
        heads = [replace(each, links=("softmax", "softmax", "sigmoid")) for each in heads]
        logreg = fitted(HEADS["logreg"], X)
        return as_model(ensemble([*heads, logreg], [0.5, 0.3, 0.2]), from_, X, schema_of_sizes(*SMALL))
    if name == "backbones":
        (first, X1), (second, X2) = origin(), origin(1, 48, ("levels",))
        own = fitted(HEADS["linear"], X2).on_columns(X1.shape[2], X1.shape[2] + X2.shape[2])
        X = np.concatenate([X1, X2], axis=2)
        whole = ensemble([fitted(HEADS["linear"], X), own])
        return as_model(whole, [first, second], X, schema_of_sizes(*SMALL))
    kind = MANY if name == "mlp-per-key" else SMALL
    from_, X = origin()
    return as_model(fitted(HEADS[name], X, kind), from_, X, schema_of_sizes(*kind))


NAMES = (*HEADS, "ensemble", "backbones")
