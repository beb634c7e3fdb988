"""Compiled model + bins + outputs of the accuracy run -> perf.txt and perf.json.

A query is one batch of real images, in an order of its own each time round. After a timed warm-up the run lasts a
minimum duration and a minimum number of queries (MLPerf Inference). Two times are kept apart: that inside the engine,
and that from the bins on disk to the outputs on disk. The run's answers have to be those of the accuracy run (MLPerf's
TEST01), and the engine may not answer from a cache (TEST04). One measurement at a time on a host. Python 3.7.
"""

from __future__ import annotations

from _support import artifact, cli, process
from _support.artifact import Record, needed_record
from _support.cli import die
from _support.machine import host

import argparse
import platform
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from numpy.typing import NDArray

import engines
from engines import PerfRules, RunRequest, timed
from engines.feed import Work
from engines.timed import batch_numbers
from formats.bins import check_bins
from formats.outputs import read_outputs
from reporting import timing
from reporting.provenance import conditions, digests, made_from, source_of
from reporting.timing import Measured

SETTINGS = {
    "warmup": "perf.warmup",
    "min_duration": "perf.min_duration",
    "min_queries": "perf.min_queries",
    "tolerance": "perf.tolerance",
    "drift": "perf.drift",
    "spread": "perf.spread",
    "others": "perf.others",
}


def must_answer_as_before(found: Measured, wanted: NDArray[Any], tolerance: float, subject: object) -> Record:
    """How far the timed answers are from those of the accuracy run, float [images, classes]; exits 1 past the
    tolerance, relative: max|Δ| / max|reference|."""
    expected = wanted[found.numbers]
    errors = np.abs(found.answers - expected).max(1) / np.abs(wanted).max()
    errors[~np.isfinite(errors)] = np.inf
    worst = int(errors.argmax())
    if errors[worst] > tolerance:
        number = found.numbers[worst]
        what = f"image {number} is off by {errors[worst]:.2e} relative (tolerance {tolerance:g})"
        problem = f"the timed run's answers are not those of the accuracy run: {what}, so its speed counts for nothing"
        die(subject, problem, "nothing was written; report it, with the engine's version")
    changed = int((found.answers.argmax(1) != expected.argmax(1)).sum())
    return {"answers": len(errors), "largest_error": float(errors[worst]), "labels_changed": changed}


def lines_of(result: Record) -> List[str]:
    """perf.txt, line by line; `make perf` prints the first seven."""
    times, made, end = result["latency_ms"], result["provenance"], result["end_to_end"]
    found, check = result["stability"], result["check"]
    shown = [f"drift {100 * found['drift']:+.1f}%", f"spread {100 * found['spread']:.1f}%"]
    shown += ["others not known" if found["others"] is None else f"others' load {100 * found['others']:.0f}%"]
    lines = [
        f"Throughput: {result['throughput_images_per_s']:.2f} images/s at batch size {made['batch_size']}, device time",
        f"Latency of {result['queries']} queries, ms: " + ", ".join(f"{k} {v:.2f}" for k, v in times.items()),
        f"End to end: {end['throughput_images_per_s']:.2f} images/s ({end['what']})",
        f"Stable: {'yes' if result['stable'] else 'NO: ' + '; '.join(found['why'])} ({', '.join(shown)})",
        f"Checked: {check['answers']} answers as in the accuracy run, within {check['largest_error']:.1e}; no cache",
        made_from(made),
        conditions(made),
    ]
    return [*lines, "", f"method: {result['method']}", *digests(made)]


def check_origin(outputs: Record, model: Record, bins: Record, manifest: Path) -> None:
    """Exits 1 unless the outputs of the accuracy run are of this model and these bins."""
    made = outputs["provenance"]
    if (made["model"], made["bins"]) != (model["sha256"], bins["digest"]):
        die(manifest, "outputs of an earlier run: another model or other bins", artifact.again(manifest))


