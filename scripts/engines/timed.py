"""Measures an engine that runs in this process, in two scenarios, and checks that it does not cache.

Python 3.7.
"""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import die
from _support.progress import Progress

import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from numpy.typing import NDArray

from engines import PerfRules, Session
from engines.feed import REPORT, Work, check_shape, run_one
from formats.bins import form_of, read_bin, read_bins
from formats.outputs import encode, name_of
from reporting import timing
from reporting.timing import Measured, Run

SEED = 20260601  # of the order of the images
CACHE = 1.25  # limit of time of new inputs / time of repeated ones; MLPerf's TEST04 allows 1.1, with longer runs
GOLDEN = (5**0.5 - 1) / 2
POOL = 10000  # images in memory in scenario Offline: the number of test images of CIFAR-10
METHOD = (
    "inputs in memory. SingleStream: time inside the engine's call, one batch after the other. Offline: the engine "
    "gets the next batch as soon as its queue has room; images/s = images / time until the last one ends"
)


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
        self.batch = form_of(work.record).empty(work.batch_size)

    def read(self) -> NDArray[Any]:
        """Reads the next images into `batch`, [batch_size, *shape of a bin]; returns their numbers."""
        numbers = next(self.numbers)
        for image, number in zip(self.batch, numbers):
            read_bin(f"{self.bins.parent}/image_{number}.bin", image)
        return numbers

    def unseen(self, number: int) -> NDArray[Any]:
        """New images from those in `batch`: mirrored, and darker by a factor that differs for each `number`. Adjacent
        factors differ clearly: multiples of the golden ratio, modulo 1, are spread evenly."""
        changed: NDArray[Any] = self.batch[:, :, ::-1] * np.float32(0.5 + 0.499 * ((number + 1) * GOLDEN % 1))
        return np.ascontiguousarray(changed.astype(self.batch.dtype))


class Pool:
    """Batches of real images in memory, without end. Of a large set, POOL images that are spread evenly over it."""

    def __init__(self, work: Work) -> None:
        count = work.record["count"]
        self.numbers = np.linspace(0, count - 1, min(count, POOL)).astype(int)
        self.images = read_bins(work.bins, work.record, self.numbers)
        self.places = batch_numbers(len(self.numbers), work.batch_size)

    def batch(self) -> Tuple[NDArray[Any], NDArray[Any]]:
        """The numbers of the next images, int [batch_size], and the images, [batch_size, *shape of a bin]."""
        places = next(self.places)
        return self.numbers[places], self.images[places]


def warm_up(session: Session, pool: Pool, seconds: float) -> Record:
    """Runs at least two queries, for at least `seconds`, with the queue kept full."""
    begin, queries = time.perf_counter(), 0

    def batches() -> Iterator[NDArray[Any]]:
        nonlocal queries
        while queries < 2 or time.perf_counter() - begin < seconds:
            queries += 1
            yield pool.batch()[1]

    for _ in session.stream(batches()):
        pass
    return {"seconds": time.perf_counter() - begin, "queries": queries}


class Clock:
    """The time since the start of a scenario, and its progress."""

    def __init__(self, rules: PerfRules, scenario: str) -> None:
        self.rules, self.progress = rules, Progress(max(rules.min_queries, 1), f"queries, {scenario}")
        self.load, self.begin = timing.CpuLoad(), time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self.begin

    def is_over(self, queries: int) -> bool:
        """Whether both minima of the rules are reached."""
        return queries >= self.rules.min_queries and self.seconds() >= self.rules.min_duration

    def update(self, done: int, last: bool = False) -> None:
        share = max(min(1.0, self.seconds() / max(self.rules.min_duration, 1e-9)), 1e-9)  # of the minimum duration
        self.progress.total = done if last else max(self.rules.min_queries, int(done / share), done + 1)
        self.progress.update(done)


