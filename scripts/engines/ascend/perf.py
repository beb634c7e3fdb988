"""Ascend NPU: the times of a measurement, by ais_bench. Python 3.7."""

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
from engines.ascend.ais_bench import Run, Session, busy, copied
from formats.outputs import decode
from reporting import timing

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


class Timed:
    """Full batches, run and timed by ais_bench in a session; keeps times, numbers and outputs."""

    def __init__(self, session: Session, images: Path, batches: Iterator[NDArray[Any]]) -> None:
        self.session, self.images, self.batches = session, images, batches
        self.times: List[float] = []  # ms, on the device
        self.numbers: List[int] = []
        self.answers: List[NDArray[Any]] = []
        self.summaries: List[Record] = []
        self.seconds: List[float] = []  # of whole processes

    def run(self, queries: int, name: str, flags: Sequence[str] = (), loop: int = 1) -> List[float]:
        """ais_bench's times, in ms, of `queries` full batches. The files are linked anew for each run, so that it
        reads as many as it is to time."""
        session, output_format = self.session, self.session.request.output_format
        numbers = [int(number) for _ in range(queries) for number in next(self.batches)]
        folder = linked(self.images, numbers, session.work / f"bins-{name}")
        begin = time.monotonic()
        outputs, summary = session.run(Run(name, folder, len(numbers), flags, loop))
        self.seconds.append(time.monotonic() - begin)
        self.numbers.extend(numbers)
        self.answers.extend(decode(path, path.read_bytes(), output_format) for path in outputs)
        self.summaries.append(summary)
        remove(folder)
        remove(session.work / name)
        return [float(ms) for ms in summary["npu_compute_time_list"]]

    def trial(self, queries: int) -> Tuple[float, Record]:
        """(the usual time of a query in ms, the check for a cache) of a short run, each batch being run LOOP times."""
        times = self.run(queries, "trial", (), LOOP)
        firsts, again = times[::LOOP], times[LOOP - 1 :: LOOP]
        cache = {"same_batch_again": timing.check_no_caching(self.session.request.model, again, firsts, CACHE)}
        self.seconds.clear()
        self.summaries.clear()
        return max(float(np.median(firsts)), 1e-3), cache

    def run_for(self, rules: PerfRules, usual: float, warmups: int) -> None:
        """Runs until both minima of `rules` are reached; `usual` is the time of a query in ms."""
        while len(self.times) < rules.min_queries or sum(self.times) < 1000 * rules.min_duration:
            left_ms = 1.1 * (1000 * rules.min_duration - sum(self.times))
            missing = max(rules.min_queries - len(self.times), math.ceil(left_ms / usual))
            queries = max(1, min(missing, FILES // self.session.size))
            self.times += self.run(queries, f"run{len(self.seconds)}", ["--warmup_count", str(warmups)])
            usual = float(np.mean(self.times))

    def device(self) -> Tuple[Record, str]:
        """(the device's name and copies, how its times were taken)."""
        device: Record = {"name": self.session.conditions["device"]}
        device["h2d_ms"] = merged(self.summaries, "H2D_latency")
        device["d2h_ms"] = merged(self.summaries, "D2H_latency")
        if not self.session.newer:
            return device, METHOD
        # The newer generation keeps the begin and the end of a time as float32 ms since loading.
        device["resolution_ms"] = float(np.spacing(np.float32(1000 * max(self.seconds))))
        return device, f"{METHOD}; a time is exact to {device['resolution_ms']:.4f} ms"


def measure(request: RunRequest, rules: PerfRules, batches: Iterator[NDArray[Any]]) -> timing.Measured:
    """The times of full batches of the bins, `batches` being their numbers, int [batch_size]. A first short run tells
    how many queries are needed and whether the engine answers from a cache. Exits 1 on any failure."""
    session = Session(request)
    if len(session.numbers) > 1:
        die(f"DEVICE={request.devices}", "one device is measured at a time", "give DEVICE= one number")
    with session.opened():
        others = busy(session.numbers[0])  # not by our own runs: this one holds the device
        if (others or 0) > rules.others:
            shown = f"{100 * (others or 0):.0f}%"
            print(f"  npu-smi shows the device {shown} busy before it began: npu-smi info tells more")
        timed = Timed(session, session.readable(request.bins, request.images), batches)
        usual, cache = timed.trial(max(10, min(20, rules.min_queries)))
        warmups = max(1, min(10000, math.ceil(1000 * rules.warmup / usual)))
        timed.run_for(rules, usual, warmups)
    images = session.size * len(timed.times)
    device, method = timed.device()
    end_to_end = {
        "what": "ais_bench's whole process, loading and warm-up included, files to files",
        "throughput_images_per_s": images / sum(timed.seconds),
        "runs": len(timed.seconds),
    }
    return timing.Measured(
        times_ms=timed.times,
        images=images,
        numbers=np.array(timed.numbers),
        logits=np.array(timed.answers),
        end_to_end=end_to_end,
        device=device,
        warmup={"seconds": warmups * usual / 1000, "queries": warmups},
        cache=cache,
        others=others,
        method=method,
        conditions=dict(session.conditions),
    )
