"""CPU, OpenVINO: runs a compiled model in float32, in bfloat16, or with convolutions in int8."""

from __future__ import annotations

from _support import cli
from _support.cli import die
from _support.machine import threads

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import ModelFile, Options, probe
from engines.feed import Pipeline, Wait
from engines.openvino.cpu import instructions, require_instructions
from engines.split import REQUESTS, split_batch

TYPES = {"f32": {"f32"}, "bf16": {"bf16"}, "int8": {"i8", "u8"}}  # runtime types of a convolution in that precision


class Compiled(NamedTuple):
    """OpenVINO's compiled model for requests of `chunk` images."""

    model: Any
    batch_size: int
    streams: int
    chunk: int
    rest: str  # the precision of all operators that do not run in the chip's precision
    is_quantized: bool  # whether the graph itself has int8 operators, which run in int8 in every precision


def compiled_for(data: bytes, options: Options, more: dict[str, Any] | None = None) -> Compiled:
    """Compiles a graph, ONNX, for a chip's options; `more` has further settings of OpenVINO."""
    import openvino

    core, precision = openvino.Core(), options["precision"]
    graph = core.read_model(data)
    batch_size = graph.input(0).shape[0]
    streams, chunk = split_batch(batch_size, int(options.get("streams", threads())))
    graph.reshape([chunk, *list(graph.input(0).shape)[1:]])
    rest = precision if precision != "int8" else "bf16" if instructions("bf16") else "f32"
    settings = {"INFERENCE_PRECISION_HINT": rest, "INFERENCE_NUM_THREADS": threads(), "NUM_STREAMS": streams}
    is_quantized = any(op.get_type_name() == "FakeQuantize" for op in graph.get_ops())
    model = core.compile_model(graph, "CPU", {**settings, **(more or {})})
    return Compiled(model, batch_size, streams, chunk, rest, is_quantized)


def precision_fault(compiled: Compiled, precision: str) -> str:
    """Says if OpenVINO has chosen another precision for a convolution (openvino#27795), or for a matrix product of a
    graph without convolutions; else empty."""
    infos = [op.get_rt_info() for op in compiled.model.get_runtime_model().get_ops()]
    layers = [(i["layerType"].astype(str), i["runtimePrecision"].astype(str)) for i in infos]
    what = "convolutions"
    types = [kind for layer, kind in layers if layer == "Convolution"]
    if not types:
        what, types = "matrix products", [kind for layer, kind in layers if layer in ("FullyConnected", "MatMul")]
    allowed = TYPES[precision] | (TYPES["int8"] if compiled.is_quantized else set())
    others = [kind for kind in types if kind not in allowed]
    if not others:
        return ""
    return f"OpenVINO runs {len(others)} of {len(types)} {what} in {', '.join(sorted(set(others)))}, not in {precision}"


def computed_precision(rest: str) -> str:
    """The precision in which OpenVINO computes a convolution with the setting `rest`, whatever it says about it."""
    import openvino
    from openvino import opset13

    image = opset13.parameter(probe.IMAGE, np.float32)
    sums = opset13.convolution(image, opset13.constant(probe.weights()), [1, 1], [0, 0], [0, 0], [1, 1])
    settings = {"INFERENCE_PRECISION_HINT": rest, "INFERENCE_NUM_THREADS": threads()}
    model = openvino.Core().compile_model(openvino.Model([sums], [image], "probe"), "CPU", settings)
    return probe.precision_of(lambda images: np.array(model([images])[0]))


def check_computed(path: object, rest: str) -> str:
    """The precision that computed_precision() finds; exits 1 if it is lower than that of the setting `rest`."""
    computed = computed_precision(rest)
    if rest == "f32" and computed != "float32":
        problem = f"OpenVINO computes float32 convolutions in {computed} on this machine, so precision=f32 is not met"
        die(path, problem, probe.REMEDY)
    return computed


def reason_of(error: Exception) -> str:
    """The reason in an error of OpenVINO, without its source lines and its advertisement of extensions."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "To facilitate"))]
    return cli.one_line((kept or lines or [type(error).__name__])[-1]).lstrip("- ")[:200].replace(";", ",")


def open_session(model: ModelFile, options: Options) -> Pipeline:
    """Loads the model. Batches are split into requests, with one stream of requests for each thread.

    Exits 1 if the CPU lacks the precision's instructions, or if OpenVINO has chosen another precision.
    """
    precision = options["precision"]
    name = require_instructions(precision, f"precision={precision}")
    import openvino

    try:
        compiled = compiled_for(model.data, options)
    except Exception as error:  # noqa: BLE001  OpenVINO raises RuntimeError and others
        die(model.path, f"OpenVINO cannot run it ({reason_of(error)})", "set CHIP= to a chip of another engine")
    fault = precision_fault(compiled, precision)
    if fault:
        die(model.path, fault, "set CHIP= to a chip of precision=f32, and report it with the CPU's name")
    computed = check_computed(model.path, compiled.rest)
    depth = REQUESTS * compiled.streams
    requests = itertools.cycle([compiled.model.create_infer_request() for _ in range(depth)])

    def start(images: NDArray[Any]) -> Wait:
        count, request = len(images), next(requests)  # the oldest one: Pipeline has waited for it
        padding = np.repeat(images[:1], compiled.chunk - count, axis=0)
        shared = np.ascontiguousarray(np.concatenate([images, padding]) if len(padding) else images)
        request.start_async({0: shared}, share_inputs=True)

        def wait() -> NDArray[Any]:
            request.wait()

            logits: NDArray[Any] = request.get_output_tensor(0).data[:count].copy()
            return logits

        return wait

    runtime = f"OpenVINO {openvino.get_version().split('-')[0]}"
    conditions = {"runtime": runtime, "threads": threads(), "streams": compiled.streams, "instructions": name}
    conditions["images_a_request"] = compiled.chunk
    if compiled.rest != precision:
        conditions["rest"] = compiled.rest
    if compiled.rest == "bf16" and computed != "bfloat16":
        conditions["precision" if precision == "bf16" else "rest"] = computed
    return Pipeline(start, compiled.chunk, depth, conditions)
