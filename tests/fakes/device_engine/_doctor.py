"""The fake engine's rows: its arguments, a text for the row CPU and, by FAKE_LACKS, a missing tool."""

from __future__ import annotations

from _support.query import BackgroundQueries

import os
from pathlib import Path
from typing import Iterator, List

from engines import Blocker, Finder, Found, Options, Row, load


class Checker:
    part = "fakes"

    def __init__(self, query: BackgroundQueries, options: Options, chips: List[str]) -> None:
        self.options, self.chips = options, chips
        self.answer = query.ask(lambda: os.environ.get("FAKE_CHIP", "no chip"))

    def rows(self, devices: str, root: Path) -> Iterator[Row]:
        options = " ".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        yield Row("fake device", f"{self.answer()}; devices {devices}; {options}; {len(self.chips)} chips")
        yield Row("CPU", "fast enough for fakes")
        kinds = os.environ.get("FAKE_LACKS", "")
        if kinds:
            yield Row("fake tool", "missing", "install it", (Blocker("the fake tool", tuple(kinds.split())),))

    def found(self) -> Found:
        finder: Finder = load("device_engine", "_find")
        return finder.find(self.chips)
