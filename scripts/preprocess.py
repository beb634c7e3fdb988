"""The test set of a CIFAR-10 archive -> bins, or labels.

`--bins data/bin`: image_<i>.bin (float32, CHW, RGB, value/255, 12,288 bytes; i = index in test_batch) and
manifest.json with their count and digest. `--labels data/labels.txt`: one integer a line, in the same order.
Of the archive only the test batch is read, by an unpickler that knows three names of numpy and nothing else.
"""

from __future__ import annotations

import _build
from _build import die, digest

import gzip
import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import IO, Any, Callable, Dict, cast

import numpy as np
from _progress import Progress
from numpy.typing import NDArray

IMAGE_BYTES = 3 * 32 * 32
MEMBER_LIMIT = 200 << 20  # bytes; the official batch has 31 MB
ARCHIVE_LIMIT = 256 << 20  # bytes, unpacked; the official archive has 186 MB
MEMBERS_LIMIT = 1000  # the official archive has 9
READS_LIMIT = 1 << 20  # of a batch, one or two an instruction; the official one has a tenth of it
INSTRUCTIONS = (  # what Python 2 writes for a dict of text, numbers, lists and one array, by protocol 2, 1 or 0
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.LIST, pickle.NONE),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.APPEND, pickle.APPENDS),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
)
REMEDY = "give ARCHIVE= the official cifar-10-python.tar.gz, or a folder of that format"


class Inert:
    """What each name of numpy becomes: it keeps its arguments and its state and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Instructions(Dict[int, Any]):
    """What the unpickler does for each instruction; one that is not there is refused."""

    needed_by = "CIFAR-10 batch"

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"it has the instruction {code:#04x}, which no {self.needed_by} needs")


class Counted(io.BytesIO):
    """The bytes of a pickle, for so many reads and no more: a megabyte of instructions can take gigabytes."""

    left = READS_LIMIT

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError("it has too many instructions")
        return super().read(size)


class CifarUnpickler(pickle._Unpickler):  # the one in Python: a pickle cannot make its memo take all memory
    """Reads the Python 2 pickles of CIFAR-10. No name gets it a real object: three become Inert, others are refused.
    A key is text: the hash of a deep tuple crashes, and those of numbers can be made to collide."""

    names = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
    dispatch = Instructions({code: pickle._Unpickler.dispatch[code] for code in b"".join(INSTRUCTIONS)})

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, bytes):
                raise pickle.UnpicklingError("it has a key that is no text")
            self.stack[-1][key] = value

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")
        return Inert


def pixels(data: object) -> NDArray[Any] | None:
    """uint8 [n, 3, 32, 32] from the pickled state of numpy's array (version, shape, dtype, Fortran order, bytes)."""
    try:
        _, (count, width), dtype, fortran, raw = data.state  # type: ignore[attr-defined]
        if (width, dtype.arguments[0], fortran, type(raw)) == (IMAGE_BYTES, b"u1", False, bytes) and count > 0:
            return np.frombuffer(raw, np.uint8).reshape(count, 3, 32, 32)
    except (AttributeError, TypeError, ValueError, IndexError):
        pass
    return None


class Bounded:
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
        with opened(archive) as stream, tarfile.open(fileobj=cast(Any, Bounded(stream)), mode="r|") as members:
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
    """(images uint8 [n, 3, 32, 32], n labels 0…9, the batch's bytes) of one batch; exits 1 on anything else, and then
    names `subject`, or else the archive."""
    raw = read_member(archive, name, subject)
    where = f"{subject or archive}: {name}"
    try:
        batch = CifarUnpickler(Counted(raw), encoding="bytes").load()
        data, labels = batch[b"data"], batch[b"labels"]
    except Exception as error:  # noqa: BLE001  a pickle of strange bytes can raise anything
        die(where, f"not a CIFAR-10 batch ({type(error).__name__}: {error})", REMEDY)
    images = pixels(data)
    if images is None:
        die(where, "its data are no uint8 images of 3072 bytes", REMEDY)
    if not isinstance(labels, list) or len(labels) != len(images):
        die(where, f"{len(images)} images have not as many labels", REMEDY)
    for i, label in enumerate(labels):
        if type(label) is not int or not 0 <= label <= 9:
            what = label if type(label) is int and abs(label) < 1000 else f"of type {type(label).__name__}"
            die(where, f"image {i} has label {what}, not one of 0…9", REMEDY)
    return images, labels, raw


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--official-md5", required=True, help="of the official test_batch: what has it is official")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bins", type=Path)
    what.add_argument("--labels", type=Path)
    args = parser.parse_args()
    found = digest(args.archive)
    archive = {"sha256": found, "origin": _build.origin_of(args.archive, found)}
    key = _build.key_of({"archive": archive}, {"official_md5": args.official_md5})

    def provenance(raw: bytes) -> _build.Record:
        origin = archive["origin"]
        if origin != "sample":
            origin = "official" if hashlib.md5(raw, usedforsecurity=False).hexdigest() == args.official_md5 else "own"
        return {"archive": archive["sha256"], "data_origin": origin}

    if args.labels:
        with _build.build_file(args.labels, key) as job:
            _, labels, raw = read_batch(args.archive, "test_batch")
            job.path.write_text("".join(f"{label}\n" for label in labels))
            job.record["count"] = len(labels)
            job.record["provenance"].update(provenance(raw))
        return
    with _build.build_folder(args.bins / "manifest.json", key) as job:
        images, _, raw = read_batch(args.archive, "test_batch")
        made, progress = hashlib.sha256(), Progress(len(images), "bins")
        for i, image in enumerate(images):
            data = (image.astype(np.float32) / np.float32(255)).tobytes()
            made.update(data)
            _build.write_bytes(f"{job.path}/image_{i}.bin", data)
            progress.update(i + 1)
        job.record.update(count=len(images), digest=made.hexdigest())
        job.record["provenance"].update(provenance(raw), bins=made.hexdigest())


if __name__ == "__main__":
    main()
