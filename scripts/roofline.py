"""What bounds a chip here: the multiply-adds of a graph, and a profile by operator beside the machine's ceilings."""

from __future__ import annotations

import _build
from _build import Record, die

import importlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np


def macs_of(model: Path) -> dict[str, int]:
    """{node: multiply-adds an image} of the convolutions and matrix products of an ONNX graph."""
    import onnx
    import passes

    found = passes.macs(onnx.load(model))
    if found is None:
        die(model, "the shapes of its convolutions are not known", "report it")
    return found


def images_per_s(flops_per_s: float, macs: int) -> float:
    """What a ceiling in floating-point operations a second allows: two an image and multiply-add."""
    return flops_per_s / (2 * macs)


def profile(model: Path, options: dict[str, str], macs: dict[str, int], images: Any) -> list[Record]:
    """A row a kind of operator, as OpenVINO times them with the engine's own settings: ms an image of the machine's
    time, its share of the sum, its multiply-adds and bytes moved an image."""
    import openvino

    compiled: list[Any] = []

    class Counting(openvino.Core):  # type: ignore[misc]
        def compile_model(self, graph: Any, device: str, settings: dict[str, Any]) -> Any:
            compiled.append(super().compile_model(graph, device, {**settings, "PERF_COUNT": True}))
            return compiled[-1]

    openvino.Core = Counting
    _, conditions = importlib.import_module("engines.openvino_run").load(model, options)
    streams = int(conditions["streams"])
    requests = openvino.AsyncInferQueue(compiled[-1], streams)
    chunk = compiled[-1].input(0).shape[0]
    given = np.ascontiguousarray(np.resize(images, (chunk, 3, 32, 32)))
    ops = {op.get_friendly_name(): op for op in compiled[-1].get_runtime_model().get_ops()}
    times: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for turn in range(12):  # the first two warm up
        for _ in range(streams):
            requests.start_async({0: given}, share_inputs=True)
        requests.wait_all()
        for request in requests if turn > 1 else []:
            for info in request.profiling_info:
                times[info.node_name].append(info.real_time.total_seconds() * 1000 / chunk / streams)
                kinds[info.node_name] = info.node_type
    rows: dict[str, Record] = {}
    for name, seen in times.items():
        op = ops.get(name)
        said = {k: v.astype(str) for k, v in op.get_rt_info().items()} if op else {}
        work = sum(macs.get(part, 0) for part in said.get("originalLayersNames", name).split(","))
        row = rows.setdefault(kinds[name], {"operator": kinds[name], "nodes": 0, "ms": 0.0, "macs": 0, "bytes": 0.0})
        row["nodes"] += 1
        row["ms"] += float(np.median(seen))
        row["macs"] += work
        row["bytes"] += sum(map(size_of, places(op))) / chunk if op else 0
    return sorted(rows.values(), key=lambda row: -row["ms"])


def places(op: Any) -> list[Any]:
    return [*op.outputs(), *(value.get_source_output() for value in op.inputs())]


def size_of(place: Any) -> int:
    """The bytes of a tensor of OpenVINO's execution graph, in the precision in which it runs."""
    shape, kinds = place.get_partial_shape(), place.get_node().get_rt_info()["outputPrecisions"].astype(str).split(",")
    kind = kinds[min(place.get_index(), len(kinds) - 1)]
    return int(np.prod(shape.to_shape())) * {"f32": 4, "i32": 4, "bf16": 2, "f16": 2}.get(kind, 1)


def judged(rows: list[Record], ceiling: float, bandwidth: float) -> list[Record]:
    """Each row with its share of the time, of the ceiling (flop/s) and of the bandwidth (bytes/s), or None."""
    total = sum(row["ms"] for row in rows)
    return [
        {
            **row,
            "share": row["ms"] / total if total else 0.0,
            "of_ceiling": 2000 * row["macs"] / row["ms"] / ceiling if row["ms"] and ceiling else None,
            "of_bandwidth": 1000 * row["bytes"] / row["ms"] / bandwidth if row["ms"] and bandwidth else None,
        }
        for row in rows
    ]


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--options", default="")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    from reference import some_bins

    options = dict(word.split("=", 1) for word in args.options.split())
    rows = profile(args.model, options, macs_of(args.model), some_bins(args.bins, 64))
    args.out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
