"""The figures of a bench: ratios of two series round by round, what is wanted of them, and what bounds them.

A series is a list with a figure for each round, None where it is missing: images/s of a contender, seconds of a whole
process. Which contenders are compared stands in params.yaml, bench.pairs.
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
    """The ratio of two series, or one series by itself, and what is wanted of its median."""

    name: str
    above: str
    below: str = ""
    wanted: float | None = None  # at least so much
    ceiling: str = ""  # a series that `above` cannot exceed; TIME_AT_CEILING: one that `below` cannot fall short of
    at_most: bool = False  # `wanted` is at most so much


def figure_of(pair: str) -> Figure:
    """The figure of a word of bench.pairs; raises ValueError if it is malformed."""
    match = PAIR.fullmatch(pair)
    if not match:
        raise ValueError(pair)
    above, below = match["above"], match["below"]
    note = f" ({NOTES[below]})" if NOTES.get(below) else ""
    wanted = float(match["wanted"]) if match["wanted"] else None
    return Figure(f"{above} / {below}{note}", above, below, wanted, match["ceiling"] or "")


def values_of(figure: Figure, series: Series) -> list[float]:
    """The figure of each round."""
    above = series.get(figure.above, [])
    return ratios(above, series.get(figure.below, [])) if figure.below else [v for v in above if v is not None]


def bounds_of(figure: Figure, series: Series) -> list[float]:
    """What the figure of each round would be at the ceiling."""
    if figure.ceiling == TIME_AT_CEILING:
        return ratios(series.get(figure.above, []), series[figure.ceiling])
    return ratios(series[figure.ceiling], series.get(figure.below, []))


def judge(figure: Figure, series: Series, reasons: Mapping[str, str]) -> Record:
    """The figure with its spread and a verdict. `reasons` say why a series is missing or does not count."""
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
    """The figures of whose series each was measured or has a reason why not."""
    known = {*series, *reasons, ""}
    return [judge(figure, series, reasons) for figure in figures if {figure.above, figure.below} <= known]
