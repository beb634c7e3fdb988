"""CPU, float32, ONNX Runtime: the compiled model is the optimized graph with its batch fixed."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import die

import onnx

from engines import CompileRequest
from graphs.edit import SHAPE_OPERATORS, fix_batch


def compile_model(request: CompileRequest) -> Record:
    """Writes the graph for inputs [batch_size, *IMAGE_SHAPE]; exits 1 on an unknown option."""
    if request.options:
        unknown = ", ".join(request.options)
        die("params.yaml", f"engine onnxruntime does not have the option {unknown}", "remove it from the chip's line")
    graph = onnx.load(request.model)
    fix_batch(graph, request.batch_size)
    remaining = SHAPE_OPERATORS.intersection(node.op_type for node in graph.graph.node)
    if remaining:
        problem = f"{', '.join(sorted(remaining))} nodes remain after the batch size was fixed"
        die(request.model, problem, "set ONNX= to the plain export of this network")
    onnx.checker.check_model(graph, full_check=True)
    request.out.write_bytes(graph.SerializeToString(deterministic=True))
    return {"precision": "float32"}
