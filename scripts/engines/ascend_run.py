"""Ascend NPU: answers to all bins, by ais_bench. Python 3.7."""

from __future__ import annotations

from _build import Record

from pathlib import Path
from typing import Dict

from _progress import Progress

from engines.ascend_bench import Session

PACKAGES = ()


def infer(
    model: Path, made: Record, bins: Path, count: int, form: str, devices: str, limits: Dict[str, str], out: Path
) -> Dict[str, object]:
    """Fills the folder `out` with the answers to `bins`/image_<i>.bin, float32 [10] each, as files of `form`; returns
    what to record. `made` is the model's record, `devices` their numbers: "0" or "0,1". Exits 1 on any failure."""
    session = Session(model, made, devices, limits, out.parent / "infer.log")
    with session.opened():
        found, _ = session.run("out", session.readable(bins, count), count, form, Progress(count, "images"))
        for path in found:
            path.replace(out / path.name)
    return session.conditions
