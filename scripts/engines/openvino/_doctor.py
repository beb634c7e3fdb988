"""Adds to the row CPU of make doctor the precisions for which this CPU has instructions.

Python 3.7, standard library only.
"""

from __future__ import annotations

from _support.query import BackgroundQueries

from pathlib import Path
from typing import Iterator, List, Tuple

from engines import COMPILE, RUN, Blocker, Found, Options, Row
from engines.openvino.cpu import INSTRUCTIONS, instructions


class Checker:
    """The row for chips of engine openvino; see engines.Checker."""

    part = "OpenVINO"

    def __init__(self, query: BackgroundQueries, options: Options, chips: List[str]) -> None:
        self.precision, self.chips = options.get("precision", ""), chips

    def rows(self, devices: str, root: Path) -> Iterator[Row]:
        """One row. If this CPU lacks the instructions for the chip's precision, it cannot run or compile here."""
        fastest = {precision: instructions(precision) for precision in INSTRUCTIONS}
        text = ", ".join(f"{precision} with {name}" for precision, name in fastest.items() if name)
        fallback = f"; use CHIP={self.chips[0]}" if self.chips else ""
        blocks: Tuple[Blocker, ...] = ()
        if not fastest.get(self.precision, "unknown"):
            blocks = (Blocker(f"a CPU with {' or '.join(INSTRUCTIONS[self.precision])}", (RUN, COMPILE)),)
        yield Row("CPU", text or f"no instructions for OpenVINO's precisions{fallback}", blocks=blocks)

    def found(self) -> Found:
        return Found("", absent="not a device that can be detected")
