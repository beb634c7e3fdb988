"""CPU, OpenVINO: runs what openvino_compile made, in float32, bfloat16, or int8 with the rest in either."""

from __future__ import annotations

from _build import die

from pathlib import Path
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from engines.openvino_cpu import instructions, needed
from engines.threads import shares, threads

PACKAGES = ("openvino",)
TYPES = {"f32": {"f32"}, "bf16": {"bf16"}, "int8": {"i8", "u8"}}  # of a convolution that runs in that precision


def load(model: Path, options: dict[str, str]) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], dict[str, object]]:
    """(run, what to record): run takes float32 [batch, 3, 32, 32] and returns float32 [batch, 10].

    Exits 1 where the CPU lacks the precision's instructions, or if OpenVINO took another precision (openvino#27795).
    """
    precision = options["precision"]
    found = needed(precision, f"precision={precision}")
    import openvino

    core = openvino.Core()
    graph = core.read_model(model)
    batch_size = graph.input(0).shape[0]
    streams, chunk = shares(batch_size, int(options.get("streams", threads())))
    graph.reshape([chunk, *list(graph.input(0).shape)[1:]])
    rest = precision if precision != "int8" else "bf16" if instructions("bf16") else "f32"
    settings = {"INFERENCE_PRECISION_HINT": rest, "INFERENCE_NUM_THREADS": threads(), "NUM_STREAMS": streams}
    compiled = core.compile_model(graph, "CPU", settings)
    infos = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    types = [i["runtimePrecision"].astype(str) for i in infos if i["layerType"].astype(str) == "Convolution"]
    others = [kind for kind in types if kind not in TYPES[precision]]
    if others or not types:
        problem = f"OpenVINO runs {len(others)} of {len(types)} convolutions in {', '.join(sorted(set(others)))}"
        die(model, f"{problem}, not in {precision}", "take CHIP=cpu-f32, and report it with the CPU's name")
    requests = openvino.AsyncInferQueue(compiled, streams)
    answer = np.empty((batch_size, 10), np.float32)

    def keep(request: Any, start: int) -> None:
        answer[start : start + chunk] = request.get_output_tensor(0).data[: batch_size - start]

    requests.set_callback(keep)

    def run(images: NDArray[Any]) -> NDArray[Any]:
        for start in range(0, batch_size, chunk):
            part = images[start : start + chunk]
            if len(part) < chunk:
                part = np.concatenate([part, images[: chunk - len(part)]])
            requests.start_async({0: np.ascontiguousarray(part, np.float32)}, start, share_inputs=True)
        requests.wait_all()
        return answer.copy()

    runtime = f"OpenVINO {openvino.get_version().split('-')[0]}"
    shown = {"runtime": runtime, "threads": threads(), "streams": streams, "instructions": found}
    return run, {**shown, "images_a_request": chunk, **({"rest": rest} if rest != precision else {})}
