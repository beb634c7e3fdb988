"""Ascend NPU: the times of a measurement, by ais_bench. Python 3.7."""

from __future__ import annotations

from _build import Record, die, remove

import math
import os
import time
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import timing
from _progress import Progress
from numpy.typing import NDArray
from outputs import decode

from engines.ascend_bench import Session, busy, copied

PACKAGES = ()
LOOP = 3  # times that each batch runs in the check for a cache
CACHE = 2.0  # a first time may take so many times as long as the next: between batches the NPU has waited for the host
FILES = 50000  # of one run; the newer ais_bench takes 100,000 in a folder (contract 2.2)
METHOD = (
    "ais_bench's own times of the execute call on the device, without copies and files; images/s = images / sum of "
    "these times, each batch full of real images"
)


def linked(images: Path, numbers: List[int], folder: Path) -> Path:
    """The folder `folder` with image_<k>.bin for the k-th of `numbers`: hard links, since ais_bench takes no others."""
    folder.mkdir(mode=0o700)
    for k, number in enumerate(numbers):
        source, target = images / f"image_{number}.bin", folder / f"image_{k}.bin"
        try:
            os.link(str(source), str(target))
        except OSError:  # another file system, or one without links
            copied(source, target)
    return folder


def merged(summaries: List[Record], name: str) -> Record:
    """min, mean and max of the copies of several runs, in ms; nothing where ais_bench tells nothing."""
    try:
        found = [summary[name] for summary in summaries if summary[name]["count"]]
        mean = float(np.average([part["mean"] for part in found], weights=[part["count"] for part in found]))
        return {"min": min(part["min"] for part in found), "mean": mean, "max": max(part["max"] for part in found)}
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}


def measure(args: Any, made: Record, count: int, batches: Iterator[NDArray[Any]], form: str) -> timing.Measured:
    """The times of full batches of the bins, `batches` being their numbers, int [batch_size]; see measure.py's flags.

    A first short run tells how many queries are needed and, each batch being run three times, whether the engine
    answers from a cache. Files are linked anew for each run, so that ais_bench reads as many as it is to time.
    Exits 1 on any failure."""
    limits = dict(word.split("=", 1) for word in args.limits.split())
    session = Session(args.model, made, args.devices, limits, args.out.with_name("perf.log"))
    if len(session.numbers) > 1:
        die(f"DEVICE={args.devices}", "one device is measured at a time", "give DEVICE= one number")
    times: List[float] = []
    numbers: List[int] = []
    answers: List[NDArray[Any]] = []
    summaries: List[Record] = []
    seconds: List[float] = []

    def timed(queries: int, name: str, flags: List[str], loop: int = 1) -> List[float]:
        """ais_bench's times of `queries` full batches; keeps the answers."""
        chosen = [int(number) for _ in range(queries) for number in next(batches)]
        folder = linked(images, chosen, session.work / f"bins-{name}")
        begin = time.monotonic()
        found, summary = session.run(name, folder, len(chosen), form, Progress(len(chosen), "images"), flags, loop)
        seconds.append(time.monotonic() - begin)
        numbers.extend(chosen)
        answers.extend(decode(path, path.read_bytes(), form) for path in found)
        summaries.append(summary)
        remove(folder)
        remove(session.work / name)
        return [float(t) for t in summary["npu_compute_time_list"]]

    with session.opened():
        others = busy(session.numbers[0])  # nobody of ours, since we hold it
        if (others or 0) > args.others:
            print(
                f"  npu-smi shows the device {100 * (others or 0):.0f}% busy before it began: npu-smi info tells more"
            )
        images = session.readable(args.bins.parent, count)
        trial = timed(max(10, min(20, args.min_queries)), "trial", [], LOOP)
        firsts, again = trial[::LOOP], trial[LOOP - 1 :: LOOP]
        cache = {"same_batch_again": timing.must_not_cache(args.model, again, firsts, CACHE)}
        usual = max(float(np.median(firsts)), 1e-3)
        warmups = max(1, min(10000, math.ceil(1000 * args.warmup / usual)))
        warmup = {"seconds": warmups * usual / 1000, "queries": warmups}
        seconds.clear()
        summaries.clear()
        while len(times) < args.min_queries or sum(times) < 1000 * args.min_duration:
            left_ms = 1.1 * (1000 * args.min_duration - sum(times))
            missing = max(args.min_queries - len(times), math.ceil(left_ms / usual))
            queries = max(1, min(missing, FILES // session.size))
            times += timed(queries, f"run{len(seconds)}", ["--warmup_count", str(warmups)])
            usual = float(np.mean(times))
    timed_images = session.size * len(times)
    device, method = {"name": session.conditions["device"]}, METHOD
    device.update(h2d_ms=merged(summaries, "H2D_latency"), d2h_ms=merged(summaries, "D2H_latency"))
    if session.newer:  # it keeps a time's begin and end as float32 ms since loading
        device["resolution_ms"] = float(np.spacing(np.float32(1000 * max(seconds))))
        method += f"; a time is exact to {device['resolution_ms']:.4f} ms"
    end_to_end = {
        "what": "ais_bench's whole process, loading and warm-up included, files to files",
        "throughput_images_per_s": timed_images / sum(seconds),
        "runs": len(seconds),
    }
    rows = (np.array(numbers), np.array(answers))
    return timing.Measured(
        times, timed_images, *rows, end_to_end, device, warmup, cache, others, method, dict(session.conditions)
    )
