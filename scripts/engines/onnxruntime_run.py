"""CPU, float32, ONNX Runtime: runs what onnxruntime_compile made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engines.threads import CHUNK, shares, threads

PACKAGES = ("onnxruntime",)


def load(model: Path, options: dict[str, str]) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], dict[str, object]]:
    """(run, what to record): run takes float32 [batch, 3, 32, 32] and returns float32 [batch, 10]."""
    import onnx

    graph = onnx.load(model)
    batch_size = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or CHUNK  # a plain export leaves it free
    streams, chunk = shares(batch_size, threads())
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"  # a request is a part of the batch
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = max(1, threads() // streams)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    pool = ThreadPoolExecutor(streams)

    def run(images: NDArray[Any]) -> NDArray[Any]:
        parts = [images[start : start + chunk] for start in range(0, len(images), chunk)]
        return np.concatenate(list(pool.map(lambda part: session.run(["class"], {"image": part})[0], parts)))

    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return run, {"runtime": runtime, "threads": threads(), "streams": streams}


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
