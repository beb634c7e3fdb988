"""Curves over the batch size, as SVG without a script: colours and dashes come from the page's style sheet.

The batch size is on a log2 axis. Values stand on a linear axis from 0, or on a logarithmic one where they span more
than a factor of twenty. Measured and quoted curves differ in class, in dash and in their markers' filling.
"""

from __future__ import annotations

import math
from html import escape
from itertools import count
from typing import List, NamedTuple, Tuple

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 466, 26, 256  # the plot's own box
MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-4-4H4V4H-4z", "M0-5.5L5.5 0L0 5.5L-5.5 0z", "M0-5L5 4H-5z")


class Curve(NamedTuple):
    """Values at batch sizes, smallest first: (batch size, value, the end of its whisker or the value again)."""

    label: str
    points: List[Tuple[int, float, float]]
    quoted: bool = False
    best: int = 0  # the batch size to mark, if any

    def css(self, i: int) -> str:
        """The classes of the i-th curve of its kind."""
        return "curve quoted" if self.quoted else f"curve c{i % 6}"


def steps(low: float, high: float, log: bool) -> list[float]:
    """Round values for an axis, the first at most `low` (or 0) and the last at least `high`."""
    if not log:
        rough = high / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
        return [step * k for k in range(math.ceil(high / step - 1e-9) + 1)]
    every = [
        k * 10.0**n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for k in (1, 2, 5)
    ]
    start = max(i for i, value in enumerate(every) if value <= low * 1.0001)
    stop = min(i for i, value in enumerate(every) if value >= high * 0.9999)
    return every[start : stop + 1]


def mark(i: int) -> str:
    return f'<path class="mark" d="{MARKS[i % len(MARKS)]}"/>'


def numbered(curves: list[Curve]) -> list[tuple[int, Curve]]:
    """Each curve with its number among the measured or among the quoted ones, which decides its looks."""
    kinds = {False: count(), True: count()}
    return [(next(kinds[curve.quoted]), curve) for curve in curves]


def legend(curves: list[Curve]) -> list[tuple[str, str]]:
    """(a key as SVG, the label) of each curve."""
    key = '<svg class="key" viewBox="0 0 32 14" aria-hidden="true"><g class="{}"><path class="line" d="M1 7H31"/>'
    return [
        (key.format(curve.css(i)) + f'<g transform="translate(16 7)">{mark(i)}</g></g></svg>', curve.label)
        for i, curve in numbered(curves)
    ]


def plot(name: str, title: str, unit: str, curves: list[Curve], batches: list[int]) -> str:
    """The figure; `name` is its id on the page, `batches` get a tick each."""
    values = [v for curve in curves for point in curve.points for v in point[1:]]
    sizes = sorted({size for curve in curves for size, _, _ in curve.points})
    log = max(values) > 20 * min(values)
    ticks = steps(min(values), max(values), log)
    left, right = math.log2(min(sizes)), math.log2(max(sizes))
    left, right = (left - 1, right + 1) if left == right else (left, right)

    def x(size: float) -> float:
        return LEFT + 16 + (math.log2(size) - left) / (right - left) * (RIGHT - LEFT - 32)

    def y(value: float) -> float:
        low, high, here = (math.log10(v) if log else v for v in (ticks[0], ticks[-1], value))
        return BOTTOM - (here - low) / (high - low) * (BOTTOM - TOP)

    kinds = ", ".join(
        ("published: " if c.quoted else "measured: ") + c.label.replace("published: ", "") for c in curves
    )
    scale = "logarithmic" if log else "linear, from 0"
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(f"{unit} ({scale}) over the batch size (log2). {kinds}.")}</desc>',
        f'<text class="unit" x="4" y="12">{escape(unit)} ({scale})</text>',
    ]
    for value in ticks if len(ticks) < 10 else [value for value in ticks if math.log10(value) % 1 < 1e-9]:
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{value:g}</text>')
    shown: list[float] = []
    for size in [*(b for b in batches if sizes[0] <= b <= sizes[-1]), *sizes]:  # the listed ones first: they have room
        if all(abs(x(size) - other) > 20 for other in shown):
            shown.append(x(size))
            parts.append(f'<path class="grid" d="M{x(size):.1f} {BOTTOM}v4"/>')
            parts.append(f'<text class="x" x="{x(size):.1f}" y="{BOTTOM + 18}">{size}</text>')
    parts.append(f'<text class="x" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 36}">batch size (log2)</text>')
    for i, curve in sorted(numbered(curves), key=lambda pair: not pair[1].quoted):  # the measured ones on top
        way = "L".join(f"{x(size):.1f} {y(value):.1f}" for size, value, _ in curve.points)
        parts.append(f'<g class="{curve.css(i)}"><path class="line" d="M{way}"/>')
        for size, value, end in curve.points:
            if end > value:
                parts.append(f'<path class="whisker" d="M{x(size):.1f} {y(value):.1f}V{y(end):.1f}m-4 0h8"/>')
            said = f"{curve.label}, batch size {size}: {value:g}" + (f" to {end:g}" if end > value else "")
            parts.append(f'<g transform="translate({x(size):.1f} {y(value):.1f})"><title>{escape(said)}</title>')
            if size == curve.best:
                parts.append('<circle class="ring" r="9"/><text class="best" y="-14">best</text>')
            parts.append(f"{mark(i)}</g>")
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])
