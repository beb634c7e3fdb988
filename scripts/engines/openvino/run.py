"""CPU, OpenVINO: runs what compile.py made, in float32, bfloat16, or int8 with the rest in either."""

from __future__ import annotations

from _support.cli import die
from _support.machine import threads

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import Options
from engines.feed import OneAtATime
from engines.openvino.cpu import instructions, needed
from engines.split import shares
from network.spec import CLASSES

TYPES = {"f32": {"f32"}, "bf16": {"bf16"}, "int8": {"i8", "u8"}}  # of a convolution that runs in that precision


class Compiled(NamedTuple):
    """OpenVINO's compiled model, for requests of `chunk` images, and how it runs."""

    model: Any
    batch_size: int
    streams: int
    chunk: int
    rest: str  # the precision of what does not run in the chip's own


def compiled_for(model: Path, options: Options, more: dict[str, Any] | None = None) -> Compiled:
    """Compiles a graph with the settings of a chip's options and `more` of OpenVINO's own settings."""
    import openvino

    core, precision = openvino.Core(), options["precision"]
    graph = core.read_model(model)
    batch_size = graph.input(0).shape[0]
    streams, chunk = shares(batch_size, int(options.get("streams", threads())))
    graph.reshape([chunk, *list(graph.input(0).shape)[1:]])
    rest = precision if precision != "int8" else "bf16" if instructions("bf16") else "f32"
    settings = {"INFERENCE_PRECISION_HINT": rest, "INFERENCE_NUM_THREADS": threads(), "NUM_STREAMS": streams}
    return Compiled(core.compile_model(graph, "CPU", {**settings, **(more or {})}), batch_size, streams, chunk, rest)


def check_precision(compiled: Compiled, precision: str, subject: object) -> None:
    """Exits 1 if OpenVINO took another precision for a convolution (openvino#27795)."""
    infos = [op.get_rt_info() for op in compiled.model.get_runtime_model().get_ops()]
    types = [i["runtimePrecision"].astype(str) for i in infos if i["layerType"].astype(str) == "Convolution"]
    others = [kind for kind in types if kind not in TYPES[precision]]
    if others or not types:
        problem = f"OpenVINO runs {len(others)} of {len(types)} convolutions in {', '.join(sorted(set(others)))}"
        remedy = "give CHIP= a chip of precision=f32, and report it with the CPU's name"
        die(subject, f"{problem}, not in {precision}", remedy)


def open_session(model: Path, options: Options) -> OneAtATime:
    """The model, loaded; a batch is split into requests, one stream of them a thread.

    Exits 1 where the CPU lacks the precision's instructions, or if OpenVINO took another precision.
    """
    precision = options["precision"]
    found = needed(precision, f"precision={precision}")
    import openvino

    compiled = compiled_for(model, options)
    check_precision(compiled, precision, model)
    batch_size, chunk = compiled.batch_size, compiled.chunk
    requests = openvino.AsyncInferQueue(compiled.model, compiled.streams)
    logits = np.empty((batch_size, len(CLASSES)), np.float32)

    def keep(request: Any, start: int) -> None:
        logits[start : start + chunk] = request.get_output_tensor(0).data[: batch_size - start]

    requests.set_callback(keep)

    def run(images: NDArray[Any]) -> NDArray[Any]:
        for start in range(0, batch_size, chunk):
            part = images[start : start + chunk]
            if len(part) < chunk:
                part = np.concatenate([part, images[: chunk - len(part)]])
            requests.start_async({0: np.ascontiguousarray(part, np.float32)}, start, share_inputs=True)
        requests.wait_all()
        return logits.copy()

    runtime = f"OpenVINO {openvino.get_version().split('-')[0]}"
    conditions = {"runtime": runtime, "threads": threads(), "streams": compiled.streams, "instructions": found}
    conditions["images_a_request"] = chunk
    if compiled.rest != precision:
        conditions["rest"] = compiled.rest
    return OneAtATime(run, conditions)
