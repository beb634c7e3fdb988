"""Statistics of the times of a measurement: percentiles, drift, spread, stability, caching. Python 3.7.

Terms and rules follow MLPerf Inference. A query is one batch. After a timed warm-up a run lasts a minimum duration and
a minimum number of queries. It is measured in two scenarios: SingleStream with one query in flight, for the latency,
and Offline with the queue of the engine kept full, for the throughput. check_no_caching() is a small version of TEST04.
"""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import die

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

SINGLE_STREAM, OFFLINE = "SingleStream", "Offline"
SCENARIOS = (SINGLE_STREAM, OFFLINE)
ONE, FULL = "one batch in flight", "queue kept full"  # of the engine, during a scenario
CHOICE = {"streams": "streams", "images_a_request": "images a request"}  # conditions that may differ by scenario
WINDOWS = 30  # of a run in scenario Offline, for its drift and spread


class Run(NamedTuple):
    """The queries of one scenario."""

    queue: str  # ONE or FULL
    times_ms: List[float]  # of each query inside the engine, in order; FULL: between the ends of two queries
    images: int  # processed in these queries, without padding
    numbers: NDArray[Any]  # int [n], the numbers of the images that were run
    logits: NDArray[Any]  # float [n, classes], of these images
    others: float | None  # load of the device by other processes, 0 to 1; None: unknown
    choice: Record = {}  # how batches were shared out, with the names in CHOICE; never changed

    def throughput(self) -> float:
        """Images/s."""
        return images_per_s(self.images, self.times_ms)


class Measured(NamedTuple):
    """The result of an engine's measurement."""

    single_stream: Run
    offline: Run  # the same as `single_stream` if the engine cannot keep more than one query in flight
    end_to_end: Record  # what, throughput_images_per_s and more
    device: Record  # name, and other facts about the device that are not times
    warmup: Record  # seconds, queries
    cache: Record  # the medians of check_no_caching()
    method: str  # how it was timed, one sentence
    conditions: Record  # for the provenance

    def runs(self) -> Dict[str, Run]:
        """The run of each scenario."""
        return {SINGLE_STREAM: self.single_stream, OFFLINE: self.offline}


def images_per_s(images: int, times_ms: Sequence[float]) -> float:
    """The throughput of queries with `images` images in all."""
    return 1000 * images / sum(times_ms)


def windows(times_ms: Sequence[float]) -> List[float]:
    """The mean time of a query in each of up to WINDOWS parts of a run, of equally many queries or one more.

    With a full queue, queries end in bursts, so the time between the ends of two of them says nothing about the speed.
    """
    parts = np.array_split(np.array(times_ms), min(WINDOWS, len(times_ms)))
    return [float(np.mean(part)) for part in parts]


def scenario_record(scenario: str, times_ms: Sequence[float], images: int) -> Record:
    """The figures of a scenario that follow from its times: throughput, number of queries, latency_ms."""
    record: Record = {"queries": len(times_ms), "images": images}
    record["throughput_images_per_s"] = images_per_s(images, times_ms)
    return {**record, "latency_ms": latency(times_ms)} if scenario == SINGLE_STREAM else record


def scenario_stability(
    scenario: str, times_ms: Sequence[float], others: float | None, limits: Dict[str, float]
) -> Record:
    """stability() of a scenario."""
    return stability(windows(times_ms) if scenario == OFFLINE else times_ms, others, limits)


def scenario_text(perf: Record, name: str) -> str:
    """A scenario of perf.json and how it was run, for tables: also how batches were shared out, if the conditions say
    something else."""
    scenario, conditions = perf["scenarios"][name], perf["provenance"]
    own = {key: scenario[key] for key in CHOICE if key in scenario and scenario[key] != conditions.get(key)}
    return ", ".join([name, scenario["queue"], *(f"{CHOICE[key]} {value}" for key, value in own.items())])


def reasons_of(scenarios: Record) -> List[str]:
    """Why a measurement is not stable, from its scenarios in perf.json; empty if it is."""
    return [f"{name}: {why}" for name in SCENARIOS for why in scenarios[name]["stability"]["why"]]


