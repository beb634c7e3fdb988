"""Compiled model + bins + outputs of the accuracy run -> perf.txt and perf.json.

A query is one batch of real images; each pass over the images uses a new order. After a timed warm-up a run lasts a
minimum duration and a minimum number of queries (MLPerf Inference). The latency is that of scenario SingleStream, one
batch in flight; the throughput is that of scenario Offline, the engine's queue kept full. End to end is from the bins
on disk to the outputs on disk. The logits of both must match the accuracy run (MLPerf's TEST01), and the engine must
not return cached results (TEST04). A host runs one measurement at a time. Python 3.7.
"""

from __future__ import annotations

from _support import artifact, cli, locks
from _support.artifact import Record, needed_record
from _support.cli import die
from _support.machine import cpu_name

import argparse
import platform
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
from numpy.typing import NDArray

import engines
from engines import PerfRules, RunRequest, timed, tuning
from engines.feed import Work
from engines.timed import batch_numbers
from formats.bins import check_bins, form_of
from formats.outputs import read_outputs
from reporting import timing
from reporting._statement import rebuild_reason, with_statement
from reporting.provenance import (
    conditions_line,
    labels_of,
    needed_outputs,
    provenance_lines,
    source_line,
    without_paths,
)
from reporting.timing import Measured, Run

SETTINGS = {
    "warmup": "perf.warmup",
    "min_duration": "perf.min_duration",
    "min_queries": "perf.min_queries",
    "tolerance": "perf.tolerance",
    "drift": "perf.drift",
    "spread": "perf.spread",
    "others": "perf.others",
}
# Conditions in which this run may differ from the accuracy run.
OF_RUN = ("device", "driver", "runtime", "threads", "streams", "images_a_request")


def check_logits(run: Run, outputs: NDArray[Any], tolerance: float, subject: object) -> Record:
    """The errors of the timed run's logits against `outputs`, those of the accuracy run, float [images, classes].

    Exits 1 if an error exceeds `tolerance`, relative: max|Δ| / max|reference|.
    """
    expected = outputs[run.numbers]
    errors = np.abs(run.logits - expected).max(1) / np.abs(outputs).max()
    errors[~np.isfinite(errors)] = np.inf
    worst = int(errors.argmax())
    if errors[worst] > tolerance:
        error = f"image {run.numbers[worst]} has relative error {errors[worst]:.2e}, tolerance {tolerance:g}"
        problem = f"the outputs of the timed run do not match the accuracy run ({error}), so its speed is not valid"
        die(subject, problem, "nothing was written; report it, with the engine's version")
    changed = int((run.logits.argmax(1) != expected.argmax(1)).sum())
    return {"answers": len(errors), "largest_error": float(errors[worst]), "labels_changed": changed}


def stability_text(scenario: Record) -> str:
    """Drift, spread and load of a scenario; a value above its limit is shown with the limit, as in its "why"."""
    stability = scenario["stability"]
    load = "unknown" if stability["others"] is None else f"{100 * stability['others']:.0f}%"
    values = [f"drift {100 * stability['drift']:+.1f}%", f"spread {100 * stability['spread']:.1f}%"]
    values += [f"load from other processes {load}"]
    return ", ".join(next((why for why in stability["why"] if why.startswith(value)), value) for value in values)


def format_page(result: Record) -> List[str]:
    """The lines of perf.txt; `make perf` prints the first seven."""
    times, end_to_end, provenance = result["latency_ms"], result["end_to_end"], result["provenance"]
    scenarios = result["scenarios"]
    checks = [scenario["check"] for scenario in scenarios.values()]
    answers, error = sum(check["answers"] for check in checks), max(check["largest_error"] for check in checks)
    speed, batch_size = f"{result['throughput_images_per_s']:.2f} images/s", provenance["batch_size"]
    stability = "; ".join(f"{name}: {stability_text(scenario)}" for name, scenario in scenarios.items())
    return [
        f"Throughput: {speed} at batch size {batch_size}, device time ({timing.scenario_text(result, timing.OFFLINE)})",
        f"Latency of {result['queries']} queries, ms: "
        + ", ".join(f"{k} {v:.2f}" for k, v in times.items())
        + f" ({timing.scenario_text(result, timing.SINGLE_STREAM)})",
        f"End to end: {end_to_end['throughput_images_per_s']:.2f} images/s ({end_to_end['what']})",
        f"Stable: {'yes' if result['stable'] else 'NO'} ({stability})",
        f"Checked: {answers} outputs match the accuracy run (relative error at most {error:.1e}); no caching found",
        source_line(provenance),
        conditions_line(provenance),
        "",
        f"method: {result['method']}",
        *provenance_lines(provenance),
    ]


def check_origin(outputs: Record, model: Record, bins: Record, manifest: Path) -> None:
    """Exits 1 unless the outputs of the accuracy run come from this model and these bins."""
    provenance = outputs["provenance"]
    if (provenance["model"], provenance["bins"]) != (model["sha256"], bins["digest"]):
        die(manifest, "these outputs were written with another model or other bins", artifact.rebuild_hint(manifest))


