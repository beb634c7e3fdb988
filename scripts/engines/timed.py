"""Measures an engine that runs in this process, and checks that it does not cache results. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import die
from _support.progress import Progress

import time
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
from numpy.typing import NDArray

from engines import PerfRules, Session
from engines.feed import Work, check_shape, run_one
from formats.bins import read_bin
from formats.outputs import encode, name_of
from network.spec import IMAGE_SHAPE
from reporting import timing
from reporting.timing import Measured

SEED = 20260601  # of the order of the images
CACHE = 1.25  # limit of time of new inputs / time of repeated ones; MLPerf's TEST04 allows 1.1, with longer runs
METHOD = "time inside the engine's call, inputs in memory; images/s = images / sum of these times"


def batch_numbers(count: int, batch_size: int) -> Iterator[NDArray[Any]]:
    """Yields batches of image numbers, int [batch_size], without end; each pass has all images in a new order."""
    order = np.random.RandomState(SEED)
    left: NDArray[Any] = np.empty(0, int)
    while True:
        while len(left) < batch_size:
            left = np.concatenate([left, order.permutation(count)])
        yield left[:batch_size]
        left = left[batch_size:]


class Images:
    """Batches of real images from the bins on disk, without end. Each read() overwrites `batch`."""

    def __init__(self, work: Work) -> None:
        self.bins = work.bins
        self.numbers = batch_numbers(work.record["count"], work.batch_size)
        self.batch = np.empty((work.batch_size, *IMAGE_SHAPE), np.float32)

    def read(self) -> NDArray[Any]:
        """Reads the next images into `batch`, float32 [batch_size, *IMAGE_SHAPE]; returns their numbers."""
        numbers = next(self.numbers)
        for slot, number in enumerate(numbers):
            self.batch[slot] = read_bin(self.bins.with_name(f"image_{number}.bin"))
        return numbers

    def unseen(self, number: int) -> NDArray[Any]:
        """New images from those in `batch`: mirrored, and darker by a factor that differs for each `number`."""
        changed: NDArray[Any] = self.batch[..., ::-1] * np.float32(1 - (number % 2048 + 1) / 4096)
        return np.ascontiguousarray(changed)


class Timed:
    """Runs the queries of a measurement; collects times, image numbers and logits, and writes outputs to `out`."""

    def __init__(self, session: Session, work: Work, out: Path) -> None:
        self.session, self.work, self.out = session, work, out
        self.images = Images(work)
        self.times: List[float] = []  # s, in the engine's call
        self.end_to_end: List[float] = []  # s, from reading bins to writing outputs
        self.numbers: List[NDArray[Any]] = []
        self.logits: List[NDArray[Any]] = []

    def warm_up(self, seconds: float) -> Record:
        """Runs at least two queries, for at least `seconds`."""
        begin, queries = time.perf_counter(), 0
        while queries < 2 or time.perf_counter() - begin < seconds:
            self.images.read()
            run_one(self.session, self.images.batch)
            queries += 1
        return {"seconds": time.perf_counter() - begin, "queries": queries}

    def query(self) -> None:
        """Reads a batch, runs it, writes its outputs, and stores the times."""
        start = time.perf_counter()
        numbers = self.images.read()
        ready = time.perf_counter()
        logits = np.array(run_one(self.session, self.images.batch))  # copied: an engine may reuse the array
        done = time.perf_counter()
        check_shape(logits, self.work.batch_size, self.work.subject)
        for number, row in zip(numbers, logits):
            path = self.out / name_of(number, self.work.output_format)
            path.write_bytes(encode(row, self.work.output_format))
        self.end_to_end.append(time.perf_counter() - start)
        self.times.append(done - ready)
        self.numbers.append(numbers)
        self.logits.append(logits)

    def run(self, rules: PerfRules) -> None:
        """Runs queries until both minima of `rules` are reached."""
        progress = Progress(max(rules.min_queries, 1), "queries")
        begin = time.perf_counter()
        while len(self.times) < rules.min_queries or time.perf_counter() - begin < rules.min_duration:
            self.query()
            done, seconds = len(self.times), time.perf_counter() - begin
            share = max(min(1.0, seconds / max(rules.min_duration, 1e-9)), 1e-9)  # of the minimum duration
            progress.total = max(rules.min_queries, int(done / share), done + 1)
            progress.update(done)
        progress.total = len(self.times)
        progress.update(len(self.times))


def measure(session: Session, rules: PerfRules, work: Work, out: Path) -> Measured:
    """Measures an engine that runs in this process; writes outputs to the folder `out`."""
    timed, busy = Timed(session, work, out), timing.CpuLoad()
    warmup = timed.warm_up(rules.warmup)
    before = busy.others() or 0.0
    if before > rules.others:
        print(f"  other processes use {100 * before:.0f}% of the CPUs: stop them for a stable measurement")
    busy = timing.CpuLoad()
    timed.run(rules)
    others = busy.others()
    images = work.batch_size * len(timed.times)
    end_to_end = {
        "what": "reading bins, running, writing outputs; one query at a time",
        "throughput_images_per_s": images / sum(timed.end_to_end),
        "latency_ms": timing.latency([1000 * t for t in timed.end_to_end]),
    }
    return Measured(
        times_ms=[1000 * t for t in timed.times],
        images=images,
        numbers=np.concatenate(timed.numbers),
        logits=np.concatenate(timed.logits),
        end_to_end=end_to_end,
        device={},
        warmup=warmup,
        cache=check_for_cache(session, timed.images, work.subject),
        others=others,
        method=METHOD,
        conditions=session.conditions,
    )


def milliseconds(session: Session, batch: NDArray[Any]) -> float:
    begin = time.perf_counter()
    np.array(run_one(session, batch))
    return 1000 * (time.perf_counter() - begin)


def check_for_cache(session: Session, images: Images, subject: object) -> Record:
    """Exits 1 if images of the dataset, which have been run before, or a repeated batch are faster than new images."""
    seen: List[float] = []
    repeated: List[float] = []
    unseen: List[float] = []
    begin = time.perf_counter()
    while len(unseen) < 10 or (time.perf_counter() - begin < 1 and len(unseen) < 200):
        images.read()
        seen.append(milliseconds(session, images.batch))
        fresh = images.unseen(len(unseen))
        unseen.append(milliseconds(session, fresh))
        repeated.append(milliseconds(session, fresh))
    logits = []
    for number in (len(unseen), len(unseen) + 1):
        images.read()
        logits.append(np.array(run_one(session, images.unseen(number))))
    rows = np.concatenate(logits)
    if not np.isfinite(rows).all() or len(np.unique(rows, axis=0)) == 1:
        problem = "for images that it has not run before, its logits are not finite or all the same"
        die(subject, problem, "nothing was written; report it, with the engine's version")
    return {
        "images_of_the_set": timing.check_no_caching(subject, seen, unseen, CACHE),
        "same_batch_again": timing.check_no_caching(subject, repeated, unseen, CACHE),
    }
