"""Answers as files, as ais_bench writes them (contract, section 2.4): txt, bin or npy; and labels. Python 3.7."""

from __future__ import annotations

from _support import artifact
from _support.artifact import Record, rebuild_hint
from _support.cli import die

import hashlib
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.spec import CLASSES


def npy(row: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, row)
    return stream.getvalue()


TXT = "%.9g " * len(CLASSES) + "\n"  # all digits
# Of ais_bench's npy and ours; np.load is ten times as slow.
HEADER = npy(np.zeros((1, len(CLASSES)), np.float32))[: -4 * len(CLASSES)]
LABELS = {str(k) for k in range(len(CLASSES))}


def name_of(image: int, form: str) -> str:
    """The file of an image's answer; 0 is the number of the model's output."""
    return f"image_{image}_0.{form}"


def encode(row: NDArray[Any], form: str) -> bytes:
    """One answer, float32 [classes], as a file: txt with all digits, bin, or npy of ais_bench's shape [1, classes]."""
    if form == "txt":
        return (TXT % tuple(row.tolist())).encode()
    if form == "bin":
        return row.tobytes()
    return HEADER + row.tobytes()


def decode(path: Path, data: bytes, form: str, remedy: str = "") -> NDArray[Any]:
    """One output file's values, float64 [classes]; exits 1 on another number of them, or on one that is not finite."""
    try:
        if form == "txt":
            row = np.array([float(word) for word in data.split()], np.float64)
        elif form == "bin":
            row = np.frombuffer(data, np.float32).astype(np.float64)
        elif data.startswith(HEADER):
            row = np.frombuffer(data[len(HEADER) :], np.float32).astype(np.float64)
        else:
            row = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64).ravel()
    except Exception:  # noqa: BLE001 - numpy's reader of damaged files raises what it likes
        row = np.empty(0)
    if row.shape != (len(CLASSES),):
        die(path, f"{row.size} values, not {len(CLASSES)}", remedy or rebuild_hint(path.with_name("manifest.json")))
    if not all(map(math.isfinite, row.tolist())):  # of so few, faster than numpy's
        die(path, "a value is not finite", remedy or rebuild_hint(path.with_name("manifest.json")))
    return row


def read_outputs(manifest: Path, record: Record, labels: int) -> NDArray[Any]:
    """Every output in the labels' order: float64 [labels, classes]. Exits 1 unless each label has exactly one."""
    folder, form = manifest.parent, record["format"]
    wanted = [name_of(i, form) for i in range(labels)]
    have = {*os.listdir(folder)} - {manifest.name}
    missing = [name for name in wanted if name not in have]
    extra = sorted(have.difference(wanted))
    if missing:
        die(folder / missing[0], f"missing ({len(missing)} of {labels} outputs are)", rebuild_hint(manifest))
    if extra:
        die(
            folder / extra[0],
            f"one output too many ({len(extra)} in all), no label asks for it",
            rebuild_hint(manifest),
        )
    found = hashlib.sha256()
    rows = np.empty((labels, len(CLASSES)))
    for i, name in enumerate(wanted):
        data = artifact.read_bytes(f"{folder}/{name}")
        found.update(data)
        rows[i] = decode(folder / name, data, form)
    if found.hexdigest() != record["digest"]:
        die(folder, "the files are not those that this inference wrote (their digest differs)", rebuild_hint(manifest))
    return rows


def read_labels(path: Path) -> NDArray[Any]:
    """One class number a line: int [n]; exits 1 on anything else."""
    lines = path.read_text().split("\n")[:-1]
    for i, line in enumerate(lines):
        if line not in LABELS:
            die(f"{path}:{i + 1}", f"{line!r} is not a label from 0 to {len(CLASSES) - 1}", rebuild_hint(path))
    if not lines:
        die(path, "no labels", rebuild_hint(path))
    return np.array(lines, int)


def digest_of(outputs: Path, count: int, form: str) -> str:
    """The sha256 of the bytes of all outputs in a folder, in order."""
    found = hashlib.sha256()
    for i in range(count):
        found.update(artifact.read_bytes(f"{outputs}/{name_of(i, form)}"))
    return found.hexdigest()
