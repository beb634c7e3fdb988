"""The network and its checkpoints."""

from __future__ import annotations

import collections
import contextlib
import functools
import io
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import SCRIPTS, TREE, run
from formats.python2 import Call, Global, Storage, python2_pickle
from golden import golden_weights
from network import checkpoint
from network.load import load_checkpoint
from network.model import ResidualAttentionNetwork
from network.shapes import shapes

GOLDEN = TREE / "tests/golden"


golden_arrays = functools.cache(golden_weights.state_dict)


def golden_state() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in golden_arrays().items()}


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        load_checkpoint(path)
    assert stopped.value.code == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_it_has_exactly_the_940_tensors_of_the_checkpoint() -> None:
    tensors = {name: tuple(value.shape) for name, value in ResidualAttentionNetwork().state_dict().items()}
    assert len(tensors) == 940
    assert list(tensors.items()) == list(golden_weights.shapes().items())


@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
def test_it_gives_the_reference_logits(resize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = json.loads((GOLDEN / "expected_logits.json").read_text())
    reference = np.array(expected["float64" if resize == "bilinear" else "float64_with_nearest_resize"])
    if resize == "nearest":
        monkeypatch.setattr("network.model.double", lambda x: torch.nn.functional.interpolate(x, scale_factor=2.0))
    network = ResidualAttentionNetwork().eval()
    network.load_state_dict(golden_state())
    with torch.inference_mode():
        tensors = network(torch.from_numpy(golden_weights.image_batch())).numpy()
    assert np.abs(tensors - reference).max() / np.abs(reference).max() < 1e-5


def test_a_zip_container_with_float16_tensors_loads(tmp_path: Path) -> None:
    state = {name: v.half() if v.is_floating_point() else v for name, v in golden_state().items()}
    torch.save(state, tmp_path / "new.pkl")
    loaded = load_checkpoint(tmp_path / "new.pkl").state_dict()
    for name, value in state.items():
        assert torch.equal(loaded[name], value.to(loaded[name].dtype)), name
    assert loaded["fc.weight"].dtype == torch.float32


def legacy(path: Path, state: dict[str, np.ndarray[Any, Any]], rebuild: str) -> None:
    """As torch 0.3 (_rebuild_tensor) and 0.4 (_rebuild_tensor_v2) wrote it under Python 2, from a GPU."""
    ordered = Global("collections", "OrderedDict")
    entries: dict[bytes, Call] = {}
    for i, (name, value) in enumerate(state.items()):
        storage = Storage("FloatStorage", str(i).encode(), value.size)
        strides = tuple(s // value.itemsize for s in value.strides)
        arguments: tuple[Any, ...] = (storage, 0, value.shape, strides)
        if rebuild == "_rebuild_tensor_v2":
            arguments += (False, Call(ordered, ()))
        entries[name.encode()] = Call(Global("torch._utils", rebuild), arguments)
    keys = [str(i).encode() for i in range(len(state))]
    with open(path, "wb") as out:
        for part in (0x1950A86A20F9469CFC6C, 1001, {b"protocol_version": 1001, b"little_endian": True}, entries, keys):
            out.write(python2_pickle(part).replace(b"U\x03cpu", b"U\x06cuda:0"))
        for value in state.values():
            out.write(value.size.to_bytes(8, "little") + value.tobytes())


@pytest.mark.parametrize("rebuild", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_the_legacy_container_loads_without_counters_from_cuda_storages(tmp_path: Path, rebuild: str) -> None:
    state = {k: v for k, v in golden_arrays().items() if not k.endswith("num_batches_tracked")}
    legacy(tmp_path / "old.pkl", state, rebuild)
    raw = (tmp_path / "old.pkl").read_bytes()
    (tmp_path / "old.pkl").write_bytes(raw.replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n"))
    assert b"cuda:0" in raw
    loaded = load_checkpoint(tmp_path / "old.pkl").state_dict()
    for name, value in state.items():
        assert np.array_equal(loaded[name].numpy(), value), name


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("container", ["plain", "zip", "legacy"])
def test_a_malicious_checkpoint_does_not_run(
    tmp_path: Path, container: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pkl"
    if container == "plain":
        path.write_bytes(pickle.dumps(Evil(mark), 2))
    else:
        torch.save({"fc.bias": Evil(mark)}, path, _use_new_zipfile_serialization=container == "zip")
    text = refusal(path, capsys)
    assert not mark.exists()
    assert "unexpected name posix.system" in text
    pickle.loads(pickle.dumps(Evil(mark), 2))
    assert mark.exists()  # with torch.load and without weights_only it runs


def test_missing_extra_misshapen_and_infinite_tensors_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.pkl"
    state = golden_state()
    for change, words in (
        ({"fc.weight": None}, "1 tensors missing: fc.weight"),
        ({"fc.extra": torch.zeros(1)}, "1 tensors not of this network: fc.extra"),
        ({"fc.bias": torch.zeros(11)}, "1 tensors of another shape or type: fc.bias [11, 'torch.float32'], not [10]"),
        ({"fc.bias": "text"}, "1 tensors of another shape or type: fc.bias str"),
        ({"fc.bias": torch.zeros(10, dtype=torch.int8)}, "fc.bias [10, 'torch.int8']"),
        ({"fc.bias": torch.zeros(10, dtype=torch.complex64)}, "fc.bias [10, 'torch.complex64']"),
        ({"fc.bias": torch.zeros(10, device="meta")}, "of another shape or type: fc.bias"),
        ({"fc.bias": torch.zeros(10).to_sparse()}, "of another shape or type: fc.bias"),
        ({b"fc.bias": torch.zeros(10)}, "1 tensors present twice: fc.bias"),
        ({b"\xff": torch.zeros(10)}, "1 tensors not of this network: "),
        ({"fc.bias": torch.full((10,), 1e300, dtype=torch.float64)}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": torch.full((10,), torch.nan)}, "1 tensors not finite: fc.bias"),
    ):
        changed = {**state, **change}
        torch.save({k: v for k, v in changed.items() if v is not None}, path)
        assert words in refusal(path, capsys)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_not_a_checkpoint_is_one_line(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.pkl").write_bytes(content)
    assert "c.pkl: not a checkpoint" in refusal(tmp_path / "c.pkl", capsys)
    torch.save([1], tmp_path / "c.pkl")
    assert "contains a list" in refusal(tmp_path / "c.pkl", capsys)


def imported(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The message of the check at import, which works without torch; empty if the checkpoint is accepted."""
    with contextlib.suppress(SystemExit):
        checkpoint.check(path)
    return capsys.readouterr().err


def test_the_check_at_import_accepts_every_container_that_torch_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = tmp_path / "c.pkl", golden_state()
    halves = {k: torch.nn.Parameter(v.half()) if v.is_floating_point() else v for k, v in state.items()}
    for saved, zipped in ((state, True), (state, False), (halves, True), (collections.OrderedDict(state), False)):
        torch.save(saved, path, _use_new_zipfile_serialization=zipped)
        assert imported(path, capsys) == ""
    for rebuild in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        legacy(path, {k: v for k, v in golden_arrays().items() if "tracked" not in k}, rebuild)
        assert imported(path, capsys) == ""
    pairs = Call(Global("collections", "OrderedDict"), ([],))  # Python 2 pickles an OrderedDict as a call with pairs
    assert python2_pickle(pairs) == b"\x80\x02ccollections\nOrderedDict\n(](etR."
    unpickler = checkpoint.TorchUnpickler(
        io.BytesIO(python2_pickle(Call(Global("collections", "OrderedDict"), ([[b"a", 1]],)))), encoding="bytes"
    )
    assert unpickler.load().items == {"a": 1}


@pytest.mark.parametrize("zipped", [True, False])
def test_the_check_at_import_rejects_incomplete_checkpoints_and_those_of_other_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool
) -> None:
    path, state = tmp_path / "c.pkl", golden_state()
    for changed, words in (
        ({k: v for k, v in state.items() if k != "fc.weight"}, "1 tensors missing: fc.weight"),
        ({**state, "fc.extra": torch.zeros(1)}, "1 tensors not of this network: fc.extra"),
        ({**state, "fc.bias": torch.zeros(11)}, "1 tensors of another shape or type: fc.bias"),
        ({**state, "fc.bias": "text"}, "1 tensors of another shape or type: fc.bias"),
        ({"state_dict": state}, "1 tensors not of this network: state_dict"),
        ([1], "contains a list, not a state_dict"),
        ({"fc.bias": Evil(tmp_path / "mark")}, "unexpected name posix.system"),
    ):
        torch.save(changed, path, _use_new_zipfile_serialization=zipped)
        assert words in imported(path, capsys)
    assert not (tmp_path / "mark").exists()
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 50000, 50, 0):
        path.write_bytes(whole[:size])
        assert "not a checkpoint that can be loaded" in imported(path, capsys)


def test_the_check_at_import_requires_complete_values_of_known_types(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file must not replace the valid one in ROOT."""
    path, state = tmp_path / "c.pkl", golden_state()
    torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    assert "damaged, or the values of 0 storages are missing" in imported(path, capsys)
    with zipfile.ZipFile(io.BytesIO(whole)) as full, zipfile.ZipFile(path, "w") as bare:
        name = next(name for name in full.namelist() if name.endswith("/data.pkl"))
        bare.writestr(name, full.read(name))
    assert "the values of 9" in imported(path, capsys)
    torch.save({**state, "fc.bias": torch.zeros(10, dtype=torch.int8)}, path)
    assert "unexpected storage type ('CharStorage',)" in imported(path, capsys)


def test_a_storage_whose_name_is_a_deep_tuple_does_not_crash_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def word(text: str) -> bytes:
        return b"X" + len(text).to_bytes(4, "little") + text.encode()

    deep = b")" + b"\x85" * 300_000
    storage = b"(" + word("storage") + b"ctorch\nFloatStorage\n" + deep + word("cpu") + b"K\x01tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x01t(K\x01t\x89NtR"
    with zipfile.ZipFile(tmp_path / "c.pkl", "w") as container:
        container.writestr("archive/data.pkl", b"\x80\x02}" + word("fc.bias") + tensor + b"s.")
    code = (
        f"import pathlib; from network import checkpoint; checkpoint.check(pathlib.Path({str(tmp_path / 'c.pkl')!r}))"
    )
    done = run(sys.executable, "-c", code, cwd=SCRIPTS)
    assert done.returncode == 1 and "the key of a storage is not text" in done.stderr, done.stderr


def test_torch_load_is_never_called_without_weights_only() -> None:
    calls = [line for p in SCRIPTS.rglob("*.py") for line in p.read_text().splitlines() if "torch.load(" in line]
    assert len(calls) == 1
    assert "weights_only=True" in calls[0]
    assert run("grep", "-rnE", r"pickle\.loads?\(", SCRIPTS).stdout == ""


def test_the_legacy_writer_is_what_torch_reads_back() -> None:
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {}, {b"a": sample_call()}, [b"0"]):
        stream.write(python2_pickle(part))
    stream.write((2).to_bytes(8, "little") + np.array([1, 2], np.float32).tobytes())
    stream.seek(0)
    loaded = torch.load(stream, weights_only=True)
    assert list(loaded.values())[0].tolist() == [1, 2]


def sample_call() -> Call:
    return Call(Global("torch._utils", "_rebuild_tensor"), (Storage("FloatStorage", b"0", 2), 0, (2,), (1,)))


def test_the_sample_names_the_same_tensors() -> None:
    assert list(shapes().items()) == list(golden_weights.shapes().items())
