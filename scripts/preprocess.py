"""The test set of a CIFAR-10 archive -> bins, or labels.

`--bins data/bin`: image_<i>.bin (float32, CHW, RGB, value/255, 12,288 bytes; i = index in test_batch) and
manifest.json with their count and digest. `--labels data/labels.txt`: one integer a line, in the same order.
Of the archive only the test batch is read, by an unpickler that knows three names of numpy and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any, cast

import _build
import numpy as np
from _build import die, digest
from numpy.typing import NDArray

IMAGE_BYTES = 3 * 32 * 32
MEMBER_LIMIT = 200 << 20  # bytes; the official batch has 31 MB
ARCHIVE_LIMIT = 512 << 20  # bytes, unpacked; the official archive has 186 MB
REMEDY = "give ARCHIVE= the official cifar-10-python.tar.gz, or a folder of that format"


class Inert:
    """What each name of numpy becomes: it keeps its arguments and its state and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class CifarUnpickler(pickle._Unpickler):  # the one in Python: a pickle cannot make its memo take all memory
    """Reads the Python 2 pickles of CIFAR-10. No name gets it a real object: three become Inert, others are refused."""

    names = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}

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
        self.stream, self.left = stream, ARCHIVE_LIMIT

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError(f"more than {ARCHIVE_LIMIT} bytes in it")
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
    subject = subject or archive
    try:
        with opened(archive) as stream, tarfile.open(fileobj=cast(Any, Bounded(stream)), mode="r|") as members:
            for member in members:
                if member.isreg() and member.name.split("/")[-2:] == ["cifar-10-batches-py", wanted]:
                    if member.size > MEMBER_LIMIT:
                        die(subject, f"{wanted} has {member.size} bytes, too many for a batch", REMEDY)
                    content = members.extractfile(member)
                    assert content is not None  # a regular file has one
                    return content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        die(subject, f"damaged, or no tar archive ({error})", REMEDY)
    die(subject, f"no cifar-10-batches-py/{wanted} in it", REMEDY)


def read_batch(archive: Path, name: str, subject: object = None) -> tuple[NDArray[Any], list[int], bytes]:
    """(images uint8 [n, 3, 32, 32], n labels 0…9, the batch's bytes) of one batch; exits 1 on anything else, and then
    names `subject`, or else the archive."""
    raw = read_member(archive, name, subject or archive)
    where = f"{subject or archive}: {name}"
    try:
        batch = CifarUnpickler(io.BytesIO(raw), encoding="bytes").load()
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
    archive = {"sha256": digest(args.archive), "origin": _build.origin_of(args.archive)}
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
        found = hashlib.sha256()
        for i, image in enumerate(images):
            data = (image.astype(np.float32) / np.float32(255)).tobytes()
            found.update(data)
            (job.path / f"image_{i}.bin").write_bytes(data)
        job.record.update(count=len(images), digest=found.hexdigest())
        job.record["provenance"].update(provenance(raw), bins=found.hexdigest())


if __name__ == "__main__":
    main()
