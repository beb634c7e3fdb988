"""CPU, float32, ONNX Runtime: runs what onnxruntime_compile made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import onnxruntime
from numpy.typing import NDArray

from engines.threads import threads

PACKAGES = ("onnxruntime",)


def load(model: Path, options: dict[str, str]) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], dict[str, object]]:
    """(run, what to record): run takes float32 [batch, 3, 32, 32] and returns float32 [batch, 10]."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])

    def run(images: NDArray[Any]) -> NDArray[Any]:
        answer: NDArray[Any] = session.run(["class"], {"image": images})[0]
        return answer

    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return run, {"runtime": runtime, "threads": settings.intra_op_num_threads}


def names(model: Path) -> list[str]:
    """The tensors that the nodes of a graph compute, in the order in which they do."""
    import onnx

    return [name for node in onnx.load(model).graph.node for name in node.output if name]


def tensors(model: Path, images: NDArray[Any], wanted: list[str]) -> dict[str, NDArray[Any]]:
    """The values of these tensors for float32 [batch, 3, 32, 32]."""
    import onnx

    graph = onnx.load(model)
    known = {value.name for value in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return dict(zip(wanted, session.run(wanted, {"image": images})))
