"""A damaged graph of the user's own is refused with a reason, or it is one that ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from conftest import small_graph
from damage import Damage, Originals, damages, outcome
from engines.ascend import graph as ascend_graph
from fuzzing import examples
from graphs import own, trial
from graphs.external_data import Fault, embed
from graphs.session import open_session
from network.spec import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT

SECRET = b"a secret of another folder"


def with_function(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its Flatten as a local function, which the reader inlines."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    opset = [helper.make_opsetid("", 11)]
    function = helper.make_function("own", "Flat", ["x"], ["y"], [helper.make_node("Flatten", ["x"], ["y"])], opset)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "Flat", "own"
    model.ir_version = 8
    return model


def with_branches(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with an If, a sparse initializer and another name of the input."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    value = helper.make_tensor_value_info("branch", TensorProto.FLOAT, None)
    branches = [helper.make_graph([helper.make_node("Relu", ["means"], ["branch"])], n, [], [value]) for n in "ab"]
    node = helper.make_node("If", ["yes"], ["chosen"], then_branch=branches[0], else_branch=branches[1])
    model.graph.node.insert(2, node)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node[-1].input[0] = "chosen"
    model.graph.node[0].input[0] = model.graph.input[0].name = "x"
    return model


def external(model: onnx.ModelProto, location: str, **entries: str) -> onnx.ModelProto:
    """The graph with its weights in a data file."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


NAMES = ("plain", "function", "branches", "external", "not text", "torch", "zip")


@pytest.fixture(scope="module")
def originals(scratch: Path) -> Originals:
    plain = onnx.load(small_graph(scratch / "small.onnx"))
    (scratch / "secret").write_bytes(SECRET * 1000)
    (scratch / "own").mkdir()
    (scratch / "own/data.bin").write_bytes(plain.graph.initializer[0].raw_data)
    models = {
        "plain": plain,
        "function": with_function(plain),
        "branches": with_branches(plain),
        "external": external(plain, "data.bin", offset="0", length="3000"),
    }
    files = {name: model.SerializeToString() for name, model in models.items()}
    files["not text"] = files["external"].replace(b"data.bin", b"data\xffbin")
    return Originals({**files, "torch": b"\x80\x02}q\x00.", "zip": b"PK\x03\x04" + bytes(50)})


def test_valid_graphs_are_accepted(originals: Originals, scratch: Path) -> None:
    for name in NAMES[:4]:
        (scratch / "own/own.onnx").write_bytes(originals[name])
        own.read_own(scratch / "own/own.onnx")


def judge(path: Path) -> own.OwnGraph:
    """The graph without its trial by ONNX Runtime, which is in a process of its own."""
    with mock.patch.object(own, "try_out", lambda *_: None):
        return own.read_own(path)


@given(damages(*NAMES))
@example(Damage("not text", []))
def test_a_damaged_graph_is_refused_or_has_input_and_output_of_the_network(
    originals: Originals, scratch: Path, damage: Damage
) -> None:
    path = scratch / "own/own.onnx"
    path.write_bytes(damage.of(originals))
    outcome(lambda: own.files_of(path), Fault)
    graph = outcome(lambda: judge(path), Fault)
    if graph is None:
        return
    model = onnx.ModelProto.FromString(graph.content)
    assert [value.name for value in own.inputs_of(model.graph)] == [INPUT]
    assert [value.name for value in model.graph.output] == [OUTPUT]
    assert SECRET not in graph.content
    assert outcome(lambda: [ascend_graph.refusal(graph.description, path, {})]) is not None


@given(damages(*NAMES[:4]))
@examples(5)
def test_a_damaged_graph_that_passes_its_trial_gives_finite_logits(
    originals: Originals, scratch: Path, damage: Damage
) -> None:
    path = scratch / "own/own.onnx"
    path.write_bytes(damage.of(originals))
    try:
        graph = trial.run(lambda: own.read_own(path), 60)
    except Fault as fault:
        assert fault.problem
        return
    images = np.random.default_rng(1).random((2, *IMAGE_SHAPE), np.float32)
    (logits,) = open_session(graph.content).run([OUTPUT], {INPUT: images})
    assert logits.shape == (2, len(CLASSES)) and np.isfinite(logits).all()


LOCATIONS = st.sampled_from(
    [
        *["data.bin"] * 9,
        "./data.bin",
        "sub/../data.bin",
        "../secret",
        "/etc/passwd",
        "link",
        "x" * 300,
        "",
        ".",
        "a\0b",
        "sub",
    ]
) | st.text(max_size=12)
NUMBERS = st.sampled_from(
    ["0", "3000", "-1", "1", "9" * 30, "1e3", "0x10", "", " 4 ", "1_0", "\u0664"]
) | st.integers().map(str)


KINDS = st.sampled_from([1] * 20) | st.integers(0, 20)  # of the tensor; 1 is float32


@given(LOCATIONS, NUMBERS, NUMBERS, KINDS, st.lists(st.integers(-1, 1 << 40), max_size=3))
@example("link", "0", "3000", 1, [])
@example("data.bin", "0", "3000", 1, [])
@example("data.bin", "0", "0", 17, [])
def test_external_data_is_a_part_of_a_file_in_the_folder_of_the_graph(
    originals: Originals, scratch: Path, location: str, offset: str, length: str, kind: int, dims: list[int]
) -> None:
    folder = scratch / "own"
    if not (folder / "link").is_symlink():
        (folder / "link").symlink_to(scratch / "secret")
        (folder / "sub").mkdir()
    plain = onnx.ModelProto.FromString(originals["plain"])
    model: Any = external(plain, location, offset=offset, length=length)
    tensor = model.graph.initializer[0]
    tensor.data_type = kind
    if dims:
        tensor.dims[:] = dims
    digests = outcome(lambda: embed(model, folder / "own.onnx"), Fault)
    if digests is not None:
        assert [*digests] == [location]
        start, data = int(offset or 0), (folder / "data.bin").read_bytes()
        assert tensor.raw_data == (data[start : start + int(length)] if length else data[start:])
