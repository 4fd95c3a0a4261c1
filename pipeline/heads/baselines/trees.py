"""LightGBM's own text of a binary model, read without LightGBM: its parser is native code that trusts what it reads.

Only what `pipeline.heads.baselines.columns` fits can be read: trees of numeric splits for one class against the rest,
fitted on features none of which was missing. Every index is checked, so that a walk through a tree ends at a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float, Float64, Int64

_HEAD = {"num_class": "1", "num_tree_per_iteration": "1", "objective": "binary sigmoid:1"}
_LEFT_BY_DEFAULT = 2
"""The one bit of a split's kind that may be set: it is numeric, and no number was missing."""


@dataclass(frozen=True, eq=False)
class Trees:
    """The trees of one model, side by side; a child below 0 is the leaf of that complement.

    Attributes:
        roots: First node, or leaf, of each tree, int64 (t,).
        features: The column that a node looks at, int64 (nodes,).
        thresholds: Numbers up to this go left, float64 (nodes,).
        children: Left and right, int64 (nodes, 2).
        leaves: What a leaf adds to the score, float64 (leaves,).
    """

    roots: Int64
    features: Int64
    thresholds: Float64
    children: Int64
    leaves: Float64

    def probabilities(self, X: Float) -> Float64:
        """Of class 1, (n,), for features (n, d)."""
        rows = np.arange(len(X))[:, None]
        at = np.broadcast_to(self.roots, (len(X), len(self.roots))).copy()
        while (inside := at >= 0).any():
            node = np.maximum(at, 0)
            right = X[rows, self.features[node]] > self.thresholds[node] if len(self.features) else inside
            at = np.where(inside, self.children[node, right.astype(np.int64)], at)
        scores: Float64 = self.leaves[~at].sum(axis=1)
        result: Float64 = 1.0 / (1.0 + np.exp(-scores))
        return result


def read_trees(text: str, width: int) -> Trees:
    """The trees of a text that LightGBM wrote.

    Args:
        text: The whole of it.
        width: Features that they take.

    Raises:
        ValueError: It is none that can be read; the text says why.
    """
    body, end, _ = text.partition("\nend of trees\n")
    head, *parts = body.split("\nTree=")
    if not end or not parts:
        raise ValueError("not LightGBM's text of a model, or cut short")
    _check_head(head, width)
    trees = [_read_tree(part, i, width) for i, part in enumerate(parts)]
    nodes = np.cumsum([0, *(len(tree.features) for tree in trees)])
    leaves = np.cumsum([0, *(len(tree.leaves) for tree in trees)])
    moved = [_moved(tree, int(n), int(m)) for tree, n, m in zip(trees, nodes, leaves, strict=False)]
    return Trees(
        roots=np.concatenate([tree.roots for tree in moved]),
        features=np.concatenate([tree.features for tree in moved]),
        thresholds=np.concatenate([tree.thresholds for tree in moved]),
        children=np.concatenate([tree.children for tree in moved]),
        leaves=np.concatenate([tree.leaves for tree in moved]),
    )


def _check_head(head: str, width: int) -> None:
    found = _fields(head)
    for name, wanted in {**_HEAD, "max_feature_idx": str(width - 1)}.items():
        if found.get(name) != wanted:
            raise ValueError(f"{name} is {found.get(name)!r:.60}, expected {wanted!r}")
    if "average_output" in head.splitlines():
        raise ValueError("its trees are averaged, as in a random forest")


def _read_tree(part: str, place: int, width: int) -> Trees:
    number, _, rest = part.partition("\n")
    fields = _fields(rest)
    leaves = int(fields.get("num_leaves", "0"))
    if number != str(place) or leaves < 1 or fields.get("num_cat") != "0" or fields.get("is_linear", "0") != "0":
        raise ValueError(f"tree {place} is not one of numeric splits and constant leaves")
    thresholds, values = (_numbers(fields, name, count) for name, count in
                          (("threshold", leaves - 1), ("leaf_value", leaves)))  # fmt: skip
    features, kinds, left, right = (
        _numbers(fields, name, leaves - 1).astype(np.int64)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    children = np.stack([left, right], axis=1)
    own = np.arange(leaves - 1)[:, None]
    if (kinds & ~_LEFT_BY_DEFAULT).any() or (features < 0).any() or (features >= width).any():
        raise ValueError(f"tree {place} splits by something other than one of {width} numbers")
    # A node's children come after it, so no walk can turn in a circle.
    if ((children < 0) & (~children >= leaves)).any() or ((children >= 0) & (children <= own)).any():
        raise ValueError(f"tree {place} leads to leaves or splits that it does not have")
    if (children >= leaves - 1).any():
        raise ValueError(f"tree {place} leads to splits that it does not have")
    return Trees(np.array([0 if leaves > 1 else -1]), features, thresholds, children, values)


def _moved(tree: Trees, nodes: int, leaves: int) -> Trees:
    """The tree behind so many nodes and leaves of others."""
    children, roots = (np.where(at >= 0, at + nodes, at - leaves) for at in (tree.children, tree.roots))
    return Trees(roots, tree.features, tree.thresholds, children, tree.leaves)


def _fields(text: str) -> dict[str, str]:
    return {name: value for name, equals, value in (line.partition("=") for line in text.splitlines()) if equals}


def _numbers(fields: dict[str, str], name: str, count: int) -> Float64:
    words: Sequence[str] = fields.get(name, "").split()
    numbers = np.array(words, dtype=np.float64)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{name} has {len(numbers)} numbers, expected {count} finite ones")
    return numbers
