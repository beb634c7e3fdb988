"""CPU, OpenVINO: measures the time of each kind of operator, with the settings of run.py."""

from __future__ import annotations

from _support.artifact import Record

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines import Options
from engines.openvino.run import compiled_for

WARMUP, ROUNDS = 2, 10
BYTES = {"f32": 4, "i32": 4, "bf16": 2, "f16": 2}  # bytes of a value; 1 for all other types


def profile(model: Path, options: Options, macs: dict[str, int], images: NDArray[Any]) -> list[Record]:
    """Returns one row for each kind of operator, from OpenVINO's own times. For one image a row has ms, divided by the
    streams that run in parallel, multiply-accumulates (`macs` has them by node) and bytes moved.

    `images`, float32 [n, *IMAGE_SHAPE], are repeated to fill a request.
    """
    import openvino

    compiled = compiled_for(model.read_bytes(), options, {"PERF_COUNT": True})
    requests = openvino.AsyncInferQueue(compiled.model, compiled.streams)
    batch = np.ascontiguousarray(np.resize(images, (compiled.chunk, *images.shape[1:])))
    times: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for i in range(WARMUP + ROUNDS):
        for _ in range(compiled.streams):
            requests.start_async({0: batch}, share_inputs=True)
        requests.wait_all()
        for request in requests if i >= WARMUP else []:
            for info in request.profiling_info:
                ms = info.real_time.total_seconds() * 1000 / compiled.chunk / compiled.streams
                times[info.node_name].append(ms)
                kinds[info.node_name] = info.node_type
    ops = {op.get_friendly_name(): op for op in compiled.model.get_runtime_model().get_ops()}
    rows: dict[str, Record] = {}
    for name, measured in times.items():
        op = ops.get(name)
        info = {k: v.astype(str) for k, v in op.get_rt_info().items()} if op else {}
        work = sum(macs.get(part, 0) for part in info.get("originalLayersNames", name).split(","))
        row = rows.setdefault(kinds[name], {"operator": kinds[name], "nodes": 0, "ms": 0.0, "macs": 0, "bytes": 0.0})
        row["nodes"] += 1
        row["ms"] += float(np.median(measured))
        row["macs"] += work
        row["bytes"] += sum(map(bytes_of, ports_of(op))) / compiled.chunk if op else 0
    return sorted(rows.values(), key=lambda row: -row["ms"])


def ports_of(op: Any) -> list[Any]:
    return [*op.outputs(), *(value.get_source_output() for value in op.inputs())]


def bytes_of(port: Any) -> int:
    """The bytes of a tensor of OpenVINO's execution graph, in the precision in which it runs."""
    shape, kinds = port.get_partial_shape(), port.get_node().get_rt_info()["outputPrecisions"].astype(str).split(",")
    kind = kinds[min(port.get_index(), len(kinds) - 1)]
    return int(np.prod(shape.to_shape())) * BYTES.get(kind, 1)
