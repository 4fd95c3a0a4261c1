"""The heads that the network learned, as a model file like any other: calibrated and thresholded on validation.

The backbone is frozen into a weights file; its heads would be lost. Here they are layers on the pooled vector, with the
cache key of the frozen backbone, so that `predict` applies them and `fit-heads` takes them as one more candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.arrays import Float32
from pipeline.catalogue import LabelSchema
from pipeline.evaluation.metrics import known_cells
from pipeline.experiment.candidates import Fit, JudgedHead, Truth, folds_of, judge
from pipeline.features.backbone.network import Backbone, base_key
from pipeline.features.backbone.provenance import TrainingProvenance
from pipeline.finetuning.examples import Examples, TrainingRows
from pipeline.finetuning.network.model import head_layers
from pipeline.finetuning.photos.batches import in_order, loaded
from pipeline.heads import FittedHead, HeadConfig
from pipeline.heads.calibration import Calibration, calibrated, fit_calibration, rows_to_look_at
from pipeline.heads.config import NETWORK
from pipeline.machine import choose_device
from pipeline.model.file import Decision, FeatureOrigin, Model, Parts, build_model
from pipeline.model.training import TrainingRecord, training_record
from pipeline.options import FinetuneOptions

BATCH = 64


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        frozen: Its backbone as `extract` will load it.
        state: All of its tensors, the heads' among them.
        provenance: Photos behind the weights.
    """

    frozen: Backbone
    state: Mapping[str, Tensor]
    provenance: TrainingProvenance


def own_model(network: Network, rows: TrainingRows, options: FinetuneOptions) -> Model:
    """The model of a frozen backbone's own heads.

    Args:
        network: What was trained.
        rows: What it was trained on; validation rows calibrate and choose the thresholds.
        options: How it was trained.
    """
    X = pooled_of(network.frozen, rows.validation, choose_device(options.device))
    judged = _judged(network.state, X, rows, options)
    assert judged.calibration is not None
    info = {"config_id": "finetuned", "fitted_on": "train", "calibration": judged.calibration.to_json()}
    record = _record(rows, (rows.train, rows.validation), network.provenance)
    parts = Parts(judged.head.members, judged.head.links, info, record)
    return build_model(rows.schema, parts, Decision(judged.thresholds, judged.chosen), _origin(network.frozen), X)


def own_model_again(network: Network, rows: TrainingRows, learnt: Examples, fitted_on: str, before: Model) -> Model:
    """The model of the heads of a training on more photos: calibration and thresholds are those of the one before.

    Args:
        network: What was trained.
        rows: The catalogue's.
        learnt: The photos it was trained on.
        fitted_on: The names of their parts.
        before: The model file of the training before.
    """
    schema, links = rows.schema, tuple(before["links"])
    head = _head(network.state, schema, links)
    head = calibrated(head, Calibration(**{k: tuple(v) for k, v in before["info"]["calibration"].items()}))
    first = replace(learnt, **{n: getattr(learnt, n)[:4] for n in ("rows", "Y", "mask")})
    info = {**before["info"], "fitted_on": fitted_on, "measured": "by the training before"}
    parts = Parts(head.members, head.links, info, _record(rows, (learnt,), network.provenance))
    decision = Decision(before["thresholds"], before["decision"])
    X = pooled_of(network.frozen, first, "cpu")
    return build_model(schema, parts, decision, _origin(network.frozen), X)


def _record(rows: TrainingRows, parts: Sequence[Examples], provenance: TrainingProvenance) -> TrainingRecord:
    """Which photos had a part in the heads, the first part's by moving them: also where the backbone did not move."""
    at, train = np.concatenate([part.rows for part in parts]), parts[0]
    seen = np.concatenate([rows.photos.ids[at], provenance.train, provenance.choice])
    products = np.concatenate([provenance.train_products, provenance.choice_products])
    counted_in = known_cells(train.Y, train.mask, rows.schema)
    return training_record(seen, *counted_in, rows.catalogue.products_of(at), products)


def _origin(frozen: Backbone) -> FeatureOrigin:
    key, block = base_key(frozen), frozen.blocks(("pooled",))["pooled"]
    return FeatureOrigin(
        blocks=[{"name": block.name, "dim": block.dim, "digest": block.digest(key)}],
        cache_key=key.to_json(),
        weights_source=frozen.weights_source,
    )


def _head(state: Mapping[str, Tensor], schema: LabelSchema, links: tuple[str, ...]) -> FittedHead:
    member = {"kind": "dense", "layers": head_layers(state), "hidden": "relu"}
    return FittedHead(HeadConfig(head=NETWORK), [member], links, schema.slices)


def _judged(state: Mapping[str, Tensor], X: Float32, rows: TrainingRows, options: FinetuneOptions) -> JudgedHead:
    schema, validation = rows.schema, rows.validation
    links = tuple("softmax" if single and options.loss == "ce" else "sigmoid" for single in schema.single)
    head, at = _head(state, schema, links), rows_to_look_at(len(X))
    truth = Truth(schema, validation.Y, validation.mask, rows.groups[validation.rows])
    folds = folds_of(truth.groups)[at]
    calibration = fit_calibration(head, X[at], validation.Y[at], validation.mask[at], folds)
    head = calibrated(head, calibration)
    judged = judge(Fit("finetuned", head, (head,)), head.predict_proba(X), truth, "auto")
    return replace(judged, calibration=calibration)


def pooled_of(backbone: Backbone, examples: Examples, device: str) -> Float32:
    """Pooled vectors of some photos, float32 (m, d), in single precision as `extract` computes them."""
    module = backbone.module(("pooled",)).to(device)
    with torch.inference_mode():
        batches = loaded(examples, in_order(examples, BATCH), torch.device(device))
        vectors: Float32 = np.concatenate([module(pixels)["pooled"].cpu().numpy() for pixels, _, _ in batches])
    return vectors
