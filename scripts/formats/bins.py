"""Reads bins: one float32 file per image, and manifest.json with their count and digest."""

from __future__ import annotations

from _support.artifact import Record, rebuild_hint
from _support.cli import die

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from numpy.typing import NDArray

from network.spec import IMAGE_SHAPE, IMAGE_VALUES

BIN_BYTES = 4 * IMAGE_VALUES  # float32


def read_bin(path: Path | str, image: NDArray[Any] | None = None) -> NDArray[Any]:
    """Reads one bin, float32 IMAGE_SHAPE, into `image` or a new array; exits 1 if it is missing or of another size."""
    image = np.empty(IMAGE_SHAPE, np.float32) if image is None else image
    size = 0
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, BlockingIOError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: do not wait for the writer of a pipe
        try:
            size = os.readv(file, [image.data, bytearray(1)])
        finally:
            os.close(file)
    if size != BIN_BYTES:
        path = Path(path)
        exists, remedy = path.is_file(), rebuild_hint(path.with_name("manifest.json"))
        problem = f"{path.stat().st_size} bytes, not {BIN_BYTES}" if exists else "missing, but counted in the manifest"
        die(path, problem, remedy)
    return image


BLOCK = 32  # images passed between threads at once; larger batches are passed whole


def blocks(manifest: Path, bins: Record, size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """Yields all images in order as new arrays, float32 [size, *IMAGE_SHAPE]; the last one may be shorter.

    Exits 1 if one cannot be read and, at the end, if their digest differs from the one in their record, `bins`.
    """
    sha256, count = hashlib.sha256(), bins["count"]
    for start in range(0, count, size):
        images = np.empty((min(size, count - start), *IMAGE_SHAPE), np.float32)
        for i, image in enumerate(images, start):
            read_bin(f"{manifest.parent}/image_{i}.bin", image)
        sha256.update(images.ravel().data)
        yield images
    if sha256.hexdigest() != bins["digest"]:
        die(manifest.parent, "the bins' digest differs from the one in manifest.json", rebuild_hint(manifest))


def some_bins(manifest: Path, bins: Record, count: int) -> NDArray[Any]:
    """Up to `count` images, spread evenly over the set: float32 [n, *IMAGE_SHAPE].

    Reads all bins; exits 1 if their digest differs from the one in their record, `bins`.
    """
    total = bins["count"]
    indices = {int(i) for i in np.linspace(0, total - 1, min(count, total))}
    images = (image for block in blocks(manifest, bins) for image in block)
    return np.stack([image for i, image in enumerate(images) if i in indices])


def check_bins(manifest: Path, bins: Record) -> None:
    """Exits 1 if the bins' digest differs from the one in their record, `bins`."""
    for _ in blocks(manifest, bins):
        pass
