"""CPU, OpenVINO: the compiled model is the graph with a fixed batch size.

For precision int8 it is the int8 graph. It is written only if it is faster on this machine than bf16, or than f32 if
the CPU lacks bf16 instructions.
"""

from __future__ import annotations

from _support import locks
from _support.artifact import Record
from _support.cli import SETTINGS_FILE, die

import statistics

import onnx

import engines
from engines import CompileRequest, ModelFile
from engines.openvino.cpu import instructions, require_instructions
from engines.openvino.run import open_session
from engines.tuning import full_seconds
from formats.bins import FORMS
from graphs.edit import set_batch
from graphs.uint8_input import take_pixels
from network.spec import FLOAT32, UINT8

OPTIONS = {"precision", "streams", "input", "tune"}
NAMES = {"f32": "float32", "bf16": "bfloat16", "int8": "int8"}
DURATION = 3.0  # s of the speed comparison, both graphs together


def precision_of(precision: str, graph: Record) -> str:
    """The name of the chip's precision, with that of a graph of the user's own which is not in float32."""
    name, own = NAMES[precision], graph.get("precision", "float32")
    return name if own in ("float32", name) else f"{own} graph in {name}"


def fixed(data: bytes, batch_size: int, input_type: str = FLOAT32) -> bytes:
    """A graph for batches of `batch_size` images of this type. Constants are not folded, so that an int8 graph keeps
    its weights in eight bits."""
    graph = onnx.load_from_string(data)
    set_batch(graph, batch_size)
    if input_type == UINT8:
        take_pixels(graph)
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


def compare_speed(model: ModelFile, unquantized: ModelFile, batch_size: int, input_type: str) -> Record:
    """Measures how many times faster `model` is than the `unquantized` one, in interleaved rounds. Exits 1 if it is not
    faster."""
    require_instructions("int8", "precision=int8")
    other = "bf16" if instructions("bf16") else "f32"
    sessions = [open_session(unquantized, {"precision": other}), open_session(model, {"precision": "int8"})]
    batch = FORMS[input_type].random(batch_size)
    for session in sessions:
        full_seconds(session, batch, DURATION / 20)
    rounds = [[full_seconds(session, batch, DURATION / 20) for session in sessions] for _ in range(10)]
    ratio = statistics.median(unquantized_s / int8_s for unquantized_s, int8_s in rounds)
    if ratio <= 1:
        remedy = f"nothing was written; set CHIP= to a chip of precision={other}"
        die(f"batch size {batch_size}", f"int8 has {ratio:.2f} times the speed of {other} on this machine", remedy)
    print(f"  batch size {batch_size}: int8 has {ratio:.2f} times the speed of {other} here (interleaved rounds)")
    return {f"speed_against_{other}": ratio}


def compile_model(request: CompileRequest) -> Record:
    """Writes the graph for batches of images of the chip's type. Exits 1 on an unknown option or an int8 that is not
    faster."""
    precision, streams = request.options["precision"], request.options.get("streams", "1")
    unknown = sorted(set(request.options) - OPTIONS)
    if unknown or not streams.isdigit() or not int(streams):
        problem = (
            f"unknown option {unknown[0]} of engine openvino"
            if unknown
            else f"streams={streams} is not a number from 1"
        )
        die(SETTINGS_FILE, problem, "a chip of openvino has precision=, and optionally streams=")
    input_type = engines.input_of(request.options)
    data = fixed(request.model.data, request.batch_size, input_type)
    request.out.write_bytes(data)
    record: Record = {"precision": precision_of(precision, request.graph)}
    if request.unquantized:
        unquantized = fixed(request.unquantized.data, request.batch_size, input_type)
        with locks.lock_cpu():
            models = (ModelFile(request.out, data), ModelFile(request.unquantized.path, unquantized))
            record["run"] = compare_speed(*models, request.batch_size, input_type)
    return record
