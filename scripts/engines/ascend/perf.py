"""Ascend NPU: measures by the times that ais_bench reports (docs/ascend-tools.md#ais-bench-summary). Python 3.7."""

from __future__ import annotations

from _support.artifact import Record, remove
from _support.cli import die

import math
import os
import time
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from engines import PerfRules, RunRequest
from engines.ascend.ais_bench import LARGEST, Run, Session, copy_private, device_load
from engines.ascend.batches import input_path, read_logits, write_batch
from formats.bins import read_bin
from reporting import timing

LOOP = 3  # runs of each batch in the check for caching
CACHE = 2.0  # limit of first run / repeated run; the first includes the time in which the NPU waited for the host
FILES = 50000  # in one run; the newer ais_bench accepts 100,000 (docs/ascend-tools.md#ais-bench-arguments)
MARGIN = 1.02  # more queries than expected, because one more run costs another start and another warm-up
METHOD = (
    "ais_bench's own times of the execute call on the device, without copies and files; images/s = images / sum of "
    "these times, each batch full of real images. One run is both scenarios, because ais_bench keeps one batch in "
    "flight"
)


class Pool:
    """Batches of real images as files for ais_bench, of which each run gets as many links as it has queries."""

    def __init__(self, folder: Path, request: RunRequest, batches: Iterator[NDArray[Any]], most: int) -> None:
        self.folder, self.request, self.batches, self.most = folder, request, batches, most
        self.numbers: List[NDArray[Any]] = []  # of the images of each batch
        folder.mkdir(mode=0o700)

    def fill(self, count: int) -> None:
        """Writes batches until there are `count`, or `most`."""
        while len(self.numbers) < min(count, self.most):
            numbers = next(self.batches)
            images = self.request.form.empty(len(numbers))
            for number, image in zip(numbers, images):
                read_bin(f"{self.request.bins}/image_{number}.bin", image)
            write_batch(input_path(self.folder, len(self.numbers)), images)
            self.numbers.append(numbers)

    def links(self, queries: int, folder: Path) -> List[NDArray[Any]]:
        """Makes `folder` with a hard link for each query, because ais_bench rejects symbolic links; returns the numbers
        of the images of each query. After the last batch the first one follows."""
        self.fill(queries)
        folder.mkdir(mode=0o700)
        for k in range(queries):
            source, target = input_path(self.folder, k % len(self.numbers)), input_path(folder, k)
            try:
                os.link(source, target)
            except OSError:  # a file system without links, or too many of one file
                copy_private(Path(source), Path(target))
        return [self.numbers[k % len(self.numbers)] for k in range(queries)]


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and bool(0 <= value < LARGEST)


def merge_copy_times(summaries: List[Record], name: str) -> Record:
    """min, mean and max of the copies of several runs, in ms; empty if a summary lacks them or has invalid ones."""
    try:
        parts = [summary[name] for summary in summaries if summary[name]["count"]]
        if not all(is_number(part[entry]) for part in parts for entry in ("min", "mean", "max", "count")):
            return {}
        mean = float(np.average([part["mean"] for part in parts], weights=[part["count"] for part in parts]))
        return {"min": min(part["min"] for part in parts), "mean": mean, "max": max(part["max"] for part in parts)}
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}


