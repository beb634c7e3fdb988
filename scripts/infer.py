"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one a bin, and manifest.json.

Names and layouts are those of ais_bench. The engine is the one that the model's record names. One that runs in this
process is fed by a thread that reads the next bins, while another writes the last answers.
"""

from __future__ import annotations

from _support import artifact, cli, process
from _support.artifact import Record, needed_record

from pathlib import Path
from typing import Tuple

import engines
from engines import RunRequest
from engines.feed import Work, answer_all
from formats.bins import check_bins
from formats.outputs import digest_of

SETTINGS = {"format": "infer.format"}


def run_in_process(engine: str, request: RunRequest, work: Work, out: Path) -> Tuple[str, Record]:
    """(digest of the outputs, what to record) of an engine that runs in this process."""
    # One user a chip, since two at once are slower than one by one, and none while measure.py has the CPU.
    cpu = process.lock_cpu(shared=True)
    with artifact.locked(request.model.parent), cpu:
        runner: engines.InProcess = engines.load(engine, "run")
        options = engines.options_of(request.record["provenance"]["options"])
        session = runner.open_session(request.model, options)
        return answer_all(session, work, out), session.conditions


def run_program(engine: str, request: RunRequest, work: Work, out: Path) -> Tuple[str, Record]:
    """The same, of an engine that is a program of its own."""
    check_bins(work.bins, work.record)
    program: engines.Program = engines.load(engine, "run")
    conditions = program.infer(request, out)
    return digest_of(out, request.images, request.output_format), conditions


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--format", choices=["txt", "bin", "npy"], required=True)
    parser.add_argument("--devices", default="", help="an NPU's device number, or several: 0,1")
    parser.add_argument("--limits", default="", help="keys of params.yaml that shape no bytes, as words key=value")
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    made = model["provenance"]
    engine, constants = made["engine"], engines.constants_of(made["engine"])
    # The options too: the same compiled model may run in another precision, or with other streams.
    inputs = {"model": model["sha256"], "bins": bins["digest"], "engine": engine, "options": made["options"]}
    packages, part = constants.PACKAGES.get("run", ()), engines.module_of(engine, "run")
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), packages, part)
    precision = model.get("engine", {}).get("precision", "as the given model's")
    upstream = {**made, **bins["provenance"], "precision": precision}
    with artifact.build_folder(args.out, key, upstream) as job:
        request = RunRequest(
            model=args.model,
            record=model,
            bins=args.bins.parent,
            images=bins["count"],
            output_format=args.format,
            devices=args.devices,
            limits=engines.options_of(args.limits),
            log=args.out.parent.with_name("infer.log"),
        )
        work = Work(args.bins, bins, made["batch_size"], args.format, args.model)
        run = run_in_process if constants.IN_PROCESS else run_program
        found, conditions = run(engine, request, work, job.path)
        job.record.update(count=bins["count"], format=args.format, digest=found)
        job.record["provenance"].update(conditions)


if __name__ == "__main__":
    main()
