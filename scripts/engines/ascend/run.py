"""Ascend NPU: runs all bins by ais_bench. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record

from pathlib import Path

from engines import RunRequest
from engines.ascend.ais_bench import Run, Session


def infer(request: RunRequest, out: Path) -> Record:
    """Writes the outputs of all bins, float32 [classes] each, to the folder `out`; returns what to record.

    Exits 1 on any failure.
    """
    session = Session(request)
    with session.opened():
        outputs, _ = session.run(Run("out", session.accepted_bins(request.bins, request.images), request.images))
        for path in outputs:
            path.replace(out / path.name)
    return session.conditions
