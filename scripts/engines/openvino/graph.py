"""Which graphs of the user's own OpenVINO can run: it compiles them once."""

from __future__ import annotations

from _support.artifact import Record

from pathlib import Path

import onnx

from engines import Options
from engines.openvino.cpu import instructions
from engines.openvino.run import compiled_for, precision_fault, reason_of
from graphs.edit import set_batch

BATCH = 2


def refusal(description: Record, model: Path, options: Options) -> tuple[str, str] | None:
    """Why OpenVINO cannot run a graph in the chip's precision, and the remedy; None if it can.

    For int8 the graph is tried in float32, because it is not converted yet.
    """
    precision = "f32" if options["precision"] == "int8" else options["precision"]
    graph = onnx.load(model)
    set_batch(graph, BATCH)
    data = graph.SerializeToString()
    try:
        fault = precision_fault(compiled_for(data, {**options, "precision": precision}), precision)
    except Exception as error:  # noqa: BLE001  OpenVINO raises RuntimeError and others
        return f"OpenVINO cannot run it ({reason_of(error)})", "set CHIP= to a chip of another engine"
    if fault and instructions(precision):  # without these instructions no graph runs on this CPU
        return fault, "set CHIP= to a chip of precision=f32"
    return None
