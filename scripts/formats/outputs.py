"""Reads and writes labels and outputs, one file per image (docs/ascend-tools.md#ais-bench-outputs). Python 3.7."""

from __future__ import annotations

from _support import artifact
from _support.artifact import Record, rebuild_hint
from _support.cli import die

import hashlib
import io
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.spec import CLASSES


def npy(row: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, row)
    return stream.getvalue()


TXT = "%.9g " * len(CLASSES) + "\n"  # 9 digits restore every float32
# The header of an npy file of shape [1, classes]. np.load is ten times slower than a comparison with it.
HEADER = npy(np.zeros((1, len(CLASSES)), np.float32))[: -4 * len(CLASSES)]
LABELS = {str(k) for k in range(len(CLASSES))}


def name_of(image: int, output_format: str) -> str:
    """The file name of an image's output; 0 is the index of the model's output."""
    return f"image_{image}_0.{output_format}"


def encode(row: NDArray[Any], output_format: str) -> bytes:
    """The bytes of an output file for float32 [classes]: txt, bin, or npy with ais_bench's shape [1, classes]."""
    if output_format == "txt":
        return (TXT % tuple(row.tolist())).encode()
    if output_format == "bin":
        return row.tobytes()
    return HEADER + row.tobytes()


def as_doubles(array: NDArray[Any]) -> NDArray[Any]:
    """The values as float64; raises TypeError for text and for complex numbers."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return array.astype(np.float64, casting="same_kind")


def decode(path: Path, data: bytes, output_format: str, remedy: str = "") -> NDArray[Any]:
    """The values of an output file, float64 [classes]; exits 1 if their number is wrong or one is not finite."""
    try:
        if output_format == "txt":
            row = np.array([float(word) for word in data.split()], np.float64)
        elif output_format == "bin":
            row = as_doubles(np.frombuffer(data, np.float32))
        elif data.startswith(HEADER):
            row = as_doubles(np.frombuffer(data[len(HEADER) :], np.float32))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about headers of Python 2
                row = as_doubles(np.load(io.BytesIO(data), allow_pickle=False)).ravel()
    except Exception:  # noqa: BLE001 - numpy raises many kinds of errors on damaged files
        row = np.empty(0)
    if row.shape != (len(CLASSES),):
        die(path, f"{row.size} values, not {len(CLASSES)}", remedy or rebuild_hint(path.with_name("manifest.json")))
    if not all(map(math.isfinite, row.tolist())):  # faster than numpy for 10 values
        die(path, "a value is not finite", remedy or rebuild_hint(path.with_name("manifest.json")))
    return row


def read_outputs(manifest: Path, record: Record, labels: int) -> NDArray[Any]:
    """All outputs in the order of the labels: float64 [labels, classes]. Exits 1 unless there is one for each label."""
    folder, output_format = manifest.parent, record["format"]
    names = {*os.listdir(folder)} - {manifest.name}
    expected = [name_of(i, output_format) for i in range(min(labels, len(names) + 1))]  # a damaged number may be huge
    missing = [name for name in expected if name not in names]
    extra = sorted(names.difference(expected))
    if missing:
        die(
            folder / missing[0],
            f"missing, with {labels - len(expected) + len(missing)} of {labels} outputs",
            rebuild_hint(manifest),
        )
    if extra:
        die(
            folder / extra[0],
            f"unexpected file without a label, {len(extra)} in all",
            rebuild_hint(manifest),
        )
    sha256 = hashlib.sha256()
    rows = np.empty((labels, len(CLASSES)))
    for i, name in enumerate(expected):
        try:
            data = artifact.read_bytes(f"{folder}/{name}")
        except OSError as error:
            die(folder / name, f"cannot be read ({(error.strerror or '').lower()})", rebuild_hint(manifest))
        sha256.update(data)
        rows[i] = decode(folder / name, data, output_format)
    if sha256.hexdigest() != record["digest"]:
        die(folder, "the outputs' digest differs from the one in manifest.json", rebuild_hint(manifest))
    return rows


def read_labels(path: Path, sha256: str = "") -> NDArray[Any]:
    """Reads labels, one class number per line: int [n]. Exits 1 if a line is not a label, or if the file does not have
    the digest `sha256`, which is empty if the caller has checked it."""
    data = artifact.read_verified(path, sha256) if sha256 else path.read_bytes()
    lines = data.decode("utf-8", "replace").split("\n")[:-1]
    for i, line in enumerate(lines):
        if line not in LABELS:
            die(f"{path}:{i + 1}", f"{line!r} is not a label from 0 to {len(CLASSES) - 1}", rebuild_hint(path))
    if not lines:
        die(path, "no labels", rebuild_hint(path))
    return np.array(lines, int)
