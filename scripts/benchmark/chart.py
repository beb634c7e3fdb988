"""Draws bench.svg: bars of images/s with whiskers, limits as dashed lines, and the time of chips by operator."""

from __future__ import annotations

from _support.artifact import Record

from html import escape
from typing import Iterator, NamedTuple, Sequence

WIDTH, LEFT, RIGHT, ROW = 900, 290, 750, 24  # pixels: width, start and maximum end of the bars, height of a row
SMALL = 0.005  # share of the time below which an operator is not shown
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}.bar{fill:#7a8aa0}"
    ".ours{fill:#1f6fb4}.bad{fill:#c9c9c9}.whisker{stroke:#111;stroke-width:1.5;fill:none}"
    ".limit{stroke:#b3261e;stroke-width:1.5;stroke-dasharray:5 4}.of{fill:#e09f3e}"
)


class Bar(NamedTuple):
    """The images/s of a contender."""

    name: str
    median: float
    min: float
    max: float
    ours: bool
    counts: bool  # it passed its accuracy check


Limits = Sequence[tuple[str, float]]  # name, images/s


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}"{more}>{escape(words)}</text>'


def name(y: float, words: str) -> str:
    """The name on the left of a bar."""
    return text(LEFT - 8, y, words, ' text-anchor="end"')


def box(look: str, y: float, width: float) -> str:
    return f'<rect class="{look}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{ROW - 8}"/>'


def speed_bars(rows: Sequence[Bar], scale: float, top: float) -> Iterator[str]:
    """A bar for each row, starting at y = `top`; `scale` is in pixels per image/s."""
    for i, row in enumerate(rows):
        y = top + i * ROW
        look = "bad" if not row.counts else "ours" if row.ours else "bar"
        label = f"{row.median:.1f} images/s" + ("" if row.counts else ", excluded")
        low, high = (LEFT + scale * value for value in (row.min, row.max))
        yield name(y + 15, row.name)
        yield box(look, y + 3, scale * row.median)
        yield f'<path class="whisker" d="M{low:.1f} {y + ROW / 2 - 1}H{high:.1f}"/>'
        yield text(high + 6, y + 15, label, ' class="small"')


def limit_lines(limits: Limits, scale: float, bottom: float) -> Iterator[str]:
    """A dashed line for each limit, down to y = `bottom`, with its name above the bars."""
    for i, (label, limit) in enumerate(limits):
        x, y = LEFT + scale * limit, 34 + 16 * i
        yield f'<path class="limit" d="M{x:.1f} {y}V{bottom}"/>'
        yield text(x - 4, y + 8, f"{label}: {limit:.0f}", ' class="small" text-anchor="end"')


def operator_bar(row: Record, y: float) -> Iterator[str]:
    """An operator's share of the time. Orange: the share that it would need at its nearest limit."""
    width = row["share"] * (RIGHT - LEFT)
    parts = {"the matrix product": row["of_ceiling"] or 0.0, "the memory bandwidth": row["of_bandwidth"] or 0.0}
    which = max(parts, key=lambda part: parts[part])
    bound = parts[which]
    label = f"{100 * row['share']:.0f} %" + (f", {100 * bound:.0f} % of {which}" if bound else "")
    yield name(y, row["operator"])
    yield box("bar", y - 12, width)
    yield box("of", y - 12, width * min(1, bound))
    yield text(LEFT + width + 6, y, label, ' class="small"')


def bars(rows: Sequence[Bar], limits: Limits, profiles: dict[str, list[Record]], title: str) -> str:
    """The SVG. `profiles` is {chip: rows by operator, with shares of time, ceiling and bandwidth}."""
    top = 44 + 16 * len(limits)
    scale = (RIGHT - LEFT) / max([row.max for row in rows] + [limit for _, limit in limits] + [1e-9])
    bottom = top + len(rows) * ROW
    body = [text(8, 20, title), *speed_bars(rows, scale, top), *limit_lines(limits, scale, bottom)]
    y = bottom + 30
    for chip, operators in profiles.items():
        body.append(text(8, y, f"{chip}: share of the time by operator (orange: minimum at the limit of this machine)"))
        for row in operators:
            if row["share"] >= SMALL:
                y += ROW
                body += operator_bar(row, y)
        y += 34
    size = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    style = f"<title>{escape(title)}</title><style>{STYLE}</style>"
    return "\n".join([head, style, '<rect width="100%" height="100%" fill="#fff"/>', *body, "</svg>"]) + "\n"
