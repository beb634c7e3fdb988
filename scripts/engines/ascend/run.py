"""Ascend NPU: runs all bins by ais_bench. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record

from pathlib import Path
from typing import Tuple

from engines import RunRequest
from engines.ascend.ais_bench import Run, Session
from engines.ascend.batches import pack, split
from engines.feed import Work


def infer(request: RunRequest, work: Work, out: Path) -> Tuple[str, Record]:
    """Writes the outputs of all bins to `out`; returns (the sha256 of their bytes, in order; what to record).

    The device is locked only while ais_bench runs. Exits 1 on any failure.
    """
    session = Session(request)
    with session.opened() as folder:
        inputs = folder / "bins"
        batches = pack(work, inputs)
        with session.locked():
            outputs, _ = session.run(Run("out", inputs, batches))
        return split(outputs, work, out, session.remedy), session.conditions
