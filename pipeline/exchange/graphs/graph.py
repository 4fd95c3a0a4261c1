"""A graph of ONNX as it grows: nodes and constants, each of which gives a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from pipeline.errors import PipelineError

OPSET, IR_VERSION = 18, 10
"""What runtimes of 2023 and later read."""

Named = tuple[str, int, Sequence[str | int]]
"""Name, type and shape of an input or output."""


class Refused(PipelineError):
    """A graph cannot be made, or is not what it should be; the text is the reason."""


class Graph:
    """Nodes and constants in the order in which they were added.

    Args:
        prefix: Of every name, so that graphs can be joined.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix, self._count = prefix, 0
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; its name."""
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs; their names."""
        names = [self._new() for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """Add an array; its name."""
        name = self._new()
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def named(self, name: str, inner: str) -> None:
        """Give a value the name of an output."""
        self._nodes.append(helper.make_node("Identity", [inner], [name]))

    def model(self, inputs: Sequence[Named], outputs: Sequence[Named], doc: str) -> ModelProto:
        """The whole of it."""
        graph = helper.make_graph(
            self._nodes,
            self._prefix.strip("/"),
            [_info(each) for each in inputs],
            [_info(each) for each in outputs],
            self._constants,
            doc_string=doc,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="selvedge")

    def _new(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"


def _info(named: Named) -> ValueInfoProto:
    name, kind, shape = named
    return helper.make_tensor_value_info(name, kind, list(shape))
