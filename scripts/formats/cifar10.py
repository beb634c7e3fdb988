"""Reads the CIFAR-10 archive (python version), its batches, and rows of the binary version."""

from __future__ import annotations

from _support.cli import die

import contextlib
import gzip
import hashlib
import mmap
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any, Iterator, NoReturn, Union, cast

import numpy as np
from numpy.typing import NDArray

from formats.batch_pickle import BatchError, BatchUnpickler, images_and_labels
from formats.official import BATCHES_MD5
from formats.python2 import FOLDER
from formats.restricted_pickle import LimitedReads
from formats.user_inputs import LIMITS, MEMBER_LIMIT, MEMBERS, RETURN, check_size
from network.spec import IMAGE_SHAPE, IMAGE_VALUES

ARCHIVE_LIMIT = LIMITS["archive"]  # bytes, unpacked; the official archive has 186 MB
READS_LIMIT = 1 << 18  # of the file, and of what is unpacked; the official archive needs 40,000
MEMBERS_LIMIT = 1000  # the official archive has 9
# Bytes of one extended header, and of all in an archive. They have long names, times and attributes, of which usual
# archives have 100 bytes a file. tarfile reads each as a whole, and may take time with the square of its size.
HEADER_LIMIT, HEADERS_LIMIT = 8 << 10, 128 << 10
LARGE = 64 << 20  # bytes of a member that are too many for memory; the official batches have 31 MB
Content = Union[bytes, mmap.mmap]
REMEDY = "set ARCHIVE= to the official cifar-10-python.tar.gz, or to a folder of that format"


class LimitedStream:
    """Limits the size of an archive, because a few kilobytes can unpack to terabytes, and the number of its reads,
    because gzip reads some of its headers byte by byte."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.left, self.reads, self.ends = stream, ARCHIVE_LIMIT, READS_LIMIT, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        self.reads -= 1
        self.ends += not data  # tarfile continues to read for each block that a header announces
        if self.left < 0:
            raise tarfile.TarError(f"more than {ARCHIVE_LIMIT} bytes in it")
        if self.reads < 0:
            raise tarfile.TarError("too many small parts")
        if self.ends > 100:
            raise tarfile.TarError("unexpected end")
        return data


EXTENDED_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
SPARSE = "sparse files, which are not read: pack it again without --sparse"


def limited_headers() -> type[tarfile.TarInfo]:
    """The class of the headers of one archive. It limits what tarfile reads and stores before it returns a member."""
    total = 0

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal total
            header = super().frombuf(buf, encoding, errors)
            if header.type in EXTENDED_HEADERS:
                total += header.size
                if header.size > HEADER_LIMIT or total > HEADERS_LIMIT:
                    raise tarfile.TarError(f"an extended header of {header.size} bytes, or {total} in all, in it")
            if header.type == tarfile.GNUTYPE_SPARSE:
                raise tarfile.TarError(SPARSE)
            return header

        def _proc_gnusparse_10(self, *_: object) -> NoReturn:
            """Instead of tarfile's method of this name, which reads a map of a sparse file, of any size."""
            raise tarfile.TarError(SPARSE)

    return Header


@contextlib.contextmanager
def open_archive(archive: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, LimitedStream]]:
    """Opens a tar archive, also with gzip: (the archive, its unpacked stream)."""
    archive.seek(0)  # an open file may have been read before
    head = archive.read(2)
    archive.seek(0)
    stream: Any = LimitedStream(archive)  # gzip and tarfile only need read()
    if head == b"\x1f\x8b":
        stream = LimitedStream(cast(IO[bytes], gzip.GzipFile(fileobj=stream)))
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=limited_headers()) as tar:
        yield tar, stream


OTHER_KINDS = {  # {first bytes: (kind of archive, how to convert it)}
    b"\xfd7zXZ": ("an xz archive", "xz -dc FILE > own.tar"),
    b"BZh": ("a bzip2 archive", "bzip2 -dc FILE > own.tar"),
    b"(\xb5/\xfd": ("a zstd archive", "zstd -dc FILE > own.tar"),
    b"PK\x03\x04": ("a zip archive", "unzip FILE"),
    b"7z\xbc\xaf": ("a 7z archive", "7z x FILE"),
}
LINKS = {  # {type of a member: (name, option of tar that stores the file instead)}
    tarfile.LNKTYPE: ("a hard link", "tar --hard-dereference"),
    tarfile.SYMTYPE: ("a symbolic link", "tar --dereference"),
}


