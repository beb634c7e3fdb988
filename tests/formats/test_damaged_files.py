"""Damaged archives, batches, bins, labels and outputs are read as what they are, or refused in one line."""

from __future__ import annotations

from _support import artifact

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import time
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any, Callable, NoReturn

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fetch
from damage import Damage, Edit, damages, outcome
from formats import bins, cifar10, official, outputs, sample, user_inputs
from formats.batch_pickle import BatchError, BatchUnpickler, images_and_labels
from formats.python2 import FOLDER
from formats.restricted_pickle import LimitedReads
from fuzzing import examples
from network.spec import CLASSES, IMAGE_SHAPE

IMAGES, LABELS = sample.draw(3, 2)
ROWS = IMAGES.reshape(2, -1)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch mark",)


def python3_batch(protocol: int, **more: Any) -> bytes:
    return pickle.dumps({"data": ROWS, "labels": LABELS.tolist(), "filenames": ["a", "b"], **more}, protocol)


BATCHES = {
    "of Python 2": sample.batch("testing batch 1 of 1", IMAGES, LABELS),
    **{f"protocol {protocol}": python3_batch(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "numbers of numpy": pickle.dumps({b"data": ROWS, b"labels": [*LABELS], b"note": {1: np.float32(1)}}),
    "array of labels": pickle.dumps({"data": np.asfortranarray(ROWS), "labels": LABELS.astype(">i4")}),
    "code": python3_batch(2, note=Evil()),
    "code at the end": python3_batch(4, labels=Evil()),
}


def is_batch(images: Any, labels: list[int]) -> bool:
    """Whether a batch that was read has images, and as many labels."""
    shape = images.dtype == np.uint8 and images.shape == (len(labels), *IMAGE_SHAPE)
    return shape and bool(labels) and all(type(label) is int and 0 <= label < len(CLASSES) for label in labels)


@given(damages(*BATCHES))
def test_a_damaged_batch_is_a_batch_or_an_error_of_its_reader(damage: Damage) -> None:
    data = damage.of(BATCHES)
    result = outcome(lambda: images_and_labels(BatchUnpickler(LimitedReads(data)).load()), BatchError, Exception)
    if result is not None:
        assert is_batch(*result)


# Archives


def tar_of(files: dict[str, bytes], form: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar of a batch and other members. `kind`: the type of the batch's member."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size, member.mtime = len(data), 1.5
            member.pax_headers = {"comment": "x" * 200} if form == tarfile.PAX_FORMAT else {}
            if kind != tarfile.REGTYPE and name == "test_batch":
                member.type, member.size, member.linkname = kind, 0, f"{FOLDER}/data_batch_1"
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


FILES = {"batches.meta": b"meta", "test_batch": BATCHES["of Python 2"], "data_batch_1": BATCHES["protocol 4"]}
LONG = {"x" * 150: b"long name", **FILES}
TARS = {
    "ustar": tar_of(FILES, tarfile.USTAR_FORMAT),
    "gnu": tar_of(LONG, tarfile.GNU_FORMAT),
    "pax": tar_of(LONG, tarfile.PAX_FORMAT),
    "symbolic link": tar_of(FILES, tarfile.GNU_FORMAT, tarfile.SYMTYPE),
    "hard link": tar_of(FILES, tarfile.GNU_FORMAT, tarfile.LNKTYPE),
    "sparse": tar_of(FILES, tarfile.GNU_FORMAT, tarfile.GNUTYPE_SPARSE),
    "pipe": tar_of(FILES, tarfile.GNU_FORMAT, tarfile.FIFOTYPE),
    "zip": b"PK\x03\x04" + bytes(100),
}
ARCHIVES = {**TARS, **{f"{name}.gz": gzip.compress(data, 1, mtime=0) for name, data in TARS.items()}}


def with_checksums(data: bytes) -> bytes:
    """A tar with right checksums in all blocks that have one, so that damage of headers is not found by them."""
    blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
    for i, block in enumerate(blocks):
        if len(block) == 512 and block[257:262] == b"ustar":
            blocks[i] = block[:148] + b"%06o\0 " % tarfile.calc_chksums(block)[0] + block[156:]
    return b"".join(blocks)


@given(damages(*ARCHIVES), st.booleans(), st.booleans())
@example(Damage("sparse", []), True, False)
def test_a_damaged_archive_has_its_batch_or_is_refused(
    scratch: Path, damage: Damage, checksums: bool, packed: bool
) -> None:
    data = damage.of(ARCHIVES)
    data = with_checksums(data) if checksums else data
    path = scratch / "archive.tar.gz"
    path.write_bytes(gzip.compress(data, 1) if packed else data)

    def read() -> Any:
        cifar10.check_archive(path, path)
        return cifar10.read_batch(path, "test_batch")

    result = outcome(read)
    if result:
        images, labels, raw = result
        assert is_batch(images, labels)
        assert cifar10.origin_of_batches({"test_batch": raw}) == "own"


def header(kind: bytes, content: bytes, name: str = "x") -> bytes:
    """A member of a tar, with any type."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    return member.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


BATCH = header(tarfile.REGTYPE, BATCHES["of Python 2"], f"{FOLDER}/test_batch")
OTHER = header(tarfile.REGTYPE, b"")
SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
LARGE = 80 << 20
GZIP = gzip.compress(BATCH)
COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "attributes": (lambda: header(tarfile.XHDTYPE, b"x" * LARGE) + BATCH, "an extended header of 83886080 bytes"),
    "global attributes": (lambda: header(tarfile.XGLTYPE, b"x" * LARGE) + BATCH, "an extended header of"),
    "name": (lambda: header(tarfile.GNUTYPE_LONGNAME, b"x" * LARGE) + BATCH, "an extended header of"),
    "link": (lambda: header(tarfile.GNUTYPE_LONGLINK, b"x" * LARGE) + BATCH, "an extended header of"),
    "digits": (lambda: header(tarfile.XHDTYPE, b"1" * (1 << 17)) + BATCH, "an extended header of"),
    "many": (lambda: (header(tarfile.XHDTYPE, b"1" * 8000) + OTHER) * 100 + BATCH, "or 136000 in all"),
    "chain": (lambda: header(tarfile.XHDTYPE, b"") * 10000 + BATCH, "recursion"),
    "map": (
        lambda: header(tarfile.XHDTYPE, SPARSE) + header(tarfile.REGTYPE, b"9999999\n" + b"1\n" * (20 << 20)) + BATCH,
        "sparse files, which are not read",
    ),
    "old map": (lambda: header(tarfile.GNUTYPE_SPARSE, b"") + BATCH, "sparse files, which are not read"),
    "name of gzip": (lambda: GZIP[:3] + b"\x08" + GZIP[4:10] + b"x" * LARGE + b"\0" + GZIP[10:], "small parts"),
    "parts of gzip": (lambda: gzip.compress(b"") * 1_000_000 + GZIP, "too many small parts"),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_an_archive_whose_headers_would_take_time_or_memory_is_refused(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = COSTLY[kind]
    path, data = tmp_path / "archive.tar.gz", make()
    path.write_bytes(data if data.startswith(b"\x1f\x8b") else gzip.compress(data, 1))
    size = len(data)
    del data
    if "gzip" not in kind:  # it makes many small reads slow
        tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(SystemExit):
        cifar10.check_archive(path, path)
    peak = tracemalloc.get_traced_memory()[1]  # 0 if it was not started
    tracemalloc.stop()
    assert time.process_time() - begin < 10
    assert peak < max(size // 8, 4 << 20)
    line = capsys.readouterr().err
    assert words in line and line.count("\n") == 1


def test_a_usual_archive_with_attributes_of_each_file_is_read(tmp_path: Path) -> None:
    path, attributes = tmp_path / "archive.tar", {"mtime": "1.5", "LIBARCHIVE.xattr.com.apple.quarantine": "x" * 60}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ["a" * 200, *(f"b{i}" for i in range(500)), "test_batch"]:
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.pax_headers, member.size = attributes, len(BATCHES["of Python 2"])
            tar.addfile(member, io.BytesIO(BATCHES["of Python 2"]))
    cifar10.check_archive(path, path)
    assert is_batch(*cifar10.read_batch(path, "test_batch")[:2])


def test_a_file_that_is_too_large_for_an_input_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_read(*_: object) -> NoReturn:
        raise AssertionError("it is read")

    path, folder = tmp_path / "net.om", tmp_path / "folder"
    folder.mkdir()
    path.touch()
    os.truncate(path, 4 << 30)
    monkeypatch.setattr(artifact, "blocks", no_read)
    readers: list[Callable[[], object]] = [
        *(partial(user_inputs.digest_of_input, what, path) for what in user_inputs.VARIABLE),
        lambda: cifar10.check_archive(path, path),
        lambda: cifar10.read_batch(path, "test_batch"),
        lambda: fetch.keep_existing(path, official.FILES["archive"], "ARCHIVE"),
    ]
    for reader in readers:
        with pytest.raises(SystemExit):
            reader()
        line = capsys.readouterr().err
        assert ": 4294967296 bytes, more than " in line and line.count("\n") == 1
    for name in user_inputs.MEMBERS:
        (folder / name).touch()
        os.truncate(folder / name, user_inputs.MEMBER_LIMIT)
    for words in ("its files have 2936012800 bytes, more than 536870912", "test_batch has 419430401 bytes, too many"):
        with pytest.raises(SystemExit):
            user_inputs.digest_of_input("archive", folder)
        assert words in capsys.readouterr().err
        os.truncate(folder / "test_batch", user_inputs.MEMBER_LIMIT + 1)


KINDS_OF_FILES = st.sampled_from(["file", "folder", "absent", "pipe", "link", "broken link", "loop"])


@given(st.dictionaries(st.sampled_from([*user_inputs.MEMBERS, FOLDER]), KINDS_OF_FILES, max_size=4), st.booleans())
@examples(50)
def test_a_folder_with_any_kinds_of_files_has_a_digest_or_is_refused(
    scratch: Path, kinds: dict[str, str], is_parent: bool
) -> None:
    folder = scratch / "given"
    artifact.remove(folder)
    inner = folder / FOLDER if is_parent else folder
    inner.mkdir(parents=True)
    for name, kind in kinds.items():
        path = inner / name
        if kind == "file":
            path.write_bytes(name.encode())
        elif kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind != "absent":
            path.symlink_to({"link": Path(__file__), "broken link": folder / "none", "loop": path}[kind])
    for what in user_inputs.VARIABLE:
        sha256 = outcome(lambda what=what: user_inputs.digest_of_input(what, folder))  # type: ignore[misc]
        readable = kinds.get("test_batch") in ("file", "link")
        assert (sha256 is not None) == (what == "archive" and readable)


# Outputs and labels

ROW = np.array([0.1, -1e-30, 3e38, 5, -6, 7, 8, 9, 10, 1 / 3], np.float32)
FORMATS = ("txt", "bin", "npy")
ROWS_BY_FORM = {form: outputs.encode(ROW, form) for form in FORMATS}


def saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


OTHERS = {
    "double": saved(ROW.astype(np.float64)),
    "row of rows": saved(ROW.reshape(1, 1, 10)),
    "objects": saved(np.array([Evil()] * 10)),
    "text": saved(np.array(["1"] * 10)),
    "complex": saved(ROW.astype(np.complex64)),
    "Python 2": saved(ROW).replace(b"(10,), ", b"(10L,),"),
    "huge": saved(ROW).replace(b"(10,), ", b"(9999999999,), "),
}


@given(damages(*FORMATS, *OTHERS), st.sampled_from(FORMATS))
@example(Damage(b"PK\x03\x04" + bytes(36), []), "npy")
@example(Damage("npy", [Edit("truncate", 0, 0, 1)]), "npy")
@example(Damage("objects", []), "npy")
@example(Damage(b"\1\0\x80\x7f" * 10, []), "bin")  # signalling NaN
@example(Damage("complex", []), "npy")
@example(Damage("Python 2", []), "npy")
def test_a_damaged_output_of_any_format_has_ten_finite_values_or_is_refused(damage: Damage, form: str) -> None:
    data = damage.of({**ROWS_BY_FORM, **OTHERS})
    row = outcome(lambda: outputs.decode(Path("image_0_0"), data, form))
    if row is not None:
        assert row.dtype == np.float64 and row.shape == (len(CLASSES),) and np.isfinite(row).all()
    elif data == ROWS_BY_FORM[form]:
        raise AssertionError("not read")


@given(st.sampled_from(FORMATS), st.lists(st.integers(0, 3), max_size=3), damages(*FORMATS), st.booleans())
@examples(50)
def test_a_folder_of_outputs_is_the_one_of_its_digest_or_refused(
    scratch: Path, form: str, places: list[int], damage: Damage, is_other: bool
) -> None:
    """`places` are images whose output is damaged, or gets another name."""
    folder = scratch / "outputs"
    artifact.remove(folder)
    folder.mkdir()
    files = {outputs.name_of(i, form): outputs.encode(ROW * np.float32(1 + i / 99), form) for i in range(4)}
    sha256 = hashlib.sha256(b"".join(files.values())).hexdigest()
    for place in places:
        name = outputs.name_of(place, form)
        if is_other:
            files[f"{name}.x"] = files.pop(name, b"")
        else:
            files[name] = damage.of(ROWS_BY_FORM)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    rows = outcome(lambda: outputs.read_outputs(folder / "manifest.json", {"format": form, "digest": sha256}, 4))
    if rows is not None:
        assert rows.shape == (4, len(CLASSES)) and np.isfinite(rows).all()
        assert hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest() == sha256


LABELS_TEXT = {"labels": b"".join(b"%d\n" % (i % 10) for i in range(30)), "one": b"3\n", "windows": b"1\r\n2\r\n"}


@given(damages(*LABELS_TEXT), st.booleans())
def test_damaged_labels_are_classes_or_refused(scratch: Path, damage: Damage, is_known: bool) -> None:
    path, data = scratch / "labels.txt", damage.of(LABELS_TEXT)
    path.write_bytes(data)
    sha256 = hashlib.sha256(LABELS_TEXT["labels"]).hexdigest() if is_known else ""
    labels = outcome(lambda: outputs.read_labels(path, sha256))
    if labels is not None:
        assert "".join(f"{label}\n" for label in labels) == data[: data.rfind(b"\n") + 1].decode()
        assert set(labels.tolist()) <= set(range(len(CLASSES)))
        assert not is_known or data == LABELS_TEXT["labels"]


# Bins

BINS = {f"image_{i}.bin": cifar10.read_rows(bytes([0]) + ROWS[i].tobytes())[0].tobytes() for i in range(2)}
DIGEST = hashlib.sha256(b"".join(BINS.values())).hexdigest()


@given(
    st.sampled_from([*BINS]), damages("bin"), st.sampled_from([1, 2, 3, 5]), st.sampled_from(["file", "absent", "pipe"])
)
def test_damaged_bins_are_those_of_their_digest_or_refused(
    scratch: Path, name: str, damage: Damage, count: int, kind: str
) -> None:
    folder = scratch / "bins"
    artifact.remove(folder)
    folder.mkdir()
    files = {**BINS, name: damage.of({"bin": BINS[name]})}
    for file, data in files.items():
        (folder / file).write_bytes(data)
    if kind != "file":
        (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    record = {"count": count, "digest": DIGEST}
    images = outcome(lambda: np.concatenate([*bins.blocks(folder / "manifest.json", record, 2)]))
    if images is not None:
        assert hashlib.sha256(images.tobytes()).hexdigest() == DIGEST
        assert len(images) == count == 2
