"""Which tensor of the compiled model is the first that leaves its tolerance, against the plain export's, by name.

Both graphs are run on the first bins with all tensors that have the same name in both, some at a time, as outputs; in
the order in which the plain export computes them. Requesting intermediate outputs disables operator fusion, so values
can differ slightly from the fused model.
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
from formats.bins import read_bin
from graphs.agreement import relative_error

SETTINGS = {"tolerance": "compare.tolerance"}
AT_ONCE = 24  # tensors; a batch of 64 has some of 64 MB


def compare(engine: str, model: Path, onnx: Path, images: NDArray[Any], tolerance: float) -> Record:
    """layers.json's figures: the relative error of each tensor up to the first that is past the tolerance."""
    ours: engines.Layers = engines.load(engine, "layers")
    reference: engines.Layers = engines.load(engines.REFERENCE, "layers")
    known = set(ours.tensor_names(model))
    names = [name for name in reference.tensor_names(onnx) if name in known]
    found: Record = {"tolerance": tolerance, "tensors": len(names), "first": None, "errors": {}}
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        here, there = ours.tensors(model, images, some), reference.tensors(onnx, images, some)
        for name in some:
            same = here[name].shape == there[name].shape
            found["errors"][name] = relative_error(here[name], there[name]) if same else float("inf")
        beyond = [name for name in some if found["errors"][name] > tolerance]
        if beyond:
            found["first"] = beyond[0]
            break
    return found


def summary(found: Record) -> str:
    """What make compare LAYERS=1 prints."""
    done, errors = list(found["errors"]), found["errors"]
    if not found["first"]:
        worst = max(done, key=lambda name: float(errors[name]))
        return f"All {len(done)} tensors are within {found['tolerance']:g}, at most {errors[worst]:.2e} ({worst})"
    i = done.index(found["first"])
    before = f"; of the one before {errors[done[i - 1]]:.2e}" if i else ""
    first = f"First tensor past {found['tolerance']:g}: {done[i]}, number {i + 1} of {found['tensors']}"
    return f"{first}\nIts relative error: {errors[done[i]]:.2e}{before}"


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--onnx", type=Path, required=True, help="the plain export")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--tolerance", type=float, required=True, help="relative: max|difference| / max|reference|")
    parser.add_argument("--out", type=Path, required=True, help="layers.json")
    args = parser.parse_args()
    made, count = needed_record(args.model, args.record)["provenance"], needed_record(args.bins, args.bins)["count"]
    if not engines.has(made["engine"], "layers"):
        problem = f"engine {made['engine']} shows nothing between input and output"
        able = ", ".join(name for name in engines.names_of() if engines.has(name, "layers"))
        die(f"LAYERS=1 CHIP={made['chip']}", problem, f"leave LAYERS out, or give CHIP= a chip of engine {able}")
    images = np.stack([read_bin(args.bins.with_name(f"image_{i % count}.bin")) for i in range(made["batch_size"])])
    found = compare(made["engine"], args.model, args.onnx, images, args.tolerance)
    write_record(args.out, found)
    print(summary(found))


if __name__ == "__main__":
    main()
