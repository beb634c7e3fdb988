"""A progress bar with rate and time left. Python 3.7, standard library only."""

from __future__ import annotations

import os
import sys
import time


def display_form(terminal: bool) -> str:
    """How to show progress: "bar", "lines" or "" (not at all), by make's flags in MAKEFLAGS.

    Lines replace the bar under make -j, where jobs would overwrite each other's line, and in CI, which logs all.
    """
    letters, *others = os.environ.get("MAKEFLAGS", "").split(" ")
    if "s" in letters.partition("=")[0] and not letters.startswith("-"):
        return ""
    jobs = any(word.startswith(("-j", "--jobserver")) and word != "-j1" for word in others)
    return "bar" if terminal and not jobs and os.environ.get("CI", "false") in ("", "false") else "lines"


class Progress:
    """Shows progress on stderr: a bar on a terminal, a line every five seconds otherwise, nothing under make -s.

    `total` (0: unknown) and `done` are counts; a count of `scale` is one `unit`. `begin` is the count at the start.
    """

    def __init__(self, total: int, unit: str, scale: int = 1, begin: int = 0) -> None:
        self.total, self.unit, self.scale, self.begin = total, unit, scale, begin
        self.start = self.shown = time.monotonic()
        self.display = display_form(sys.stderr.isatty())
        self.open = False

    def update(self, done: int) -> None:
        now = time.monotonic()
        last = done == self.total
        if not self.display or (not last and now - self.shown < (0.1 if self.display == "bar" else 5.0)):
            return
        self.shown = now
        rate = (done - self.begin) / max(now - self.start, 1e-9)
        digits = 0 if self.scale == 1 else 1
        text = f"{done / self.scale:.{digits}f}"
        if self.total:
            text += f"/{self.total / self.scale:.{digits}f}"
        text += f" {self.unit}, {rate / self.scale:.{digits}f}{'' if self.scale == 1 else ' ' + self.unit}/s"
        if self.total and rate:
            left = (self.total - done) / rate
            text += f", {left:.0f} s left" if left < 120 else f", {left / 60:.0f} min left"
        if self.display == "bar":
            bar = "#" * (24 * done // (self.total or done or 1))
            print(f"\r  [{bar:<24}] {text}\033[K", end="\n" if last else "", file=sys.stderr, flush=True)
            self.open = not last
        else:
            print(f"  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the line of a bar that is not complete."""
        if self.open:
            print(file=sys.stderr)
            self.open = False