def members_of(stream: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yields (member, name) of the members with the name cifar-10-batches-py/<name>."""
    for i, member in enumerate(stream):
        if i == MEMBERS_LIMIT:
            raise tarfile.TarError(f"more than {MEMBERS_LIMIT} files in it")
        folder, name = ["", *member.name.split("/")][-2:]
        if folder == FOLDER:
            yield member, name


def damaged(archive: Path, error: Exception, subject: object, remedy: str) -> NoReturn:
    """Exits 1 because an archive cannot be read; names the kind of another archive."""
    with open(archive, "rb") as file:
        head = file.read(8)
    for start, (kind, command) in OTHER_KINDS.items():
        if head.startswith(start):
            convert = f"convert it ({command}) and set ARCHIVE= to the result"
            die(subject, f"{kind}, which is not read", convert)
    die(subject, f"damaged, or not a tar archive ({error})", remedy)


def check_archive(archive: Path, subject: object, otherwise: str = "") -> None:
    """Exits 1 if an archive is damaged, contains a batch twice, or one as a link; the message is about `subject`.

    It is read to its end, where gzip has a checksum. Later readers stop at the batch that they need.
    """
    names: list[str] = []
    check_size("archive", archive, subject, otherwise + REMEDY)
    try:
        with open(archive, "rb") as file, open_archive(file) as (tar, stream):
            for member, name in members_of(tar):
                if name in MEMBERS and member.type in LINKS:
                    kind, command = LINKS[member.type]
                    die(subject, f"{name} in it is {kind}", f"pack it again with {command}")
                if name in MEMBERS and member.isreg():
                    names.append(name)
            while stream.read(1 << 20):
                pass
    except Exception as error:  # noqa: BLE001  tarfile raises many kinds of errors on invalid headers
        damaged(archive, error, subject, otherwise + REMEDY)
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        die(subject, f"{FOLDER}/{twice} is in it more than once", "pack it again with one of them")


def no_space(error: OSError) -> NoReturn:
    folder = f"TMPDIR={os.environ.get('TMPDIR', '/tmp')}"
    die(folder, f"cannot be written ({error.strerror})", "set TMPDIR to a folder with more space")


def mapped(content: IO[bytes]) -> mmap.mmap:
    """The content of a member in a temporary file, as memory that the system can take back. Exits 1 if there is no
    space for it."""
    try:
        opened = tempfile.TemporaryFile()  # noqa: SIM115  closed below
    except OSError as error:  # also if no folder for temporary files has space
        no_space(error)
    with opened as file:
        for block in iter(lambda: content.read(1 << 20), b""):
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                no_space(error)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def release(content: Content) -> None:
    """Gives memory that was read back to the system. The content can still be read."""
    if isinstance(content, mmap.mmap):
        content.madvise(mmap.MADV_DONTNEED)


def read_member(archive: Path, name: str, subject: object = None, file: IO[bytes] | None = None) -> Content:
    """The bytes of the member cifar-10-batches-py/<name>; for a large one memory of a temporary file.

    Reads the archive up to it. `file` is the archive, if it is open. Exits 1 if the archive is damaged or has no such
    member; the message is about `subject`, or else the archive.
    """
    remedy = REMEDY if subject else f"{RETURN}{REMEDY}"
    subject = subject or archive
    check_size("archive", archive, subject, remedy)
    try:
        with contextlib.nullcontext(file) if file else open(archive, "rb") as source, open_archive(source) as (tar, _):
            for member, member_name in members_of(tar):
                if member.isreg() and member_name == name:
                    if member.size > MEMBER_LIMIT:
                        die(subject, f"{name} has {member.size} bytes, too many for a batch", remedy)
                    content = tar.extractfile(member)
                    assert content is not None  # it is a regular file
                    return content.read() if member.size <= LARGE else mapped(content)
    except Exception as error:  # noqa: BLE001
        damaged(archive, error, subject, remedy)
    die(subject, f"no {FOLDER}/{name} in it", remedy)


def read_batch(
    archive: Path, name: str, subject: object = None, file: IO[bytes] | None = None
) -> tuple[NDArray[Any], list[int], Content]:
    """Reads a batch: (images uint8 [n, *IMAGE_SHAPE], n labels, the member's bytes, in which the images are).

    `file` is the archive, if it is open. Exits 1 if it is not a valid batch; the message is about `subject`, or else
    the archive.
    """
    raw = read_member(archive, name, subject, file)
    where = f"{subject or archive}: {name}"
    try:
        images, labels = images_and_labels(BatchUnpickler(LimitedReads(raw)).load())
    except BatchError as error:
        die(where, error.problem, error.remedy or REMEDY)
    except Exception as error:  # noqa: BLE001  an invalid pickle can raise any exception
        die(where, f"not a CIFAR-10 batch ({type(error).__name__}: {error})", REMEDY)
    return images, labels, raw


def origin_of_batches(members: dict[str, Content]) -> str:
    """`official` if all of these members of an archive, {name: bytes}, are the official ones, else `own`."""
    if any(len(raw) > LARGE for raw in members.values()):
        return "own"
    md5s = {name: hashlib.md5(raw, usedforsecurity=False).hexdigest() for name, raw in members.items()}
    return "official" if all(BATCHES_MD5[name] == md5 for name, md5 in md5s.items()) else "own"


BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
ROW = 1 + IMAGE_VALUES  # bytes of a row of CIFAR-10's binary version: a label, then uint8 CHW


def read_rows(data: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reads rows of the binary version: (images float32 [n, *IMAGE_SHAPE] in [0, 1] as in bins, labels uint8 [n])."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, ROW)
    return rows[:, 1:].reshape(-1, *IMAGE_SHAPE).astype(np.float32) / np.float32(255), rows[:, 0]
