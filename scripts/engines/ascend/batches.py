"""Packs bins into one file for each batch and splits the outputs of ais_bench into one file for each image. Python 3.7.

ais_bench takes a file of the size of the model's input for a whole batch (docs/ascend-tools.md#ais-bench-batches).
"""

from __future__ import annotations

from _support import artifact
from _support.cli import die

import contextlib
import functools
import hashlib
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.feed import Work, batches_of, read_ahead
from formats.bins import BLOCK, blocks
from formats.outputs import encode, name_of, npy
from network.spec import CLASSES

# Format of the outputs of ais_bench for every infer.format: it has the shape and the type of the logits, and TXT takes
# ais_bench longer.
FORMAT = "NPY"
TXT = "%f " * len(CLASSES) + "\n"  # the line of an image that ais_bench writes for TXT


def output_name(batch: int) -> str:
    """The name of the output of input_path(); 0 is the index of the model's output."""
    return f"batch_{batch}_0.{FORMAT.lower()}"


def input_path(folder: Path, batch: int) -> str:
    return f"{folder}/batch_{batch}.bin"


def write_batch(path: str, images: NDArray[Any]) -> None:
    """Writes the images of a batch so that the newer ais_bench accepts the file with any umask."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(images.data)


def pack(work: Work, folder: Path) -> int:
    """Makes `folder` with one file for each batch; returns their number. The last batch is padded with its first image.

    Exits 1 if the bins differ from their manifest.
    """
    folder.mkdir(mode=0o700)
    size, count = work.batch_size, 0
    with ThreadPoolExecutor(1) as reader:
        parts = blocks(work.bins, work.record, size * max(1, BLOCK // size))
        with contextlib.closing(read_ahead(parts, reader)) as ready:
            for batch in batches_of(ready, size):
                write_batch(input_path(folder, count), batch)
                count += 1
    return count


@functools.lru_cache(maxsize=None)
def header(rows: int) -> bytes:
    """The header of an npy file of float32 [rows, classes]. np.load is ten times slower than a comparison with it."""
    return npy(np.zeros((rows, len(CLASSES)), np.float32))[: -4 * rows * len(CLASSES)]


def read_logits(path: Path, batch_size: int, remedy: str) -> NDArray[Any]:
    """The logits of one output of ais_bench, float32 [batch_size, classes]; exits 1 if its shape is another one or a
    value is not finite."""
    data, usual, shape = artifact.read_bytes(str(path)), header(batch_size), (batch_size, len(CLASSES))
    try:
        if data.startswith(usual):
            values = np.frombuffer(data[len(usual) :], np.float32)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about headers of Python 2
                values = np.load(io.BytesIO(data), allow_pickle=False)
            shape = values.shape
            with np.errstate(all="ignore"):  # what float32 does not have becomes infinite, and is refused
                values = values.astype(np.float32, casting="same_kind").ravel()
    except Exception:  # noqa: BLE001 - numpy raises many kinds of errors on damaged files
        die(path.name, "damaged", remedy)
    if values.size != batch_size * len(CLASSES) or shape[0] != batch_size:
        die(path.name, f"its shape is {list(shape)}, not {[batch_size, len(CLASSES)]}", remedy)
    if not np.isfinite(values).all():
        die(path.name, "a value is not finite", remedy)
    return values.reshape(batch_size, len(CLASSES))


def split(outputs: Sequence[Path], work: Work, out: Path, remedy: str) -> str:
    """Writes the logits of all images to files of their own in `out`; returns the sha256 of their bytes, in order.

    A txt file has the bytes that ais_bench would have written for the image. Exits 1 as read_logits().
    """
    sha256, count, form = hashlib.sha256(), work.record["count"], work.output_format
    for batch, path in enumerate(outputs):
        first = batch * work.batch_size
        for image, row in enumerate(read_logits(path, work.batch_size, remedy)[: count - first], first):
            data = (TXT % tuple(row.tolist())).encode() if form == "txt" else encode(row, form)
            sha256.update(data)
            artifact.write_bytes(f"{out}/{name_of(image, form)}", data)
    return sha256.hexdigest()
