"""The lock of the sample: digests that are the same on every machine. tests/golden/lock.json contains them.

Graphs are digested in canonical form, the archive without its compression, which differs between versions of zlib.
Logits and the int8 graph, whose scales come from activations, differ in their last digits between CPUs. Instead of them
the lock contains the predicted classes.
"""

from __future__ import annotations

from _support import artifact
from _support.artifact import Record, read_record

import gzip
import hashlib
import json
from pathlib import Path
from typing import Dict

import onnx

from graphs.canonical import canonical_digest
from network.spec import NAME

Lock = Dict[str, str]
GRAPHS = {"graph": f"models/onnx/{NAME}.onnx", "optimized graph": f"models/optimized/{NAME}.onnx"}
FILES = {"calibration": "data/calibration.bin", "checkpoint": "models/checkpoint.pkl", "labels": "data/labels.txt"}
# Settings that decide on what is locked, in the records of these artifacts.
SETTINGS = {
    "data/archive.json": ("seed", "test_images", "train_images"),
    "data/calibration.json": ("images",),
    f"models/onnx/{NAME}.json": ("opset",),
    f"models/optimized/{NAME}.json": ("resize",),
}


def uncompressed_digest(path: Path) -> str:
    """The sha256 of what a gzip file contains."""
    sha256 = hashlib.sha256()
    with gzip.open(path) as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha256.update(block)
    return sha256.hexdigest()


def lock_of(root: Path, result: Record) -> Lock:
    """The lock of the sample in ROOT; `result` is the accuracy.json of one of its results. Files that ROOT does not
    have are left out."""
    archive, bins = root / "data/archive.tar.gz", root / "data/bin/manifest.json"
    lock = {f"{name} (sha256)": artifact.digest(root / path) for name, path in FILES.items() if (root / path).is_file()}
    lock.update({f"{name} (canonical)": canonical_digest(onnx.load(root / path)) for name, path in GRAPHS.items()})
    lock["archive (sha256 of the tar)"] = uncompressed_digest(archive)
    lock["bins (sha256)"] = str(read_record(bins).get("digest"))
    lock["predictions (sha256)"] = str(result["digests"]["predictions"])
    for name, settings in SETTINGS.items():
        key = read_record(root / name).get("key", {})
        lock.update({f"setting {setting}": str(key["flags"][setting]) for setting in settings if key})
    return lock


def format_lock(lock: Lock) -> str:
    """The text of lock.json: one entry a line, sorted, so that a change is a line of a diff."""
    return json.dumps(lock, indent=1, sort_keys=True) + "\n"


def differences(lock: Lock, expected: Lock) -> list[str]:
    """The names of the entries of a lock that differ from the expected ones; settings only, if some differ."""
    names = [name for name in sorted(lock) if lock[name] != expected.get(name)]
    settings = [name for name in names if name.startswith("setting ")]
    return settings or names
