"""Opens sessions of ONNX Runtime on the CPU; no other module does."""

from __future__ import annotations

from _support.machine import threads

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def open_session(model: bytes | onnx.ModelProto, cpu_threads: int = 0, optimized: bool = True) -> Any:
    """An onnxruntime.InferenceSession with `cpu_threads` threads per request (0: all that this process may use).

    If not `optimized`, ONNX Runtime runs the graph node by node: QuantizeLinear and DequantizeLinear round, and all
    other nodes are float32.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_threads or threads()
    options.log_severity_level = 4  # errors are exceptions too, and ONNX Runtime would print them a second time
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
