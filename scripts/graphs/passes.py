"""Graph optimization passes, as a table of named rewrites. Each pass preserves the function that the graph computes."""

from __future__ import annotations

from _support.cli import short

import math
from functools import partial
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from graphs.edit import (
    PROBE,
    Array,
    add_initializer,
    attributes,
    constants_of,
    drop_unused,
    fold_constants,
    free_name,
    keep_initializers,
    set_nodes,
    shapes_at,
    uses_of,
)
from network.spec import RESIZES

Pass = Callable[[onnx.ModelProto], None]


class NotApplicable(ValueError):
    """A pass does not fit a graph. For the export of this network that is an error."""


def table(resize: str, is_own: bool = False) -> List[Tuple[str, Pass]]:
    """The passes in their order, for the export or for a graph of the user's own."""
    return [
        ("drop_unused", drop_unused),
        ("fold_constants", fold_constants),
        (f"resize_{resize}", partial(replace_resizes, how=resize, is_own=is_own)),
        ("flatten_reshapes", flatten_reshapes),
        ("sum_masks", sum_masks),
        ("share_equal_initializers", share_equal_initializers),
    ]


def sum_masks(model: onnx.ModelProto) -> None:
    """Rewrites the soft masks (1 + s)·x to s·x + x: the same number of nodes, and no constant.

    ONNX Runtime keeps its blocked layout between convolutions only through nodes without constants. With the 1 it
    reorders 56 tensors per batch and does not fuse half of the norms and most of the sums, which costs 1 to 2 per cent.
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
            product = free_name(graph, f"{y}_masked")
            nodes.append(helper.make_node("Mul", [x, masks[mask]], [product], f"{node.name or y}_masked"))
            node = helper.make_node("Add", [product, x], [y], node.name)
        nodes.append(node)
    set_nodes(graph, nodes)
    drop_unused(model)


def share_equal_initializers(model: onnx.ModelProto) -> None:
    """Merges initializers of the same type, shape and bytes."""
    graph, outputs = model.graph, {value.name for value in model.graph.output}
    first: Dict[Any, str] = {}
    same: Dict[str, str] = {}
    for tensor in graph.initializer:
        content = tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()
        same[tensor.name] = tensor.name if tensor.name in outputs else first.setdefault(content, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    keep_initializers(graph, set(same.values()))


def is_bilinear(node: NodeProto) -> bool:
    """Whether a node is a Resize with bilinear interpolation and align_corners."""
    by_name = attributes(node)
    modes = by_name.get("mode"), by_name.get("coordinate_transformation_mode")
    return node.op_type == "Resize" and modes == (b"linear", b"align_corners")


def align_corners_matrix(size: int) -> Array:
    """Float32 [2·size, size]: row i interpolates at i·(size-1)/(2·size-1) (ONNX Resize, align_corners)."""
    matrix = np.zeros((2 * size, size))
    for i in range(2 * size):
        at = i * (size - 1) / (2 * size - 1)
        low = min(math.floor(at), size - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (at - low), at - low
    return matrix.astype(np.float32)


def count_resizes(model: onnx.ModelProto) -> int:
    """The number of Resize nodes that replace_resizes() would rewrite."""
    return sum(is_bilinear(node) for node in model.graph.node)


def replace_resizes(model: onnx.ModelProto, how: str, is_own: bool = False) -> None:
    """Rewrites the four Resize nodes by `how`: nearest (an approximation), exact or none; see optimize_onnx.py.

    In a graph of the user's own, exact rewrites any number of them, because it computes the same. Raises NotApplicable
    if there is another number (with none, such a graph stays unchanged), or if one does not double height and width.
    """
    graph, shapes = model.graph, shapes_at(model, PROBE)
    count = count_resizes(model)
    if how == "none" and count != RESIZES:  # a graph of another network, or an optimized one
        return
    if count != RESIZES and not (is_own and how == "exact" and count):
        raise NotApplicable(f"{count} bilinear align_corners Resize nodes, not {RESIZES}")
    nodes = []
    for node in graph.node:
        if not is_bilinear(node):
            nodes.append(node)
            continue
        x, y = node.input[0], node.output[0]
        before, after = shapes.get(x, [])[2:], shapes.get(y, [])[2:]
        if len(before) != 2 or after != [2 * d for d in before]:
            raise NotApplicable(
                f"{short(node.name or node.output[0])} resizes {before} to {after}, not to twice the size"
            )
        height, width = before
        if how == "exact":
            rows = add_initializer(graph, f"align_corners_{height}", align_corners_matrix(height))
            columns = add_initializer(graph, f"align_corners_{width}_transposed", align_corners_matrix(width).T)
            nodes.append(helper.make_node("MatMul", [x, columns], [f"{y}_columns"], f"{node.name or y}_columns"))
            nodes.append(helper.make_node("MatMul", [rows, f"{y}_columns"], [y], f"{node.name or y}_rows"))
            continue
        roi = add_initializer(graph, "no_roi", np.array([], np.float32))
        scales = add_initializer(graph, "twice", np.array([1, 1, 2, 2], np.float32))
        modes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        if how == "nearest":
            modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        nodes.append(helper.make_node("Resize", [x, roi, scales], [y], node.name, **modes))
    set_nodes(graph, nodes)
    drop_unused(model)


def flatten_reshapes(model: onnx.ModelProto) -> None:
    """Rewrites a Reshape that flattens all but the batch (x.view(x.size(0), -1)) to Flatten, which needs no shape."""
    graph, shapes = model.graph, shapes_at(model, PROBE)
    nodes = []
    for node in graph.node:
        before, after = (shapes.get(name, []) for name in (*node.input[:1], *node.output[:1]))
        if node.op_type == "Reshape" and before[:1] == [PROBE] and after == [PROBE, math.prod(before[1:])]:
            node = helper.make_node("Flatten", [node.input[0]], [node.output[0]], node.name, axis=1)
        nodes.append(node)
    set_nodes(graph, nodes)
    drop_unused(model)
