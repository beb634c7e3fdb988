"""CPU, ONNX Runtime: the compiled model is the optimized graph with its batch fixed, in the graph's own precision."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import SETTINGS_FILE, die

import onnx

import engines
from engines import CompileRequest
from graphs.edit import fix_batch, has_subgraphs, set_batch
from graphs.uint8_input import take_pixels
from network.spec import UINT8


def compile_model(request: CompileRequest) -> Record:
    """Writes the graph for batches of images of the chip's type; exits 1 on an unknown option."""
    unknown = ", ".join(sorted(request.options.keys() - {"input", "tune"}))
    if unknown:
        die(SETTINGS_FILE, f"engine onnxruntime does not have the option {unknown}", "remove it from the chip's line")
    graph = onnx.load_from_string(request.model.data)
    if has_subgraphs(graph) or any(node.op_type in ("Shape", "Size") for node in graph.graph.node):
        set_batch(graph, request.batch_size)  # what depends on the batch stays, because a request is a part of it
    else:
        fix_batch(graph, request.batch_size)
    if engines.input_of(request.options) == UINT8:
        take_pixels(graph)
    onnx.checker.check_model(graph, full_check=True)
    request.out.write_bytes(graph.SerializeToString(deterministic=True))
    return {"precision": request.graph.get("precision", "float32")}