def single_stream(session: Session, rules: PerfRules, work: Work, images: Images, out: Path) -> Tuple[Run, List[float]]:
    """Runs queries one after the other; reads each from its bins and writes its outputs to `out`.

    Returns (the run, s of each query from reading its bins to writing its outputs).
    """
    times: List[float] = []
    end_to_end: List[float] = []
    numbers: List[NDArray[Any]] = []
    logits: List[NDArray[Any]] = []
    clock = Clock(rules, timing.SINGLE_STREAM)
    while not clock.is_over(len(times)):
        start = time.perf_counter()
        numbers.append(images.read())
        ready = time.perf_counter()
        rows = np.array(run_one(session, images.batch))  # copied: an engine may reuse the array
        done = time.perf_counter()
        check_shape(rows, work.batch_size, work.subject)
        for number, row in zip(numbers[-1], rows):
            path = out / name_of(number, work.output_format)
            path.write_bytes(encode(row, work.output_format))
        end_to_end.append(time.perf_counter() - start)
        times.append(1000 * (done - ready))
        logits.append(rows)
        clock.update(len(times))
    clock.update(len(times), last=True)
    return run_of(timing.ONE, session, times, numbers, logits, clock), end_to_end


def offline(session: Session, rules: PerfRules, work: Work, pool: Pool) -> Run:
    """Keeps the queue of the engine full until the minima of `rules` are reached, and waits for the last query."""
    times: List[float] = []
    numbers: List[NDArray[Any]] = []
    logits: List[NDArray[Any]] = []
    clock = Clock(rules, timing.OFFLINE)

    def batches() -> Iterator[NDArray[Any]]:
        while not clock.is_over(len(numbers)):
            chosen, images = pool.batch()
            numbers.append(chosen)
            yield images

    last = 0.0
    for answer in session.stream(batches()):
        rows = np.array(answer)  # copied: an engine may reuse the array
        check_shape(rows, work.batch_size, work.subject)
        now = clock.seconds()
        times.append(1000 * (now - last))
        last = now
        logits.append(rows)
        clock.update(len(times))
    clock.update(len(times), last=True)
    if len(times) != len(numbers):
        die(work.subject, f"returned {len(times)} of {len(numbers)} batches", REPORT)
    return run_of(timing.FULL, session, times, numbers, logits, clock)


def run_of(
    queue: str,
    session: Session,
    times_ms: List[float],
    numbers: List[NDArray[Any]],
    logits: List[NDArray[Any]],
    clock: Clock,
) -> Run:
    images = np.concatenate(numbers)
    choice = {name: session.conditions[name] for name in timing.CHOICE if name in session.conditions}
    return Run(queue, times_ms, len(images), images, np.concatenate(logits), clock.load.others(), choice)


def measure(sessions: Dict[str, Session], rules: PerfRules, work: Work, out: Path) -> Measured:
    """Measures an engine that runs in this process; writes outputs to the folder `out`. `sessions` has the one of each
    scenario, which may be the same."""
    images, pool, busy = Images(work), Pool(work), timing.CpuLoad()
    one, full = sessions[timing.SINGLE_STREAM], sessions[timing.OFFLINE]
    warmups = [warm_up(session, pool, rules.warmup) for session in ([one] if one is full else [one, full])]
    before = busy.others() or 0.0
    if before > rules.others:
        print(f"  other processes use {100 * before:.0f}% of the CPUs: stop them for a stable measurement")
    single, seconds = single_stream(one, rules, work, images, out)
    end_to_end = {
        "what": "reading bins, running, writing outputs; one query at a time",
        "throughput_images_per_s": single.images / sum(seconds),
        "latency_ms": timing.latency([1000 * t for t in seconds]),
    }
    return Measured(
        single_stream=single,
        offline=offline(full, rules, work, pool),
        end_to_end=end_to_end,
        device={},
        warmup={name: sum(part[name] for part in warmups) for name in ("seconds", "queries")},
        cache=check_for_cache(one, images, work.subject),
        method=METHOD,
        conditions=full.conditions,
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
