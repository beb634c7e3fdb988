"""CPU, OpenVINO: the compiled model is the graph with its batch fixed, which OpenVINO reads.

Of precision int8 it is the quantized graph, kept only if it is faster on this machine than bf16, or than f32 where the
CPU has no bf16 instructions.
"""

from __future__ import annotations

from _support import artifact, process
from _support.artifact import Record
from _support.cli import die

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engines import CompileRequest
from engines.feed import OneAtATime
from engines.openvino.cpu import instructions, needed
from engines.openvino.run import open_session
from network.spec import IMAGE_SHAPE

OPTIONS = {"precision", "streams"}
RACE = 3.0  # s, interleaved


def seconds(session: OneAtATime, batch: NDArray[Any], limit: float) -> float:
    """The mean time of a call, over `limit` seconds of them."""
    begin, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - begin < limit:
        session.run(batch)
        calls += 1
    return (time.perf_counter() - begin) / calls


def write_fixed(model: Path, batch_size: int, out: Path) -> None:
    """Writes `out`, the graph of `model` for inputs [batch_size, *IMAGE_SHAPE]. Nothing is folded: a quantized graph
    keeps its weights in eight bits."""
    graph = onnx.load(model)
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch_size
    onnx.checker.check_model(graph, full_check=True)
    out.write_bytes(graph.SerializeToString(deterministic=True))


def race(model: Path, unquantized: Path, batch_size: int) -> Record:
    """How many times faster `model` is than the unquantized graph, interleaved in one run; exits 1 if it is not."""
    needed("int8", "precision=int8")
    other = "bf16" if instructions("bf16") else "f32"
    fixed = model.with_name(f"{model.name}.other")  # beside it, so that what a kill leaves goes with it
    try:
        write_fixed(unquantized, batch_size, fixed)
        sessions = [open_session(fixed, {"precision": other}), open_session(model, {"precision": "int8"})]
    finally:
        artifact.remove(fixed)
    batch = np.random.RandomState(0).rand(batch_size, *IMAGE_SHAPE).astype(np.float32)
    for session in sessions:
        seconds(session, batch, RACE / 20)
    rounds = [[seconds(session, batch, RACE / 20) for session in sessions] for _ in range(10)]
    ratio = statistics.median(before / after for before, after in rounds)
    if ratio <= 1:
        remedy = f"nothing was written; give CHIP= a chip of precision={other}"
        die(f"batch size {batch_size}", f"int8 runs at {ratio:.2f} times the speed of {other} on this machine", remedy)
    print(f"  int8 runs at {ratio:.2f} times the speed of {other} here, interleaved in one run")
    return {f"speed_against_{other}": ratio}


def compile_model(request: CompileRequest) -> Record:
    """Writes the graph for inputs [batch_size, *IMAGE_SHAPE]; exits 1 on an unknown option, or on int8 that is not
    faster."""
    precision, streams = request.options["precision"], request.options.get("streams", "1")
    unknown = sorted(set(request.options) - OPTIONS)
    if unknown or not streams.isdigit() or not int(streams):
        problem = f"engine openvino has no option {unknown[0]}" if unknown else f"streams={streams} is no number from 1"
        die("params.yaml", problem, "give the chip precision=, and streams= or not")
    write_fixed(request.model, request.batch_size, request.out)
    record: Record = {"precision": {"f32": "float32", "bf16": "bfloat16"}.get(precision, precision)}
    if request.unquantized:
        with process.lock_cpu():
            record.update(race(request.out, request.unquantized, request.batch_size))
    return record
