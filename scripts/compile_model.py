"""Optimized ONNX -> one compiled model for a chip and a batch size, by the chip's engine.

Beside it the record bs<n>.json: what it was made from, by what, and how its engine has to be called; and bs<n>.log
where the engine is a program of its own.
"""

from __future__ import annotations

import _build
from _build import digest, needed_record

import importlib
from pathlib import Path


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--unquantized", help="the graph before it was made int8: one more option of the engine")
    parser.add_argument("--chip", required=True)
    parser.add_argument("--engine", required=True, help="the name of a module in scripts/engines")
    parser.add_argument("--options", default="", help="the engine's own, as words name=value")
    parser.add_argument("--limits", default="", help="keys of params.yaml that shape no bytes, as words key=value")
    parser.add_argument("--batch-size", type=int, choices=range(1, 65), metavar="1..64", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    name = f"engines.{args.engine}_compile"
    engine = importlib.import_module(name)
    flags = {"chip": args.chip, "engine": args.engine, "options": args.options, "batch_size": args.batch_size}
    optimized = needed_record(args.onnx)
    options = dict(word.split("=", 1) for word in args.options.split())
    options.update({"unquantized": args.unquantized} if args.unquantized else {})
    files = {name: digest(Path(value)) for name, value in options.items() if Path(value).is_file()}
    key = _build.key_of({"onnx": optimized["sha256"], **files}, flags, engine.PACKAGES, name)
    record_path = args.out.with_name(f"bs{args.batch_size}.json")
    with _build.build_file(args.out, key, optimized["provenance"], record_path) as job:
        limits = dict(word.split("=", 1) for word in args.limits.split())
        log = record_path.with_suffix(".log")
        job.record["engine"] = engine.compile_model(args.onnx, args.batch_size, job.path, options, limits, log)
        job.record["provenance"].update(model=digest(job.path), **flags)


if __name__ == "__main__":
    main()
