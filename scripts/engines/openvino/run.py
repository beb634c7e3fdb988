"""CPU, OpenVINO: runs a compiled model in float32, in bfloat16, or with convolutions in int8."""

from __future__ import annotations

from _support import cli
from _support.cli import die
from _support.machine import threads

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import Choice, ModelFile, Options, Session, probe
from engines.feed import Pipeline, Wait
from engines.openvino.cpu import instructions, require_instructions
from engines.split import REQUESTS, split_batch

TYPES = {"f32": {"f32"}, "bf16": {"bf16"}, "int8": {"i8", "u8"}}  # runtime types of a convolution in that precision


class Compiled(NamedTuple):
    """OpenVINO's compiled model for requests of `chunk` images."""

    model: Any
    streams: int
    chunk: int
    rest: str  # the precision of all operators that do not run in the chip's precision
    is_quantized: bool  # whether a graph that is not for precision int8 has int8 operators, which run in int8 anyway


class CompiledSession(Pipeline):
    """A session with what OpenVINO has compiled for it."""

    compiled: Compiled
    stored: NDArray[Any]  # what it was opened from, if it was not compiled here


def rest_of(options: Options) -> str:
    """The precision of all operators that do not run in the chip's precision."""
    precision = options["precision"]
    return precision if precision != "int8" else "bf16" if instructions("bf16") else "f32"


def settings_of(options: Options, streams: int) -> dict[str, Any]:
    """The settings of OpenVINO for a chip's options."""
    settings = {"INFERENCE_PRECISION_HINT": rest_of(options), "INFERENCE_NUM_THREADS": threads()}
    return {**settings, "NUM_STREAMS": streams}


def compiled_for(
    data: bytes, options: Options, more: dict[str, Any] | None = None, choice: Choice | None = None
) -> Compiled:
    """Compiles a graph, ONNX, for a chip's options and a choice; `more` has further settings of OpenVINO."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(data)
    streams, chunk = choice or split_batch(graph.input(0).shape[0], int(options.get("streams", threads())))
    graph.reshape([chunk, *list(graph.input(0).shape)[1:]])
    is_quantized = any(op.get_type_name() == "FakeQuantize" for op in graph.get_ops())
    model = core.compile_model(graph, "CPU", {**settings_of(options, streams), **(more or {})})
    return Compiled(model, streams, chunk, rest_of(options), is_quantized and options["precision"] != "int8")


def export_session(session: Session) -> bytes:
    """What OpenVINO has compiled, about as large as the model. Empty for a graph with int8 operators in another
    precision, because open_stored() would not know of them."""
    assert isinstance(session, CompiledSession)
    return b"" if session.compiled.is_quantized else bytes(session.compiled.model.export_model().getvalue())


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


def can_run(options: Options) -> bool:
    return bool(instructions(options["precision"]))


def open_session(model: ModelFile, options: Options, choice: Choice | None = None) -> CompiledSession:
    """Loads the model. Batches are split into requests, with one stream of requests for each thread, or as `choice`
    says.

    Exits 1 if the CPU lacks the precision's instructions, or if OpenVINO has chosen another precision.
    """
    require_instructions(options["precision"], f"precision={options['precision']}")
    try:
        compiled = compiled_for(model.data, options, choice=choice)
    except Exception as error:  # noqa: BLE001  OpenVINO raises RuntimeError and others
        die(model.path, f"OpenVINO cannot run it ({reason_of(error)})", "set CHIP= to a chip of another engine")
    return session_of(compiled, model.path, options)


def open_stored(stored: bytes | bytearray, model: Path, options: Options, choice: Choice) -> CompiledSession | None:
    """The same from what export_session() returned; None if OpenVINO refuses it, as another build of one version may,
    or if it is of another choice.

    It does not keep the number of streams. A bytearray is not copied.
    """
    require_instructions(options["precision"], f"precision={options['precision']}")
    import openvino

    data = np.frombuffer(bytearray(stored) if isinstance(stored, bytes) else stored, np.uint8)
    try:
        tensor = openvino.Tensor(data, shared_memory=True)
        compiled = openvino.Core().import_model(tensor, "CPU", settings_of(options, choice.streams))
    except RuntimeError:
        return None
    if compiled.input(0).shape[0] != choice.images:
        return None
    session = session_of(Compiled(compiled, *choice, rest_of(options), is_quantized=False), model, options)
    session.stored = data  # OpenVINO may read it as long as the session is open
    return session


def session_of(compiled: Compiled, model: Path, options: Options) -> CompiledSession:
    """The session of a compiled model; exits 1 if OpenVINO has chosen another precision."""
    import openvino

    precision = options["precision"]
    fault = precision_fault(compiled, precision)
    if fault:
        die(model, fault, "set CHIP= to a chip of precision=f32, and report it with the CPU's name")
    computed = check_computed(model, compiled.rest)
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
    conditions = {"runtime": runtime, "threads": threads(), "streams": compiled.streams}
    conditions.update(images_a_request=compiled.chunk, instructions=instructions(precision))
    if compiled.rest != precision:
        conditions["rest"] = compiled.rest
    if compiled.rest == "bf16" and computed != "bfloat16":
        conditions["precision" if precision == "bf16" else "rest"] = computed
    session = CompiledSession(start, compiled.chunk, depth, conditions)
    session.compiled = compiled
    return session
