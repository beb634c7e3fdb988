"""What is said of a list of times: percentiles, drift, spread, a verdict. Python 3.7.

Words and rules are MLPerf Inference's: a timed warm-up, a minimum duration and a minimum number of queries, a query
being one batch; its TEST04 (no caching) in small.
"""

from __future__ import annotations

from _build import Record, die

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray


class Measured(NamedTuple):
    """What an engine's measurement found."""

    times_ms: List[float]  # of each query, inside the engine, in order
    images: int  # answered in them, no padding
    numbers: NDArray[Any]  # int [n], of the images whose answers were kept
    answers: NDArray[Any]  # float [n, 10], theirs
    end_to_end: Record  # what, throughput_images_per_s and more
    device: Record  # more of the device than its times: name, copies
    warmup: Record  # seconds, queries
    cache: Record  # medians of the check for one, see must_not_cache()
    others: float | None  # share of the device, 0 to 1, that others kept busy; None: not known
    method: str  # one sentence
    conditions: Record  # for the provenance


def latency(times_ms: Sequence[float]) -> Dict[str, float]:
    """mean, min, max and the percentiles 50, 90 and 99, in ms; linear between two times, as numpy and ais_bench."""
    p50, p90, p99 = np.percentile(times_ms, [50, 90, 99])
    found = {"mean": np.mean(times_ms), "min": np.min(times_ms), "max": np.max(times_ms)}
    return {name: float(value) for name, value in {**found, "p50": p50, "p90": p90, "p99": p99}.items()}


def stability(times_ms: Sequence[float], others: float | None, limits: Dict[str, float]) -> Record:
    """drift: how much slower the last third is than the first, by medians; spread: (p90 - p10) / p50; others as given;
    why: one sentence for each that is past its limit, so none for a stable run."""
    third = max(1, len(times_ms) // 3)
    first, last = np.median(times_ms[:third]), np.median(times_ms[-third:])
    p10, p50, p90 = np.percentile(times_ms, [10, 50, 90])
    found: Record = {"drift": float(last / first - 1), "spread": float((p90 - p10) / p50), "others": others}
    why = []
    if not abs(found["drift"]) <= limits["drift"]:  # so that NaN is not stable either
        why.append(f"the last third's times are {100 * found['drift']:+.1f}% off the first's")
    if not found["spread"] <= limits["spread"]:
        why.append(f"the times spread over {100 * found['spread']:.1f}% of their median")
    if others is not None and others > limits["others"]:
        why.append(f"others kept {100 * others:.0f}% of the device busy")
    return {**found, "limits": limits, "why": why}


def must_not_cache(subject: object, seen: Sequence[float], new: Sequence[float], factor: float) -> Record:
    """The medians, in ms, of the same work on inputs that were seen before and on new ones, pair by pair; exits 1 if
    in four pairs of five the new one takes over `factor` times as long (MLPerf's TEST04; four of five, since times
    jitter), or by the medians twice that, and 0.05 ms longer, below which it is the call's own cost."""
    pairs = np.array([seen, new])
    medians = {"seen_ms": float(np.median(pairs[0])), "new_ms": float(np.median(pairs[1])), "pairs": pairs.shape[1]}
    suspicious = np.mean(pairs[1] > factor * pairs[0]) >= 0.8 or medians["new_ms"] > 2 * factor * medians["seen_ms"]
    if suspicious and np.median(pairs[1] - pairs[0]) > 0.05:
        took = f"{medians['seen_ms']:.2f} ms, new ones {medians['new_ms']:.2f} ms"
        what = f"the engine seems to answer from a cache: inputs that it had seen before took it {took}"
        die(subject, what, "nothing was written; turn its cache off")
    return medians


class Busy:
    """How busy others keep the CPUs that this process may use, by /proc/stat."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self.stat = stat
        self.begin = self.now()

    def now(self) -> List[float]:
        """[CPU seconds of all, of this process and its children, of idleness], or nothing where it is not known."""
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
        """The share of those CPUs' time, 0 to 1, that others have used since the begin."""
        now = self.now()
        if not self.begin or not now:
            return None
        busy, ours, idle = (after - before for before, after in zip(self.begin, now))
        return min(1.0, max(0.0, busy - ours) / max(busy + idle, 1e-9))
