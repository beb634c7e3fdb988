"""Editing of ONNX graphs: shapes, constants, unused nodes.

Nodes are recognized by their operators and attributes, not by the names of an exporter. Graphs whose nodes contain
subgraphs are not supported: see has_subgraphs(). Constants are computed in float64 and rounded once to the type that
the graph has there.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Container

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

Array = NDArray[Any]
PROBE = 7  # a batch size that differs from all other dimensions of this network, to see what depends on it
SMALL = 1024  # bytes; constants of shapes are smaller; shape inference without the larger ones saves 0.2 s
SHAPE_OPERATORS = {"Shape", "Gather", "Slice", "Concat", "Identity"}
DISCONTINUOUS = {"Ceil", "Floor", "Mod", "Round", "Sign"}  # computed in the type of the graph
NOT_DETERMINISTIC = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
NOT_DETERMINISTIC |= {"Bernoulli", "Multinomial"}
NOT_FOLDED = NOT_DETERMINISTIC | {"DequantizeLinear"}  # weights in eight bits would become larger
NOT_FOLDED |= {"BatchNormalization"}  # onnx's evaluator runs that of opset 11 in training mode


def attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def uses_of(graph: onnx.GraphProto) -> Counter[str]:
    """{tensor name: number of node inputs and graph outputs that use it}."""
    return Counter([name for node in graph.node for name in node.input] + [value.name for value in graph.output])


def has_subgraphs(model: onnx.ModelProto) -> bool:
    """Whether a node (If, Loop, Scan) contains a graph, which may use tensors of the graph around it."""
    return any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute)


def set_nodes(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    """Replaces the nodes of the graph."""
    del graph.node[:]
    graph.node.extend(nodes)


def free_name(graph: onnx.GraphProto, name: str) -> str:
    """`name`, with underscores added until no tensor has it."""
    taken = {name for node in graph.node for name in node.output}
    taken |= {tensor.name for tensor in [*graph.input, *graph.initializer]}
    while name in taken:
        name += "_"
    return name


def add_initializer(graph: onnx.GraphProto, name: str, value: Array) -> str:
    """Adds an initializer unless the graph has an equal one, and returns its name: `name`, or a longer one if taken."""
    tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
    if tensor in graph.initializer:
        return name
    tensor.name = name = free_name(graph, name)
    graph.initializer.append(tensor)
    return name


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """{tensor name: inferred shape} of the tensors whose dimensions are all known, including initializers."""
    graph = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
        and all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
    }
    return {**shapes, **{tensor.name: list(tensor.dims) for tensor in model.graph.initializer}}


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with large initializers as inputs, after the model's own: shape inference is faster and gives the same."""
    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, known = bare.graph, {value.name for value in model.graph.input}
    graph.node.extend(model.graph.node)
    graph.output.extend(model.graph.output)
    graph.input.extend(model.graph.input)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def set_batch(model: onnx.ModelProto, batch_size: int, inputs: int | None = None) -> None:
    """Sets the first dimension of outputs and inputs (of the first `inputs`, or all)."""
    for value in [*model.graph.input[:inputs], *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch_size


def fix_batch(model: onnx.ModelProto, batch_size: int, inputs: int | None = None) -> None:
    """Sets the first dimension like set_batch, and folds the new constants."""
    set_batch(model, batch_size, inputs)
    drop_unused(model)
    fold_constants(model)


def shapes_at(model: onnx.ModelProto, batch_size: int) -> dict[str, list[int]]:
    """{tensor name: shape} of a model with a dynamic batch, at one batch size."""
    bare = without_weights(model)
    fix_batch(bare, batch_size, len(model.graph.input))
    return {**shapes_of(bare), **{tensor.name: list(tensor.dims) for tensor in model.graph.initializer}}


def macs(model: onnx.ModelProto) -> dict[str, int] | None:
    """{node: multiply-accumulates} of Conv, Gemm and MatMul for one image; None if a shape cannot be inferred."""
    if has_subgraphs(model):
        return None
    shapes, by_node = shapes_at(model, 1), {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            x, w, y = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
            if not (x and w and y):
                return None
            terms = math.prod(w[1:]) if node.op_type == "Conv" else x[0 if attributes(node).get("transA") else -1]
            by_node[node.name or node.output[0]] = math.prod(y) * terms
    return by_node


def keep_initializers(graph: onnx.GraphProto, names: Container[str]) -> None:
    """Removes the initializers whose names are not in `names`."""
    kept = [tensor for tensor in graph.initializer if tensor.name in names]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def drop_unused(model: onnx.ModelProto) -> None:
    """Removes Identity nodes, nodes and initializers that no output needs, and inputs that name an initializer.

    Old exporters listed every initializer as an input too.
    """
    graph = model.graph
    outputs = {value.name for value in graph.output}
    computed = {name for node in graph.node for name in node.output} - outputs
    # The tensor before an Identity that is an output gets the name of the output.
    alias = {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type == "Identity" and node.output[0] in outputs and node.input[0] in computed
    }
    for node in graph.node if alias else ():
        node.input[:] = [alias.get(name, name) for name in node.input]
        node.output[:] = [alias.get(name, name) for name in node.output]
    set_nodes(graph, [node for node in graph.node if node.input[:1] != node.output[:1] or node.op_type != "Identity"])
    alias = {}
    kept = []
    for node in graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    needed = set(outputs)
    alive: list[NodeProto] = []
    for node in reversed(kept):
        if needed.intersection(node.output):
            alive.append(node)
            needed.update(filter(None, node.input))
    set_nodes(graph, alive[::-1])
    names = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in names]
    if len(inputs) < len(graph.input):
        model.ir_version = max(model.ir_version, 4)  # before IR 4 every initializer had to be an input
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    keep_initializers(graph, needed)


def widened(value: Array) -> Array:
    """`value` in float64 if it is a floating-point array."""
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def evaluate(node: NodeProto, known: dict[str, Array], opsets: Any) -> Array:
    """The result of a node with one output whose inputs are known."""
    from onnx.reference import ReferenceEvaluator  # here, because the import takes 0.1 s

    inputs = [helper.make_tensor_value_info(name, 0, None) for name in dict.fromkeys(node.input) if name]
    result = helper.make_tensor_value_info(node.output[0], 0, None)
    single = helper.make_model(helper.make_graph([node], "one", inputs, [result]), opset_imports=opsets)
    results: Any = ReferenceEvaluator(single).run(None, {value.name: known[value.name] for value in inputs})
    return np.asarray(results[0])


def fold_constants(model: onnx.ModelProto) -> None:
    """Replaces nodes whose results are constant by initializers, until none is left.

    Each result is computed twice: in the graph's own types, which give its type and all integers, and in float64 along
    chains of such nodes, rounded once where a remaining node uses it.
    """
    graph = model.graph
    known = constants_of(graph)
    exact: dict[str, Array] = {}
    outputs, before = {value.name for value in graph.output}, -1
    failed: set[str] = set()
    while before != len(graph.node):
        before = len(graph.node)
        shapes = shapes_of(model) if any(node.op_type == "Shape" for node in graph.node) else {}
        kept, folded = [], []
        for node in graph.node:
            name = node.output[0]
            shape = shapes.get(node.input[0]) if node.op_type == "Shape" else None
            if name in outputs or len(node.output) > 1 or node.op_type in NOT_FOLDED or name in failed:
                kept.append(node)
                continue
            if shape:
                bounds = attributes(node)
                known[name] = np.array(shape, np.int64)[bounds.get("start", 0) : bounds.get("end")]
            elif all(x in known or not x for x in node.input):
                try:
                    known[name] = evaluate(node, known, model.opset_import)
                except Exception:  # noqa: BLE001  the evaluator lacks the operator or cannot run it
                    failed.add(name)
                    kept.append(node)
                    continue
            else:
                kept.append(node)
                continue
            exact[name] = widened(known[name])
            if known[name].dtype.kind == "f" and node.op_type not in DISCONTINUOUS:
                inputs = {x: exact.get(x, widened(known[x])) for x in node.input if x}
                exact[name] = widened(evaluate(node, inputs, model.opset_import))
            folded.append(name)
        set_nodes(graph, kept)
        uses = uses_of(graph)
        for name in folded:
            if uses[name]:
                graph.initializer.append(numpy_helper.from_array(exact[name].astype(known[name].dtype), name))
    drop_unused(model)
