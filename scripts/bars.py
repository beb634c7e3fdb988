"""Bars of images/s with whiskers and ceilings as lines, and a chip's time by operator: an SVG file of its own."""

from __future__ import annotations

from _build import Record

from html import escape
from typing import Sequence

WIDTH, LEFT, RIGHT, ROW = 900, 290, 750, 24
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}.bar{fill:#7a8aa0}"
    ".ours{fill:#1f6fb4}.bad{fill:#c9c9c9}.whisker{stroke:#111;stroke-width:1.5;fill:none}.limit{stroke:#b3261e;stroke-width:1.5;"
    "stroke-dasharray:5 4}.of{fill:#e09f3e}"
)


def bars(
    rows: Sequence[Record], limits: Sequence[tuple[str, float]], profiles: dict[str, list[Record]], title: str
) -> str:
    """`rows`: name, median, min, max of images/s, ours, counts; `limits`: a ceiling's name and images/s."""
    top = 44 + 16 * len(limits)
    most = max([row["max"] for row in rows] + [limit for _, limit in limits] + [1e-9])
    body: list[str] = [f'<text x="8" y="20">{escape(title)}</text>']

    def x(value: float) -> float:
        return float(LEFT + value / most * (RIGHT - LEFT))

    for i, row in enumerate(rows):
        y = top + i * ROW
        look = "bad" if not row["counts"] else "ours" if row["ours"] else "bar"
        said = f"{row['median']:.1f} images/s" + ("" if row["counts"] else ", does not count")
        body += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(row["name"])}</text>',
            f'<rect class="{look}" x="{LEFT}" y="{y + 3}" width="{x(row["median"]) - LEFT:.1f}" height="{ROW - 8}"/>',
            f'<path class="whisker" d="M{x(row["min"]):.1f} {y + ROW / 2 - 1}H{x(row["max"]):.1f}"/>',
            f'<text class="small" x="{x(row["max"]) + 6:.1f}" y="{y + 15}">{said}</text>',
        ]
    bottom = top + len(rows) * ROW
    for i, (name, limit) in enumerate(limits):
        body.append(f'<path class="limit" d="M{x(limit):.1f} {34 + 16 * i}V{bottom}"/>')
        place = f'x="{x(limit) - 4:.1f}" y="{42 + 16 * i}" text-anchor="end"'
        body.append(f'<text class="small" {place}>{escape(name)}: {limit:.0f}</text>')
    y = bottom + 30
    for chip, lines in profiles.items():
        body.append(
            f'<text x="8" y="{y}">{escape(chip)}: share of the time by operator (orange: at the ceiling)</text>'
        )
        for row in [line for line in lines if line["share"] >= 0.005]:
            y += ROW
            wide = row["share"] * (RIGHT - LEFT)
            parts = {"the ceiling": row["of_ceiling"] or 0.0, "the memory's bandwidth": row["of_bandwidth"] or 0.0}
            which = max(parts, key=lambda name: parts[name])
            bound = parts[which]
            said = f"{100 * row['share']:.0f} %" + (f", at {100 * bound:.0f} % of {which}" if bound else "")
            body += [
                f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{escape(row["operator"])}</text>',
                f'<rect class="bar" x="{LEFT}" y="{y - 12}" width="{wide:.1f}" height="{ROW - 8}"/>',
                f'<rect class="of" x="{LEFT}" y="{y - 12}" width="{wide * min(1, bound):.1f}" height="{ROW - 8}"/>',
                f'<text class="small" x="{LEFT + wide + 6:.1f}" y="{y}">{said}</text>',
            ]
        y += 34
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img">'
    return (
        "\n".join(
            [
                head,
                f"<title>{escape(title)}</title><style>{STYLE}</style>",
                '<rect width="100%" height="100%" fill="#fff"/>',
                *body,
                "</svg>",
            ]
        )
        + "\n"
    )
