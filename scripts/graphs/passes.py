"""Graph optimization passes, as a table of named rewrites. Each pass preserves the function that the graph computes."""

from __future__ import annotations

from _support.cli import die

import math
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from graphs.edit import (
    PROBE,
    Array,
    attributes,
    constants_of,
    drop_unused,
    fold_constants,
    free,
    keep_initializers,
    put,
    set_nodes,
    shapes_at,
    uses_of,
)
from network.spec import RESIZES

Pass = Callable[[onnx.ModelProto], None]


def table(resize: str, subject: object) -> List[Tuple[str, Pass]]:
    """The passes in their order; `subject` is the file to name when its graph cannot be rewritten."""
    return [
        ("drop_unused", drop_unused),
        ("fold_constants", fold_constants),
        (f"resize_{resize}", partial(replace_resizes, how=resize, subject=subject)),
        ("flatten_reshapes", flatten_reshapes),
        ("sum_masks", sum_masks),
        ("share_equal_initializers", share_equal_initializers),
    ]


def sum_masks(model: onnx.ModelProto) -> None:
    """The soft masks' (1 + s)·x -> s·x + x, as many nodes without a constant.

    ONNX Runtime keeps its blocked layout from convolution to convolution only through what takes no constant: with the
    1 it reorders 56 tensors a batch and fuses neither half of the norms nor most of the sums: one to two per cent.
    """
    graph, known, uses = model.graph, constants_of(model.graph), uses_of(model.graph)
    masks = {}  # {1 + s: s}, each used once
    for node in graph.node:
        ones = [name for name in node.input if name in known and known[name].shape in ((), (1,)) and known[name] == 1]
        if node.op_type == "Add" and len(ones) == 1 and uses[node.output[0]] == 1:
            masks[node.output[0]] = node.input[1 - list(node.input).index(ones[0])]
    shapes, nodes = shapes_at(model, PROBE) if masks else {}, []
    for node in graph.node:
        mask = next((name for name in node.input if node.op_type == "Mul" and name in masks), "")
        x = node.input[1 - list(node.input).index(mask)] if mask else ""
        if mask and x not in known and shapes.get(x) == shapes.get(masks[mask]) is not None:
            y = node.output[0]
            product = free(graph, f"{y}_masked")
            nodes.append(helper.make_node("Mul", [x, masks[mask]], [product], f"{node.name}_masked"))
            node = helper.make_node("Add", [product, x], [y], node.name)
        nodes.append(node)
    set_nodes(graph, nodes)
    drop_unused(model)


def share_equal_initializers(model: onnx.ModelProto) -> None:
    """Of initializers of the same type, shape and bytes the first one stays, for all."""
    graph, outputs = model.graph, {value.name for value in model.graph.output}
    first: Dict[Any, str] = {}
    same: Dict[str, str] = {}
    for tensor in graph.initializer:
        what = tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()
        same[tensor.name] = tensor.name if tensor.name in outputs else first.setdefault(what, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    keep_initializers(graph, set(same.values()))


def is_bilinear(node: NodeProto) -> bool:
    found = attributes(node)
    modes = found.get("mode"), found.get("coordinate_transformation_mode")
    return node.op_type == "Resize" and modes == (b"linear", b"align_corners")


def align_corners_matrix(size: int) -> Array:
    """A, float32 [2·size, size]: row i mixes the neighbours of i·(size-1)/(2·size-1) (ONNX Resize, align_corners)."""
    matrix = np.zeros((2 * size, size))
    for i in range(2 * size):
        at = i * (size - 1) / (2 * size - 1)
        low = min(math.floor(at), size - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (at - low), at - low
    return matrix.astype(np.float32)


def replace_resizes(model: onnx.ModelProto, how: str, subject: object) -> None:
    """Rewrites the four Resize nodes: nearest (an approximation), exact or none, as optimize_onnx.py says.

    Exits 1 if there are other than four (but for none, which leaves such a graph as it is), or one that does not double
    a map.
    """
    graph, shapes = model.graph, shapes_at(model, PROBE)
    found = sum(is_bilinear(node) for node in graph.node)
    if how == "none" and found != RESIZES:  # a graph of another network, or one that was optimized before
        return
    if found != RESIZES:
        problem = f"{found} bilinear align_corners Resize nodes, not {RESIZES}"
        remedy = "give the plain export of this network, or set optimize.resize: none; rm the file for our own export"
        die(subject, problem, remedy)
    nodes = []
    for node in graph.node:
        if not is_bilinear(node):
            nodes.append(node)
            continue
        x, y = node.input[0], node.output[0]
        before, after = shapes.get(x, [])[2:], shapes.get(y, [])[2:]
        if len(before) != 2 or after != [2 * d for d in before]:
            die(subject, f"{node.name} resizes {before} to {after}, not to twice that", "give the plain export")
        height, width = before
        if how == "exact":
            rows = put(graph, f"align_corners_{height}", align_corners_matrix(height))
            columns = put(graph, f"align_corners_{width}_transposed", align_corners_matrix(width).T)
            nodes.append(helper.make_node("MatMul", [x, columns], [f"{y}_columns"], f"{node.name}_columns"))
            nodes.append(helper.make_node("MatMul", [rows, f"{y}_columns"], [y], f"{node.name}_rows"))
            continue
        roi = put(graph, "no_roi", np.array([], np.float32))
        scales = put(graph, "twice", np.array([1, 1, 2, 2], np.float32))
        modes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        if how == "nearest":
            modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        nodes.append(helper.make_node("Resize", [x, roi, scales], [y], node.name, **modes))
    set_nodes(graph, nodes)
    drop_unused(model)


def flatten_reshapes(model: onnx.ModelProto) -> None:
    """A Reshape that keeps the batch and joins all the rest (x.view(x.size(0), -1)) -> Flatten: no shape to compute."""
    graph, shapes = model.graph, shapes_at(model, PROBE)
    nodes = []
    for node in graph.node:
        before, after = (shapes.get(name, []) for name in (*node.input[:1], *node.output[:1]))
        if node.op_type == "Reshape" and before[:1] == [PROBE] and after == [PROBE, math.prod(before[1:])]:
            node = helper.make_node("Flatten", [node.input[0]], [node.output[0]], node.name, axis=1)
        nodes.append(node)
    set_nodes(graph, nodes)
    drop_unused(model)
