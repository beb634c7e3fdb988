"""A bar with rate and time left; like artifact.py it shapes no artifact's bytes. Python 3.7 and newer."""

from __future__ import annotations

import os
import sys
import time


def display_form(terminal: bool) -> str:
    """How to show it: "bar", "lines", or "" for not at all, by make's own flags, which recipes find in MAKEFLAGS.

    Several jobs' bars would overwrite each other on one line, and a CI keeps what it was shown.
    """
    letters, *others = os.environ.get("MAKEFLAGS", "").split(" ")
    if "s" in letters.partition("=")[0] and not letters.startswith("-"):
        return ""
    jobs = any(word.startswith(("-j", "--jobserver")) and word != "-j1" for word in others)
    return "bar" if terminal and not jobs and os.environ.get("CI", "false") in ("", "false") else "lines"


class Progress:
    """A bar on a terminal, a plain line every five seconds in CI and under make -j, nothing under make -s; on stderr,
    with rate and time left.

    `total` (0: not known) and `done` count single things, `scale` of which make one `unit`; `begin` were there before.
    """

    def __init__(self, total: int, unit: str, scale: int = 1, begin: int = 0) -> None:
        self.total, self.unit, self.scale, self.begin = total, unit, scale, begin
        self.start = self.shown = time.monotonic()
        self.form = display_form(sys.stderr.isatty())
        self.open = False

    def update(self, done: int) -> None:
        now = time.monotonic()
        last = done == self.total
        if not self.form or (not last and now - self.shown < (0.1 if self.form == "bar" else 5.0)):
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
        if self.form == "bar":
            bar = "#" * (24 * done // (self.total or done or 1))
            print(f"\r  [{bar:<24}] {text}\033[K", end="\n" if last else "", file=sys.stderr, flush=True)
            self.open = not last
        else:
            print(f"  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the line of a bar that will not get to its end."""
        if self.open:
            print(file=sys.stderr)
            self.open = False
