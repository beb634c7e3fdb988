"""Compiles the optimized graph for a chip and a batch size with the chip's engine.

Beside the model it writes the record bs<n>.json: cache key, provenance, and what the engine needs to run the model. An
engine that runs a separate program also writes bs<n>.log. For a CPU it writes bs<n>.tuning.json, see engines/tuning.py.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import check_unchanged, digest, needed_record
from _support.cli import die

from pathlib import Path

import engines
from engines import CompileRequest, Tunable, tuning


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--unquantized", type=Path, help="the optimized float32 graph of an int8 graph")
    parser.add_argument("--chip", required=True)
    parser.add_argument("--engine", required=True, help="the name of a folder in scripts/engines")
    parser.add_argument("--options", default="", help="options of the engine as words name=value")
    parser.add_argument("--limits", default="", help="settings in no cache key, as words key=value")
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
            model=engines.read_model(args.onnx, optimized["sha256"]),
            unquantized=engines.read_model(args.unquantized, files["unquantized"]) if args.unquantized else None,
            batch_size=args.batch_size,
            out=job.path,
            log=record_path.with_suffix(".log"),
            options=options,
            limits=engines.options_of(args.limits),
            graph=optimized.get("graph", {}),
        )
        record = compiler.compile_model(request)
        for name in files.keys() & options.keys():  # the compiler has read these files
            check_unchanged(Path(options[name]), files[name])
        if not isinstance(record, dict):
            die(args.engine, f"compile_model returned {record!r}", "return a dict to record")
        if "run" in record:  # may differ between equal builds
            job.record["run"] = record.pop("run")
        job.record["engine"] = record
        job.record["provenance"].update(model=digest(job.path), **flags)
    if tuning.is_tunable(args.engine):
        runner: Tunable = engines.load(args.engine, "run")
        if runner.can_run(options):  # the model may be for another CPU
            tuning.prepare(args.out, job.record)


if __name__ == "__main__":
    main()
