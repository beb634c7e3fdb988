"""Conversion of archives to bins and labels."""

from __future__ import annotations

from _support.artifact import read_record

import errno
import gzip
import hashlib
import io
import mmap
import os
import pickle
import re
import sys
import tarfile
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from conftest import SCRIPTS, refused, run, script, script_here
from formats import cifar10, official, python2, restricted_pickle, sample
from formats.python2 import Call, Global, python2_pickle

IMAGES, LABELS = sample.draw(3, 12)


def preprocess(archive: Path, tmp_path: Path, what: str = "bins") -> Any:
    out = tmp_path / ("bin" if what == "bins" else "labels.txt")
    return script("preprocess", "--archive", archive, f"--{what}", out)


def pack(tmp_path: Path, batch: bytes) -> Path:
    python2.write_tar(tmp_path / "archive.tar.gz", {"batches.meta": b"", "test_batch": batch})
    return tmp_path / "archive.tar.gz"


def test_bins_are_float32_chw_rgb_over_255_in_the_order_of_the_test_batch(tmp_path: Path) -> None:
    archive = pack(tmp_path, sample.batch("t", IMAGES, LABELS))
    assert preprocess(archive, tmp_path).returncode == 0
    assert preprocess(archive, tmp_path, "labels").returncode == 0
    everything = hashlib.sha256()
    for i, image in enumerate(IMAGES):
        data = (tmp_path / f"bin/image_{i}.bin").read_bytes()
        everything.update(data)
        assert len(data) == 12288
        assert np.array_equal(np.frombuffer(data, np.float32).reshape(3, 32, 32), image.astype(np.float32) / 255)
    manifest = read_record(tmp_path / "bin/manifest.json")
    assert (manifest["count"], manifest["digest"]) == (12, everything.hexdigest())
    assert len(list((tmp_path / "bin").iterdir())) == 13
    assert (tmp_path / "labels.txt").read_text() == "".join(f"{k}\n" for k in LABELS)
    assert not list((tmp_path / "bin").glob("*.txt"))


def take(what: str, source: object, out: Path) -> Any:
    note = ("--stat", "seen", "--note", out.with_name("note"))
    return script("import_input", "--what", what, "--given", source, *note, "--out", out)


@pytest.mark.parametrize("which", ["folder", "parent", "tar"])
def test_a_folder_its_parent_and_the_archive_give_the_same_bins(tmp_path: Path, which: str) -> None:
    files = sample.archive_files(3, 10, 12)
    folder = tmp_path / "given/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with tarfile.open(tmp_path / "given.tar.gz", "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-py")
    source = {"folder": folder, "parent": folder.parent, "tar": tmp_path / "given.tar.gz"}[which]
    out = tmp_path / "data/archive.tar.gz"
    assert take("archive", source, out).returncode == 0
    assert preprocess(out, tmp_path).returncode == 0
    manifest = read_record(tmp_path / "bin/manifest.json")
    pixels = (IMAGES.astype(np.float32) / 255).tobytes()
    assert manifest["digest"] == hashlib.sha256(pixels).hexdigest()
    assert manifest["provenance"]["data_origin"] == "own"


def test_the_official_test_batch_is_recognized_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = sample.batch("t", IMAGES, LABELS)
    monkeypatch.setitem(official.BATCHES_MD5, "test_batch", hashlib.new("md5", batch).hexdigest())
    done = script_here("preprocess", "--archive", pack(tmp_path, batch), "--bins", tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    assert read_record(tmp_path / "bin/manifest.json")["provenance"]["data_origin"] == "official"


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_a_malicious_batch_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    archive = pack(tmp_path, pickle.dumps({"data": Evil(mark), "labels": []}, 2))
    refused(preprocess(archive, tmp_path), "test_batch", " for a CIFAR-10 batch")
    assert not mark.exists()
    assert not (tmp_path / "bin").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("os", "system"),
        ("copyreg", "_reconstructor"),
    ],
)
def test_names_other_than_those_of_numpy_arrays_are_rejected(tmp_path: Path, module: str, name: str) -> None:
    batch = python2_pickle({b"data": Global(module, name), b"labels": []})
    refused(preprocess(pack(tmp_path, batch), tmp_path), f"{module}.{name}")


def of_numpy(name: str, *arguments: object, state: object = None) -> Call:
    module = "numpy.core.multiarray" if name == "_reconstruct" else "numpy"
    return Call(Global(module, name), arguments, state)


