"""Compiled model + bins + outputs of the accuracy run -> perf.txt and perf.json.

A query is one batch of real images, in an order of its own each time round. After a timed warm-up the run lasts a
minimum duration and a minimum number of queries (MLPerf Inference). Two times are kept apart: that inside the engine,
and that from the bins on disk to the outputs on disk. The run's answers have to be those of the accuracy run (MLPerf's
TEST01), and the engine may not answer from a cache (TEST04). One measurement at a time on a host. Python 3.7.
"""

from __future__ import annotations

import _build
from _build import Record, die, needed_record

import importlib.util
import platform
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import _tool
import numpy as np
import timing
from _progress import Progress
from infer import check_bins
from numpy.typing import NDArray
from outputs import CLASSES, encode, name_of, read_outputs
from provenance import conditions, digests, made_from, source_of
from reference import SHAPE, read_bin
from timing import Measured

SEED = 20260601  # of the order of the images
CACHE = 1.25  # new inputs may take so many times as long as seen ones; TEST04 allows 1.1, of longer runs
Run = Callable[[NDArray[Any]], NDArray[Any]]


def stream(count: int, batch_size: int) -> Iterator[NDArray[Any]]:
    """Batches of image numbers, int [batch_size], without end: all images once, in an order of its own each time."""
    order = np.random.RandomState(SEED)
    left: NDArray[Any] = np.empty(0, int)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, order.permutation(count)])
        yield left[:batch_size]
        left = left[batch_size:]


def read(bins: Path, numbers: NDArray[Any], batch: NDArray[Any]) -> NDArray[Any]:
    """Fills `batch`, float32 [len(numbers), 3, 32, 32], from the bins on disk."""
    for slot, number in enumerate(numbers):
        batch[slot] = read_bin(bins.with_name(f"image_{number}.bin"))
    return batch


def new(batch: NDArray[Any], number: int) -> NDArray[Any]:
    """Images that no run has seen: mirrored, and darker by `number` parts of 4096."""
    changed: NDArray[Any] = batch[..., ::-1] * np.float32(1 - (number % 2048 + 1) / 4096)
    return np.ascontiguousarray(changed)


def seconds_of(run: Run, batch: NDArray[Any]) -> float:
    begin = time.perf_counter()
    np.array(run(batch))
    return time.perf_counter() - begin


def in_process(run: Run, args: Any, count: int, batch_size: int, form: str, subject: Path, out: Path) -> Measured:
    """The measurement of an engine that runs in this process; outputs go to the folder `out`."""
    batches = stream(count, batch_size)
    batch = np.empty((batch_size, *SHAPE), np.float32)
    busy, begin, warm = timing.Busy(), time.perf_counter(), 0
    while warm < 2 or time.perf_counter() - begin < args.warmup:
        run(read(args.bins, next(batches), batch))
        warm += 1
    warmup = {"seconds": time.perf_counter() - begin, "queries": warm}
    if (busy.others() or 0) > args.others:
        print(f"  others use {100 * (busy.others() or 0):.0f}% of the CPUs: quiet the machine, or take it as it comes")

    times: List[float] = []
    whole: List[float] = []
    numbers: List[NDArray[Any]] = []
    rows: List[NDArray[Any]] = []
    progress = Progress(max(args.min_queries, 1), "queries")
    busy, begin = timing.Busy(), time.perf_counter()
    while len(times) < args.min_queries or time.perf_counter() - begin < args.min_duration:
        chosen = next(batches)
        start = time.perf_counter()
        read(args.bins, chosen, batch)
        ready = time.perf_counter()
        answer = np.array(run(batch))  # copied: an engine may answer later than it returns, or into the same place
        done = time.perf_counter()
        if answer.shape != (batch_size, len(CLASSES)):
            die(subject, f"answered {list(answer.shape)}", "type: make om, and report it if it stays")
        for number, row in zip(chosen, answer):
            (out / name_of(number, form)).write_bytes(encode(row, form))
        whole.append(time.perf_counter() - start)
        times.append(done - ready)
        numbers.append(chosen)
        rows.append(answer)
        passed = min(1, (time.perf_counter() - begin) / max(args.min_duration, 1e-9))
        progress.total = max(args.min_queries, int(len(times) / max(passed, 1e-9)), len(times) + 1)
        progress.update(len(times))
    progress.total = len(times)
    progress.update(len(times))
    others = busy.others()

    images = batch_size * len(times)
    end_to_end = {
        "what": "bins read, run, outputs written, one query after the other",
        "throughput_images_per_s": images / sum(whole),
        "latency_ms": timing.latency([1000 * t for t in whole]),
    }
    method = "time inside the engine's call, inputs in memory; images/s = images / sum of these times"
    answers = (np.concatenate(numbers), np.concatenate(rows))
    times_ms = [1000 * t for t in times]
    cache = check_for_cache(run, args.bins, batches, batch, subject)
    return Measured(times_ms, images, *answers, end_to_end, {}, warmup, cache, others, method, {})


