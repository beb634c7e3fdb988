"""The precisions that this CPU has instructions for, as a part of the row CPU of make doctor. Python 3.7, standard
library only.
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
        """One row. A chip whose precision this CPU lacks cannot run here, and is not built here."""
        fastest = {precision: instructions(precision) for precision in INSTRUCTIONS}
        text = ", ".join(f"{precision} by {name}" for precision, name in fastest.items() if name)
        fallback = f": CHIP={self.chips[0]} runs" if self.chips else ""
        blocks: Tuple[Blocker, ...] = ()
        if not fastest.get(self.precision, "unknown"):
            blocks = (Blocker(f"a CPU with {' or '.join(INSTRUCTIONS[self.precision])}", (RUN, COMPILE)),)
        yield Row("CPU", text or f"no precision of OpenVINO{fallback}", blocks=blocks)

    def found(self) -> Found:
        return Found("", absent="a CPU does not decide the chip")
