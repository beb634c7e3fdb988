"""Files and folders that a user passes as ARCHIVE=, WEIGHTS=, ONNX= or OM=: expected formats and digests."""

from __future__ import annotations

from _support.artifact import digest
from _support.cli import die

import hashlib
from pathlib import Path
from typing import Sequence

from formats.python2 import FOLDER
from network.spec import CLASSES, IMAGE_SHAPE


def shape_text(shape: Sequence[int]) -> str:
    """A shape with a free batch dimension as text: [N, channels, height, width]."""
    return f"[N, {', '.join(map(str, shape))}]"


MEMBERS = ["batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
RETURN = "remove it to return to the official or the sample's file, or "  # before the remedy for a file in ROOT
MEMBER_LIMIT = 400 << 20  # bytes; the official batch has 31 MB
LIMITS = {  # bytes of a file, or of all files of a folder
    "archive": 512 << 20,  # the official archive has 170 MB, in Python 3's protocol 2 and not compressed 280 MB
    "weights": 2 << 30,  # the official checkpoint has 13 MB; a training checkpoint of another network is named later
    "onnx": 2 << 30,  # protobuf has this limit
    "om": 2 << 30,  # it is compiled from a graph
}
VARIABLE = {"archive": "ARCHIVE", "weights": "WEIGHTS", "onnx": "ONNX", "om": "OM"}
EXPECTED = {
    "archive": f"cifar-10-python.tar.gz, a folder {FOLDER}, or its parent",
    "weights": "a checkpoint file such as model_92_sgd.pkl",
    "onnx": f"a graph with one input, float32 {shape_text(IMAGE_SHAPE)}, and one output, "
    f"float32 {shape_text((len(CLASSES),))}, with a dynamic N",
    "om": "a model that atc compiled for that chip and batch size",
}


def batch_files(path: Path) -> dict[str, Path]:
    """{member name: file} of an extracted folder or of its parent; empty if it is neither."""
    for folder in (path, path / FOLDER):
        if (folder / "test_batch").is_file():
            return {name: folder / name for name in MEMBERS if (folder / name).is_file()}
    return {}


def check_size(what: str, path: Path, subject: object = None, remedy: str = "") -> None:
    """Exits 1 if a file is too large for an input, before it is read."""
    size = path.stat().st_size
    if size > LIMITS[what]:
        problem = f"{size} bytes, more than {LIMITS[what]}"
        die(subject or f"{VARIABLE[what]}={path}", problem, remedy or f"set it to {EXPECTED[what]}")


def check_sizes(path: Path, files: dict[str, Path]) -> None:
    """Exits 1 if a file of an extracted folder, or all of them, are too large."""
    for name, file in files.items():
        if file.stat().st_size > MEMBER_LIMIT:
            problem = f"{name} has {file.stat().st_size} bytes, too many for a batch"
            die(f"{VARIABLE['archive']}={path}", problem, f"set it to {EXPECTED['archive']}")
    total = sum(file.stat().st_size for file in files.values())
    if total > LIMITS["archive"]:
        problem = f"its files have {total} bytes, more than {LIMITS['archive']}"
        die(f"{VARIABLE['archive']}={path}", problem, f"set it to {EXPECTED['archive']}")


def require_file(what: str, path: Path) -> None:
    """Exits 1 if a user's input is not a file. A pipe may never end, and can be read only once."""
    if path.is_file():
        return
    problem = "no such file" if not path.exists() else "a folder" if path.is_dir() else "a pipe or a device, not a file"
    if what == "archive" and path.is_dir():
        problem = "no test_batch in it"
    die(f"{VARIABLE[what]}={path}", problem, f"set it to {EXPECTED[what]}")


def digest_of_input(what: str, path: Path) -> str:
    """The sha256 of a user's file, or over the names and digests of a folder's members; exits 1 if it is neither."""
    files = batch_files(path) if what == "archive" and path.is_dir() else {}
    if not files:
        require_file(what, path)
        check_size(what, path)
        return digest(path)
    check_sizes(path, files)
    text = "".join(f"{name} {digest(file)}\n" for name, file in files.items())
    return hashlib.sha256(text.encode()).hexdigest()
