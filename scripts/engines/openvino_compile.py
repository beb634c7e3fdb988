"""CPU, OpenVINO: the compiled model is the graph with its batch fixed, which OpenVINO reads.

Of precision int8 it is the quantized graph, kept only if it is faster here than bf16, or than f32 where the CPU has no
bf16 instructions.
"""

from __future__ import annotations

import _build
from _build import die

import statistics
import time
from pathlib import Path
from typing import Any, Callable

import _tool
import numpy as np
import onnx
from numpy.typing import NDArray

from engines import openvino_run
from engines.openvino_cpu import instructions, needed

ENDING = "onnx"
PACKAGES = ("onnx", "openvino")
NEEDS = ("precision",)
VALUES = {"precision": ["f32", "bf16", "int8"]}
INT8 = "precision=int8"  # chips with these words get the quantized graph, and option `unquantized`
RACE = 3.0  # s, in turns


def seconds(run: Callable[[NDArray[Any]], object], batch: NDArray[Any], limit: float) -> float:
    """The mean time of a call, over `limit` seconds of them."""
    begin, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - begin < limit:
        run(batch)
        calls += 1
    return (time.perf_counter() - begin) / calls


def fix_batch(model: Path, batch_size: int, out: Path) -> None:
    """Writes `out`, the graph of `model` for inputs [batch_size, 3, 32, 32]."""
    graph = onnx.load(model)
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch_size
    onnx.checker.check_model(graph, full_check=True)
    out.write_bytes(graph.SerializeToString(deterministic=True))


def race(model: Path, unquantized: Path, batch_size: int) -> dict[str, object]:
    """How many times faster than the unquantized graph `model` is here, in turns of one run; exits 1 if it is not."""
    needed("int8", "precision=int8")
    other = "bf16" if instructions("bf16") else "f32"
    fixed = model.with_name(f"{model.name}.other")  # beside it, so that what a kill leaves goes with it
    try:
        fix_batch(unquantized, batch_size, fixed)
        runs = [openvino_run.load(fixed, {"precision": other})[0], openvino_run.load(model, {"precision": "int8"})[0]]
    finally:
        _build.remove(fixed)
    batch = np.random.RandomState(0).rand(batch_size, 3, 32, 32).astype(np.float32)
    for run in runs:
        seconds(run, batch, RACE / 20)
    turns = [[seconds(run, batch, RACE / 20) for run in runs] for _ in range(10)]
    ratio = statistics.median(before / after for before, after in turns)
    if ratio <= 1:
        remedy = f"nothing was written; take CHIP=cpu-{other}"
        die(f"batch size {batch_size}", f"int8 runs at {ratio:.2f} times the speed of {other} on this machine", remedy)
    print(f"  int8 runs at {ratio:.2f} times the speed of {other} here, in turns of one run")
    return {f"speed_against_{other}": ratio}


def compile_model(
    model: Path, batch_size: int, out: Path, options: dict[str, str], limits: dict[str, str], log: Path
) -> dict[str, object]:
    """Writes `out`, the graph of `model` for inputs [batch_size, 3, 32, 32]; exits 1 on an option that is none, or on
    int8 that is not faster."""
    precision, streams = options["precision"], options.get("streams", "1")
    unknown = sorted(set(options) - {"precision", "streams", "unquantized"})
    if unknown or not streams.isdigit() or not int(streams):
        problem = f"engine openvino has no option {unknown[0]}" if unknown else f"streams={streams} is no number from 1"
        die("params.yaml", problem, "give the chip precision=, and streams= or not")
    fix_batch(model, batch_size, out)
    made = {"precision": {"f32": "float32", "bf16": "bfloat16"}.get(precision, precision)}
    if "unquantized" not in options:
        return dict(made)
    with _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU"):
        return {**made, **race(out, Path(options["unquantized"]), batch_size)}
