"""Finds the first tensor inside the compiled model whose error against the plain export exceeds the tolerance.

Tensors are matched by name. Both graphs run on the first bins, with some of the shared tensors at a time as additional
outputs, in the order in which the plain export computes them. Requesting intermediate outputs disables operator fusion,
so values can differ slightly from the fused model.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record, needed_record, write_record
from _support.cli import die

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import engines
from engines import ModelFile
from formats.bins import float_images, some_bins
from graphs.agreement import relative_error
from reporting.provenance import labels_of, without_paths

SETTINGS = {"tolerance": "compare.tolerance"}
CHUNK = 24  # tensors per run, to limit memory: at batch size 64 some tensors have 64 MB


def compare(engine: str, model: ModelFile, onnx: ModelFile, images: NDArray[Any], tolerance: float) -> Record:
    """The contents of layers.json: the relative error of each tensor up to the first one above the tolerance."""
    compiled: engines.Layers = engines.load(engine, "layers")
    reference: engines.Layers = engines.load(engines.REFERENCE, "layers")
    known = set(compiled.tensor_names(model))
    names = [name for name in reference.tensor_names(onnx) if name in known]
    layers: Record = {"tolerance": tolerance, "tensors": len(names), "first": None, "errors": {}}
    errors, floats = layers["errors"], float_images(images)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        values, expected = compiled.tensors(model, images, chunk), reference.tensors(onnx, floats, chunk)
        for name in chunk:
            same_shape = values[name].shape == expected[name].shape
            errors[name] = relative_error(values[name], expected[name]) if same_shape else float("inf")
        above = [name for name in chunk if errors[name] > tolerance]
        if above:
            layers["first"] = above[0]
            break
    return layers


def summary(layers: Record) -> str:
    """The text that make compare LAYERS=1 prints."""
    names, errors, tolerance = list(layers["errors"]), layers["errors"], f"{layers['tolerance']:g}"
    if not layers["first"]:
        worst = max(names, key=lambda name: float(errors[name]))
        return f"All {len(names)} tensors are within {tolerance}; largest relative error {errors[worst]:.2e} ({worst})"
    i = names.index(layers["first"])
    previous = f" (previous tensor: {errors[names[i - 1]]:.2e})" if i else ""
    first = f"First tensor above {tolerance}: {cli.short(names[i])} (number {i + 1} of {layers['tensors']})"
    return f"{first}\nIts relative error: {errors[names[i]]:.2e}{previous}"


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="record of the model")
    parser.add_argument("--onnx", type=Path, required=True, help="the plain export")
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--tolerance", type=float, required=True, help="relative: max|difference| / max|reference|")
    parser.add_argument("--out", type=Path, required=True, help="layers.json")
    args = parser.parse_args()
    bins = needed_record(args.bins, args.bins)
    model_record, onnx_record = needed_record(args.model, args.record), needed_record(args.onnx)
    provenance = {**model_record["provenance"], **bins["provenance"]}
    batch_size = provenance["batch_size"]
    engine = provenance["engine"]
    if not engines.has(engine, "layers"):
        problem = f"engine {engine} cannot output intermediate tensors"
        able = " or ".join(name for name in engines.names_of() if engines.has(name, "layers"))
        die(f"LAYERS=1 CHIP={provenance['chip']}", problem, f"omit LAYERS, or use a CHIP with engine {able}")
    images = some_bins(args.bins, bins, batch_size)
    images = np.resize(images, (batch_size, *images.shape[1:]))
    model = engines.read_model(args.model, model_record["sha256"])
    onnx = engines.read_model(args.onnx, onnx_record["sha256"])
    layers = compare(engine, model, onnx, images, args.tolerance)
    write_record(args.out, {**layers, **labels_of(provenance), "provenance": without_paths(provenance)})
    print(summary(layers))


if __name__ == "__main__":
    main()
