"""Feeds an engine that runs in this process: bins are read, and outputs written, while it runs."""

from __future__ import annotations

from _support import artifact
from _support.artifact import Record
from _support.cli import die
from _support.progress import Progress

import contextlib
import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Generator, Iterable, Iterator, List, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import Session
from formats.bins import BLOCK, blocks
from formats.outputs import encode, name_of
from network.spec import CLASSES

Run = Callable[[NDArray[Any]], NDArray[Any]]
REPORT = "nothing was written; report it, with the engine's version"
AHEAD = 2  # blocks that are read before they are asked for, and that may wait to be written


class OneAtATime:
    """A session that answers each batch before it takes the next one.

    `run` takes float32 [batch, *IMAGE_SHAPE] and returns float32 [batch, classes].
    """

    def __init__(self, run: Run, conditions: Record) -> None:
        self.run, self.conditions = run, conditions

    def stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for batch in batches:
            yield self.run(batch)


def run_one(session: Session, batch: NDArray[Any]) -> NDArray[Any]:
    """The logits of one batch, with nothing else in flight."""
    (logits,) = session.stream([batch])
    return logits


class Work(NamedTuple):
    """What is to be answered, and where the answers go."""

    bins: Path  # their manifest.json
    record: Record  # its contents
    batch_size: int
    output_format: str  # txt, bin or npy
    subject: object  # what messages name: the model's file


def read_ahead(items: Iterator[NDArray[Any]], thread: ThreadPoolExecutor) -> Generator[NDArray[Any], None, None]:
    """The same items, AHEAD of them made in `thread` before they are asked for; its errors are raised here."""
    jobs = deque(thread.submit(next, items, None) for _ in range(AHEAD))
    try:
        while True:
            item = jobs.popleft().result()
            if item is None:
                return
            jobs.append(thread.submit(next, items, None))
            yield item
    finally:
        for job in jobs:
            job.cancel()


def batches_of(parts: Iterable[NDArray[Any]], batch_size: int) -> Iterator[NDArray[Any]]:
    """Whole batches of images that come in parts of a multiple of `batch_size`. The last batch is padded with its
    first image."""
    for images in parts:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if len(batch) < batch_size:
                batch = np.concatenate([batch, *[batch[:1]] * (batch_size - len(batch))])
            yield batch


def check_shape(logits: NDArray[Any], batch_size: int, subject: object) -> None:
    """Exits 1 unless logits are float32 [batch_size, classes]."""
    if logits.shape != (batch_size, len(CLASSES)) or logits.dtype != np.float32:
        problem = f"answered {logits.dtype} {list(logits.shape)}"
        die(subject, problem, "type: make om, and report it if it stays")


class Writer:
    """Writes logits as output files in a thread of its own, in order; knows the sha256 of their bytes."""

    def __init__(self, work: Work, out: Path, thread: ThreadPoolExecutor) -> None:
        self.work, self.out, self.thread = work, out, thread
        self.digest, self.progress = hashlib.sha256(), Progress(work.record["count"], "images")
        self.jobs: Deque[Any] = deque()
        self.rows: List[NDArray[Any]] = []  # taken, and not yet given to the thread
        self.taken = self.given = 0  # images

    def write(self, rows: NDArray[Any], first: int) -> int:
        for i, row in enumerate(rows, first):
            data = encode(row, self.work.output_format)
            self.digest.update(data)
            artifact.write_bytes(f"{self.out}/{name_of(i, self.work.output_format)}", data)
        return first + len(rows)

    def add(self, logits: NDArray[Any]) -> None:
        """Takes the logits of the next batch, and drops those of the padding."""
        count = self.work.record["count"]
        rows = np.array(logits[: count - self.taken])  # copied: the next logits may come in the same place
        self.rows.append(rows)
        self.taken += len(rows)
        if self.taken - self.given >= BLOCK or self.taken == count:
            self.submit()

    def submit(self) -> None:
        self.jobs.append(self.thread.submit(self.write, np.concatenate(self.rows), self.given))
        self.given, self.rows = self.taken, []
        while len(self.jobs) > 1 and (self.jobs[0].done() or len(self.jobs) > AHEAD):
            self.progress.update(self.jobs.popleft().result())

    def close(self) -> str:
        """Waits for the last file; the digest."""
        for job in self.jobs:
            self.progress.update(job.result())
        return self.digest.hexdigest()


def answer_all(session: Session, work: Work, out: Path) -> str:
    """Fills the folder `out` with the outputs of all bins; returns the sha256 of their bytes, in order.

    The engine runs in this thread, on arrays that nobody changes. Exits 1 on logits of another shape or not finite,
    and if the bins are not those of their manifest: no output counts before this returns.
    """
    size, done, taken = work.batch_size, 0, 0

    def counted(batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        nonlocal taken
        for batch in batches:
            taken += size
            yield batch

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as thread:
        writer = Writer(work, out, thread)
        parts = blocks(work.bins, work.record, size * max(1, BLOCK // size))
        with contextlib.closing(read_ahead(parts, reader)) as ready:
            for logits in session.stream(counted(batches_of(ready, size))):
                if done >= taken:
                    die(work.subject, f"answered more than the {taken // size} batches that it took", REPORT)
                check_shape(logits, size, work.subject)
                finite = np.isfinite(logits[: work.record["count"] - done]).all(1)
                if not finite.all():
                    for _ in ready:  # if the bins are wrong, that is the reason to show
                        pass
                    problem = f"the answer to image {done + int(np.argmin(finite))} is not finite"
                    die(work.subject, problem, "try optimize.resize: none, then report it")
                writer.add(logits)
                done += size
            if done != taken or done < work.record["count"]:
                die(work.subject, f"answered {done // size} batches of {-(-work.record['count'] // size)}", REPORT)
        return writer.close()
