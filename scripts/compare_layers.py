"""Which tensor of the compiled model is the first that leaves its tolerance, against the plain export's, by name.

Both graphs are run on the first bins with all tensors that have the same name in both, some at a time, as outputs; in
the order in which the plain export computes them. What an engine fuses, it does not fuse then.
"""

from __future__ import annotations

import _build
from _build import Record, die, needed_record

import importlib
from pathlib import Path

import numpy as np
from reference import read_bin, relative_error

AT_ONCE = 24  # tensors; a batch of 64 has some of 64 MB


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--onnx", type=Path, required=True, help="the plain export")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--tolerance", type=float, required=True, help="relative: max|difference| / max|reference|")
    parser.add_argument("--out", type=Path, required=True, help="layers.json")
    args = parser.parse_args()
    made, count = needed_record(args.model, args.record)["provenance"], needed_record(args.bins, args.bins)["count"]
    engine = importlib.import_module(f"engines.{made['engine']}_run")
    if not hasattr(engine, "tensors"):
        problem = f"engine {made['engine']} shows nothing between input and output"
        die(f"LAYERS=1 CHIP={made['chip']}", problem, "leave LAYERS out, or give CHIP=cpu")
    from engines import onnxruntime_run

    images = np.stack([read_bin(args.bins.with_name(f"image_{i % count}.bin")) for i in range(made["batch_size"])])
    ours = set(engine.names(args.model))
    names = [name for name in onnxruntime_run.names(args.onnx) if name in ours]
    found: Record = {"tolerance": args.tolerance, "tensors": len(names), "first": None, "errors": {}}
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        here, there = engine.tensors(args.model, images, some), onnxruntime_run.tensors(args.onnx, images, some)
        for name in some:
            same = here[name].shape == there[name].shape
            found["errors"][name] = relative_error(here[name], there[name]) if same else float("inf")
        beyond = [name for name in some if found["errors"][name] > args.tolerance]
        if beyond:
            found["first"] = beyond[0]
            break
    _build.write_record(args.out, found)
    done = list(found["errors"])
    if found["first"]:
        i = done.index(found["first"])
        before = f"; of the one before {found['errors'][done[i - 1]]:.2e}" if i else ""
        print(f"First tensor past {args.tolerance:g}: {done[i]}, number {i + 1} of {len(names)}")
        print(f"Its relative error: {found['errors'][done[i]]:.2e}{before}")
    else:
        worst = max(done, key=lambda name: float(found["errors"][name]))
        print(f"All {len(done)} tensors are within {args.tolerance:g}, at most {found['errors'][worst]:.2e} ({worst})")


if __name__ == "__main__":
    main()
