"""Optimized ONNX -> one compiled model for a chip and a batch size, by the chip's engine.

Beside it the record bs<n>.json: what it was made from, by what, and how its engine has to be called; and bs<n>.log
where the engine is a program of its own.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import digest, needed_record
from _support.cli import die

from pathlib import Path

import engines
from engines import CompileRequest


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--unquantized", type=Path, help="the graph before it was made int8")
    parser.add_argument("--chip", required=True)
    parser.add_argument("--engine", required=True, help="the name of a folder in scripts/engines")
    parser.add_argument("--options", default="", help="the engine's own, as words name=value")
    parser.add_argument("--limits", default="", help="keys of params.yaml that shape no bytes, as words key=value")
    parser.add_argument("--batch-size", type=int, choices=range(1, 65), metavar="1..64", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    optimized, options = needed_record(args.onnx), engines.options_of(args.options)
    flags = {"chip": args.chip, "engine": args.engine, "options": args.options, "batch_size": args.batch_size}
    files = {name: digest(Path(value)) for name, value in options.items() if Path(value).is_file()}
    if args.unquantized:
        files["unquantized"] = digest(args.unquantized)
    packages = engines.constants_of(args.engine).PACKAGES.get("compile", ())
    part = engines.module_of(args.engine, "compile")
    key = artifact.key_of({"onnx": optimized["sha256"], **files}, flags, packages, part)
    record_path = args.out.with_name(f"bs{args.batch_size}.json")
    with artifact.build_file(args.out, key, optimized["provenance"], record_path) as job:
        compiler: engines.Compiler = engines.load(args.engine, "compile")
        request = CompileRequest(
            model=args.onnx,
            unquantized=args.unquantized,
            batch_size=args.batch_size,
            out=job.path,
            log=record_path.with_suffix(".log"),
            options=options,
            limits=engines.options_of(args.limits),
        )
        record = compiler.compile_model(request)
        if not isinstance(record, dict):
            die(args.engine, f"compile_model returned {record!r}", "return what to record, a dict")
        job.record["engine"] = record
        job.record["provenance"].update(model=digest(job.path), **flags)


if __name__ == "__main__":
    main()
