"""From features to probabilities with NumPy alone: the members of a head, as they lie in a model file too.

A member is {"kind": "dense", "layers": [(W (d_in, d_out), b (d_out,)), ...], "hidden": "relu"}; or {"kind": "kernel",
"offset" (d,), "scale" (d,), "landmarks" (m, d), "layers", "hidden"}, whose layers take the m kernel values; or
{"kind": "estimator", "estimator": a fitted scikit-learn style object}. Several members are averaged, each by its
"weight" (1 where it has none). One that was fitted on some of the features alone has their "columns" [start, stop].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.arrays import Float, Float32

_ROWS = 4096


def mean_probabilities(
    members: Sequence[Mapping[str, Any]], links: Sequence[str], slices: Sequence[slice], X: Float
) -> Float32:
    """Probabilities (n, L) float32 of features X (n, d), in pieces of 4,096 rows: the mean over the members.

    Args:
        links: Per attribute "sigmoid" or "softmax", for dense members.
        slices: Per attribute, its columns of the L.
    """
    P = np.zeros((len(X), slices[-1].stop), np.float32)
    for start in range(0, len(X), _ROWS):
        rows = np.asarray(X[start : start + _ROWS], np.float32)
        for member in members:
            of_member = _of_member(member, links, slices, rows)
            P[start : start + _ROWS] += of_member * np.float32(member["weight"]) if "weight" in member else of_member
    P /= sum(member_weights(members))
    return P


def member_weights(members: Sequence[Mapping[str, Any]]) -> list[float]:
    """How much each member counts in the average."""
    return [float(member.get("weight", 1.0)) for member in members]


def own_columns(member: Mapping[str, Any], X: Float) -> Float:
    """The columns of features X (n, d) that the member was fitted on."""
    return X[:, slice(*member["columns"])] if "columns" in member else X


def kernel_rows(member: Mapping[str, Any], X: Float) -> Float32:
    """Similarities (n, m) float32 of features X (n, d) and the member's landmarks: exp(-|z(x) - c|^2), 1 for equals."""
    return gaussian((np.asarray(X, np.float32) - member["offset"]) * member["scale"], member["landmarks"])


def gaussian(Z: Float32, landmarks: Float) -> Float32:
    """exp(-|z - c|^2), (n, m) float32, of Z (n, d) and landmarks (m, d)."""
    centres = landmarks.astype(np.float32, copy=False)
    squares = 2.0 * (Z @ centres.T)
    squares -= np.einsum("nd,nd->n", Z, Z)[:, None]
    squares -= np.einsum("md,md->m", centres, centres)
    similar: Float32 = np.exp(np.minimum(squares, 0.0, out=squares), out=squares)
    return similar


def member_logits(member: Mapping[str, Any], X: Float) -> Float32:
    """Logits (n, L) of a member that is made of layers, for features X (n, d)."""
    X = own_columns(member, X)
    return dense_logits(member["layers"], kernel_rows(member, X) if member["kind"] == "kernel" else X)


def dense_logits(layers: Sequence[tuple[Float32, Float32]], X: Float) -> Float32:
    """What comes out of the last of the layers (W, b), with a rectifier between two, for features X (n, d): (n, L)."""
    hidden = np.asarray(X, np.float32)
    for i, (W, b) in enumerate(layers):
        hidden = (np.maximum(hidden, 0) if i else hidden) @ W + b
    return hidden


def _of_member(member: Mapping[str, Any], links: Sequence[str], slices: Sequence[slice], X: Float32) -> Float32:
    if member["kind"] == "estimator":
        return _of_estimator(member["estimator"], own_columns(member, X))
    logits = member_logits(member, X)
    P = np.empty_like(logits)
    for columns, link in zip(slices, links, strict=True):
        z = logits[:, columns]
        if link == "softmax":
            e = np.exp(z - z.max(axis=1, keepdims=True))
            P[:, columns] = e / e.sum(axis=1, keepdims=True)
        else:
            P[:, columns] = (1 + np.tanh(z / 2)) / 2  # 1 / (1 + exp(-z)) without overflow
    return P


def _of_estimator(estimator: Any, X: Float32) -> Float32:
    """Probability of class 1 per column; a MultiOutputClassifier answers with one (n, classes) array per column.

    A column fitted on one class gives a single column of ones; it becomes the constant 0 or 1 of that class.
    """
    answer = estimator.predict_proba(X)
    if not isinstance(answer, list):
        return np.asarray(answer, np.float32)
    P = np.zeros((len(X), len(answer)), np.float32)
    for column, (fitted, P_classes) in enumerate(zip(estimator.estimators_, answer, strict=True)):
        classes = list(fitted.classes_)
        if 1 in classes:
            P[:, column] = P_classes[:, classes.index(1)]
    return P