def check_for_cache(
    run: Run, bins: Path, batches: Iterator[NDArray[Any]], batch: NDArray[Any], subject: Path
) -> Record:
    """Exits 1 if images of the set, which it answered before, or a batch of a moment ago are faster than new ones."""
    seen: List[float] = []
    again: List[float] = []
    unseen: List[float] = []
    begin = time.perf_counter()
    while len(unseen) < 10 or (time.perf_counter() - begin < 1 and len(unseen) < 200):
        seen.append(1000 * seconds_of(run, read(bins, next(batches), batch)))
        fresh = new(batch, len(unseen))
        unseen.append(1000 * seconds_of(run, fresh))
        again.append(1000 * seconds_of(run, fresh))
    answers = np.concatenate(
        [run(new(read(bins, next(batches), batch), k)) for k in range(len(unseen), len(unseen) + 2)]
    )
    if not np.isfinite(answers).all() or len(np.unique(answers, axis=0)) == 1:
        problem = "it does not answer images that it has not seen before as it does those of the set"
        die(subject, problem, "nothing was written; report it, with the engine's version")
    return {
        "images_of_the_set": timing.must_not_cache(subject, seen, unseen, CACHE),
        "same_batch_again": timing.must_not_cache(subject, again, unseen, CACHE),
    }


def must_answer_as_before(found: Measured, wanted: NDArray[Any], tolerance: float, subject: object) -> Record:
    """How far the timed answers are from those of the accuracy run, float [images, 10]; exits 1 past the tolerance,
    relative: max|Δ| / max|reference|."""
    expected = wanted[found.numbers]
    errors = np.abs(found.answers - expected).max(1) / np.abs(wanted).max()
    errors[~np.isfinite(errors)] = np.inf
    worst = int(errors.argmax())
    if errors[worst] > tolerance:
        what = f"image {found.numbers[worst]} is off by {errors[worst]:.2e} relative (tolerance {tolerance:g})"
        problem = f"the timed run's answers are not those of the accuracy run: {what}, so its speed counts for nothing"
        die(subject, problem, "nothing was written; report it, with the engine's version")
    changed = int((found.answers.argmax(1) != expected.argmax(1)).sum())
    return {"answers": len(errors), "largest_error": float(errors[worst]), "labels_changed": changed}


def host() -> str:
    """The CPU's name."""
    try:
        with open("/proc/cpuinfo") as stream:
            names = [line.partition(":")[2].strip() for line in stream if line.startswith(("model name", "Model"))]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


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


def main() -> None:
    parser = _build.Parser(__doc__)
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
    args = parser.parse_args()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    outputs = needed_record(args.outputs, args.outputs)
    made, form, count = model["provenance"], outputs["format"], bins["count"]
    if (outputs["provenance"]["model"], outputs["provenance"]["bins"]) != (model["sha256"], bins["digest"]):
        die(args.outputs, "outputs of an earlier run: another model or other bins", _build.again(args.outputs))
    own = f"engines.{made['engine']}_perf"  # of an engine that is a program of its own
    name = own if importlib.util.find_spec(own) else f"engines.{made['engine']}_run"
    engine = importlib.import_module(name)
    limits = {limit: getattr(args, limit) for limit in ("drift", "spread", "others")}
    rules = {rule: getattr(args, rule) for rule in ("warmup", "min_duration", "min_queries", "tolerance")}
    inputs = {"model": model["sha256"], "bins": bins["digest"], "outputs": outputs["digest"]}
    inputs.update(provenance=outputs["provenance"])  # the page tells it
    key = _build.key_of(inputs, {**rules, **limits, "format": form}, engine.PACKAGES, name)
    ours = ("device", "driver", "runtime", "threads")  # of this run, not of the one that made the outputs
    upstream = {name: value for name, value in outputs["provenance"].items() if name not in ours}
    with _build.build_file(args.out, key, upstream) as job:
        check_bins(args.bins, bins)
        wanted = read_outputs(args.outputs, outputs, count)
        with _build.temporary(args.out.with_name("timed")) as work:
            work.mkdir()
            cpu = _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU")  # which feeds an NPU, too
            if name != own:
                with cpu:
                    run, loaded = engine.load(args.model, dict(word.split("=", 1) for word in made["options"].split()))
                    found = in_process(run, args, count, made["batch_size"], form, args.model, work)
                found = found._replace(conditions=loaded, device={"name": f"{host()}, threads {loaded.get('threads')}"})
            else:
                with cpu:
                    found = engine.measure(args, model, count, stream(count, made["batch_size"]), form)
        check = must_answer_as_before(found, wanted, args.tolerance, args.out)
        throughput = 1000 * found.images / sum(found.times_ms)
        verdict = timing.stability(found.times_ms, found.others, limits)
        versions = {"host": host(), "python": platform.python_version(), "numpy": np.__version__}
        job.record["provenance"].update(found.conditions, outputs=outputs["digest"], **versions)
        times = {"throughput_images_per_s": throughput, "latency_ms": timing.latency(found.times_ms)}
        result: Record = {
            "batch_size": made["batch_size"],
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
            "source": source_of(outputs["provenance"]),
        }
        job.record.update(result)
        job.path.write_text("\n".join(lines_of(job.record)) + "\n", "utf-8")
        if verdict["why"]:
            print(f"  not stable: {'; '.join(verdict['why'])}; to measure anew: rm {args.out}")


if __name__ == "__main__":
    main()
