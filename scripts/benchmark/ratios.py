"""The figures of a bench: ratios of two series round by round, their wanted values, and their upper bounds.

A series is a list with a value for each round, or None if it is missing: images/s of a contender, or seconds of a whole
process. bench.pairs in params.yaml lists the contenders to compare.
"""

from __future__ import annotations

from _support.artifact import Record

import statistics
from typing import Mapping, NamedTuple, Sequence

from benchmark.others import NOTES
from benchmark.rounds import ratios, spread
from params.schema import PAIR

TIME_AT_CEILING = "the ceiling alone: bins to accuracy"  # s for all images at the speed of the matrix product
Series = Mapping[str, Sequence[float | None]]


class Figure(NamedTuple):
    """The ratio of two series, or a single series, and the wanted value of its median."""

    name: str
    above: str
    below: str = ""
    wanted: float | None = None  # minimum of the median
    ceiling: str = ""  # a series that `above` cannot exceed; TIME_AT_CEILING: one that `below` cannot be less than
    at_most: bool = False  # whether `wanted` is a maximum instead


def figure_of(pair: str) -> Figure:
    """The figure that an item of bench.pairs describes; raises ValueError if it is malformed."""
    match = PAIR.fullmatch(pair)
    if not match:
        raise ValueError(pair)
    above, below = match["above"], match["below"]
    note = f" ({NOTES[below]})" if NOTES.get(below) else ""
    wanted = float(match["wanted"]) if match["wanted"] else None
    return Figure(f"{above} / {below}{note}", above, below, wanted, match["ceiling"] or "")


def values_of(figure: Figure, series: Series) -> list[float]:
    """The value of the figure in each round."""
    above = series.get(figure.above, [])
    return ratios(above, series.get(figure.below, [])) if figure.below else [v for v in above if v is not None]


def bounds_of(figure: Figure, series: Series) -> list[float]:
    """The value that the figure of each round would have at the ceiling."""
    if figure.ceiling == TIME_AT_CEILING:
        return ratios(series.get(figure.above, []), series[figure.ceiling])
    return ratios(series[figure.ceiling], series.get(figure.below, []))


def judge(figure: Figure, series: Series, reasons: Mapping[str, str]) -> Record:
    """The record of a figure with its spread and a verdict. `reasons` say why a series is missing or excluded."""
    values = values_of(figure, series)
    result: Record = {**figure._asdict(), "ratios": values, **(spread(values) if values else {})}
    if figure.ceiling in series and values:
        bounds = bounds_of(figure, series)
        result.update(bounds=bounds, bound=statistics.median(bounds) if bounds else None)
    doubts = [f"{name}: {reasons[name]}" for name in (figure.above, figure.below) if name in reasons]
    if doubts or not values:
        return {**result, "counts": False, "verdict": "; ".join(doubts) or "not measured"}
    if figure.wanted is None:
        return {**result, "counts": True, "verdict": ""}
    median = result["median"]
    reached = median <= figure.wanted if figure.at_most else median >= figure.wanted
    return {**result, "counts": True, "verdict": "reached" if reached else "not reached"}


def judge_all(figures: Sequence[Figure], series: Series, reasons: Mapping[str, str]) -> list[Record]:
    """The records of the figures whose series were all measured, or have a reason why not."""
    known = {*series, *reasons, ""}
    return [judge(figure, series, reasons) for figure in figures if {figure.above, figure.below} <= known]
