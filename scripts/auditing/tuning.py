"""Checks what engines/tuning.py stores beside a compiled model. Python 3.7."""

from __future__ import annotations

from _support.artifact import SAME, Record, digest, is_file, is_intact, read_json, removal
from _support.cli import die

import os
from pathlib import Path
from typing import Iterator, Tuple

import engines
from engines.tuning import stored_path, tuning_path


def check_tuning(model: Path, provenance: Record) -> Iterator[Tuple[str, Path]]:
    """Yields (digest, path) of the choice for a model, and of what a runtime has compiled for it. Exits 1 if one is
    damaged. One may be missing: the next run writes it. `provenance` is that of the model."""
    path = tuning_path(model, provenance["batch_size"])
    if not os.path.lexists(path):
        return
    record = read_json(path)
    stored = record.get("stored")
    if not isinstance(stored, dict) or not is_intact(path, record):
        die(path, "damaged", f"type: {removal(path)}, then {SAME}")
    yield digest(path), path
    compiled = stored_path(model, engines.constants_of(provenance["engine"]))
    if stored.get("sha256") and is_file(compiled):
        if digest(compiled) != stored["sha256"]:
            die(compiled, f"its digest differs from the one in {path.name}", f"type: {removal(compiled)}, then {SAME}")
        yield str(stored["sha256"]), compiled
