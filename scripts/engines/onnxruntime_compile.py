"""CPU, float32, ONNX Runtime: the compiled model is the optimized graph with its batch fixed."""

from __future__ import annotations

from _build import die

from pathlib import Path

import onnx
from passes import SHAPE_OPERATORS, fix_batch

ENDING = "onnx"
PACKAGES = ("onnx", "onnxruntime")


def compile_model(
    model: Path, batch_size: int, out: Path, options: dict[str, str], limits: dict[str, str], log: Path
) -> dict[str, object]:
    """Writes `out`, the graph of `model` for inputs [batch_size, 3, 32, 32]; exits 1 on an unknown option."""
    if options:
        die("params.yaml", f"engine onnxruntime has no option {', '.join(options)}", "remove it from the chip's line")
    graph = onnx.load(model)
    fix_batch(graph, batch_size)
    left = SHAPE_OPERATORS.intersection(node.op_type for node in graph.graph.node)
    if left:
        die(
            model, f"{', '.join(sorted(left))} nodes stay with the batch fixed", "give the plain export of this network"
        )
    onnx.checker.check_model(graph, full_check=True)
    out.write_bytes(graph.SerializeToString(deterministic=True))
    return {"precision": "float32"}
