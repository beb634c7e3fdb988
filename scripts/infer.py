"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one for each bin, and manifest.json.

File names and formats are those of ais_bench. The record of the model names the engine. If the engine runs in this
process, one thread reads the next bins and another one writes the last outputs.
"""

from __future__ import annotations

from _support import artifact, cli, locks
from _support.artifact import Record, needed_record
from _support.run_facts import machine_facts

from pathlib import Path
from typing import Tuple

import engines
from engines import RunRequest, tuning
from engines.feed import Work, run_all
from formats.bins import check_type, form_of

SETTINGS = {"format": "infer.format"}


def run_in_process(engine: str, request: RunRequest, work: Work, out: Path) -> Tuple[str, Record]:
    """Runs an engine in this process and returns (digest of the outputs, conditions for the record)."""
    # The folder's lock: one inference per chip, because two at once are slower than one after the other. The shared
    # lock of the CPU: no inference during a measurement.
    cpu = locks.lock_cpu(shared=True)
    prepared = tuning.prepare(request.model, request.record)  # before the locks, because it may lock the CPU for itself
    with artifact.locked(request.model.parent), cpu:
        session = tuning.open_session(request.model, request.record, prepared)
        return run_all(session, work, out), session.conditions


def run_program(engine: str, request: RunRequest, work: Work, out: Path) -> Tuple[str, Record]:
    """The same for an engine that is a separate program."""
    program: engines.Program = engines.load(engine, "run")
    return program.infer(request, work, out)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="record of the model")
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--format", choices=["txt", "bin", "npy"], required=True)
    parser.add_argument("--devices", default="", help="device number of an NPU, or several: 0,1")
    parser.add_argument("--limits", default="", help="settings that do not change outputs, as words key=value")
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    provenance = model["provenance"]
    engine = provenance["engine"]
    constants = engines.constants_of(engine)
    check_type(args.bins, bins, engines.input_of(engines.options_of(provenance["options"])), args.model)
    # The options are part of the key: the same compiled model can run in another precision, or with other streams.
    inputs = {"model": model["sha256"], "bins": bins["digest"], "engine": engine, "options": provenance["options"]}
    packages, part = constants.PACKAGES.get("run", ()), engines.module_of(engine, "run")
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), packages, part)
    precision = model.get("engine", {}).get("precision", "as compiled")  # a model of the user's own does not state it
    upstream = {**provenance, **bins["provenance"], "precision": precision}
    with artifact.build_folder(args.out, key, upstream) as job:
        request = RunRequest(
            model=args.model,
            record=model,
            bins=args.bins.parent,
            form=form_of(bins),
            images=bins["count"],
            output_format=args.format,
            devices=args.devices,
            limits=engines.options_of(args.limits),
            log=args.out.parent.with_name("infer.log"),
        )
        work = Work(args.bins, bins, provenance["batch_size"], args.format, args.model)
        run = run_in_process if constants.IN_PROCESS else run_program
        digest, conditions = run(engine, request, work, job.path)
        job.record.update(count=bins["count"], format=args.format, digest=digest)
        job.record["provenance"].update(conditions)
        job.record["run"] = machine_facts()


if __name__ == "__main__":
    main()
