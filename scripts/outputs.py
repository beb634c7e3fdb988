"""One answer as a file, as ais_bench writes it (contract, section 2.4): txt, bin or npy. Python 3.7."""

from __future__ import annotations

from _build import again, die

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def name_of(image: int, form: str) -> str:
    """The file of an image's answer; 0 is the number of the model's output."""
    return f"image_{image}_0.{form}"


def encode(row: NDArray[Any], form: str) -> bytes:
    """One answer, float32 [10], as a file of the given form; txt keeps all digits, npy ais_bench's shape [1, 10]."""
    if form == "txt":
        return ("%.9g " * len(CLASSES) % tuple(row) + "\n").encode()
    if form == "bin":
        return row.tobytes()
    stream = io.BytesIO()
    np.save(stream, row[None])
    return stream.getvalue()


def decode(path: Path, data: bytes, form: str, remedy: str = "") -> NDArray[Any]:
    """One output file's ten values, float64 [10]; exits 1 on any other number of them or on one that is not finite."""
    try:
        if form == "txt":
            row = np.array(data.split(), np.float64)
        elif form == "bin":
            row = np.frombuffer(data, np.float32).astype(np.float64)
        else:
            row = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64).ravel()
    except Exception:  # noqa: BLE001 - numpy's reader of damaged files raises what it likes
        row = np.empty(0)
    if row.shape != (len(CLASSES),):
        die(path, f"{row.size} values, not {len(CLASSES)}", remedy or again(path.with_name("manifest.json")))
    if not np.isfinite(row).all():
        die(path, "a value is not finite", remedy or again(path.with_name("manifest.json")))
    return row
