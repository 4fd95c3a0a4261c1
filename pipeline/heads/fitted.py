"""A fitted head: plain NumPy layers (or a scikit-learn style estimator) that turn features into probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import HeadError
from pipeline.heads.config import HeadConfig

Float32 = npt.NDArray[np.float32]
_ROWS = 8192


@dataclass(frozen=True)
class FittedHead:
    """One configuration after training, as it goes into a model file.

    config : what was asked for.
    members : list of {"kind": "dense", "layers": [(W (d_in, d_out), b (d_out,)) float32, ...], "hidden": "relu"} with
        standardisation folded in, or {"kind": "estimator", "estimator": a fitted MultiOutputClassifier}.
    links : per key "sigmoid" or "softmax", for the dense members.
    slices : per key, its columns.
    history : records {"epoch", "split", "loss", ...}; micro-F1 on validation records.
    best_epoch : epoch (from 1) whose parameters were kept; 0 when there were no epochs.
    seconds : this configuration's share of the time.
    validation_loss : its own loss on validation at the best epoch, without smoothing and adjustment; inf if diverged.
    not_learnable : columns that had one class (or no known cell) among the training rows.
    note : why it stopped, when that is worth telling.
    diverged : True when its loss was not finite at some epoch; such a head must not be chosen.
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

    def predict_proba(self, X: npt.NDArray[np.floating]) -> Float32:
        """Probabilities (n, L) float32 of features (n, d); of (V, n, d) the average over the views.

        Members' probabilities are averaged. Only NumPy is used unless a member is an estimator.
        Raises HeadError when the features have another shape than those of the fit.
        """
        array = np.asarray(X)
        if array.ndim == 3:
            mean: Float32 = np.mean([self.predict_proba(view) for view in array], axis=0, dtype=np.float32)
            return mean
        if array.ndim != 2:
            raise HeadError(f"features must be (photos, numbers) or (views, photos, numbers), got shape {array.shape}")
        parts = [self._chunk(array[i : i + _ROWS]) for i in range(0, len(array), _ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, self.slices[-1].stop), np.float32)

    def _chunk(self, X: npt.NDArray[np.floating]) -> Float32:
        total = np.zeros((len(X), self.slices[-1].stop), np.float32)
        for member in self.members:
            if member["kind"] == "dense":
                total += _linked(dense_logits(member["layers"], X), self.links, self.slices)
            else:
                total += column_probabilities(member["estimator"], X)
        total /= len(self.members)
        return total


def dense_logits(layers: Sequence[tuple[Float32, Float32]], X: npt.NDArray[np.floating]) -> Float32:
    """Logits (n, L) float32 of dense layers with rectifiers between them.

    Raises HeadError when X does not have the first layer's number of features.
    """
    if X.shape[1] != layers[0][0].shape[0]:
        raise HeadError(
            f"features have {X.shape[1]} numbers per photo, this head was fitted on {layers[0][0].shape[0]}"
        )
    h = np.asarray(X, np.float32)
    for i, (W, b) in enumerate(layers):
        h = h @ W + b
        if i + 1 < len(layers):
            np.maximum(h, 0, out=h)
    return h


def _linked(z: Float32, links: Sequence[str], slices: Sequence[slice]) -> Float32:
    P = np.empty_like(z)
    for link, columns in zip(links, slices, strict=True):
        part = z[:, columns]
        if link == "softmax":
            grown = np.exp(part - part.max(axis=1, keepdims=True))
            P[:, columns] = grown / grown.sum(axis=1, keepdims=True)
        else:
            # exp of a non-positive number never overflows
            small = np.exp(-np.abs(part))
            P[:, columns] = np.where(part >= 0, 1, small) / (1 + small)
    return P


def column_probabilities(estimator: Any, X: npt.NDArray[np.floating]) -> Float32:
    """(n, L) float32 probabilities of class 1 from a MultiOutputClassifier's list of (n, classes) arrays.

    A column fitted on one class gives a single column of ones; it becomes the constant 0 or 1 of that class.
    Raises HeadError when X does not have the number of features the estimator was fitted on.
    """
    expected = getattr(estimator, "n_features_in_", X.shape[1])
    if X.shape[1] != expected:
        raise HeadError(f"features have {X.shape[1]} numbers per photo, this head was fitted on {expected}")
    columns = []
    for fitted in estimator.estimators_:
        classes = list(fitted.classes_)
        columns.append(fitted.predict_proba(X)[:, classes.index(1)] if 1 in classes else np.zeros(len(X)))
    return np.stack(columns, axis=1).astype(np.float32)


def ensemble(heads: Sequence[FittedHead]) -> FittedHead:
    """One head whose probabilities are the average of the heads' probabilities.

    It carries the configuration of the first head; `history` is empty, `seconds` and `not_learnable` are merged.
    An ensemble inside an ensemble weighs each of its members like any other.
    Raises HeadError without heads, with heads of other labels, or when dense heads disagree about the links.
    """
    if not heads:
        raise HeadError("an ensemble needs at least one head")
    if any(h.slices != heads[0].slices for h in heads):
        raise HeadError("heads of one ensemble must have the same labels")
    dense = [h for h in heads if any(m["kind"] == "dense" for m in h.members)]
    if any(h.links != dense[0].links for h in dense):
        raise HeadError(
            "heads of one ensemble must share their links: some use softmax where others use sigmoid; "
            "average heads fitted with one loss"
        )
    return FittedHead(
        config=heads[0].config,
        members=[member for h in heads for member in h.members],
        links=(dense[0] if dense else heads[0]).links,
        slices=heads[0].slices,
        seconds=sum(h.seconds for h in heads),
        not_learnable=tuple(sorted(set().union(*(h.not_learnable for h in heads)))),
        note=f"average of {', '.join(h.config.config_id for h in heads)}",
    )
