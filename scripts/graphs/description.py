"""What the later stages need to know of a graph: opsets, domains, and the precision in which it computes."""

from __future__ import annotations

from _support.artifact import Record

from typing import Any

import onnx
from onnx import TensorProto

from graphs.edit import without_weights
from graphs.external_data import graphs_of, tensors_of

NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
INT8 = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
INT8 |= {"QLinearConv", "QLinearMatMul"}


def nodes_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of a model, also those in subgraphs and functions."""
    return [node for graph in graphs_of(model) for node in graph.node]


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators; 1 if the model does not say."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def types_of(model: onnx.ModelProto) -> set[int]:
    """The floating-point types of all tensors and casts of a model."""
    types = {tensor.data_type for tensor in tensors_of(model)}
    types |= {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    types |= {a.i for node in nodes_of(model) if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    return types.intersection(NAMES)


def computed_types(model: onnx.ModelProto) -> set[int]:
    """The floating-point types in which convolutions and matrix products compute, as far as they can be inferred."""
    graph: Any = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    products = [node for node in graph.node if node.op_type in PRODUCTS and node.output]
    return {types.get(node.output[0], 0) for node in products}.intersection(NAMES)


def precision_of(model: onnx.ModelProto) -> str:
    """The precision of a graph: float32, float16, int8, or several as `float16 and float32`.

    Weights that are stored in float16 and converted to float32 before they are used do not count.
    """
    if INT8.intersection(node.op_type for node in nodes_of(model)):
        return "int8"
    types = types_of(model)
    if types - {TensorProto.FLOAT}:
        types = computed_types(model) or types
    return " and ".join(sorted(NAMES[kind] for kind in types)) or "float32"


def description_of(model: onnx.ModelProto) -> Record:
    """The opset, the domains of further operators, and the precision of a graph, for its record."""
    domains = {node.domain for node in nodes_of(model)} - {"", "ai.onnx"}
    return {"opset": opset_of(model), "domains": sorted(domains), "precision": precision_of(model)}
