"""ONNX -> optimized ONNX: constants folded, nothing unused, and the four Resize nodes made as `--resize` says.

nearest: the guide's rewrite, nearest + asymmetric + floor: an approximation, reported with what it changes.
exact:   bilinear align_corners as two constant matrix products, Y = A·X·Aᵀ.
none:    bilinear align_corners stays.
The nodes are found by what they are (operator, mode, factor), never by name. Checked before the file gets its name:
exactly four of them, onnx.checker, nothing left that computes a shape, and the logits against the plain export's.
"""

from __future__ import annotations

import _build
from _build import die, needed_record

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import reference
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

PROBE = 7  # a batch size that is no other dimension of this network, to see what depends on it
RESIZES = 4  # of this network: 8→16 and 16→32 at 128 channels, 8→16 at 256 channels, twice
SHAPE_OPERATORS = {"Shape", "Gather", "Slice", "Concat", "Identity"}


def attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """{tensor name: inferred shape}, of the tensors whose every dimension is known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
        and all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
    }


def fix_batch(model: onnx.ModelProto, batch_size: int) -> None:
    """Gives the first dimension of every input and output a number and folds, until no more shapes become known."""
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch_size
    before = -1
    while before != len(model.graph.node):
        before = len(model.graph.node)
        fold(model)


def shapes_at(model: onnx.ModelProto, batch_size: int) -> dict[str, list[int]]:
    """{tensor name: shape} of a model whose batch is free, as they are for one batch size."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fix_batch(fixed, batch_size)
    return shapes_of(fixed)


def constants_of(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def add_constant(graph: onnx.GraphProto, name: str, value: NDArray[Any]) -> str:
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def set_nodes(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def fold(model: onnx.ModelProto) -> None:
    """Turns nodes whose result is known now into initializers, drops Identity nodes and whatever nothing uses."""
    graph = model.graph
    shapes, known = shapes_of(model), constants_of(graph)
    alias: dict[str, str] = {}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
        shape = shapes.get(node.input[0]) if node.op_type == "Shape" else None
        if node.op_type == "Identity" and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        elif shape:
            bounds = attributes(node)
            known[node.output[0]] = np.array(shape, np.int64)[bounds.get("start", 0) : bounds.get("end")]
        elif all(name in known or not name for name in node.input) and len(node.output) == 1:
            inputs = [helper.make_tensor_value_info(n, 0, None) for n in node.input if n]
            result = helper.make_tensor_value_info(node.output[0], 0, None)
            one = helper.make_model(
                helper.make_graph([node], "one", inputs, [result]), opset_imports=model.opset_import
            )
            answers: Any = ReferenceEvaluator(one).run(None, {name: known[name] for name in node.input if name})
            known[node.output[0]] = np.asarray(answers[0])
        else:
            kept.append(node)
    needed = set(outputs)
    alive: list[NodeProto] = []
    for node in reversed(kept):
        if needed.intersection(node.output):
            alive.insert(0, node)
            needed.update(name for name in node.input if name)
    set_nodes(graph, alive)
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in known if name in needed)


def is_bilinear(node: NodeProto) -> bool:
    found = attributes(node)
    modes = found.get("mode"), found.get("coordinate_transformation_mode")
    return node.op_type == "Resize" and modes == (b"linear", b"align_corners")


def align_corners_matrix(size: int) -> NDArray[Any]:
    """A, float32 [2·size, size]: row i mixes the neighbours of i·(size-1)/(2·size-1) (ONNX Resize, align_corners)."""
    matrix = np.zeros((2 * size, size))
    for i in range(2 * size):
        at = i * (size - 1) / (2 * size - 1)
        low = min(math.floor(at), size - 2)
        matrix[i, low], matrix[i, low + 1] = 1 - (at - low), at - low
    return matrix.astype(np.float32)


def replace_resizes(model: onnx.ModelProto, how: str, subject: object) -> None:
    """Rewrites the four Resize nodes; exits 1 if there are other than four (or none,
    with nothing to do), or one that does not double a map."""
    graph, shapes = model.graph, shapes_at(model, PROBE)
    found = sum(is_bilinear(node) for node in graph.node)
    if found != RESIZES and not (how == "none" and not found):  # an own graph may have been optimized before
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
            rows = add_constant(graph, f"align_corners_{height}", align_corners_matrix(height))
            columns = add_constant(graph, f"align_corners_{width}_transposed", align_corners_matrix(width).T.copy())
            nodes.append(helper.make_node("MatMul", [x, columns], [f"{y}_columns"], f"{node.name}_columns"))
            nodes.append(helper.make_node("MatMul", [rows, f"{y}_columns"], [y], f"{node.name}_rows"))
            continue
        roi = add_constant(graph, "no_roi", np.array([], np.float32))
        scales = add_constant(graph, "twice", np.array([1, 1, 2, 2], np.float32))
        modes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        if how == "nearest":
            modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        nodes.append(helper.make_node("Resize", [x, roi, scales], [y], node.name, **modes))
    set_nodes(graph, nodes)


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


def count(model: onnx.ModelProto) -> str:
    return f"{len(model.graph.node)} nodes, {len(model.graph.initializer)} initializers"


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--resize", choices=["nearest", "exact", "none"], required=True)
    parser.add_argument("--check-images", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="relative, of the largest logit")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    plain_record = needed_record(args.onnx)
    inputs = {"onnx": plain_record["sha256"], "bins": needed_record(args.bins, args.bins)["digest"]}
    flags = {"resize": args.resize, "check_images": args.check_images, "tolerance": args.tolerance}
    with _build.build_file(
        args.out, _build.key_of(inputs, flags, ("onnx", "onnxruntime")), plain_record["provenance"]
    ) as job:
        model = onnx.load(args.onnx)
        before = count(model)
        fold(model)
        replace_resizes(model, args.resize, args.onnx)
        flatten_reshapes(model)
        fold(model)
        left = sorted(SHAPE_OPERATORS.intersection(node.op_type for node in model.graph.node))
        if left:
            die(args.onnx, f"{', '.join(left)} nodes cannot be folded away", "give the plain export of this network")
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString(deterministic=True)
        images = reference.some_bins(args.bins, args.check_images)
        plain, found = reference.logits_of(args.onnx, images), reference.logits_of(data, images)
        check: _build.Record = {"images": len(images), "relative_error": reference.relative_error(found, plain)}
        check["changed_labels"] = reference.changed_labels(found, plain)
        check["largest_logit_change"] = float(np.abs(found - plain).max())
        if args.resize == "nearest" and np.isfinite(found).all():
            report = "an approximation"
        else:
            reference.must_agree(args.out, found, plain, args.tolerance)
            report = "the same function"
        print(f"  {before} -> {count(model)}")
        print(
            f"  resize {args.resize}: {report}; of {len(images)} images {check['changed_labels']} changed their label,"
            f" largest logit change {check['largest_logit_change']:.2g}"
        )
        job.path.write_bytes(data)
        job.record["check"] = check
        job.record["provenance"].update(optimized=hashlib.sha256(data).hexdigest(), resize=args.resize)


if __name__ == "__main__":
    main()
