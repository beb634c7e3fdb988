"""Runs an engine in this process over all bins; bins are read and outputs are written in other threads meanwhile."""

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
from typing import Any, Callable, Deque, Generator, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

from engines import Session
from formats.bins import BLOCK, blocks
from formats.outputs import encode, name_of
from network.spec import CLASSES

Run = Callable[[NDArray[Any]], NDArray[Any]]
Wait = Callable[[], NDArray[Any]]
REPORT = "nothing was written; report it, with the engine's version"
AHEAD = 2  # blocks that are read in advance, and blocks that may wait to be written


class OneAtATime:
    """A session that finishes each batch before it takes the next one.

    `run` takes a batch of bins and returns float32 [batch, classes].
    """

    def __init__(self, run: Run, conditions: Record) -> None:
        self.run, self.conditions = run, conditions

    def stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for batch in batches:
            yield self.run(batch)


class Pipeline:
    """A session that splits batches into requests and keeps up to `depth` of them in flight, across batches.

    `start` begins a request of n images, n at most `chunk`, and returns a function that waits for its
    logits, float32 [n, classes]. It is never called with more than `depth` requests that were not waited for, which are
    waited for in order. So an engine is never idle between two batches, and no more than `depth` requests need memory.
    """

    def __init__(self, start: Callable[[NDArray[Any]], Wait], chunk: int, depth: int, conditions: Record) -> None:
        self.start, self.chunk, self.depth, self.conditions = start, chunk, depth, conditions

    def stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        requests: Deque[Tuple[Wait, bool]] = deque()  # and whether it is the last one of its batch
        rows: List[NDArray[Any]] = []

        def finish() -> Iterator[NDArray[Any]]:
            wait, is_last = requests.popleft()
            rows.append(wait())
            if is_last:
                yield np.concatenate(rows)
                rows.clear()

        try:
            for batch in batches:
                for first in range(0, len(batch), self.chunk):
                    if len(requests) == self.depth:
                        yield from finish()
                    end = first + self.chunk
                    requests.append((self.start(batch[first:end]), end >= len(batch)))
            while requests:
                yield from finish()
        finally:
            for wait, _ in requests:  # the caller wants no more logits
                wait()


def run_one(session: Session, batch: NDArray[Any]) -> NDArray[Any]:
    """The logits of one batch, with nothing else in flight."""
    (logits,) = session.stream([batch])
    return logits


class Work(NamedTuple):
    """The bins to run, and the form of the outputs."""

    bins: Path  # manifest.json of the bins
    record: Record  # its contents
    batch_size: int
    output_format: str  # txt, bin or npy
    subject: object  # the model's file, for messages


def read_ahead(items: Iterator[NDArray[Any]], thread: ThreadPoolExecutor) -> Generator[NDArray[Any], None, None]:
    """Yields the same items; up to AHEAD of them are computed in advance by `thread`. Its errors are raised here."""
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
    """Splits `parts`, arrays of images, into batches. All parts but the last have a multiple of `batch_size` images.
    The last batch is padded with its first image."""
    for images in parts:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if len(batch) < batch_size:
                batch = np.concatenate([batch, *[batch[:1]] * (batch_size - len(batch))])
            yield batch


def check_shape(logits: NDArray[Any], batch_size: int, subject: object) -> None:
    """Exits 1 unless logits are float32 [batch_size, classes]."""
    if logits.shape != (batch_size, len(CLASSES)) or logits.dtype != np.float32:
        problem = f"returned {logits.dtype} {list(logits.shape)}, expected float32 {[batch_size, len(CLASSES)]}"
        die(subject, problem, "run make om, report it if it happens again")


class Writer:
    """Writes logits as output files in another thread, in order; computes the sha256 of their bytes."""

    def __init__(self, work: Work, out: Path, thread: ThreadPoolExecutor) -> None:
        self.work, self.out, self.thread = work, out, thread
        self.digest, self.progress = hashlib.sha256(), Progress(work.record["count"], "images")
        self.jobs: Deque[Any] = deque()
        self.rows: List[NDArray[Any]] = []  # not yet passed to the thread
        self.taken = self.submitted = 0  # images

    def write(self, rows: NDArray[Any], first: int) -> int:
        for i, row in enumerate(rows, first):
            data = encode(row, self.work.output_format)
            self.digest.update(data)
            artifact.write_bytes(f"{self.out}/{name_of(i, self.work.output_format)}", data)
        return first + len(rows)

    def add(self, logits: NDArray[Any]) -> None:
        """Takes the logits of the next batch and drops those of the padding."""
        count = self.work.record["count"]
        rows = np.array(logits[: count - self.taken])  # copied: an engine may reuse the array
        self.rows.append(rows)
        self.taken += len(rows)
        if self.taken - self.submitted >= BLOCK or self.taken == count:
            self.submit()

    def submit(self) -> None:
        self.jobs.append(self.thread.submit(self.write, np.concatenate(self.rows), self.submitted))
        self.submitted, self.rows = self.taken, []
        while len(self.jobs) > 1 and (self.jobs[0].done() or len(self.jobs) > AHEAD):
            self.progress.update(self.jobs.popleft().result())

    def close(self) -> str:
        """Waits until the last file is written; returns the digest."""
        for job in self.jobs:
            self.progress.update(job.result())
        return self.digest.hexdigest()


def run_all(session: Session, work: Work, out: Path) -> str:
    """Runs all bins and writes their outputs to the folder `out`; returns the sha256 of the outputs' bytes, in order.

    The engine runs in this thread, on arrays that are not changed later. Exits 1 if logits have another shape or are
    not finite, or if the bins differ from their manifest. Outputs are valid only after it has returned.
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
                    die(work.subject, f"returned more than the {taken // size} batches that it was given", REPORT)
                check_shape(logits, size, work.subject)
                finite = np.isfinite(logits[: work.record["count"] - done]).all(1)
                if not finite.all():
                    for _ in ready:  # if a bin is damaged, this exits with that reason
                        pass
                    problem = f"the logits of image {done + int(np.argmin(finite))} are not finite"
                    die(work.subject, problem, "set optimize.resize: none and try again, then report it")
                writer.add(logits)
                done += size
            if done != taken or done < work.record["count"]:
                die(work.subject, f"returned {done // size} of {-(-work.record['count'] // size)} batches", REPORT)
        return writer.close()
