"""Interleaved rounds: in each round every contender runs once, alone. A ratio compares two figures of the same round,
taken under the same load and clock; a table shows the median and [min … max] of the rounds.
"""

from __future__ import annotations

from _support.artifact import Record

import statistics
import sys
from typing import Sequence

from benchmark.entries import Entry
from benchmark.processes import Absent


def spread(values: Sequence[float]) -> Record:
    """median, min and max."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(above: Sequence[float | None], below: Sequence[float | None]) -> list[float]:
    """The ratio of each round in which both ran. Figures of different rounds are never divided."""
    return [a / b for a, b in zip(above, below) if a is not None and b]


def run_rounds(entries: list[Entry], rounds: int, seconds: float) -> None:
    """Adds a lap of so many seconds to every entry in every round, None where it failed. The first entry of a round is
    the second one of the round before."""
    for i in range(rounds):
        start = i % max(1, len(entries))
        for entry in entries[start:] + entries[:start]:
            try:
                lap: Record | None = entry.lap(seconds)
            except Absent as reason:
                print(f"  {entry.name}: no figure in round {i + 1}: {reason}", file=sys.stderr)
                lap = None
            entry.laps.append(lap)
        print(f"  round {i + 1} of {rounds}", flush=True)