ARRAY = Global("numpy", "ndarray")
OBJECTS = of_numpy("dtype", b"O", 0, 1, state=(3, b"|", None, None, None, -1, -1, 0))
BYTES = of_numpy("dtype", b"u1", 0, 1, state=(3, b"|", None, None, None, -1, -1, 0))
POINTERS = of_numpy("_reconstruct", ARRAY, (0,), b"b", state=(1, (2,), OBJECTS, False, b"A" * 16))


@pytest.mark.parametrize(
    "data",
    [
        of_numpy("ndarray", POINTERS),  # object pointers chosen by the file
        of_numpy("_reconstruct", ARRAY, (10, 3072), b"B"),  # uninitialized memory
        of_numpy("ndarray", (10, 3072), BYTES),
        of_numpy("_reconstruct", ARRAY, (0,), b"b", state=(1, (10, 3072), BYTES, False, b"short")),
        of_numpy("_reconstruct", ARRAY, (0,), b"b", state=(1, (10, 3072), OBJECTS, False, b"A" * 30720)),
        of_numpy("_reconstruct", ARRAY, (0,), b"b", state=(1, (-10, 3072), BYTES, False, b"A" * 30720)),
    ],
)
def test_the_names_of_numpy_cannot_be_misused(tmp_path: Path, data: Call) -> None:
    archive = pack(tmp_path, python2_pickle({b"data": data, b"labels": [0] * 10}))
    refused(preprocess(archive, tmp_path), "not uint8 images")


def test_a_huge_label_is_not_printed_and_takes_no_time(tmp_path: Path) -> None:
    batch = {b"data": of_numpy("_reconstruct", ARRAY, (0,), b"b", state=(1, (1, 3072), BYTES, False, b"A" * 3072))}
    for label, words in ((10**200, "label of type int"), ([[1]], "label of type list"), (b"\x1b[2J", "of type bytes")):
        done = preprocess(pack(tmp_path, python2_pickle({**batch, b"labels": [label]})), tmp_path)
        refused(done, words)
        assert "\x1b" not in done.stderr


GOOD = sample.batch("t", IMAGES, LABELS)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (GOOD[:-3000], "not a CIFAR-10 batch"),
        (b"", "not a CIFAR-10 batch"),
        (sample.batch("t", IMAGES, np.where(LABELS == 3, 10, LABELS)), "label 10"),
        (sample.batch("t", IMAGES, np.where(LABELS == 3, -1, LABELS)), "label -1"),
        (sample.batch("t", IMAGES, LABELS[:-1]), "number of labels differs"),
        (sample.batch("t", IMAGES[:0], LABELS[:0]), "not uint8 images"),
        (python2_pickle({b"labels": [1]}), "it contains labels, but not data"),
        (python2_pickle({b"data": b"", b"fine_labels": [1]}), "it contains data, fine_labels, but not labels"),
        (python2_pickle({b"data": b"text", b"labels": [1]}), "not uint8 images"),
        (python2_pickle([1]), "not a CIFAR-10 batch"),
    ],
)
def test_a_bad_batch_is_one_line_and_nothing_is_written(tmp_path: Path, batch: bytes, words: str) -> None:
    archive = pack(tmp_path, batch)
    for what in ("bins", "labels"):
        refused(preprocess(archive, tmp_path, what), "test_batch", words)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["archive.tar.gz"]


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    archive = pack(tmp_path, GOOD)
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive at all" * 100, b""):
        archive.write_bytes(content)
        refused(preprocess(archive, tmp_path), "archive.tar.gz")
    python2.write_tar(archive, {"batches.meta": b""})
    refused(preprocess(archive, tmp_path), "no cifar-10-batches-py/test_batch in it")


