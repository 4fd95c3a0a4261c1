"""The heads of a model as a graph: features in, probabilities and decisions out, node by node what NumPy does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from pipeline.arrays import Float32
from pipeline.catalogue.labels import UNKNOWN, LabelSchema
from pipeline.exchange.graphs.graph import Graph, Refused
from pipeline.heads.baselines.plain import LogisticColumns, plain_estimator
from pipeline.heads.probabilities import member_weights
from pipeline.model.file import schema_of

FEATURES, PROBABILITIES, DECISIONS = "features", "probabilities", "decisions"


def head_model(model: Mapping[str, Any]) -> ModelProto:
    """The graph of a checked model dict.

    Its input `features`, float32 (n, v d), has the v views of a photo one after the other, as `cache export` writes
    them; its outputs are `probabilities`, float32 (n, L), and `decisions`, bool (n, L), a column per label.

    Raises:
        Refused: A member has no graph.
    """
    graph, schema = Graph("head/"), schema_of(model)
    views, width = len(model["views"]), sum(block["dim"] for block in model["blocks"])
    rows = graph("Reshape", FEATURES, graph.constant([-1, width], np.int64))
    P = _mean(graph, model, schema, rows)
    if views > 1:
        P = graph("Reshape", P, graph.constant([-1, views, schema.size], np.int64))
        P = graph("ReduceMean", P, graph.constant([1], np.int64), keepdims=0)
    graph.named(PROBABILITIES, P)
    graph.named(DECISIONS, _decided(graph, P, schema, model["thresholds"]))
    return graph.model(
        [(FEATURES, TensorProto.FLOAT, ("n", views * width))],
        [(PROBABILITIES, TensorProto.FLOAT, ("n", schema.size)), (DECISIONS, TensorProto.BOOL, ("n", schema.size))],
        "Columns are the labels of model.json, in their order.",
    )


def _mean(graph: Graph, model: Mapping[str, Any], schema: LabelSchema, rows: str) -> str:
    """The members' probabilities, averaged by their weights."""
    members, weights = model["members"], member_weights(model["members"])
    shares = [weight / sum(weights) for weight in weights]
    parts = [_of_member(graph, member, model["links"], schema.slices, rows) for member in members]
    weighted = [graph("Mul", part, graph.constant(share)) for part, share in zip(parts, shares, strict=True)]
    return graph("Sum", *weighted) if len(weighted) > 1 else parts[0]


def _of_member(
    graph: Graph, member: Mapping[str, Any], links: Sequence[str], slices: Sequence[slice], rows: str
) -> str:
    if "columns" in member:
        start, stop = (graph.constant([each], np.int64) for each in member["columns"])
        rows = graph("Slice", rows, start, stop, graph.constant([1], np.int64))
    if member["kind"] == "estimator":
        return _logistic(graph, member["estimator"], rows)
    hidden = _similarities(graph, member, rows) if member["kind"] == "kernel" else rows
    for i, (W, b) in enumerate(member["layers"]):
        hidden = graph("Relu", hidden) if i else hidden
        hidden = graph("Gemm", hidden, graph.constant(W), graph.constant(b))
    return _linked(graph, hidden, links, [columns.stop - columns.start for columns in slices])


def _similarities(graph: Graph, member: Mapping[str, Any], rows: str) -> str:
    """exp(-|z - c|^2) of each row and landmark; landmarks stay in half precision, as in the model file."""
    centres: Float32 = member["landmarks"].astype(np.float32)
    Z = graph("Mul", graph("Sub", rows, graph.constant(member["offset"])), graph.constant(member["scale"]))
    turned = graph("Cast", graph.constant(centres.T, np.float16), to=TensorProto.FLOAT)
    products = graph("Mul", graph("MatMul", Z, turned), graph.constant(2.0))
    own = graph("ReduceSumSquare", Z, graph.constant([1], np.int64), keepdims=1)
    squares = graph("Sub", graph("Sub", products, own), graph.constant(np.einsum("md,md->m", centres, centres)))
    return graph("Exp", graph("Min", squares, graph.constant(0.0)))


