"""A fitted head: plain NumPy layers (or a scikit-learn style estimator) that turn features into probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.arrays import Float, Float32
from pipeline.errors import HeadError
from pipeline.heads.config import HeadConfig
from pipeline.heads.probabilities import mean_probabilities

FAR_OFF = 100.0
"""Loss per value from which a head is no fit: its logits are in the hundreds, and wrong. Not knowing costs log 2."""


@dataclass(frozen=True)
class FittedHead:
    """One configuration after training, as it goes into a model file.

    Attributes:
        config: What was asked for.
        members: List of {"kind": "dense", "layers": [(W (d_in, d_out), b (d_out,)) float32, ...], "hidden": "relu"}
            with standardisation folded in, {"kind": "kernel", ...} or {"kind": "estimator", "estimator": a fitted
            MultiOutputClassifier}; see `pipeline.heads.probabilities`.
        links: Per attribute "sigmoid" or "softmax", for members made of layers.
        slices: Per attribute, its columns.
        history: Records {"epoch", "split", "loss", ...}; micro-F1 on validation records.
        best_epoch: Epoch (from 1) whose parameters were kept; 0 when there were no epochs.
        seconds: This configuration's share of the time.
        validation_loss: Its own loss on validation at the best epoch, without smoothing and adjustment; inf if
            diverged.
        not_learnable: Columns that had one class (or no known cell) among the training rows.
        note: Why it stopped, when that is worth telling.
        diverged: True when its loss was not finite at some epoch; such a head must not be chosen.
    """

    config: HeadConfig
    members: list[dict[str, Any]]
    links: tuple[str, ...]
    slices: tuple[slice, ...]
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    validation_loss: float = float("nan")
    not_learnable: tuple[int, ...] = ()
    note: str = ""
    diverged: bool = False

    def predict_proba(self, X: Float) -> Float32:
        """Probabilities (n, L) float32 of features (n, d); of (V, n, d) the average over the views.

        Members' probabilities are averaged. Only NumPy is used unless a member is an estimator.

        Raises:
            HeadError: The features have another shape than those of the fit.
        """
        array = np.asarray(X)
        if array.ndim == 3:
            mean: Float32 = np.mean([self.predict_proba(view) for view in array], axis=0, dtype=np.float32)
            return mean
        if array.ndim != 2:
            raise HeadError(f"features must be (photos, numbers) or (views, photos, numbers), got shape {array.shape}")
        for member in self.members:
            _check_width(member, array.shape[1])
        return mean_probabilities(self.members, self.links, self.slices, array)

    def on_columns(self, start: int, stop: int) -> FittedHead:
        """This head for wider features, among which those that it was fitted on are the columns from start to stop."""
        return replace(self, members=[{**member, "columns": [start, stop]} for member in self.members])


def _check_width(member: Mapping[str, Any], given: int) -> None:
    width = _width(member)
    start, stop = member.get("columns", (0, given))
    if stop > given:
        raise HeadError(f"features have {given} numbers per photo, this head takes those from {start} to {stop}")
    if stop - start != width:
        raise HeadError(f"features have {stop - start} numbers per photo, this head was fitted on {width}")


def _width(member: Mapping[str, Any]) -> int:
    if member["kind"] == "kernel":
        return int(member["scale"].shape[0])
    if member["kind"] == "dense":
        return int(member["layers"][0][0].shape[0])
    return int(member["estimator"].n_features_in_)


def ensemble(heads: Sequence[FittedHead], shares: Sequence[float] = ()) -> FittedHead:
    """One head whose probabilities are the average of the heads' probabilities.

    It carries the configuration of the first head; `history` is empty, `seconds` and `not_learnable` are merged. An
    ensemble inside an ensemble weighs each of its members like any other.

    Args:
        heads: What to average.
        shares: How much each of them counts; none: all alike.

    Raises:
        HeadError: Without heads, with heads of other labels, or when dense heads disagree about the links.
    """
    if not heads:
        raise HeadError("an ensemble needs at least one head")
    if any(h.slices != heads[0].slices for h in heads):
        raise HeadError("heads of one ensemble must have the same labels")
    dense = [h for h in heads if any("layers" in m for m in h.members)]
    if any(h.links != dense[0].links for h in dense):
        raise HeadError(
            "heads of one ensemble must share their links: some use softmax where others use sigmoid; "
            "average heads fitted with one loss"
        )
    members = [member for h in heads for member in h.members]
    if shares and min(shares) != max(shares):
        weights = [share for h, share in zip(heads, shares, strict=True) for _ in h.members]
        members = [{**member, "weight": float(weight)} for member, weight in zip(members, weights, strict=True)]
    return FittedHead(
        config=heads[0].config,
        members=members,
        links=(dense[0] if dense else heads[0]).links,
        slices=heads[0].slices,
        seconds=sum(h.seconds for h in heads),
        not_learnable=tuple(sorted(set().union(*(h.not_learnable for h in heads)))),
        note=f"average of {', '.join(h.config.config_id for h in heads)}",
    )


def with_far_off_marked(fitted: Iterable[FittedHead]) -> list[FittedHead]:
    """The same heads, those marked as diverged whose loss on validation is finite and yet none that a fit can have."""
    marked = []
    for head in fitted:
        widest = max((columns.stop - columns.start for columns in head.slices), default=1)
        far_off = np.isfinite(head.validation_loss) and head.validation_loss > FAR_OFF * widest
        note = f"diverged: validation loss {head.validation_loss:.6g} at its best epoch; lower the learning rate"
        marked.append(replace(head, diverged=True, note=note) if far_off else head)
    return marked