def test_an_archive_with_a_wrong_checksum_is_refused_at_import_and_replaces_nothing(tmp_path: Path) -> None:
    present = tmp_path / "archive.tar.gz"
    present.write_bytes(b"an earlier one")
    given = tmp_path / "given.tar.gz"
    python2.write_tar(given, sample.archive_files(3, 10, 12))
    whole = bytearray(given.read_bytes())
    for place in (len(whole) // 2, len(whole) // 3):
        whole[place] ^= 1
    given.write_bytes(whole)
    refused(take("archive", given, present), "given.tar.gz: damaged, or not a tar archive (CRC check failed")
    given.write_bytes(whole[:-4])
    refused(take("archive", given, present), "given.tar.gz: damaged, or not a tar archive (")
    assert present.read_bytes() == b"an earlier one"


@pytest.mark.parametrize("kind", ["xz", "bz2", "zip"])
def test_another_kind_of_archive_is_named(tmp_path: Path, kind: str) -> None:
    given = tmp_path / f"own.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(given, "w") as container:
            container.writestr("cifar-10-batches-py/test_batch", GOOD)
    else:
        with tarfile.open(given, f"w:{kind}") as tar:  # type: ignore[call-overload]
            tar.addfile(tarfile.TarInfo("cifar-10-batches-py/test_batch"))
    words = {"xz": "an xz archive, which is not read; convert it (xz -dc FILE > own.tar)", "bz2": "a bzip2 archive"}
    refused(take("archive", given, tmp_path / "out"), words.get(kind, "a zip archive, which is not read"))


def test_a_batch_that_is_in_an_archive_twice_or_as_a_link_is_refused(tmp_path: Path) -> None:
    def packed(*members: tuple[str, bytes, bytes]) -> Path:
        with tarfile.open(tmp_path / "given.tar", "w") as tar:
            for name, kind, content in members:
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.type, member.size, member.linkname = kind, len(content), "elsewhere"
                tar.addfile(member, io.BytesIO(content))
        return tmp_path / "given.tar"

    out, batch = tmp_path / "out.tar.gz", ("test_batch", tarfile.REGTYPE, GOOD)
    twice = packed(batch, ("batches.meta", tarfile.REGTYPE, b""), batch)
    refused(take("archive", twice, out), "cifar-10-batches-py/test_batch is in it more than once")
    for kind, words in (
        (tarfile.LNKTYPE, "a hard link; pack it again with tar --hard-dereference"),
        (b"2", "a symbolic"),
    ):
        refused(take("archive", packed(("test_batch", kind, b"")), out), f"test_batch in it is {words}")
        refused(take("archive", packed(batch, ("data_batch_1", kind, b"")), out), f"data_batch_1 in it is {words}")
    assert take("archive", packed(batch), out).returncode == 0


def test_only_a_regular_file_of_the_right_folder_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, kind in (
            ("cifar-10-batches-py/test_batch", tarfile.SYMTYPE),
            ("elsewhere/test_batch", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO())
    refused(preprocess(archive, tmp_path), "no cifar-10-batches-py/test_batch in it")


def test_an_archive_is_read_and_never_unpacked(tmp_path: Path) -> None:
    archive, out = tmp_path / "given/a.tar.gz", tmp_path / "root/data/archive.tar.gz"
    archive.parent.mkdir()
    test_batch = sample.archive_files(3, 10, 12)["test_batch"]
    with tarfile.open(archive, "w:gz") as tar:
        for name, kind in (
            ("../../escaped", b"0"),
            (f"{tmp_path}/escaped", b"0"),
            ("link", b"2"),
            ("link/escaped", b"0"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path)
            tar.addfile(member, io.BytesIO())
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.size = len(test_batch)
        tar.addfile(member, io.BytesIO(test_batch))
    assert take("archive", archive, out).returncode == 0
    assert preprocess(out, tmp_path).returncode == 0
    assert not list(tmp_path.parent.rglob("escaped"))


@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])  # a file, and the two headers that tarfile reads whole
def test_a_decompression_bomb_is_rejected_and_the_present_archive_is_kept(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("elsewhere/zeros")
    member.type, member.size = kind, 1 << 40
    zeros = gzip.compress(bytes(1 << 24))
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT)) + zeros * 33)
    assert bomb.stat().st_size < 2**21
    present = tmp_path / "archive.tar.gz"
    present.write_bytes(b"an earlier one")
    refused(
        take("archive", bomb, present),
        "bomb.tar.gz",
        "more than 536870912 bytes in it" if kind == b"0" else "an extended header",
    )
    assert present.read_bytes() == b"an earlier one"


def header(size: int = 0, kind: bytes = b"0", **pax: str) -> bytes:
    member = tarfile.TarInfo("cifar-10-batches-py/x")
    member.size, member.type, member.pax_headers = (
        size,
        kind,
        {key.replace("_", "."): text for key, text in pax.items()},
    )
    return member.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "tar",
    [
        header(1 << 60),
        header(1 << 44),
        header(kind=b"L") * 5000,
        header(GNU_sparse_size="abc", GNU_sparse_map="a,b"),
        header(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="x"),
        header() * 2000,
    ],
    ids=["endless", "long", "chain", "sparse", "sparse 1.0", "many"],
)
def test_invalid_headers_are_one_line_and_take_no_time(tmp_path: Path, tar: bytes) -> None:
    archive = tmp_path / "archive.tar"
    archive.write_bytes(tar)
    remedy = "remove it to return to the official or the sample's file"
    refused(preprocess(archive, tmp_path), "damaged, or not a tar archive", remedy)


