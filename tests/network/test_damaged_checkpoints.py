"""A damaged checkpoint is refused in one line, or it is one that torch loads with finite weights."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, Iterator
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from damage import Damage, Edit, Originals, damages, outcome
from formats import sample
from network import checkpoint, load

SHAPES = {"conv1.0.weight": (2, 3, 1, 1), "bn.weight": (2,), "bn.num_batches_tracked": (), "fc.bias": (10,)}


class Small(nn.Module):
    """A network with the names and shapes of SHAPES, which stands for the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False))
        self.bn = nn.Module()
        self.bn.weight = nn.Parameter(torch.ones(2))
        self.bn.register_buffer("num_batches_tracked", torch.tensor(0))
        self.fc = nn.Module()
        self.fc.bias = nn.Parameter(torch.zeros(10))


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(checkpoint, "shapes", lambda: SHAPES))
        stack.enter_context(mock.patch.object(load, "ResidualAttentionNetwork", Small))
        yield


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch mark",)


def saved(value: Any, **more: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **more)
    return stream.getvalue()


def of_sample(folder: Path) -> bytes:
    sample.write_checkpoint(folder / "sample.pkl", SHAPES)
    return (folder / "sample.pkl").read_bytes()


STATE = {name: torch.ones(shape, dtype=torch.int64 if shape == () else torch.float32) for name, shape in SHAPES.items()}
VIEW = torch.ones(30)
PLAIN: dict[str, Any] = {
    "ordered": Small().state_dict(),
    "dict": STATE,
    "half": {**STATE, "fc.bias": torch.ones(10, dtype=torch.float16)},
    "bfloat16": {**STATE, "fc.bias": torch.ones(10, dtype=torch.bfloat16)},
    "parameters": {**STATE, "fc.bias": nn.Parameter(torch.ones(10))},
    "views": {**STATE, "fc.bias": VIEW[3:23:2], "bn.weight": VIEW[28:]},
    "nan": {**STATE, "fc.bias": torch.full((10,), float("nan"))},
    "overflow": {**STATE, "fc.bias": torch.full((10,), 1e300, dtype=torch.float64)},
    "training": {"epoch": 1, "state_dict": STATE},
    "nested": {"net": {f"module.{name}": value for name, value in STATE.items()}, "acc": 0.5},
    "sparse": {**STATE, "fc.bias": torch.ones(10).to_sparse()},
    "module": Small(),
    "tensor": torch.ones(3),
    "code": {**STATE, "fc.bias": Evil()},
}
NAMES = [f"{name} {form}" for name in PLAIN for form in ("zip", "legacy")]
MORE = ["zip of another version", "sample", "pickle", "safetensors", "npy", "gzip", "hdf5", "other zip", "TorchScript"]


@pytest.fixture(scope="module")
def originals(scratch: Path) -> Originals:
    files = Originals()
    for name, value in PLAIN.items():
        files[f"{name} zip"] = saved(value)
        files[f"{name} legacy"] = saved(value, _use_new_zipfile_serialization=False)
    central = files["dict zip"].rindex(b"PK\x01\x02")  # the last entry; byte 6 is the version that is needed
    files["zip of another version"] = files["dict zip"][: central + 6] + b"\xff" + files["dict zip"][central + 7 :]
    files["sample"] = of_sample(scratch)
    files["pickle"] = pickle.dumps({name: np.ones(shape) for name, shape in SHAPES.items()})
    files["safetensors"] = (20).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}' + bytes(40)
    files.update({"npy": b"\x93NUMPY" + bytes(90), "gzip": b"\x1f\x8b" + bytes(30), "hdf5": b"\x89HDF" + bytes(30)})
    for name, member in (("other zip", "a/b.txt"), ("TorchScript", "a/constants.pkl")):
        with zipfile.ZipFile(scratch / "other.zip", "w") as out:
            out.writestr(member, b"x")
        files[name] = (scratch / "other.zip").read_bytes()
    return files


def check_and_load(path: Path) -> None:
    """Both readers of a checkpoint, that of the import and that of the export."""
    outcome(lambda: checkpoint.check(path))
    network = outcome(lambda: load.load_checkpoint(path))
    if network is not None:
        assert all(value.isfinite().all() for value in network.state_dict().values())
        assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == SHAPES


def test_valid_checkpoints_are_accepted(originals: Originals, scratch: Path) -> None:
    for name in ("ordered zip", "ordered legacy", "half zip", "bfloat16 zip", "views legacy", "views zip", "sample"):
        (scratch / "checkpoint.pth").write_bytes(originals[name])
        checkpoint.check(scratch / "checkpoint.pth")


def test_a_storage_that_is_not_what_its_tensors_name_is_refused_at_import(
    originals: Originals, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch would fail later, or leave the weights as they were in memory."""
    zipped, legacy, path = originals["dict zip"], originals["dict legacy"], scratch / "checkpoint.pth"
    keys = legacy[legacy.rindex(b"]q\x00") :]
    first = keys[keys.index(b"X") : keys.index(b"q\x01")]
    begin = legacy.rindex(b"q\x04e.") + 4  # the size of the first storage
    cases = {
        "not checkpoint": (zipped, "archive/byteorder", b"mittle"),
        "storages are missing": (zipped, "archive/data/3", bytes(44)),
        "its list of storages": legacy.replace(keys, keys.replace(first, b"X\x01\0\0\0a")),
        "does not have the size": legacy[:begin] + b"\x63" + legacy[begin + 1 :],
    }
    for words, case in cases.items():
        if isinstance(case, bytes):
            path.write_bytes(case)
        else:
            rewrite(path, *case)
        with pytest.raises(SystemExit):
            checkpoint.check(path)
        line = capsys.readouterr().err
        assert (words in line or words == "not checkpoint") and line.count("\n") == 1, line


def rewrite(path: Path, zipped: bytes, name: str, content: bytes) -> None:
    """Writes a zip archive with another content of one member."""
    with zipfile.ZipFile(io.BytesIO(zipped)) as source, zipfile.ZipFile(path, "w") as out:
        for member in source.namelist():
            out.writestr(member, content if member == name else source.read(member))


@given(damages(*NAMES, *MORE))
@example(Damage("dict zip", [Edit("flip", 2, 0, 1), Edit("flip", 4505372, 6, 1)]))  # a zip of a newer version
@example(Damage("zip of another version", []))
def test_a_damaged_checkpoint_is_refused_or_loaded(originals: Originals, scratch: Path, damage: Damage) -> None:
    path = scratch / "checkpoint.pth"
    path.write_bytes(damage.of(originals))
    check_and_load(path)


ZIPPED = [name for name in NAMES if name.endswith("zip")]


@given(st.sampled_from(ZIPPED), st.integers(0, 7), damages("member"), st.sampled_from(["damage", "drop", "rename"]))
@example("ordered zip", 0, Damage("member", []), "rename")
def test_a_zip_container_with_a_damaged_member_is_refused_or_loaded(
    originals: Originals, scratch: Path, name: str, place: int, damage: Damage, kind: str
) -> None:
    """The checksums of the container are right."""
    path = scratch / "checkpoint.pth"
    with zipfile.ZipFile(io.BytesIO(originals[name])) as source, zipfile.ZipFile(path, "w") as out:
        members = source.namelist()
        changed = members[place % len(members)] if place < 4 else next(m for m in members if m.endswith("data.pkl"))
        for member in members:
            data = source.read(member)
            if member != changed:
                out.writestr(member, data)
            elif kind == "damage":
                out.writestr(member, damage.of({"member": data}))
            elif kind == "rename":
                out.writestr(f"{member}x", data)
    check_and_load(path)
