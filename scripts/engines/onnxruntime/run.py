"""CPU, float32, ONNX Runtime: runs a compiled model, or a plain export as the reference engine."""

from __future__ import annotations

from _support.machine import threads

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from engines import ModelFile, Options
from engines.feed import OneAtATime
from engines.split import CHUNK, split_batch
from graphs.session import open_session as open_runtime_session
from network.spec import INPUT, OUTPUT


def open_session(model: ModelFile, options: Options) -> OneAtATime:
    """Loads the model. A batch is split into requests, which run in parallel."""
    graph = onnx.load_from_string(model.data)
    batch_size = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or CHUNK  # 0 in a plain export
    streams, chunk = split_batch(batch_size, threads())
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"  # a request is a part of the batch
    session = open_runtime_session(graph, max(1, threads() // streams))
    pool = ThreadPoolExecutor(streams)

    def logits_of(part: NDArray[Any]) -> NDArray[Any]:
        logits: NDArray[Any] = session.run([OUTPUT], {INPUT: part})[0]
        return logits

    def run(images: NDArray[Any]) -> NDArray[Any]:
        parts = [images[start : start + chunk] for start in range(0, len(images), chunk)]
        return np.concatenate(list(pool.map(logits_of, parts)))

    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return OneAtATime(run, {"runtime": runtime, "threads": threads(), "streams": streams})