def _linked(graph: Graph, scores: str, links: Sequence[str], widths: Sequence[int]) -> str:
    """Softmax or sigmoid of each attribute's own columns."""
    if set(links) == {"sigmoid"}:
        return graph("Sigmoid", scores)
    if len(widths) == 1:
        return graph("Softmax", scores, axis=1)
    parts = graph.several("Split", len(widths), scores, graph.constant(widths, np.int64), axis=1)
    made = [
        graph("Softmax", part, axis=1) if link == "softmax" else graph("Sigmoid", part)
        for part, link in zip(parts, links, strict=True)
    ]
    return graph("Concat", *made, axis=1)


def _logistic(graph: Graph, estimator: Any, rows: str) -> str:
    plain = plain_estimator(estimator)
    if not isinstance(plain, LogisticColumns):
        raise Refused("LightGBM's trees have no graph here; the folder itself is read without LightGBM and pickle")
    double = graph("Cast", rows, to=TensorProto.DOUBLE)
    weights, bias = (graph.constant(each, np.float64) for each in (plain.weights, plain.bias))
    return graph("Cast", graph("Sigmoid", graph("Gemm", double, weights, bias)), to=TensorProto.FLOAT)


def _decided(graph: Graph, P: str, schema: LabelSchema, thresholds: Any) -> str:
    """The rule of `pipeline.evaluation.thresholds.decide`, gate included."""
    # In double precision, as NumPy compares: a threshold lies between two numbers of single precision.
    passed = graph("GreaterOrEqual", graph("Cast", P, to=TensorProto.DOUBLE), graph.constant(thresholds, np.float64))
    widths = [columns.stop - columns.start for columns in schema.slices]
    if len(widths) == 1:
        return _of_attribute(graph, (P, passed), schema.values[0], schema.single[0])
    cuts = graph.constant(widths, np.int64)
    parts = [graph.several("Split", len(widths), each, cuts, axis=1) for each in (P, passed)]
    decided = [
        _of_attribute(graph, pair, values, single)
        for *pair, values, single in zip(*parts, schema.values, schema.single, strict=True)
    ]
    return _gated(graph, decided, schema)


def _of_attribute(graph: Graph, pair: Sequence[str], values: Sequence[str], single: bool) -> str:
    P, decided = pair
    if not (single or UNKNOWN in values):
        return decided
    best = graph("ArgMax", P, axis=1, keepdims=1)
    if single:
        is_best = graph("Equal", best, graph.constant(np.arange(len(values))[None], np.int64))
        decided = graph("And", decided, is_best)
    if UNKNOWN in values:
        unknown = values.index(UNKNOWN)
        known = graph("Not", graph("Equal", best, graph.constant([[unknown]], np.int64)))
        others = graph.constant([[i != unknown for i in range(len(values))]], np.bool_)
        decided = graph("And", graph("And", decided, known), others)
    return decided


def _gated(graph: Graph, decided: Sequence[str], schema: LabelSchema) -> str:
    """Attributes that do not apply to the decided category are silent, where one was decided that the gate lists."""
    whole = graph("Concat", *decided, axis=1)
    if schema.gate is None or schema.category_attribute not in schema.attributes:
        return whole
    at = schema.attributes.index(schema.category_attribute)
    applies = np.array(
        [
            [attribute == schema.category_attribute or attribute in schema.gate.get(value, schema.attributes)
             for attribute, _ in schema.labels]
            for value in schema.values[at]
        ]
    )  # fmt: skip
    categories = graph("Cast", decided[at], to=TensorProto.FLOAT)
    applying = graph("Greater", graph("MatMul", categories, graph.constant(applies)), graph.constant(0.0))
    count = graph("ReduceSum", categories, graph.constant([1], np.int64), keepdims=1)
    undecided = graph("Equal", count, graph.constant(0.0))
    return graph("And", whole, graph("Or", applying, undecided))
