"""The network and its checkpoints."""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import functools
import gzip
import io
import json
import os
import pickle
import sys
import time
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import SCRIPTS, TREE, run
from formats.python2 import Call, Global, Storage, python2_pickle
from formats.restricted_pickle import LimitedReads
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
    assert "posix.system" in text
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
        ({"fc.bias": torch.zeros(11)}, "1 tensors of another shape or type: fc.bias float32 [11], not float32 [10]"),
        ({"fc.bias": "text"}, "1 tensors of another shape or type: fc.bias str"),
        ({"fc.bias": torch.zeros(10, dtype=torch.int8)}, "fc.bias int8 [10], not"),
        ({"fc.bias": torch.zeros(10, dtype=torch.complex64)}, "fc.bias complex64 [10]"),
        ({"fc.bias": torch.zeros(10, device="meta")}, "fc.bias float32 [10] on the meta device, not float32"),
        ({"fc.bias": torch.zeros(10).to_sparse()}, "type: fc.bias float32 [10] sparse, not"),
        ({b"fc.bias": torch.zeros(10)}, "1 tensors present twice: fc.bias"),
        ({b"\xff": torch.zeros(10)}, "1 tensors not of this network: "),
        ({"fc.bias": torch.full((10,), 1e300, dtype=torch.float64)}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": torch.full((10,), torch.nan)}, "1 tensors not finite: fc.bias"),
    ):
        changed = {**state, **change}
        torch.save({k: v for k, v in changed.items() if v is not None}, path)
        assert words in refusal(path, capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"no checkpoint", "not a file saved by torch"),
        (b"PK\x03\x04 half a zip", "not a checkpoint that can be loaded"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_one_line(
    tmp_path: Path, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.pkl").write_bytes(content)
    assert f"c.pkl: {words}" in refusal(tmp_path / "c.pkl", capsys)
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
    pickled = python2_pickle(Call(Global("collections", "OrderedDict"), ([[b"a", 1]],)))
    assert checkpoint.TorchUnpickler(LimitedReads(pickled)).load().items == {"a": 1}


def test_a_pickle_that_copies_its_arguments_again_and_again_takes_no_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = b"](" + b"".join(b"X\x06\x00\x00\x00%06dN\x86" % i for i in range(100000)) + b"eq\x00"
    call = b"ccollections\nOrderedDict\nh\x00\x85R"
    with zipfile.ZipFile(tmp_path / "c.pkl", "w") as container:
        container.writestr("c/data.pkl", b"\x80\x02(" + pairs + call * 100000 + b"t.")
    begin = time.monotonic()
    assert "too many instructions" in imported(tmp_path / "c.pkl", capsys)
    assert time.monotonic() - begin < 20


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
        ({"other.weight": torch.zeros(1)}, "none of its 1 entries is a tensor of this network (other.weight)"),
        ([1], "contains a list, not a state_dict"),
        ({"fc.bias": Evil(tmp_path / "mark")}, "unexpected name posix.system"),
    ):
        torch.save(changed, path, _use_new_zipfile_serialization=zipped)
        assert words in imported(path, capsys)
    assert not (tmp_path / "mark").exists()
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 50000, 50):
        path.write_bytes(whole[:size])
        assert "not a checkpoint that can be loaded" in imported(path, capsys)
    path.write_bytes(b"")
    assert "an empty file" in imported(path, capsys)


