"""CIFAR-10's archive and its batches, and rows of its binary version."""

from __future__ import annotations

from _support.cli import die

import gzip
import tarfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from formats.restricted_pickle import CifarUnpickler, LimitedReads
from network.spec import CLASSES, IMAGE_SHAPE, IMAGE_VALUES

MEMBER_LIMIT = 200 << 20  # bytes; the official batch has 31 MB
ARCHIVE_LIMIT = 256 << 20  # bytes, unpacked; the official archive has 186 MB
MEMBERS_LIMIT = 1000  # the official archive has 9
REMEDY = "give ARCHIVE= the official cifar-10-python.tar.gz, or a folder of that format"


def pixels(data: object) -> NDArray[Any] | None:
    """uint8 [n, *IMAGE_SHAPE] from the pickled state of numpy's array (version, shape, dtype, Fortran order, bytes)."""
    try:
        _, (count, width), dtype, fortran, raw = data.state  # type: ignore[attr-defined]
        if (width, dtype.arguments[0], fortran, type(raw)) == (IMAGE_VALUES, b"u1", False, bytes) and count > 0:
            return np.frombuffer(raw, np.uint8).reshape(count, *IMAGE_SHAPE)
    except (AttributeError, TypeError, ValueError, IndexError):
        pass
    return None


class LimitedStream:
    """The bytes of an unpacked archive, but not without end: a few kilobytes can hold terabytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.left, self.ends = stream, ARCHIVE_LIMIT, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        self.ends += not data  # tarfile goes on reading, for each block that a header promises
        if self.left < 0 or self.ends > 100:
            raise tarfile.TarError(f"more than {ARCHIVE_LIMIT} bytes in it" if self.left < 0 else "it ends too early")
        return data


def opened(archive: Path) -> IO[bytes]:
    """The bytes of an archive, unpacked if they are gzip's."""
    with open(archive, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], (gzip.open if packed else open)(archive, "rb"))


def read_member(archive: Path, wanted: str, subject: object = None) -> bytes:
    """The bytes of the member cifar-10-batches-py/<wanted>; what stands before it is skipped, nothing is unpacked.

    Exits 1, naming `subject` or else the archive, if it is damaged or has no such member.
    """
    remedy = REMEDY if subject else f"rm it, and make gets the official one, or {REMEDY}"
    subject = subject or archive
    try:
        with opened(archive) as stream, tarfile.open(fileobj=cast(Any, LimitedStream(stream)), mode="r|") as members:
            for i, member in enumerate(members):
                if i == MEMBERS_LIMIT:
                    raise tarfile.TarError(f"more than {MEMBERS_LIMIT} files in it")
                if member.isreg() and member.name.split("/")[-2:] == ["cifar-10-batches-py", wanted]:
                    if member.size > MEMBER_LIMIT:
                        die(subject, f"{wanted} has {member.size} bytes, too many for a batch", remedy)
                    content = members.extractfile(member)
                    assert content is not None  # a regular file has one
                    return content.read()
    except Exception as error:  # noqa: BLE001  tarfile raises errors of every kind on strange headers
        die(subject, f"damaged, or no tar archive ({error})", remedy)
    die(subject, f"no cifar-10-batches-py/{wanted} in it", remedy)


def read_batch(archive: Path, name: str, subject: object = None) -> tuple[NDArray[Any], list[int], bytes]:
    """(images uint8 [n, *IMAGE_SHAPE], n labels, the batch's bytes) of one batch; exits 1 on anything else, and then
    names `subject`, or else the archive."""
    raw = read_member(archive, name, subject)
    where = f"{subject or archive}: {name}"
    try:
        batch = CifarUnpickler(LimitedReads(raw), encoding="bytes").load()
        data, labels = batch[b"data"], batch[b"labels"]
    except Exception as error:  # noqa: BLE001  a pickle of strange bytes can raise anything
        die(where, f"not a CIFAR-10 batch ({type(error).__name__}: {error})", REMEDY)
    images = pixels(data)
    if images is None:
        die(where, f"its data are no uint8 images of {IMAGE_VALUES} bytes", REMEDY)
    if not isinstance(labels, list) or len(labels) != len(images):
        die(where, f"{len(images)} images have not as many labels", REMEDY)
    for i, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < len(CLASSES):
            what = label if type(label) is int and abs(label) < 1000 else f"of type {type(label).__name__}"
            die(where, f"image {i} has label {what}, not one of 0 to {len(CLASSES) - 1}", REMEDY)
    return images, labels, raw


BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
ROW = 1 + IMAGE_VALUES  # bytes of CIFAR-10's binary version: a label, then uint8 CHW


def read_rows(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """(images float32 [n, *IMAGE_SHAPE] as bins have them, labels uint8 [n])."""
    rows = np.fromfile(path, np.uint8).reshape(-1, ROW)
    return rows[:, 1:].reshape(-1, *IMAGE_SHAPE).astype(np.float32) / np.float32(255), rows[:, 0]