@pytest.mark.parametrize(
    "batch",
    [
        b"\x80\x02}" + b")" + b"\x85" * 500000 + b"Ns.",
        b"\x80\x02}(" + b"".join(b"J" + (i * 7).to_bytes(4, "little") + b"N" for i in range(50000)) + b"u.",
        b"\x80\x02" + b"}" * 20000000 + b".",
        b"\x80\x02c" + b"x" * 20000000 + b"\ny\n.",
        b"\x80\x04\x8f(K\x01\x90.",
        b"\x80\x04](K\x01\x90.",
    ],
    ids=["deep key", "numbers as keys", "many dicts", "long name", "set", "items of a list"],
)
def test_a_batch_that_crashes_or_delays_the_unpickler_is_one_line_and_takes_no_time(
    tmp_path: Path, batch: bytes
) -> None:
    done = preprocess(pack(tmp_path, batch), tmp_path)
    refused(done, "not a CIFAR-10 batch")
    assert len(done.stderr) < 5000


def test_invalid_paths_of_inputs_are_named(tmp_path: Path) -> None:
    for what, source in (
        ("archive", "/no/such"),
        ("weights", "/no/such"),
        ("archive", tmp_path),
        ("weights", tmp_path),
    ):
        refused(take(what, source, tmp_path / "out"), f"{what.upper()}={source}")


# Large batches


@pytest.mark.parametrize("protocol", [None, 3, 4, 5])  # None: that of Python 2, as in the official batches
def test_a_large_batch_is_read_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int | None
) -> None:
    monkeypatch.setattr(cifar10, "LARGE", 1000)
    monkeypatch.setattr(restricted_pickle, "LARGE", 1000)
    raw = sample.batch("t", IMAGES, LABELS)
    if protocol:
        content = {"data": IMAGES.reshape(len(IMAGES), -1), "labels": [int(k) for k in LABELS]}
        raw = pickle.dumps(content, protocol=protocol)
    images, labels, data = cifar10.read_batch(pack(tmp_path, raw), "test_batch")
    assert isinstance(data, mmap.mmap)
    assert np.shares_memory(images, np.frombuffer(data, np.uint8))
    for _ in range(2):
        np.testing.assert_array_equal(images, IMAGES)
        cifar10.release(data)
    assert labels == list(LABELS)
    assert cifar10.origin_of_batches({"test_batch": data}) == "own"


@pytest.mark.parametrize("cut", [1, 2000, 30000])
def test_a_large_batch_that_ends_too_early_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cut: int
) -> None:
    monkeypatch.setattr(cifar10, "LARGE", 1000)
    monkeypatch.setattr(restricted_pickle, "LARGE", 1000)
    with pytest.raises(SystemExit):
        cifar10.read_batch(pack(tmp_path, sample.batch("t", IMAGES, LABELS)[:-cut]), "test_batch")
    assert "test_batch: not a CIFAR-10 batch (EOFError: " in capsys.readouterr().err


def test_a_full_disk_is_named_and_not_taken_for_a_damaged_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cifar10, "LARGE", 1000)
    archive = pack(tmp_path, sample.batch("t", IMAGES, LABELS))

    def no_folder() -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    for file, reason in (
        (partial(open, "/dev/full", "wb", 0), "No space left on device"),
        (no_folder, "No usable temporary directory found"),
    ):
        monkeypatch.setattr(tempfile, "TemporaryFile", file)
        with pytest.raises(SystemExit):
            cifar10.read_batch(archive, "test_batch")
        line = capsys.readouterr().err
        assert re.search(rf"TMPDIR=\S+: cannot be written \({reason}\); set TMPDIR to a folder", line)


def test_a_large_batch_takes_no_memory_for_its_images(tmp_path: Path) -> None:
    images = np.zeros((30000, *IMAGES.shape[1:]), np.uint8)  # 92 MB
    images[:, 0, 0, 0] = np.arange(len(images)) % 251
    archive = pack(tmp_path, sample.batch("t", images, np.arange(len(images)) % 10))
    code = """
import sys
from pathlib import Path
from formats import cifar10
def peak():  # KiB; ru_maxrss would be that of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
before = peak()
images, labels, raw = cifar10.read_batch(Path(sys.argv[1]), "test_batch")
for i, image in enumerate(images):
    assert image[0, 0, 0] == i % 251
    if i % 4096 == 0:
        cifar10.release(raw)
print(peak() - before)
"""
    done = run(sys.executable, "-c", code, archive, PYTHONPATH=str(SCRIPTS))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 45 << 10  # KiB; labels and names of 30,000 images need some
