"""The heads that a fine-tuned backbone was trained under, as configurations like any other: `--heads network`.

`finetune` leaves them in a model file beside the weights. They are not fit here, nor again by a refit: they are layers
on the block `pooled`, tied to it by the cache key, brought into the order of the experiment's values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Positions
from pipeline.catalogue import LabelSchema
from pipeline.errors import OptionError
from pipeline.experiment.rows import Experiment
from pipeline.features.selection import CachedFeatures, weights_sources
from pipeline.heads import FittedHead, HeadConfig
from pipeline.heads.calibration import Calibration, uncalibrated
from pipeline.heads.config import NETWORK
from pipeline.model.file import Model, read_model, schema_of
from pipeline.model.training import product_was_seen, was_seen

OWN_HEADS = Path("models/finetuned.joblib")
"""Where they are in the folder of the weights."""

NEVER = -30.0
"""Logit of a value that the network does not know."""


def with_own_heads(configs: Sequence[HeadConfig], experiment: Experiment) -> tuple[HeadConfig, ...]:
    """The configurations, those of network heads only for the kinds of vectors that have such heads.

    Raises:
        OptionError: They were asked for, and no kind of vectors has any; with the reason of each.
    """
    wanted = [config for config in configs if config.head == NETWORK]
    lacking = {config: _why_not(config, experiment) for config in wanted}
    if wanted and all(lacking.values()):
        raise OptionError(f"--heads {NETWORK}: " + "; ".join(dict.fromkeys(why for why in lacking.values() if why)))
    return tuple(config for config in configs if not lacking.get(config))


def own_head(config: HeadConfig, experiment: Experiment) -> FittedHead:
    """The heads of one kind of vectors, taking X of all kinds.

    Args:
        config: Its `vectors` says which kind; one that `with_own_heads` let pass.
        experiment: With all kinds.
    """
    position = max(config.vectors - 1, 0)
    kind, schema = experiment.features.kinds[position], experiment.targets.schema
    model = _model_of(kind)
    if model is None:
        raise OptionError(f"--heads {NETWORK}: {_why_not(config, experiment)}")
    (member,) = _before_calibration(model)
    *inner, (W, b) = member["layers"]
    at, lacking = _columns_in(schema_of(model), schema)
    last = np.zeros((len(W), schema.size), np.float32), np.full(schema.size, NEVER, np.float32)
    known = np.delete(np.arange(schema.size), lacking)
    taken = experiment.targets_of("train").logit_adjustment(config.logit_adjust)
    last[0][:, known], last[1][known] = W[:, at], b[at] - taken[known]
    start = experiment.features.span(position)[0] + _start_of_pooled(kind)
    width = len(inner[0][0] if inner else W)
    links = dict(zip(model["keys"], model["links"], strict=True))
    head = FittedHead(
        config=config,
        members=[{**member, "layers": [*inner, last]}],
        links=tuple(links[attribute] for attribute in schema.attributes),
        slices=schema.slices,
        not_learnable=tuple(lacking.tolist()),
        note=_said_of(config),
    )
    return head if (start, width) == (0, experiment.features.dim) else head.on_columns(start, start + width)


def _said_of(config: HeadConfig) -> str:
    as_trained = "heads of the fine-tuned network, as it was trained under them"
    return f"{as_trained}, and logit adjustment {config.logit_adjust:g}" if config.logit_adjust else as_trained


def require_own_heads(configs: Sequence[HeadConfig], experiment: Experiment) -> None:
    """Refuse other vectors than those that `with_own_heads` was shown, unless the same networks' heads fit them.

    Raises:
        OptionError: One of the heads is not there; with the reason.
    """
    for config in configs:
        if config.head == NETWORK and (reason := _why_not(config, experiment)):
            raise OptionError(f"--heads {NETWORK}: {reason}")


def _before_calibration(model: Model) -> list[dict[str, Any]]:
    """The members as the network learned them: whether calibration helps is decided here, as for any other head."""
    schema, said = schema_of(model), model["info"].get("calibration")
    if not said:
        return list(model["members"])
    calibration = Calibration(tuple(said["scale"]), tuple(said["shift"]))
    head = FittedHead(HeadConfig(head=NETWORK), list(model["members"]), tuple(model["links"]), schema.slices)
    return uncalibrated(head, calibration).members


def _why_not(config: HeadConfig, experiment: Experiment) -> str:
    """Why a kind of vectors has no heads of its own; "" where it has."""
    kind = experiment.features.kinds[max(config.vectors - 1, 0)]
    sources = weights_sources(kind.info.notes)
    model = _model_of(kind)
    if model is None:
        return f"no {OWN_HEADS} that fits these vectors lies beside the weights {' or '.join(sources) or '?'}"
    if not any(column.block.name == "pooled" for column in kind.columns[0]):
        return "they take the block pooled, which --use leaves out"
    unknown = [name for name in experiment.targets.schema.attributes if name not in model["keys"]]
    test = experiment.split.rows("test")
    seen = was_seen(model, experiment.ids[test])
    of_products = product_was_seen(model, experiment.catalogue.products_of(test))
    judged = 0 if seen is None else int((seen if of_products is None else seen | of_products).sum())
    if judged and not experiment.final:
        return f"{judged} of the {len(test)} test photos had a part in them; take their split: --split-from FOLDER"
    if unknown:
        return f"the network was not trained on {', '.join(unknown)}; name with --attributes only what it knows"
    return ""


def _model_of(kind: CachedFeatures) -> Model | None:
    """The model file beside the weights, if there is one and it is of these very vectors."""
    for source in weights_sources(kind.info.notes):
        path = Path(source).parent / OWN_HEADS
        if Path(source).suffix == ".safetensors" and path.is_file():
            model = read_model(path)
            if model["cache_key"] == kind.info.key.to_json():
                return model
    return None


def _start_of_pooled(kind: CachedFeatures) -> int:
    names = [column.block.name for column in kind.columns[0]]
    return sum(column.block.dim for column in kind.columns[0][: names.index("pooled")])


def _columns_in(own: LabelSchema, schema: LabelSchema) -> tuple[Positions, Positions]:
    """Columns of the network's values that the experiment has, in its order; and its columns that the network lacks."""
    place = {label: i for i, label in enumerate(own.labels)}
    lacking = np.array([i for i, label in enumerate(schema.labels) if label not in place], np.intp)
    return np.array([place[label] for label in schema.labels if label in place], np.intp), lacking
