"""From options to a backbone: remembered where a folder knows it, else loaded by timm."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BackboneError
from pipeline.features.backbone.network.backbone import Backbone
from pipeline.features.backbone.network.known import Known, recall, remember
from pipeline.features.backbone.network.weights_file import HubFile, digest_of_file, weights_file
from pipeline.features.backbone.provenance import read_seen
from pipeline.features.backbone.transform import Transform
from pipeline.options import BackboneOptions

if TYPE_CHECKING:
    import torch


def load_backbone(options: BackboneOptions, store: Path | None = None) -> Backbone:
    """The backbone, weights and transform that the options name.

    Args:
        options: Which.
        store: A folder of converted models, which remembers what names their vectors. A backbone that it knows is
            loaded only if its network is needed.

    Raises:
        BackboneError: no such model, or its weights cannot be had or do not fit.
        OptionError: the size or the resize mode cannot be.
    """
    if store is None:
        return _loaded(options)
    known = recall(store, options)
    if known is None:
        return _loaded_and_remembered(options, store)
    digest, seen = known.weights_sha256, read_seen(options.weights)
    load = partial(_again, options, digest)
    return Backbone(options.backbone, known.transform, digest, options.weights, load, seen, known.blocks)


def _again(options: BackboneOptions, weights_sha256: str) -> torch.nn.Module:
    """The network of a backbone that was remembered."""
    loaded = _loaded(options)
    if loaded.weights_sha256 != weights_sha256:
        raise BackboneError(f"the weights {options.weights} changed while they were in use; run the same command again")
    return loaded.net


def _loaded_and_remembered(options: BackboneOptions, store: Path) -> Backbone:
    hub = _hub_file(options)
    path = weights_file(options.backbone, options.weights, hub)
    before = digest_of_file(path)
    loaded = _loaded(options)
    if path is not None and before is not None and (hub is None or _holds(path, loaded)):
        known = Known(loaded.weights_sha256, loaded.transform, loaded.network_blocks)
        # Read while they were replaced, the weights may be those of either file.
        if digest_of_file(path) == before:
            remember(store, options, known, (before, hub))
    return loaded


def _loaded(options: BackboneOptions) -> Backbone:
    import timm
    from timm.data.config import resolve_model_data_config

    from pipeline.features.backbone.network.module import freeze
    from pipeline.features.backbone.weights import digest, load_net

    config = timm.get_pretrained_cfg(options.backbone)
    build: dict[str, object] = {}
    if options.size and config is not None and config.fixed_input_size and options.size != config.input_size[-1]:
        build["img_size"] = options.size
    net = freeze(load_net(options.backbone, options.weights, **build))
    resolved: dict[str, Any] = resolve_model_data_config(net)  # type: ignore[no-untyped-call]
    transform = Transform(
        size=options.size or resolved["input_size"][-1],
        resize_mode=options.resize,
        interpolation=resolved["interpolation"],
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        crop_pct=resolved["crop_pct"],
    )
    seen = read_seen(options.weights)
    return Backbone(options.backbone, transform, digest(net), options.weights, lambda: net, seen)


def _hub_file(options: BackboneOptions) -> HubFile | None:
    """The file of the hub that timm takes for these weights."""
    if options.weights != "hub":
        return None
    import timm

    config = timm.get_pretrained_cfg(options.backbone)
    repo, _, revision = str((config and config.hf_hub_id) or "").partition("@")
    return HubFile(repo, "model.safetensors", revision) if repo else None


def _holds(path: Path, loaded: Backbone) -> bool:
    """Whether a file has the very tensors of a network: which of its files timm takes is timm's own affair."""
    import torch

    from pipeline.features.backbone.weights import counted, read_tensors

    try:
        tensors = read_tensors(path)
    except BackboneError:
        return False
    wanted = counted(loaded.net.state_dict())
    return all(name in tensors and torch.equal(tensors[name], tensor) for name, tensor in wanted.items())
