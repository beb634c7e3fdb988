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
        return digest(path)
    text = "".join(f"{name} {digest(file)}\n" for name, file in files.items())
    return hashlib.sha256(text.encode()).hexdigest()