class OnNpu(torch.Tensor):
    """Is pickled as torch_npu pickles a tensor of an NPU: by a function of torch_npu, with one argument more."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        _, arguments = self.as_subclass(torch.Tensor)._reduce_ex_internal(protocol)
        return sys.modules["torch_npu.utils.storage"]._rebuild_npu_tensor, (*arguments, 2)


def pretend_torch_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    def _rebuild_npu_tensor(*arguments: Any) -> Any: ...

    module = types.ModuleType("torch_npu.utils.storage")
    _rebuild_npu_tensor.__module__, _rebuild_npu_tensor.__qualname__ = module.__name__, "_rebuild_npu_tensor"
    module._rebuild_npu_tensor = _rebuild_npu_tensor  # type: ignore[attr-defined]
    for name in ("torch_npu", "torch_npu.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


ALONE = "save its weights alone: torch.save("
FILE = "torch.load('c.pkl', map_location='cpu')"
TRUSTED = "torch.load('c.pkl', map_location='cpu', weights_only=False)"


def wrapped(kind: str, state: Any) -> tuple[Any, str, str]:
    """(what to save, words of the message, words of the remedy) for a checkpoint that is not a plain state_dict."""
    module = ResidualAttentionNetwork()
    training = {"epoch": 3, "args": argparse.Namespace(rate=0.1), "net": state}
    cases: dict[str, tuple[Any, str, str]] = {
        "an NPU": (
            {k: v.as_subclass(OnNpu) for k, v in state.items()},
            "saved on an NPU, it asks for torch_npu.utils.storage._rebuild_npu_tensor",
            "torch.save({k: v.cpu() for k, v in torch.load('c.pkl').items()}, 'cpu.pth')",
        ),
        "state_dict": (
            {"state_dict": state, "epoch": 1},
            "with weights at 'state_dict'",
            f"{ALONE}{FILE}['state_dict']",
        ),
        "optimizer": ({"model": state, "optimizer": {"state": {0: 1}}}, "with weights at 'model'", f"{FILE}['model']"),
        "a number of numpy": ({"net": state, "best": np.int64(3)}, "weights at 'net'", f"{ALONE}{TRUSTED}['net'], "),
        "an average": (
            {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in state.items()}},
            "its names begin with 'module.' (by swa_utils.AveragedModel)",
            f"{{k[7:]: v for k, v in {FILE}.items() if k.startswith('module.')}}",
        ),
        "a metric beside the model": (
            {"state_dict": {"loss.weight": torch.ones(3), **{f"model.{k}": v for k, v in state.items()}}},
            "its names begin with 'model.'",
            f"{{k[6:]: v for k, v in {FILE}['state_dict'].items() if k.startswith('model.')}}",
        ),
        "arguments": (
            training,
            "with weights at 'net'",
            f"if you trust the file, {ALONE}{TRUSTED}['net'], 'plain.pth')",
        ),
        "module.": (
            {f"module.{k}": v for k, v in state.items()},
            "all names begin with 'module.' (by DataParallel)",
            f"{ALONE}{{k[7:]: v for k, v in {FILE}.items()}}",
        ),
        "_orig_mod.": (
            {f"_orig_mod.{k}": v for k, v in state.items()},
            "all names begin with '_orig_mod.' (by torch.compile)",
            "k[10:]: v",
        ),
        "model. in state_dict": (
            {"state_dict": {f"model.{k}": v for k, v in state.items()}},
            "with weights at 'state_dict', where all names begin with 'model.'",
            f"{{k[6:]: v for k, v in {FILE}['state_dict'].items()}}",
        ),
        "whole module": (module, "a whole pickled module (network.model.Residual", f"{ALONE}model.state_dict()"),
        "whole DataParallel": (torch.nn.DataParallel(module), "DataParallel)", f"{ALONE}model.module.state_dict()"),
        "module in a dict": ({"net": torch.nn.DataParallel(module)}, "it contains a whole pickled module", ALONE),
    }
    return cases[kind]


KINDS = ("an NPU", "state_dict", "optimizer", "arguments", "module.", "_orig_mod.", "model. in state_dict")
KINDS += ("a number of numpy", "an average", "a metric beside the model")
KINDS += ("whole module", "whole DataParallel", "module in a dict")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_a_plain_state_dict_is_named_with_the_command_that_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, zipped: bool
) -> None:
    pretend_torch_npu(monkeypatch)
    path, (contents, words, remedy) = tmp_path / "c.pkl", wrapped(kind, golden_state())
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    remedy = remedy.replace("'c.pkl'", repr(str(path)))  # as the user passed it
    for message in (imported(path, capsys), refusal(path, capsys)):
        assert words in message and remedy in message, message
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", ["", "net"])
def test_the_command_for_another_pickle_protocol_makes_a_file_that_is_read(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    protocol: int,
    zipped: bool,
    key: str,
) -> None:
    state = golden_state()
    contents = {key: state, "args": argparse.Namespace()} if key else state
    path = tmp_path / "c.pkl"
    torch.save(contents, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    message = imported(path, capsys)
    assert ("a training checkpoint" if key else f"saved with pickle protocol {protocol}, which is not read") in message
    command = message[message.index("torch.save(") :]
    monkeypatch.chdir(tmp_path)
    exec(command, {"torch": torch})
    assert imported(tmp_path / "plain.pth", capsys) == ""
    torch.save(state, path, pickle_protocol=3, _use_new_zipfile_serialization=zipped)
    assert imported(path, capsys) == ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
def test_values_and_kinds_of_tensors_are_judged_at_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool
) -> None:
    path, state = tmp_path / "c.pkl", golden_state()
    nan, huge = torch.full((10,), torch.nan), torch.full((10,), 1e300, dtype=torch.float64)
    counter = next(name for name in state if name.endswith("num_batches_tracked"))
    cases: list[tuple[dict[str, Any], str]] = [
        ({k: v * torch.nan for k, v in state.items() if v.ndim}, "791 tensors not finite: "),
        ({"fc.bias": nan}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": nan.half()}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": nan.bfloat16()}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": huge}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": torch.nn.Parameter(nan)}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": torch.cat([torch.zeros(10), nan])[10:]}, "1 tensors not finite: fc.bias"),
        ({"fc.bias": torch.cat([torch.zeros(10), nan])[:10]}, ""),
        ({"fc.bias": torch.zeros(20)[::2]}, ""),
        ({"fc.bias": torch.zeros(1).expand(10)}, ""),
        ({"fc.bias": torch.zeros(10).bfloat16()}, ""),
        ({"fc.bias": torch.quantize_per_tensor(torch.zeros(10), 0.1, 0, torch.qint8)}, "1 tensors quantized: fc.bias"),
        ({"fc.bias": torch.zeros(10).to_sparse()}, "1 tensors sparse: fc.bias"),
        ({"fc.bias": torch.zeros(10, device="meta")}, "1 tensors without values (on the meta device): fc.bias"),
        ({"fc.bias": torch.zeros(10, dtype=torch.int64)}, "fc.bias int64 [10], not float32 [10]"),
        ({counter: torch.tensor(1.0)}, "not int64 []"),
    ]
    for change, words in cases:
        torch.save({**state, **change}, path, _use_new_zipfile_serialization=zipped)
        message = imported(path, capsys)
        assert words in message and bool(message) == bool(words), message
        if not words:
            load_checkpoint(path)
    marked = torch.zeros(10)
    marked.mark = 1  # type: ignore[attr-defined]  # torch saves it in another way
    torch.save({**state, "fc.bias": marked}, path, _use_new_zipfile_serialization=zipped)
    assert imported(path, capsys) == ""


def test_files_of_other_tools_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, header = tmp_path / "c.pkl", b'{"fc.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    cases: list[tuple[bytes, str]] = [
        (len(header).to_bytes(8, "little") + header + bytes(4), "a safetensors file; save its weights alone"),
        (pickle.dumps({"a": 1}), "a plain pickle, not a file saved by torch; if you trust the file, save its weights"),
        (gzip.compress(b"x"), "a gzip archive"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"text", "not a file saved by torch"),
    ]
    for content, words in cases:
        path.write_bytes(content)
        assert words in imported(path, capsys)
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 3), torch.zeros(1, 3)), path)
    assert "a TorchScript archive (torch.jit.save); save its weights alone" in imported(path, capsys)
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    assert "a zip archive that torch.save did not write" in imported(tmp_path / "c.npz", capsys)


def test_the_counts_of_a_message_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"fc.bias": torch.zeros(10)}, tmp_path / "c.pkl")
    message = imported(tmp_path / "c.pkl", capsys)
    assert "790 tensors missing" in message and "(940 tensors, of which 791 are needed)" in message


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
    assert "fc.bias CharStorage [10], not float32 [10]" in imported(path, capsys)


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


def calls_of(module: str, function: str) -> list[ast.Call]:
    """The calls module.function(…) in scripts/; the same words in a message are none."""
    calls = [node for path in SCRIPTS.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return [node for node in calls if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{module}.{function}"]


def test_torch_load_is_never_called_without_weights_only() -> None:
    (call,) = calls_of("torch", "load")
    assert "weights_only=True" in ast.unparse(call)
    assert calls_of("pickle", "load") == calls_of("pickle", "loads") == []


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
