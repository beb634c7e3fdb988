"""Where the inputs that ROOT holds come from, by their records and by the official digests. Python 3.7."""

from __future__ import annotations

from _support import artifact
from _support.artifact import record_of
from _support.cli import die

from pathlib import Path
from typing import Tuple

from formats import official

PATHS = {"archive": "data/archive.tar.gz", "checkpoint": "models/checkpoint.pkl"}  # below ROOT
VARIABLES = {"archive": "ARCHIVE", "checkpoint": "WEIGHTS"}
DONE = {"official": "fetched", "sample": "generated", "given": "imported"}  # by the origin in a record


def remedy_of(path: Path, origin: str) -> str:
    """How to get the file at `path` again, also without a network."""
    what = path.name.split(".")[0]
    file, variable = official.FILES.get(what), VARIABLES.get(what, "")
    again = f"type: {artifact.removal(path, record_of(path))}, then {artifact.SAME}"
    if origin == "given" and variable:
        return f"{again} (add {variable}= and your file)"
    if origin == "sample" or not file:
        return again
    own = f", or add {variable}= and your own file" if variable else ""
    by_hand = f"without a network first copy {file.name} there, {file.kind} {file.digest[:16]}…"
    return f"{again} (it downloads the file, {by_hand}{own})"


def fault_of(path: Path, sha256: str) -> Tuple[Path, str, str] | None:
    """Why the file at `path`, with this digest, is not what its record says: the subject, the problem and the remedy.

    None if it is, and also if it has no record: then somebody has put it there.
    """
    record_path = record_of(path)
    record = artifact.read_record(record_path)
    origin = str(record.get("origin"))
    if record.get("sha256") == sha256 and origin in DONE:
        return None
    if origin in DONE:
        return path, f"no longer the file that was {DONE[origin]}", remedy_of(path, origin)
    if record_path.exists():
        return record_path, "the record is damaged", remedy_of(path, "official")
    return None


def is_official(path: Path) -> bool:
    """Whether the file at `path`, which is named as in ROOT, is the official one by its digest."""
    file = official.FILES.get(path.name.split(".")[0])
    return file is not None and file.is_at(path)


def origin_of(path: Path, sha256: str) -> str:
    """Where the input at `path` below ROOT comes from: sample, official, or given, which includes files that somebody
    has put there. `sha256` is its digest. Exits 1 if the file is not the one that its record describes."""
    record = artifact.read_record(record_of(path))
    origin = str(record.get("origin"))
    if record.get("sha256") == sha256 and origin in DONE:
        return origin
    if is_official(path):  # by its digest, so the record does not matter
        return "official"
    fault = fault_of(path, sha256)
    if fault:
        die(*fault)
    return "given"


def recorded_origin(path: Path, was_sample: bool) -> str:
    """The same without an error, and "" for a missing file: whoever reads a file that is not what its record says exits
    1. If the record is lost or damaged, the file is the sample's if it was so before."""
    if not artifact.is_file(path) or path.stat().st_mtime_ns == artifact.UNFINISHED:
        return ""
    origin = str(artifact.read_record(record_of(path)).get("origin"))
    if origin in DONE:
        return origin
    return "official" if is_official(path) else "sample" if was_sample else "given"
