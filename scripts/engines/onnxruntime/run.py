"""CPU, float32, ONNX Runtime: runs a compiled model, or a plain export as the reference engine."""

from __future__ import annotations

from _support.cli import die
from _support.machine import threads

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engines import Choice, ModelFile, Options, probe
from engines.feed import Pipeline
from engines.split import CHUNK, REQUESTS, split_batch
from graphs.session import open_session as open_runtime_session
from network.spec import INPUT, OUTPUT


def probe_graph() -> onnx.ModelProto:
    """The convolution of probe.py."""
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, probe.IMAGE)
    sums = helper.make_tensor_value_info("sums", onnx.TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["pixels", "weights"], ["sums"])
    weights = numpy_helper.from_array(probe.weights(), "weights")
    graph = helper.make_graph([node], "probe", [pixels], [sums], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def check_computed(path: object) -> None:
    """Exits 1 if ONNX Runtime computes a float32 convolution in a lower precision."""
    session = open_runtime_session(probe_graph())
    computed = probe.precision_of(lambda images: session.run(None, {"pixels": images})[0])
    if computed != "float32":
        die(path, f"ONNX Runtime computes float32 convolutions in {computed} on this machine", probe.REMEDY)


def can_run(options: Options) -> bool:
    return True


def open_session(model: ModelFile, options: Options, choice: Choice | None = None) -> Pipeline:
    """Loads the model. Batches are split into requests, which run in parallel."""
    graph = onnx.load_from_string(model.data)
    batch_size = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or CHUNK  # 0 in a plain export
    streams, chunk = choice or split_batch(batch_size, threads())
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "N"  # a request is a part of the batch
    check_computed(model.path)
    session = open_runtime_session(graph, max(1, threads() // streams))
    pool = ThreadPoolExecutor(streams)

    def logits_of(part: NDArray[Any]) -> NDArray[Any]:
        logits: NDArray[Any] = session.run([OUTPUT], {INPUT: part})[0]
        return logits

    conditions = {"runtime": f"ONNX Runtime {onnxruntime.__version__}", "threads": threads(), "streams": streams}
    conditions["images_a_request"] = chunk
    return Pipeline(lambda part: pool.submit(logits_of, part).result, chunk, REQUESTS * streams, conditions)