def run_timed(engine: str, request: RunRequest, work: Work, rules: PerfRules, folder: Path) -> Measured:
    """The timed run; outputs go to `folder`. It locks the CPU of this machine, also for an NPU, which the CPU feeds."""
    prepared = tuning.prepare(request.model, request.record)  # before the lock, because it may lock the CPU for itself
    with locks.lock_cpu():
        if not engines.constants_of(engine).IN_PROCESS:
            timer: engines.Timer = engines.load(engine, "perf")
            return timer.measure(request, rules, batch_numbers(request.images, work.batch_size))
        full = tuning.open_session(request.model, request.record, prepared)
        one = full
        if prepared and len({*prepared.choices.values()}) > 1:
            one = tuning.open_session(request.model, request.record, prepared, timing.SINGLE_STREAM)
        sessions = {timing.SINGLE_STREAM: one, timing.OFFLINE: full}
        measured = timed.measure(sessions, rules, work, folder)
        return measured._replace(device={"name": f"{cpu_name()}, threads {full.conditions.get('threads')}"})


def scenario_of(name: str, run: Run, check: Record, limits: Dict[str, float]) -> Record:
    """The entry of a scenario in perf.json."""
    return {
        "queue": run.queue,
        **run.choice,
        **timing.scenario_record(name, run.times_ms, run.images),
        "stability": timing.scenario_stability(name, run.times_ms, run.others, limits),
        "check": check,
        "times_ms": run.times_ms,
    }


def perf_record(measured: Measured, checks: Dict[str, Record], limits: Dict[str, float], batch_size: int) -> Record:
    """The figures of perf.json; `checks` are the results of check_logits() by scenario."""
    scenarios = {name: scenario_of(name, run, checks[name], limits) for name, run in measured.runs().items()}
    single_stream, offline = scenarios[timing.SINGLE_STREAM], scenarios[timing.OFFLINE]
    times = {
        "throughput_images_per_s": offline["throughput_images_per_s"],
        "latency_ms": single_stream["latency_ms"],
    }
    return {
        "batch_size": batch_size,
        **times,
        "queries": single_stream["queries"],
        "device": {**measured.device, **times},
        "end_to_end": measured.end_to_end,
        "stable": not timing.reasons_of(scenarios),
        "scenarios": scenarios,
        "warmup": measured.warmup,
        "cache": measured.cache,
        "method": measured.method,
    }


def request_of(args: argparse.Namespace, model: Record, bins: Record, output_format: str) -> RunRequest:
    """What an engine that is a separate program has to run."""
    return RunRequest(
        model=args.model,
        record=model,
        bins=args.bins.parent,
        form=form_of(bins),
        images=bins["count"],
        output_format=output_format,
        devices=args.devices,
        limits=engines.options_of(args.limits),
        log=args.out.with_name("perf.log"),
    )


def arguments() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="record of the model")
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--outputs", type=Path, required=True, help="manifest.json of the accuracy run's outputs")
    for name in ("warmup", "min-duration"):
        parser.add_argument(f"--{name}", type=float, required=True, help="seconds")
    parser.add_argument("--min-queries", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="of the logits, relative")
    for name in ("drift", "spread", "others"):
        parser.add_argument(f"--{name}", type=float, required=True, help="limit for a stable run, a fraction")
    parser.add_argument("--devices", default="", help="device number of an NPU")
    parser.add_argument("--limits", default="", help="settings that do not change outputs, as words key=value")
    parser.add_argument("--fresh", action="store_true", help="measure again, even if perf.txt is up to date")
    parser.add_argument("--out", type=Path, required=True, help="perf.txt; perf.json is written beside it")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    outputs = needed_outputs(args.outputs)
    engine, batch_size = model["provenance"]["engine"], model["provenance"]["batch_size"]
    output_format = outputs["format"]
    check_origin(outputs, model, bins, args.outputs)
    constants = engines.constants_of(engine)
    part = engines.module_of(engine, "run" if constants.IN_PROCESS else "perf")
    inputs = {"model": model["sha256"], "bins": bins["digest"], "outputs": outputs["digest"]}
    provenance = without_paths(outputs["provenance"])
    inputs.update(provenance=provenance)  # because the page shows it
    settings = {**cli.settings_of(args, SETTINGS), "format": output_format}
    key = artifact.key_of(inputs, settings, constants.PACKAGES.get("run", ()), part)
    upstream = {name: value for name, value in provenance.items() if name not in OF_RUN}
    request = request_of(args, model, bins, output_format)
    reason = "FRESH=1" if args.fresh else rebuild_reason(args.out)
    with with_statement(args.out), artifact.build_file(args.out, key, upstream, reason=reason) as job:
        logits = read_outputs(args.outputs, outputs, bins["count"])
        work = Work(args.bins, bins, batch_size, output_format, args.model)
        rules = PerfRules(args.warmup, args.min_duration, args.min_queries, args.others)
        with artifact.temporary(args.out.with_name("timed")) as folder:
            folder.mkdir()
            measured = run_timed(engine, request, work, rules, folder)
        check_bins(args.bins, bins)  # only now, because it may have waited for the CPU or the device
        checks = {name: check_logits(run, logits, args.tolerance, args.out) for name, run in measured.runs().items()}
        versions = {"host": cpu_name(), "python": platform.python_version(), "numpy": np.__version__}
        job.record["provenance"].update(measured.conditions, outputs=outputs["digest"], **versions)
        limits = {name: getattr(args, name) for name in ("drift", "spread", "others")}
        perf = perf_record(measured, checks, limits, batch_size)
        job.record.update(perf, **labels_of(outputs["provenance"], outputs))
        job.path.write_text("\n".join(format_page(job.record)) + "\n", "utf-8")
        if not perf["stable"]:
            why = ", ".join(timing.reasons_of(perf["scenarios"]))
            print(f"  not stable: {why}; to measure again, add FRESH=1")


if __name__ == "__main__":
    main()
