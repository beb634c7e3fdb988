"""Draws curves over the batch size as SVG without scripts; colours and dashes come from the page's style sheet.

The batch size is on a log2 axis. Values are on a linear axis from 0, or on a logarithmic one if they span more than a
factor of 20. Measured and published curves differ in class and dash. A hollow marker is a result that is not stable.
"""

from __future__ import annotations

import math
from html import escape
from itertools import count
from typing import FrozenSet, Iterator, List, NamedTuple, Tuple

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 466, 26, 256  # the area between the axes
MARGIN = 16  # between the area's sides and the first and last batch size
LABEL_WIDTH = 20  # minimum distance between two labels of the batch size axis
MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-4-4H4V4H-4z", "M0-5.5L5.5 0L0 5.5L-5.5 0z", "M0-5L5 4H-5z")


class Curve(NamedTuple):
    """A curve with points (batch size, value, end of the whisker), smallest batch size first.

    A point without a whisker repeats its value.
    """

    label: str
    points: List[Tuple[int, float, float]]
    quoted: bool = False
    best: int = 0  # the batch size to mark, if any
    unstable: FrozenSet[int] = frozenset()  # the batch sizes whose markers are hollow

    def css(self, i: int) -> str:
        """The CSS classes of the i-th curve of its kind."""
        return "curve quoted" if self.quoted else f"curve c{i % 6}"


def steps(low: float, high: float, log: bool) -> list[float]:
    """Round values for an axis; the first is at most `low` (0 on a linear axis), the last at least `high`."""
    if not log:
        rough = high / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
        return [step * k for k in range(math.ceil(high / step - 1e-9) + 1)]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [k * 10.0**n for n in exponents for k in (1, 2, 5)]
    start = max(i for i, value in enumerate(candidates) if value <= low * 1.0001)
    stop = min(i for i, value in enumerate(candidates) if value >= high * 0.9999)
    return candidates[start : stop + 1]


class Axes(NamedTuple):
    """The scales of a plot."""

    sizes: Tuple[float, float]  # log2 of the first and last batch size
    ticks: List[float]  # of the values
    log: bool  # whether the values are on a logarithmic axis

    def x(self, size: float) -> float:
        left, right = self.sizes
        return LEFT + MARGIN + (math.log2(size) - left) / (right - left) * (RIGHT - LEFT - 2 * MARGIN)

    def y(self, value: float) -> float:
        low, high, here = (math.log10(v) if self.log else v for v in (self.ticks[0], self.ticks[-1], value))
        return BOTTOM - (here - low) / (high - low) * (BOTTOM - TOP)

    def scale(self) -> str:
        return "logarithmic" if self.log else "linear, from 0"


def axes_of(curves: list[Curve]) -> Axes:
    """Axes that contain all curves and their whiskers."""
    values = [value for curve in curves for point in curve.points for value in point[1:]]
    sizes = [math.log2(size) for curve in curves for size, _, _ in curve.points]
    left, right = min(sizes), max(sizes)
    log = max(values) > 20 * min(values)
    return Axes((left - 1, right + 1) if left == right else (left, right), steps(min(values), max(values), log), log)


def mark(i: int, hollow: bool = False) -> str:
    return f'<path class="mark{" hollow" if hollow else ""}" d="{MARKS[i % len(MARKS)]}"/>'


def numbered(curves: list[Curve]) -> list[tuple[int, Curve]]:
    """Each curve with its index among the measured or the quoted ones, which selects its colour and marker."""
    numbers = {False: count(), True: count()}
    return [(next(numbers[curve.quoted]), curve) for curve in curves]


