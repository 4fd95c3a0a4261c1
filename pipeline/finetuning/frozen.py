"""A trained network, frozen: its weights file, with the list of photos behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from torch import Tensor

from pipeline.experiment.kinds.own_heads import OWN_HEADS
from pipeline.features.backbone.network import Backbone, load_backbone
from pipeline.features.backbone.provenance import TrainingProvenance, joined, nothing_seen, product_ids
from pipeline.finetuning.examples import Examples, TrainingRows
from pipeline.finetuning.folder import SPLIT, WEIGHTS
from pipeline.finetuning.network.model import NET
from pipeline.finetuning.photos.augment import Augmentation
from pipeline.finetuning.photos.colour import MILD, colour_attributes
from pipeline.options import BackboneOptions, DataOptions, FinetuneOptions, SplitOptions
from pipeline.system import whole_file


@dataclass(frozen=True)
class Request:
    """The options of one call, as run.json records them."""

    data: DataOptions
    backbone: BackboneOptions
    split: SplitOptions
    finetune: FinetuneOptions


def augmentation_of(rows: TrainingRows, options: FinetuneOptions) -> Augmentation:
    """How photos are changed: colours only where that was asked for or no attribute is about them."""
    mild = 0.0 if colour_attributes(rows.schema) else MILD
    return Augmentation.of(options, mild if options.jitter is None else options.jitter)


def provenance_of(
    backbone: Backbone, rows: TrainingRows, request: Request, seen: tuple[Examples, Examples | None]
) -> TrainingProvenance:
    """The photos whose labels have a part in the weights, those behind the start weights included.

    Args:
        backbone: The start.
        rows: The catalogue's.
        request: What was asked for.
        seen: The photos that move the weights, and those that choose the epoch.
    """
    folder = request.finetune.out or Path()
    facts = {
        "backbone": backbone.name,
        "start": backbone.weights_source,
        "start_sha256": backbone.weights_sha256,
        "attributes": list(rows.schema.attributes),
        "split": str(folder / SPLIT),
        "options": json.loads(json.dumps(asdict(request.finetune), default=str)),
    }
    if request.finetune.train == "head":
        return joined(backbone.provenance, replace(nothing_seen(), facts=facts))
    parts = [np.empty(0, np.int64) if part is None else part.rows for part in seen]
    train, choice = (np.unique(rows.photos.ids[at]) for at in parts)
    products = (product_ids(rows.catalogue.products_of(at) or ()) for at in parts)
    return joined(backbone.provenance, TrainingProvenance(train, choice, facts, *products))


def write_weights(
    folder: Path,
    request: Request,
    state: Mapping[str, Tensor],
    provenance: TrainingProvenance,
    facts: Mapping[str, Any],
) -> Backbone:
    """Write the backbone's tensors, with the photos behind them in the header, and make room for its own heads.

    Args:
        folder: Of the training.
        request: What was asked for.
        state: Tensors of the trained model.
        provenance: Photos behind the weights.
        facts: What else the header says of their making.

    Returns:
        The backbone as `extract` will load it, so that a file that cannot be used is seen here.
    """
    header = replace(provenance, facts={**provenance.facts, **facts}).metadata()
    net = {name.removeprefix(NET): t.contiguous().clone() for name, t in state.items() if name.startswith(NET)}
    # In memory first: the library writes files that only their owner may read.
    with whole_file(folder / WEIGHTS) as partial:
        partial.write_bytes(safetensors.torch.save(net, header))
    (folder / OWN_HEADS).parent.mkdir(exist_ok=True)
    return load_backbone(replace(request.backbone, weights=str(folder / WEIGHTS)))
