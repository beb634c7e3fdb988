"""Interleaved rounds: in each round every contender runs once, alone.

A ratio compares two figures of the same round, which were measured under the same load and clock frequency. A table
shows the median and [min … max] of the rounds.
"""

from __future__ import annotations

from _support.artifact import Record

import statistics
import sys
from typing import Sequence

from benchmark.entries import Entry
from benchmark.processes import Unavailable


def spread(values: Sequence[float]) -> Record:
    """median, min and max."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(above: Sequence[float | None], below: Sequence[float | None]) -> list[float]:
    """The ratios of the rounds in which both ran. Figures of different rounds are never divided."""
    return [a / b for a, b in zip(above, below) if a is not None and b]


def run_rounds(entries: list[Entry], rounds: int, seconds: float) -> None:
    """Runs every entry for `seconds` in every round and adds the result to its laps, None if it failed.

    Each round starts one entry later than the round before, so that no entry is always first.
    """
    for i in range(rounds):
        start = i % max(1, len(entries))
        for entry in entries[start:] + entries[:start]:
            try:
                lap: Record | None = entry.run_for(seconds)
            except Unavailable as reason:
                print(f"  {entry.name}: no figure in round {i + 1}: {reason}", file=sys.stderr)
                lap = None
            entry.laps.append(lap)
        print(f"  round {i + 1} of {rounds}")