def legend(curves: list[Curve]) -> list[tuple[str, str]]:
    """The legend: (line and marker as SVG, label) of each curve."""
    key = '<svg class="key" viewBox="0 0 32 14" aria-hidden="true"><g class="{}"><path class="line" d="M1 7H31"/>'
    place = '<g transform="translate(16 7)">{}</g></g></svg>'
    keys = [(key.format(curve.css(i)) + place.format(mark(i)), curve.label) for i, curve in numbered(curves)]
    unstable = [(i, curve) for i, curve in numbered(curves) if curve.unstable]
    if unstable:
        i, curve = unstable[0]
        keys.append((key.format(curve.css(i)) + place.format(mark(i, hollow=True)), "hollow: not stable"))
    return keys


def description(unit: str, axes: Axes, curves: list[Curve]) -> str:
    """The plot in words, for screen readers."""
    labels = [
        ("published: " if curve.quoted else "measured: ") + curve.label.replace("published: ", "") for curve in curves
    ]
    return f"{unit} ({axes.scale()}) over the batch size (log2). {', '.join(labels)}."


def value_axis(axes: Axes) -> Iterator[str]:
    """A line and a label per tick; if a logarithmic axis has many ticks, only for powers of ten."""
    few = len(axes.ticks) < 10
    for value in axes.ticks if few else [value for value in axes.ticks if math.log10(value) % 1 < 1e-9]:
        yield f'<path class="grid" d="M{LEFT} {axes.y(value):.1f}H{RIGHT}"/>'
        yield f'<text class="y" x="{LEFT - 6}" y="{axes.y(value) + 4:.1f}">{value:g}</text>'


def size_axis(axes: Axes, sizes: list[int], listed: list[int]) -> Iterator[str]:
    """A tick and a label for each batch size that fits; those in `listed` have priority."""
    labelled: list[float] = []
    for size in [*(size for size in listed if sizes[0] <= size <= sizes[-1]), *sizes]:
        if all(abs(axes.x(size) - other) > LABEL_WIDTH for other in labelled):
            labelled.append(axes.x(size))
            yield f'<path class="grid" d="M{axes.x(size):.1f} {BOTTOM}v4"/>'
            yield f'<text class="x" x="{axes.x(size):.1f}" y="{BOTTOM + 18}">{size}</text>'
    yield f'<text class="x" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 36}">batch size (log2)</text>'


def curve_svg(axes: Axes, i: int, curve: Curve) -> Iterator[str]:
    """The line of a curve, and the whisker, marker and tooltip of each point."""
    line = "L".join(f"{axes.x(size):.1f} {axes.y(value):.1f}" for size, value, _ in curve.points)
    yield f'<g class="{curve.css(i)}"><path class="line" d="M{line}"/>'
    for size, value, end in curve.points:
        x, y = f"{axes.x(size):.1f}", f"{axes.y(value):.1f}"
        if end > value:
            yield f'<path class="whisker" d="M{x} {y}V{axes.y(end):.1f}m-4 0h8"/>'
        tooltip = f"{curve.label}, batch size {size}: {value:g}" + (f" to {end:g}" if end > value else "")
        tooltip += ", not stable" if size in curve.unstable else ""
        yield f'<g transform="translate({x} {y})"><title>{escape(tooltip)}</title>'
        if size == curve.best:
            yield '<circle class="ring" r="9"/><text class="best" y="-14">best</text>'
        yield f"{mark(i, size in curve.unstable)}</g>"
    yield "</g>"


def plot(name: str, title: str, unit: str, curves: list[Curve], listed: list[int]) -> str:
    """The plot as SVG; `name` is its id on the page, `listed` are the batch sizes to label first."""
    axes = axes_of(curves)
    sizes = sorted({size for curve in curves for size, _, _ in curve.points})
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description(unit, axes, curves))}</desc>',
        f'<text class="unit" x="4" y="12">{escape(unit)} ({axes.scale()})</text>',
        *value_axis(axes),
        *size_axis(axes, sizes, listed),
    ]
    for i, curve in sorted(numbered(curves), key=lambda pair: not pair[1].quoted):  # the measured ones on top
        parts += curve_svg(axes, i, curve)
    return "\n".join([*parts, "</svg>"])