class Timed:
    """Runs full batches by ais_bench in a session; collects times, image numbers and logits."""

    def __init__(self, session: Session, pool: Pool) -> None:
        self.session, self.pool = session, pool
        self.times: List[float] = []  # ms on the device, one for each batch
        self.numbers: List[NDArray[Any]] = []
        self.logits: List[NDArray[Any]] = []
        self.summaries: List[Record] = []
        self.seconds: List[float] = []  # duration of each process

    def run(self, queries: int, name: str, flags: Sequence[str] = (), loop: int = 1) -> List[float]:
        """Runs `queries` full batches and returns the times in ms. Each run has a new folder of links, with exactly the
        files that it measures."""
        session = self.session
        folder = session.work / f"bins-{name}"
        self.numbers += self.pool.links(queries, folder)
        begin = time.monotonic()
        outputs, summary = session.run(Run(name, folder, queries, flags, loop))
        self.seconds.append(time.monotonic() - begin)
        self.logits += [read_logits(path, session.size, session.remedy) for path in outputs]
        self.summaries.append(summary)
        remove(folder)
        remove(session.work / name)
        return [float(ms) for ms in summary["npu_compute_time_list"]]

    def trial(self, queries: int) -> Tuple[float, Record]:
        """A short run with each batch LOOP times; returns (expected time of a query in ms, result of the check for
        caching). Exits 1 if repeated batches are too fast."""
        times = self.run(queries, "trial", (), LOOP)
        cache = self.check_no_caching(times[LOOP - 1 :: LOOP], times[::LOOP])
        self.seconds.clear()
        self.summaries.clear()
        # The faster one: queries that the trial, without a warm-up, makes look slow would be too few.
        return max(min(cache["seen_ms"], cache["new_ms"]), 1e-3), {"same_batch_again": cache}

    def check_no_caching(self, repeated: Sequence[float], new: Sequence[float]) -> Record:
        return timing.check_no_caching(self.session.request.model, repeated, new, CACHE)

    def run_until(self, rules: PerfRules, query_ms: float, warmups: int) -> None:
        """Runs until both minima of `rules` are reached. `query_ms` is the expected time of a query. Exits 1 if batches
        are too fast when they come again."""
        while len(self.times) < rules.min_queries or sum(self.times) < 1000 * rules.min_duration:
            left_ms = MARGIN * (1000 * rules.min_duration - sum(self.times))
            missing = max(rules.min_queries - len(self.times), math.ceil(left_ms / query_ms))
            queries = max(1, min(missing, FILES))
            times = self.run(queries, f"run{len(self.seconds)}", ["--warmup_count", str(warmups)])
            batches = len(self.pool.numbers)
            again = times[batches : 2 * batches]
            if again:
                self.check_no_caching(again, times[: len(again)])
            self.times += times
            query_ms = float(np.mean(self.times))

    def device(self) -> Tuple[Record, str]:
        """Returns (name and copy times of the device, description of the method)."""
        device: Record = {"name": self.session.conditions["device"]}
        device["h2d_ms"] = merge_copy_times(self.summaries, "H2D_latency")
        device["d2h_ms"] = merge_copy_times(self.summaries, "D2H_latency")
        if not self.session.newer:
            return device, METHOD
        # The newer generation stores begin and end of a time as float32 ms since loading, so the resolution is limited.
        device["resolution_ms"] = float(np.spacing(np.float32(1000 * max(self.seconds))))
        return device, f"{METHOD}; a time is exact to {device['resolution_ms']:.4f} ms"


def measure(request: RunRequest, rules: PerfRules, batches: Iterator[NDArray[Any]]) -> timing.Measured:
    """Measures full batches of bins; `batches` has their image numbers, int [batch_size] each. A short run before shows
    how many queries are needed and checks for caching. Exits 1 on any failure."""
    session = Session(request)
    if len(session.numbers) > 1:
        die(f"DEVICE={request.devices}", "only one device can be measured at a time", "set DEVICE= to one number")
    with session.opened() as folder, session.locked():
        others = device_load(session.numbers[0])  # of other users: this session has the lock and has not started yet
        if (others or 0) > rules.others:
            shown = f"{100 * (others or 0):.0f}%"
            print(f"  npu-smi shows a device load of {shown} before the start; run npu-smi info")
        pool = Pool(folder / "pool", request, batches, max(1, request.images // session.size))  # about all images
        timed = Timed(session, pool)
        query_ms, cache = timed.trial(max(10, min(20, rules.min_queries)))
        warmups = max(1, min(10000, math.ceil(1000 * rules.warmup / query_ms)))
        timed.run_until(rules, query_ms, warmups)
    images = session.size * len(timed.times)
    device, method = timed.device()
    end_to_end = {
        "what": "whole process of ais_bench with loading and warm-up, from input files to output files",
        "throughput_images_per_s": images / sum(timed.seconds),
        "runs": len(timed.seconds),
    }
    answers = np.concatenate(timed.numbers), np.concatenate(timed.logits)
    run = timing.Run(timing.ONE, timed.times, images, *answers, others)
    return timing.Measured(
        single_stream=run,
        offline=run,  # ais_bench waits for each batch
        end_to_end=end_to_end,
        device=device,
        warmup={"seconds": warmups * query_ms / 1000, "queries": warmups},
        cache=cache,
        method=method,
        conditions=dict(session.conditions),
    )
