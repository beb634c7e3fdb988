"""The canonical digest of a graph: names, order and remarks change nothing, everything else does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import small_graph
from graphs.canonical import canonical_digest


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with other names of tensors, nodes and dimensions, other remarks and another order of initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for node in graph.node:
        node.name, node.doc_string = f"other {node.name}", "a remark"
        node.input[:] = [name and f"new_{name}" for name in node.input]
        node.output[:] = [f"new_{name}" for name in node.output]
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name, reverse=True)
        del node.attribute[:]
        node.attribute.extend(attributes)
    for value in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        value.name, value.doc_string = f"new_{value.name}", "a remark"
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    tensors = list(graph.initializer)
    random.Random(0).shuffle(tensors)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    copy.producer_name, copy.producer_version, copy.doc_string, copy.ir_version = "other", "9", "today", 8
    graph.name, graph.doc_string = "other", "today"
    copy.metadata_props.add(key="path", value="/home/me")
    return copy


def test_names_order_and_remarks_change_nothing(onnx_file: Path, tmp_path: Path) -> None:
    for path in (onnx_file, small_graph(tmp_path / "small.onnx")):
        model = onnx.load(path)
        other = renamed(model)
        assert other.SerializeToString() != model.SerializeToString()
        assert canonical_digest(other) == canonical_digest(model)
        tensor = other.graph.initializer[0]
        value = numpy_helper.to_array(tensor)
        kind = "float_data" if value.dtype == np.float32 else "int64_data"
        tensor.ClearField("raw_data")
        getattr(tensor, kind).extend(value.ravel().tolist())
        assert canonical_digest(other) == canonical_digest(model)


def change_bit(graph: onnx.GraphProto, index: int) -> None:
    tensor = graph.initializer[index]
    data = bytearray(tensor.raw_data)
    data[len(data) // 2] ^= 1
    tensor.raw_data = bytes(data)


def change_attribute(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "Conv" and node.attribute)
    node.attribute[0].ints[0] += 1


def swap_edges(graph: onnx.GraphProto) -> None:
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    nodes[0].input[1], nodes[-1].input[1] = nodes[-1].input[1], nodes[0].input[1]


def swap_operands(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type == "Add")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def test_one_bit_of_any_tensor_changes_the_digest(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    digests = {canonical_digest(model)}
    indices = [i for i, tensor in enumerate(model.graph.initializer) if tensor.raw_data][::40]
    for index in indices:
        change_bit(model.graph, index)
        digests.add(canonical_digest(model))
    assert len(digests) == len(indices) + 1


@pytest.mark.parametrize(
    "change",
    [
        change_attribute,
        swap_edges,
        swap_operands,
        lambda graph: graph.node.pop(),
        lambda graph: setattr(graph.node[0], "op_type", "Other"),
        lambda graph: setattr(graph.node[0], "domain", "other"),
        lambda graph: setattr(graph.input[0].type.tensor_type.shape.dim[3], "dim_value", 33),
        lambda graph: graph.output.extend([graph.output[0]]),
    ],
)
def test_an_attribute_an_edge_or_a_shape_changes_the_digest(
    onnx_file: Path, change: Callable[[onnx.GraphProto], object]
) -> None:
    model = onnx.load(onnx_file)
    before = canonical_digest(model)
    change(model.graph)
    assert canonical_digest(model) != before


def test_the_opset_changes_the_digest(tmp_path: Path) -> None:
    model = onnx.load(small_graph(tmp_path / "small.onnx"))
    before = canonical_digest(model)
    model.opset_import[0].domain = "ai.onnx"  # the other spelling of the standard domain
    assert canonical_digest(model) == before
    model.opset_import[0].version = 12
    assert canonical_digest(model) != before


def with_subgraph(inner: str, weight: float, used: str = "x") -> onnx.ModelProto:
    """A graph with an If whose branches use a tensor of the graph around them."""

    def branch(value: float) -> onnx.GraphProto:
        constant = numpy_helper.from_array(np.array([value], np.float32), f"{inner}_constant")
        result = helper.make_tensor_value_info(inner, TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node("Add", [used, f"{inner}_constant"], [inner])], inner, [], [result], [constant]
        )

    nodes = [helper.make_node("If", ["c"], ["r"], then_branch=branch(1), else_branch=branch(weight))]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    inputs.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1])])
    )


def test_subgraphs_are_part_of_it() -> None:
    digest = canonical_digest(with_subgraph("a", 2))
    assert canonical_digest(with_subgraph("b", 2)) == digest
    assert canonical_digest(with_subgraph("a", 3)) != digest
    assert canonical_digest(with_subgraph("a", 2, used="y")) != digest


def test_equal_tensors_and_nodes_do_not_hide_an_edge() -> None:
    """Two equal weights are two tensors: a node that uses the other one is another graph."""

    def model(second: str) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("a", "b")]
        nodes = [helper.make_node("Add", ["x", "a"], ["m"]), helper.make_node("Add", ["m", second], ["y"])]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        return helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], tensors))

    assert canonical_digest(model("a")) != canonical_digest(model("b"))
