"""Converts a float32 graph to int8: QuantizeLinear and DequantizeLinear around Conv and Gemm (QDQ).

Weights are symmetric int8 with one scale per output channel. Inputs of Conv and Gemm have one scale per tensor, from
the largest value on the calibration images: uint8 if no value is negative (after Relu), else symmetric int8. Zero
points are 0, so they cost no work (Jacob et al., arXiv:1712.05877; ONNX QuantizeLinear). All other nodes stay float32.
"""

from __future__ import annotations

from _support import cli

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter

from graphs.agreement import BATCH, logits_of
from graphs.description import description_of, opset_of
from graphs.edit import drop_unused, fold_constants, has_subgraphs
from graphs.session import open_session
from network.spec import INPUT

OPSET = 13  # the first with a scale per channel in DequantizeLinear
REMEDY = "set CHIP= to a chip of another precision"
LARGEST = {np.dtype(np.uint8): 255, np.dtype(np.int8): 127}  # -128 is left out, so that the scale is symmetric


def ranges(model: onnx.ModelProto, names: list[str], images: NDArray[Any]) -> dict[str, tuple[float, float]]:
    """{tensor: (smallest, largest value)} over float32 [n, *IMAGE_SHAPE]."""
    with_outputs = onnx.ModelProto()
    with_outputs.CopyFrom(model)
    with_outputs.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session, limits = open_session(with_outputs), {name: (np.inf, -np.inf) for name in names}
    for start in range(0, len(images), BATCH):
        values = session.run(names, {INPUT: images[start : start + BATCH]})
        for name, value in zip(names, values):
            low, high = limits[name]
            limits[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return limits


def has_channel_rows(node: onnx.NodeProto) -> bool:
    """Whether the first dimension of a node's weight is the output channel: Conv, and Gemm with transB."""
    is_transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return node.op_type == "Conv" or (node.op_type == "Gemm" and is_transposed)


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with opset 13 or newer; onnx raises an error if it cannot convert an operator."""
    return model if opset_of(model) >= OPSET else version_converter.convert_version(model, OPSET)


def products_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that quantize() converts: Conv and Gemm with constant float32 weights."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    computed = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    return [
        node for node in graph.node if has_channel_rows(node) and node.input[0] in computed and node.input[1] in weights
    ]


def refusal(model: onnx.ModelProto) -> tuple[str, str] | None:
    """Why a graph cannot be converted to int8, and the remedy; None if it can."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    model = copy
    try:
        drop_unused(model)
        fold_constants(model)  # constant nodes become initializers
        if has_subgraphs(model):
            return "int8 is not possible for nodes with subgraphs (If, Loop)", REMEDY
        description = description_of(model)
        if description["precision"] != "float32" or not products_of(model):
            problem = "int8 needs Conv, or Gemm with transB=1, with constant float32 weights, and the graph has none "
            problem += f"(its precision is {description['precision']})"
            return problem, REMEDY
        converted(model)
    except Exception as error:  # noqa: BLE001  onnx raises many kinds of errors on operators that it does not know
        reason = cli.one_line(error)[:200].replace(";", ",")
        return f"it cannot be converted to opset {OPSET} for int8 ({reason})", REMEDY
    return None


def quantize(model: onnx.ModelProto, images: NDArray[Any]) -> onnx.ModelProto:
    """The int8 form of `model`, calibrated on float32 [n, *IMAGE_SHAPE]; its opset is 13 or newer."""
    model = converted(model)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    computed = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    products = products_of(model)
    mark = "int8"  # prefix of every new name and of no present one
    while any(name.startswith(mark) for name in {*computed, *weights}):
        mark += "_"
    inputs = list(dict.fromkeys(node.input[0] for node in products))
    low_high = ranges(model, inputs, images)
    constants: dict[str, NDArray[Any]] = {}

    def dequantized(name: str, largest: NDArray[Any], kind: Any) -> onnx.NodeProto:
        """The node that converts a tensor's int8 form, of type `kind`, to float32. Adds its scale and zero point to
        `constants`; the scale maps `largest` to the largest number of the type."""
        largest = np.where(largest > 0, largest, 1)
        constants[f"{mark}_{name}_scale"] = (largest / LARGEST[np.dtype(kind)]).astype(np.float32)
        constants[f"{mark}_{name}_zero"] = np.zeros(largest.shape, kind)
        words = [f"{mark}_{name}", f"{mark}_{name}_scale", f"{mark}_{name}_zero"]
        return helper.make_node(
            "DequantizeLinear", words, [f"{mark}_{name}_dequantized"], f"{mark}_{name}_dequantize", axis=0
        )

    def quantize_and_back(name: str) -> list[onnx.NodeProto]:
        """The two nodes that round a tensor to int8 values."""
        low, high = low_high[name]
        after = dequantized(name, np.array(max(-low, high)), np.uint8 if low >= 0 else np.int8)
        words = [name, *after.input[1:]]
        return [helper.make_node("QuantizeLinear", words, [f"{mark}_{name}"], f"{mark}_{name}_quantize"), after]

    nodes = [new for value in graph.input if value.name in inputs for new in quantize_and_back(value.name)]
    for node in graph.node:
        if node in products:
            name = node.input[1]
            if f"{mark}_{name}" not in constants:
                weight = weights[name]
                after = dequantized(name, np.abs(weight).reshape(len(weight), -1).max(1), np.int8)
                scale = constants[f"{mark}_{name}_scale"].reshape(-1, *[1] * (weight.ndim - 1))
                constants[f"{mark}_{name}"] = np.rint(weight / scale).astype(np.int8)
                nodes.append(after)
            node.input[0], node.input[1] = (f"{mark}_{word}_dequantized" for word in node.input[:2])
        nodes.append(node)
        nodes += [new for name in node.output if name in inputs for new in quantize_and_back(name)]
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    kept = {**weights, **constants}
    graph.initializer.extend(numpy_helper.from_array(kept[name], name) for name in kept if name in used)
    onnx.checker.check_model(model, full_check=True)
    return model


def top1(model: onnx.ModelProto, images: NDArray[Any], labels: NDArray[Any], optimized: bool = True) -> float:
    """Top-1 in per cent on images, float32 [n, *IMAGE_SHAPE]."""
    return float(100 * np.mean(logits_of(model, images, optimized).argmax(1) == labels))