def latency(times_ms: Sequence[float]) -> Dict[str, float]:
    """mean, min, max and the percentiles 50, 90 and 99, in ms; interpolated linearly, as by numpy and ais_bench."""
    p50, p90, p99 = np.percentile(times_ms, [50, 90, 99])
    statistics = {"mean": np.mean(times_ms), "min": np.min(times_ms), "max": np.max(times_ms)}
    return {name: float(value) for name, value in {**statistics, "p50": p50, "p90": p90, "p99": p99}.items()}


def stability(times_ms: Sequence[float], others: float | None, limits: Dict[str, float]) -> Record:
    """The record {drift, spread, others, limits, why}; `why` has a text for each value above its limit.

    drift: median of the last third / median of the first third - 1. spread: (p90 - p10) / p50. others: load from other
    processes, 0 to 1, or None. A run is stable if `why` is empty.
    """
    third = max(1, len(times_ms) // 3)
    first, last = np.median(times_ms[:third]), np.median(times_ms[-third:])
    p10, p50, p90 = np.percentile(times_ms, [10, 50, 90])
    summary: Record = {"drift": float(last / first - 1), "spread": float((p90 - p10) / p50), "others": others}
    why = []
    if not abs(summary["drift"]) <= limits["drift"]:  # so that NaN is not stable either
        why.append(f"drift {100 * summary['drift']:+.1f}% (limit {100 * limits['drift']:g}%)")
    if not summary["spread"] <= limits["spread"]:
        why.append(f"spread {100 * summary['spread']:.1f}% (limit {100 * limits['spread']:g}%)")
    if others is not None and others > limits["others"]:
        why.append(f"load from other processes {100 * others:.0f}% (limit {100 * limits['others']:g}%)")
    return {**summary, "limits": limits, "why": why}


def check_no_caching(subject: object, seen: Sequence[float], new: Sequence[float], factor: float) -> Record:
    """The median times, in ms, of the same work on repeated (`seen`) and on new inputs, measured in pairs.

    Exits 1 if the engine seems to cache results (MLPerf's TEST04): new inputs are slower than repeated ones by `factor`
    in 80 % of the pairs, or by 2 x `factor` in the median, and by at least 0.05 ms in the median. Below 0.05 ms the
    overhead of a call dominates.
    """
    pairs = np.array([seen, new])
    medians = {"seen_ms": float(np.median(pairs[0])), "new_ms": float(np.median(pairs[1])), "pairs": pairs.shape[1]}
    suspicious = np.mean(pairs[1] > factor * pairs[0]) >= 0.8 or medians["new_ms"] > 2 * factor * medians["seen_ms"]
    if suspicious and np.median(pairs[1] - pairs[0]) > 0.05:
        took = f"{medians['seen_ms']:.2f} ms, new ones {medians['new_ms']:.2f} ms"
        problem = f"the engine seems to return cached results: repeated inputs took {took}"
        die(subject, problem, "nothing was written; turn the engine's result cache off")
    return medians


class CpuLoad:
    """Measures the load from other processes on the CPUs of this process's affinity, from /proc/stat (man 5 proc)."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.stat = stat
        self.begin = self.now()

    def now(self) -> List[float]:
        """CPU seconds [of all processes, of this one and its children, idle]; empty if /proc/stat cannot be read."""
        try:
            cpus = os.sched_getaffinity(0)
            lines = self.stat.read_text().splitlines()
            rows = [line.split() for line in lines if line[:3] == "cpu" and line[3].isdigit()]
            ticks = np.array([[int(word) for word in row[1:9]] for row in rows if int(row[0][3:]) in cpus])
            tick = os.sysconf("SC_CLK_TCK")
            idle = ticks[:, 3:5].sum() / tick  # idle and iowait
            return [float(ticks.sum() / tick - idle), sum(os.times()[:4]), float(idle)]
        except (OSError, ValueError, IndexError):
            return []

    def others(self) -> float | None:
        """The share of CPU time, 0 to 1, that other processes used since this object was created; None: unknown."""
        now = self.now()
        if not self.begin or not now:
            return None
        busy, own, idle = (after - before for before, after in zip(self.begin, now))
        return min(1.0, max(0.0, busy - own) / max(busy + idle, 1e-9))
