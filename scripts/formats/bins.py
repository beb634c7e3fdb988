"""Reads bins: one file per image, float32 or uint8, and manifest.json with their count, type and digest. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record, rebuild_hint
from _support.cli import die

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

from network.spec import FLOAT32, IMAGE_SHAPE, PIXEL_SHAPE, UINT8


class Form(NamedTuple):
    """What a bin contains."""

    folder: str  # of the bins, below data/
    dtype: str
    shape: Tuple[int, ...]

    def size(self) -> int:
        """The bytes of a bin."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape))

    def empty(self, images: int) -> NDArray[Any]:
        """An array for images of this form, [images, *shape]."""
        return np.empty((images, *self.shape), self.dtype)

    def random(self, images: int) -> NDArray[Any]:
        """The same with random pixels, for measurements."""
        pixels = np.random.RandomState(0).randint(0, 256, (images, *self.shape))
        return pixels.astype(self.dtype) if self.dtype == UINT8 else (pixels / 255).astype(self.dtype)


FORMS: Dict[str, Form] = {
    FLOAT32: Form("bin", "float32", IMAGE_SHAPE),  # RGB in [0, 1]
    UINT8: Form("bin-uint8", "uint8", PIXEL_SHAPE),  # RGB as in the archive, with the channels last
}


TABLE = np.arange(256, dtype=np.float32) / np.float32(255)  # the values of a float32 bin, as preprocess.py writes them


def float_images(images: NDArray[Any]) -> NDArray[Any]:
    """Images of any type as float32 [n, *IMAGE_SHAPE]."""
    return images if images.dtype == np.float32 else TABLE[np.moveaxis(images, -1, 1)]


def form_of(bins: Record) -> Form:
    """The form of the bins with the record `bins`."""
    return FORMS[UINT8 if bins.get("type") == UINT8 else FLOAT32]


def check_type(manifest: Path, bins: Record, expected: str, model: object) -> None:
    """Exits 1 unless the bins are of the type `expected`, the input of the model."""
    found = bins.get("type", FLOAT32)
    if found != expected:
        problem = f"these bins are {found}, but the input of {model} is {expected}"
        die(manifest, problem, f"use those in data/{FORMS[expected].folder}, as make infer does")


def read_bin(path: Path | str, image: NDArray[Any]) -> NDArray[Any]:
    """Reads one bin into `image`, an array of its form, and returns it; exits 1 if it is missing or of another size."""
    size = 0
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, BlockingIOError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: do not wait for the writer of a pipe
        try:
            size = os.readv(file, [image.data, bytearray(1)])
        finally:
            os.close(file)
    if size != image.nbytes:
        path = Path(path)
        exists, remedy = path.is_file(), rebuild_hint(path.with_name("manifest.json"))
        wrong = f"{path.stat().st_size} bytes, not {image.nbytes}" if exists else ""
        problem = wrong or "missing, but counted in the manifest"
        die(path, problem, remedy)
    return image


def read_bins(manifest: Path, bins: Record, numbers: Iterable[int]) -> NDArray[Any]:
    """The images with these numbers, an array of their form [n, *shape]."""
    numbers = list(numbers)
    images = form_of(bins).empty(len(numbers))
    for image, number in zip(images, numbers):
        read_bin(f"{manifest.parent}/image_{number}.bin", image)
    return images


BLOCK = 32  # images passed between threads at once; larger batches are passed whole


def blocks(manifest: Path, bins: Record, size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """Yields all images in order as new arrays of their form, [size, *shape]; the last one may be shorter.

    Exits 1 if one cannot be read and, at the end, if their digest differs from the one in their record, `bins`.
    """
    sha256, count = hashlib.sha256(), bins["count"]
    for start in range(0, count, size):
        images = read_bins(manifest, bins, range(start, min(start + size, count)))
        sha256.update(images.ravel().data)
        yield images
    if sha256.hexdigest() != bins["digest"]:
        die(manifest.parent, "the bins' digest differs from the one in manifest.json", rebuild_hint(manifest))


def some_bins(manifest: Path, bins: Record, count: int) -> NDArray[Any]:
    """Up to `count` images, spread evenly over the set: an array of their form [n, *shape].

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