def measured(engine: str, request: RunRequest, work: Work, rules: PerfRules, folder: Path) -> Measured:
    """The timed run, with this machine's CPU held: it also feeds an NPU. Outputs go to `folder`."""
    with process.this_cpu():
        if not engines.constants_of(engine).IN_PROCESS:
            timer: engines.Timer = engines.load(engine, "perf")
            return timer.measure(request, rules, batch_numbers(request.images, work.batch_size))
        runner: engines.InProcess = engines.load(engine, "run")
        session = runner.open_session(request.model, engines.options_of(request.record["provenance"]["options"]))
        found = timed.measure(session, rules, work, folder)
        return found._replace(device={"name": f"{host()}, threads {session.conditions.get('threads')}"})


def result_of(found: Measured, check: Record, limits: Dict[str, float], batch_size: int) -> Record:
    """The figures of perf.json."""
    verdict = timing.stability(found.times_ms, found.others, limits)
    throughput = 1000 * found.images / sum(found.times_ms)
    times = {"throughput_images_per_s": throughput, "latency_ms": timing.latency(found.times_ms)}
    return {
        "batch_size": batch_size,
        **times,
        "queries": len(found.times_ms),
        "images": found.images,
        "device": {**found.device, **times},
        "end_to_end": found.end_to_end,
        "stable": not verdict["why"],
        "stability": verdict,
        "warmup": found.warmup,
        "check": check,
        "cache": found.cache,
        "method": found.method,
        "times_ms": found.times_ms,
    }


def arguments() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--outputs", type=Path, required=True, help="the accuracy run's manifest.json")
    for name in ("warmup", "min-duration"):
        parser.add_argument(f"--{name}", type=float, required=True, help="seconds")
    parser.add_argument("--min-queries", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="of the answers, relative")
    for name in ("drift", "spread", "others"):
        parser.add_argument(f"--{name}", type=float, required=True, help="up to which the run counts as stable")
    parser.add_argument("--devices", default="", help="an NPU's device number")
    parser.add_argument("--limits", default="", help="keys of params.yaml that shape no bytes, as words key=value")
    parser.add_argument("--out", type=Path, required=True, help="perf.txt; perf.json lies beside it")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    outputs = needed_record(args.outputs, args.outputs)
    made, output_format = model["provenance"], outputs["format"]
    check_origin(outputs, model, bins, args.outputs)
    constants = engines.constants_of(made["engine"])
    part = engines.module_of(made["engine"], "run" if constants.IN_PROCESS else "perf")
    inputs = {"model": model["sha256"], "bins": bins["digest"], "outputs": outputs["digest"]}
    inputs.update(provenance=outputs["provenance"])  # the page shows it
    settings = {**cli.settings_of(args, SETTINGS), "format": output_format}
    key = artifact.key_of(inputs, settings, constants.PACKAGES.get("run", ()), part)
    ours = ("device", "driver", "runtime", "threads")  # of this run, not of the one that made the outputs
    upstream = {name: value for name, value in outputs["provenance"].items() if name not in ours}
    request = RunRequest(
        model=args.model,
        record=model,
        bins=args.bins.parent,
        images=bins["count"],
        output_format=output_format,
        devices=args.devices,
        limits=engines.options_of(args.limits),
        log=args.out.with_name("perf.log"),
    )
    with artifact.build_file(args.out, key, upstream) as job:
        check_bins(args.bins, bins)
        wanted = read_outputs(args.outputs, outputs, bins["count"])
        work = Work(args.bins, bins, made["batch_size"], output_format, args.model)
        rules = PerfRules(args.warmup, args.min_duration, args.min_queries, args.others)
        with artifact.temporary(args.out.with_name("timed")) as folder:
            folder.mkdir()
            found = measured(made["engine"], request, work, rules, folder)
        check = must_answer_as_before(found, wanted, args.tolerance, args.out)
        versions = {"host": host(), "python": platform.python_version(), "numpy": np.__version__}
        job.record["provenance"].update(found.conditions, outputs=outputs["digest"], **versions)
        limits = {name: getattr(args, name) for name in ("drift", "spread", "others")}
        result = result_of(found, check, limits, made["batch_size"])
        job.record.update(result, source=source_of(outputs["provenance"]))
        job.path.write_text("\n".join(lines_of(job.record)) + "\n", "utf-8")
        if not result["stable"]:
            print(f"  not stable: {'; '.join(result['stability']['why'])}; to measure again: rm {args.out}")


if __name__ == "__main__":
    main()
