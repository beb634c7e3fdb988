"""Graphs of the user's own: what is adapted, what is refused, and how their precision is named."""

from __future__ import annotations

from _support import cli

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from conftest import refused, script_here
from graphs import int8, own, trial
from graphs.agreement import logits_of
from graphs.description import description_of
from graphs.external_data import Fault

RANDOM = np.random.default_rng(7)
W = RANDOM.normal(size=(3072, 10)).astype(np.float32)
IMAGES = RANDOM.random((3, 3, 32, 32), np.float32)
Node = onnx.NodeProto


def value(name: str, shape: Sequence[Any] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Node:
    """A node from words; a dot is an input that is not given."""
    names = ["" if name == "." else name for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), **attributes)


FLATTEN, PRODUCT = node("Flatten", "image", "x", axis=1), node("MatMul", "x w", "class")
IMAGE, CLASS = value("image", ["N", 3, 32, 32]), value("class", ["N", 10])


def graph(
    nodes: Sequence[Node] = (FLATTEN, PRODUCT),
    image: onnx.ValueInfoProto = IMAGE,
    logits: onnx.ValueInfoProto = CLASS,
    ir: int = 8,
    opset: int = 13,
    more: Sequence[onnx.ValueInfoProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    **constants: Any,
) -> onnx.ModelProto:
    """A graph that flattens and multiplies by w, unless other nodes or constants are given."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in {"w": W, **constants}.items()]
    body = helper.make_graph(list(nodes), "own", [image, *more], [logits], tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(body, opset_imports=opsets, ir_version=ir, functions=functions)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def fault_of(path: Path) -> str:
    with pytest.raises(Fault) as caught:
        own.read_own(path)
    return f"{caught.value.problem}; {caught.value.remedy}"


def with_data(folder: Path, location: str = "net.onnx.data") -> Path:
    """A graph with its weights in net.onnx.data, as torch writes it, which names the file `location`."""
    folder.mkdir(exist_ok=True)
    path = folder / "net.onnx"
    onnx.save(graph(), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    next(item for item in model.graph.initializer[0].external_data if item.key == "location").value = location
    onnx.save(model, path)
    return path


# External data


def test_data_files_are_read_into_one_file_and_the_digest_covers_them(tmp_path: Path) -> None:
    path = with_data(tmp_path)
    result = own.read_own(path)
    assert own.files_of(path) == [tmp_path / "net.onnx.data"]
    assert result.changes == ["data of net.onnx.data read in"]
    assert np.array_equal(logits_of(result.content, IMAGES), logits_of(graph(), IMAGES))
    data = bytearray((tmp_path / "net.onnx.data").read_bytes())
    data[100] ^= 1
    (tmp_path / "net.onnx.data").write_bytes(data)
    assert own.read_own(path).digest != result.digest


@pytest.mark.parametrize("location", ["../net.onnx.data", "/etc/hostname", "a/../../net.onnx.data", "", "a\nb", ".."])
def test_a_data_file_outside_the_folder_of_the_graph_is_refused(tmp_path: Path, location: str) -> None:
    path = with_data(tmp_path / "own", location)
    shutil.copy(tmp_path / "own/net.onnx.data", tmp_path)
    assert "is not in the folder of the graph" in fault_of(path)


def test_a_missing_short_or_linked_data_file_is_refused(tmp_path: Path) -> None:
    path, data = with_data(tmp_path / "own"), tmp_path / "own/net.onnx.data"
    whole = data.read_bytes()
    data.write_bytes(whole[:1000])
    assert "net.onnx.data has 1000 bytes, w needs 122880; the file is incomplete" in fault_of(path)
    data.unlink()
    assert "its data file net.onnx.data is missing; copy it to" in fault_of(path)
    (tmp_path / "elsewhere").write_bytes(whole)
    data.symlink_to("../elsewhere")
    assert "is a link to another folder" in fault_of(path)
    data.unlink()
    data.mkdir()
    assert "is not a file" in fault_of(path)


def test_a_link_into_a_cache_finds_the_data_beside_the_link_and_beside_its_target(tmp_path: Path) -> None:
    path = with_data(tmp_path / "cache")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links/net.onnx"
    link.symlink_to(path)
    assert own.read_own(link).changes  # the data are beside the target
    (tmp_path / "links/net.onnx.data").symlink_to(tmp_path / "cache/net.onnx.data")
    assert own.read_own(link).changes


def test_data_whose_size_is_not_that_of_the_tensor_are_refused(tmp_path: Path) -> None:
    path = with_data(tmp_path)
    model = onnx.load(path, load_external_data=False)
    next(item for item in model.graph.initializer[0].external_data if item.key == "length").value = "40"
    onnx.save(model, path)
    assert "w has 40 bytes in net.onnx.data, its shape needs 122880" in fault_of(path)


@pytest.mark.parametrize(
    ("offset", "length", "words"),
    [
        ("0", "122884", "its data file net.onnx.data has 122880 bytes, w needs 122884; the file is incomplete"),
        ("4", None, "w has 122876 bytes in net.onnx.data, its shape needs 122880"),
        ("122884", None, "w begins at byte 122884 of its data file net.onnx.data, which has 122880 bytes"),
        ("9" * 400, "40", "w begins at byte " + "9" * 60 + "… of its data file net.onnx.data"),
        ("0", "9" * 400, "w needs " + "9" * 60 + "…; "),
        (str(2**63 - 1), str(2**63 - 1), "w begins at byte 9223372036854775807 of"),
        ("-4", "40", "the place of w in net.onnx.data is negative; save the graph again"),
        ("0", "-40", "the place of w in net.onnx.data is negative"),
        ("9" * 5000, "40", "the place of w in net.onnx.data is not a number"),
        ("x", "40", "the place of w in net.onnx.data is not a number"),
    ],
)
def test_a_wrong_place_of_a_tensor_in_its_data_file_is_named(
    tmp_path: Path, offset: str, length: str | None, words: str
) -> None:
    path = with_data(tmp_path)
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    entries = {"location": "net.onnx.data", "offset": offset, **({"length": length} if length else {})}
    del tensor.external_data[:]
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    onnx.save(model, path)
    fault = fault_of(path)
    assert words in fault
    assert len(fault) < 300


def test_long_names_of_data_files_and_tensors_are_cut_and_printable(tmp_path: Path) -> None:
    for location in ("a" * 5000, "b/" * 2500 + "c", "\x1b[2J" * 100, "../" * 2000):
        fault = fault_of(with_data(tmp_path / "own", location))
        assert "its data file " in fault
        assert len(fault) < 400 and fault.isprintable()
    path = with_data(tmp_path / "another")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].name = "w\x1b" * 3000
    onnx.save(model, path)
    (tmp_path / "another/net.onnx.data").write_bytes(b"short")
    fault = fault_of(path)
    assert "has 5 bytes, w?w?" in fault
    assert len(fault) < 300 and fault.isprintable()


# What is adapted

HALF = {"w": W.astype(np.float16)}
FUNCTION = helper.make_function(
    "own", "Times", ["a", "b"], ["c"], [node("MatMul", "a b", "c")], [helper.make_opsetid("", 13)]
)
OTHER_OPSET = helper.make_function(
    "own", "Times", ["a", "b"], ["c"], [node("MatMul", "a b", "c")], [helper.make_opsetid("", 17)]
)
ADAPTED: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "nothing to adapt": (graph(), []),
    "unnamed dynamic dimensions": (graph(image=value("image", [None, 3, 32, 32])), []),
    "a new IR version": (graph(ir=13), ["IR version 13 lowered to 8"]),
    "an IR version that an opset needs": (graph(ir=11, opset=23), []),
    "initializers listed as inputs": (
        graph(ir=3, more=[value("w", [3072, 10])]),
        ["initializers not listed as inputs"],
    ),
    "other names": (
        graph(
            [node("Flatten", "input.1", "x", axis=1), node("MatMul", "x w", "logits")],
            value("input.1", ["b", 3, 32, 32]),
            value("logits", ["b", 10]),
        ),
        ["input.1 renamed to image", "logits renamed to class"],
    ),
    "exchanged names": (
        graph(
            [node("Flatten", "class", "image", axis=1), node("MatMul", "image w", "x")],
            value("class", ["b", 3, 32, 32]),
            value("x", ["b", 10]),
        ),
        ["class renamed to image", "x renamed to class"],
    ),
    "both names exchanged": (
        graph(
            [node("Flatten", "class", "x", axis=1), node("MatMul", "x w", "image")],
            value("class", ["b", 3, 32, 32]),
            value("image", ["b", 10]),
        ),
        ["class renamed to image", "image renamed to class"],
    ),
    "names that a terminal must not get": (
        graph(
            [node("Flatten", "i\x1b[2J", "x", axis=1), node("MatMul", "x w", "class")],
            value("i\x1b[2J", ["b", 3, 32, 32]),
        ),
        ["i?[2J renamed to image"],
    ),
    "every dimension dynamic": (
        graph(image=value("image", list("abcd")), logits=value("class", ["a", "k"])),
        ["shape of image set to [N, 3, 32, 32]", "shape of class set to [N, 10]"],
    ),
    "a batch of -1": (
        graph(image=value("image", [-1, 3, 32, 32])),
        ["shape of image set to [N, 3, 32, 32]"],
    ),
    "no shapes": (
        graph(image=value("image", None), logits=value("class", None)),
        ["shape of image set to [N, 3, 32, 32]", "shape of class set to [N, 10]"],
    ),
    "local functions": (
        graph(
            [FLATTEN, helper.make_node("Times", ["x", "w"], ["class"], domain="own")],
            functions=[FUNCTION],
            domains=["own"],
        ),
        ["functions inlined"],
    ),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_harmless_differences_are_adapted_and_named(tmp_path: Path, name: str) -> None:
    model, changes = ADAPTED[name]
    path = saved(model, tmp_path)
    result = own.read_own(path)
    assert result.changes == changes
    assert changes or result.content == path.read_bytes()
    adapted = onnx.ModelProto.FromString(result.content)
    (image,), (logits,) = adapted.graph.input, adapted.graph.output
    assert (own.shape_of(image) or [])[1:] == [3, 32, 32]
    assert (own.shape_of(logits) or [])[1:] == [10]
    assert np.array_equal(logits_of(result.content, IMAGES), logits_of(graph(), IMAGES))


# What is refused


def cast(before: str, after: str, kind: int) -> Node:
    return node("Cast", before, after, to=kind)


def renamed(model: onnx.ModelProto, image: str = "x.1", logits: str = "logits.1") -> onnx.ModelProto:
    """The model with other names of input and output."""
    names = {"image": image, "class": logits}
    for operation in model.graph.node:
        operation.input[:] = [names.get(name, name) for name in operation.input]
        operation.output[:] = [names.get(name, name) for name in operation.output]
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.name = names[tensor.name]
    return model


def branching() -> onnx.ModelProto:
    """A graph with a branch for images with black pixels, which fails when it is run."""
    good = helper.make_graph([node("Flatten", "image", "g")], "good", [], [value("g", None)])
    bad = helper.make_graph([node("Reshape", "image bad", "b")], "bad", [], [value("b", None)])
    least = node("ReduceMin", "image", "least", keepdims=0)
    branch = helper.make_node("If", ["is_light"], ["x"], then_branch=good, else_branch=bad)
    return graph([least, node("Greater", "least nil", "is_light"), branch, PRODUCT], nil=np.float32(0), bad=[7, 7])


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "a fixed batch": (
        graph(image=value("image", [1, 3, 32, 32]), logits=value("class", [1, 10])),
        "its input is image float32 [1, 3, 32, 32], its output class float32 [1, 10], with a fixed batch dimension; "
        "export it with dynamic_shapes=({0: torch.export.Dim('N')},), or with dynamo=False, "
        "input_names=['image'], output_names=['class'], dynamic_axes={'image': {0: 'N'}, 'class': {0: 'N'}}",
    ),
    "a fixed batch, other names": (
        renamed(graph(image=value("image", [1, 3, 32, 32]), logits=value("class", [1, 10]))),
        "its input is x.1 float32 [1, 3, 32, 32], its output logits.1 float32 [1, 10], with a fixed batch dimension; "
        "export it with dynamic_shapes=({0: torch.export.Dim('N')},), or with dynamo=False, "
        "input_names=['x.1'], output_names=['logits.1'], dynamic_axes={'x.1': {0: 'N'}, 'logits.1': {0: 'N'}}",
    ),
    "a batch of 16 in a Reshape, other names": (
        renamed(graph([node("Reshape", "image s", "x"), PRODUCT], s=[16, 3072])),
        "dynamic_axes={'x.1': {0: 'N'}, 'logits.1': {0: 'N'}}",
    ),
    "100 classes, other names": (
        renamed(graph(logits=value("class", ["batch", 100]))),
        "its input is x.1 float32 [N, 3, 32, 32], its output logits.1 float32 [batch, 100]",
    ),
    "100 classes, not declared, other names": (
        renamed(graph(logits=value("class", None), w=np.ones((3072, 100), np.float32))),
        "for a batch of 3 its output logits.1 is [3, 100], not [3, 10]",
    ),
    "exchanged names and 100 classes": (
        renamed(graph(logits=value("class", ["N", 100])), "class", "image"),
        "its input is class float32 [N, 3, 32, 32], its output image float32 [N, 100]",
    ),
    "long names with control characters": (
        renamed(graph(logits=value("class", ["N", 100])), "i\x1b[2J" * 1000, "o" * 5000),
        "its input is i?[2J",
    ),
    "a batch of 1 in a Reshape": (
        graph([node("Reshape", "image s", "x"), PRODUCT], s=[1, 3072]),
        "ONNX Runtime cannot run it for a batch of 3",
    ),
    "a batch of 16 in a Reshape": (
        graph([node("Reshape", "image s", "x"), PRODUCT], s=[16, 3072]),
        "if a batch size is fixed inside it, export it with dynamic_shapes=",
    ),
    "another size": (graph(image=value("image", ["N", 3, 224, 224])), "its input is image float32 [N, 3, 224, 224]"),
    "channels last": (graph(image=value("image", ["N", 32, 32, 3])), "its input is image float32 [N, 32, 32, 3]"),
    "100 classes": (graph(logits=value("class", ["batch", 100])), "its output class float32 [batch, 100]"),
    "100 classes, not declared": (
        graph(logits=value("class", None), w=np.ones((3072, 100), np.float32)),
        "for a batch of 3 its output class is [3, 100], not [3, 10]",
    ),
    "two inputs": (graph(more=[value("mask", ["N", 10])]), "its inputs are image float32 [N, 3, 32, 32], mask float32"),
    "double input": (
        graph(
            [cast("image", "i", TensorProto.FLOAT), node("Flatten", "i", "x"), PRODUCT],
            value("image", ["N", 3, 32, 32], TensorProto.DOUBLE),
        ),
        "its input is image float64 [N, 3, 32, 32]",
    ),
    "float16 input and output": (
        graph(
            image=value("image", ["N", 3, 32, 32], TensorProto.FLOAT16),
            logits=value("class", ["N", 10], TensorProto.FLOAT16),
            **HALF,
        ),
        "convert it with float32 input and output",
    ),
    "a sequence as output": (
        graph(
            [FLATTEN, node("MatMul", "x w", "y"), node("SequenceConstruct", "y", "class")],
            logits=helper.make_tensor_sequence_value_info("class", TensorProto.FLOAT, ["N", 10]),
        ),
        "its output class (sequence)",
    ),
    "a random operator": (
        graph([node("RandomNormalLike", "image", "r"), node("Flatten", "r", "x"), PRODUCT]),
        "it contains random operators (RandomNormalLike); export it in evaluation mode",
    ),
    "dropout in training mode": (
        graph(
            [node("Dropout", "image ratio yes", "d"), node("Flatten", "d", "x"), PRODUCT],
            ratio=np.float32(0.5),
            yes=True,
        ),
        "the same images give other logits in a second run",
    ),
    "a softmax over the batch": (
        graph([FLATTEN, node("MatMul", "x w", "y"), node("Softmax", "y", "class", axis=0)]),
        "the logits of an image depend on the other images of its batch",
    ),
    "logits that are not finite": (graph(w=np.full((3072, 10), np.nan, np.float32)), "are not finite"),
    "an operator of nobody": (graph([FLATTEN, node("NoSuchOperator", "x w", "class")]), "No Op registered for"),
    "an operator of another domain": (
        graph([FLATTEN, helper.make_node("Own", ["x", "w"], ["class"], domain="own")], domains=["own"]),
        "ONNX Runtime cannot load it (Fail: Fatal error: own:Own(-1) is not a registered function/op)",
    ),
    "an opset that ONNX Runtime does not read": (graph(opset=28, ir=14), "ONNX Runtime cannot load it"),
    "a table of 8 rows": (
        graph(
            [FLATTEN, node("MatMul", "x w", "y"), node("Shape", "image", "n", end=1), node("Slice", "t zero n", "rows")]
            + [node("Add", "y rows", "class")],
            opset=15,
            t=np.ones((8, 10), np.float32),
            zero=np.array([0]),
        ),
        "ONNX Runtime cannot run it for a batch of 64",
    ),
    "logits that depend on the place in the batch": (
        graph(
            [FLATTEN, node("MatMul", "x w", "y"), node("Shape", "image", "n", end=1), node("Slice", "t zero n", "rows")]
            + [node("Add", "y rows", "class")],
            opset=15,
            t=np.arange(6400, dtype=np.float32).reshape(64, 100)[:, :10],
            zero=np.array([0]),
        ),
        "the logits of an image depend on the other images of its batch",
    ),
    "a branch that fails for black pixels": (branching(), "ONNX Runtime cannot run it for black pixels (0) ("),
    "a logarithm of the image": (
        graph([node("Log", "image", "l"), node("Flatten", "l", "x"), PRODUCT]),
        "its logits for black pixels (0) are not finite",
    ),
    "a division by the image": (
        graph([node("Reciprocal", "image", "l"), node("Flatten", "l", "x"), PRODUCT]),
        "its logits for black pixels (0) are not finite",
    ),
    "a logarithm of 1 - image": (
        graph(
            [node("Sub", "one image", "s"), node("Log", "s", "l"), node("Flatten", "l", "x"), PRODUCT],
            one=np.float32(1),
        ),
        "its logits for white pixels (1) are not finite",
    ),
    "a function of another opset": (
        graph(
            [FLATTEN, helper.make_node("Times", ["x", "w"], ["class"], domain="own")],
            functions=[OTHER_OPSET],
            domains=["own"],
        ),
        "its function Times cannot be inlined, its opset is ai.onnx 17 and the graph's another one; export the graph",
    ),
    "a dangling input": (graph([node("Flatten", "nowhere", "x"), PRODUCT]), "not a valid graph"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_cannot_replace_the_export_are_refused(tmp_path: Path, name: str) -> None:
    model, words = REFUSED[name]
    fault = fault_of(saved(model, tmp_path))
    assert words in fault
    assert "onnxruntime_src" not in fault and "\n" not in fault
    assert fault.isprintable() and len(fault) < 700


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "an empty file"),
        (lambda data: b"some text\n" * 9, "not an ONNX file, or incomplete"),
        (lambda data: np.random.default_rng(1).bytes(5000), "not an ONNX file, or incomplete"),
        (lambda data: data[:1000], "not an ONNX file, or incomplete"),
        (lambda data: data[:-1], "not an ONNX file, or incomplete"),
        (lambda data: b"PK\x03\x04" + data, "not an ONNX file but one saved by torch"),
        (lambda data: data.replace(b"Flatten", b"Fl\xfftten"), "not a valid graph ("),
    ],
)
def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(damage(graph().SerializeToString()))
    assert words in fault_of(path)
    assert ": )" not in fault_of(path)


def test_single_wrong_bytes_never_raise_another_error(tmp_path: Path) -> None:
    """Either the graph works or it is refused."""
    data = graph().SerializeToString()
    for at in range(0, 200, 3):
        path = tmp_path / "net.onnx"
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        with contextlib.suppress(Fault):
            own.read_own(path)


# Precision

C = RANDOM.normal(size=(10, 3, 5, 5)).astype(np.float32)
POOL = [node("GlobalAveragePool", "maps", "means"), node("Flatten", "means", "class")]
CONV = [node("Conv", "image c", "maps"), *POOL]
HALF_CONV = [
    *(cast("image", "i", TensorProto.FLOAT16), node("Conv", "i c", "maps")),
    *(POOL[0], node("Flatten", "means", "flat"), cast("flat", "class", TensorProto.FLOAT)),
]
QDQ = [
    *(node("QuantizeLinear", "image s z", "iq"), node("DequantizeLinear", "iq s z", "i")),
    *(node("DequantizeLinear", "cq t y", "c"), node("Conv", "i c", "maps"), *POOL),
]
QDQ_CONSTANTS: dict[str, NDArray[Any]] = {
    "s": np.array(1 / 255, np.float32),
    "z": np.array(0, np.uint8),
    "cq": np.clip(np.rint(C / 0.03), -127, 127).astype(np.int8),
    "t": np.array(0.03, np.float32),
    "y": np.array(0, np.int8),
}
PRECISIONS: dict[str, tuple[onnx.ModelProto, str]] = {
    "float32": (graph(CONV, c=C), "float32"),
    "float16": (graph(HALF_CONV, c=C.astype(np.float16)), "float16"),
    "float16 weights": (graph([cast("c16", "c", TensorProto.FLOAT), *CONV], c16=C.astype(np.float16)), "float32"),
    "float16 and float32": (
        graph(
            [*HALF_CONV[:-1], cast("flat", "f", TensorProto.FLOAT), node("Gemm", "f g", "class")],
            c=C.astype(np.float16),
            g=np.eye(10, dtype=np.float32),
        ),
        "float16 and float32",
    ),
    "int8": (graph(QDQ, **QDQ_CONSTANTS), "int8"),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_precision_of_a_graph_is_that_of_its_products(tmp_path: Path, name: str) -> None:
    model, precision = PRECISIONS[name]
    assert description_of(model) == {"opset": 13, "domains": [], "precision": precision}
    path = saved(model, tmp_path)
    assert own.read_own(path).description["precision"] == precision
    refusal = int8.refusal(onnx.load(path))
    assert refusal is None if precision == "float32" else refusal is not None and precision in refusal[0]


def test_the_refusal_of_int8_names_the_true_condition(tmp_path: Path) -> None:
    for transposed in (0, 1):
        weight = W.T.copy() if transposed else W
        path = saved(graph([FLATTEN, node("Gemm", "x w", "class", transB=transposed)], w=weight), tmp_path)
        refusal = int8.refusal(onnx.load(path))
        assert refusal is None if transposed else refusal and "Conv, or Gemm with transB=1, with" in refusal[0]


def test_an_error_of_onnx_runtime_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    error = state.RuntimeException("[ONNXRuntimeError] : 6 : Non-zero status\nwhile running Add node")
    cli.explain_exception(type(error), error, None)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "ONNX Runtime: cannot run the graph ([ONNXRuntimeError]" in shown


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    from formats.user_inputs import require_file

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit):
        require_file("onnx", tmp_path / "pipe")


# The trial


def looping(times: int) -> onnx.ModelProto:
    """A graph whose logits go through a Loop."""
    outputs = [value("go_out", [], TensorProto.BOOL), value("y_out", ["N", 10])]
    inputs = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("y_in", ["N", 10])]
    body = helper.make_graph(
        [node("Identity", "go", "go_out"), node("Identity", "y_in", "y_out")], "body", inputs, outputs
    )
    nodes = [FLATTEN, node("MatMul", "x w", "y"), node("Loop", "times yes y", "class", body=body)]
    return graph(nodes, times=np.array(times, np.int64), yes=np.array(True))


def importing(path: Path, out: Path) -> Any:
    (out / ".make").mkdir(parents=True, exist_ok=True)
    words = ("--what", "onnx", "--given", path, "--note", out / ".make/onnx", "--engine", "onnxruntime")
    return script_here("import_input", *words, "--out", out / "models/net.onnx")


def test_the_trial_of_a_graph_without_end_is_ended_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert importing(saved(looping(3), tmp_path), tmp_path / "good").returncode == 0
    monkeypatch.setattr(trial, "LIMIT", 3.0)
    path = saved(looping(2**62), tmp_path)
    done = importing(path, tmp_path / "root")
    refused(done, f"ONNX={path}: its trial with a few random images takes longer than 3 s; check the number of")
    assert not multiprocessing.active_children()
    assert [file for file in (tmp_path / "root").rglob("*") if file.is_file()] == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_graph_that_crashes_its_trial_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path) -> own.OwnGraph:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(own, "read_own", crash)
    done = importing(saved(graph(), tmp_path), tmp_path / "root")
    refused(done, "its trial with a few random images was killed (SIGKILL)")


def test_what_a_trial_raises_or_prints_comes_through() -> None:
    def unreadable() -> None:
        open("/no/such")  # noqa: SIM115

    with pytest.raises(FileNotFoundError) as caught:
        trial.run(unreadable, 1 << 30)
    assert caught.value.filename == "/no/such"
    with pytest.raises(SystemExit) as stopped:
        trial.run(lambda: sys.exit(2), 1 << 30)
    assert stopped.value.code == 2
    assert trial.run(lambda: 7, 1 << 30) == 7


def test_a_trial_that_takes_some_seconds_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial, "NOTICE", 0.2)
    assert trial.run(lambda: time.sleep(1) or 7, 1 << 30) == 7  # type: ignore[func-returns-value]
    assert capsys.readouterr().out == "  the graph is tried with a few random images, for 120 s at most\n"


def calling(levels: int) -> onnx.ModelProto:
    """A graph whose functions call the one below twice."""
    opset = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]

    def function(i: int) -> onnx.FunctionProto:
        names = ("Relu", "Relu") if i == 0 else (f"F{i - 1}",) * 2
        domain = "own" if i else ""
        nodes = [node(names[0], "a", "b", domain=domain), node(names[1], "b", "c", domain=domain)]
        return helper.make_function("own", f"F{i}", ["a"], ["c"], nodes, opset)

    nodes = [FLATTEN, node("MatMul", "x w", "y"), node(f"F{levels - 1}", "y", "class", domain="own")]
    return graph(nodes, functions=[*map(function, range(levels))], domains=["own"])


def with_second_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a second function of each name, which calls no other."""
    opset = [helper.make_opsetid("", 13)]
    for i in range(len(model.functions)):
        model.functions.append(helper.make_function("own", f"F{i}", ["a"], ["c"], [node("Relu", "a", "c")], opset))
    return model


def nesting(levels: int) -> onnx.ModelProto:
    """A graph with If nodes in the branches of If nodes; each level adds one branch with the levels below."""
    inner = [node("Relu", "y", "r")]
    for i in range(levels):
        result = value(f"r{i}", None)
        other = helper.make_graph([node("Relu", "y", f"r{i}")], "other", [], [result])
        deeper = helper.make_graph([*inner, node("Identity", inner[-1].output[0], f"r{i}")], "deeper", [], [result])
        inner = [node("If", "yes", f"i{i}", then_branch=deeper, else_branch=other)]
    nodes = [FLATTEN, node("MatMul", "x w", "y"), *inner, node("Identity", inner[-1].output[0], "class")]
    return graph(nodes, yes=np.array(True))


def test_functions_and_nested_graphs_of_usual_depth_are_accepted(tmp_path: Path) -> None:
    for model in (calling(6), nesting(6)):
        assert importing(saved(model, tmp_path), tmp_path / "root").returncode == 0


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: calling(29), ", with its functions inlined (in F"),
        (lambda: with_second_functions(calling(29)), ", with its functions inlined (in F"),
        (lambda: nesting(25), ", with its functions inlined (in If)"),
        (lambda: graph([FLATTEN, *[Node()] * 1_000_000, PRODUCT]), ", with its functions inlined;"),
        (lambda: graph(**{f"i{i}": 0 for i in range(60_000)}), ", with its functions inlined;"),
    ],
    ids=["functions", "equal names", "If", "nodes", "initializers"],
)
def test_a_graph_that_stands_for_many_nodes_is_refused_before_it_is_read_further(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], where: str
) -> None:
    path, begin = saved(make(), tmp_path), time.monotonic()
    done = importing(path, tmp_path / "root")
    refused(
        done,
        f"ONNX={path}: it stands for more than 50000 nodes and initializers{where}",
        "export it with fewer nodes, functions",
    )
    assert time.monotonic() - begin < 20


def test_a_long_chain_of_functions_is_refused(tmp_path: Path) -> None:
    model = calling(3000)
    for function in model.functions[1:]:
        function.node[1].op_type, function.node[1].domain = "Relu", ""
    refused(importing(saved(model, tmp_path), tmp_path / "root"), "nested more than 100 levels deep; export it with")


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    model = calling(3)
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "F2", "own"
    refused(importing(saved(model, tmp_path), tmp_path / "root"), "it stands for more than 50000 nodes")


TILED = [
    node("Tile", "image reps", "large"),
    node("ReduceMean", "large", "m", keepdims=0, axes=[2, 3]),
    node("MatMul", "m v", "more"),
]
FILLED = [node("ConstantOfShape", "sizes", "large"), node("ReduceSum", "large", "more", keepdims=0)]


def adding(nodes: list[Node], **constants: Any) -> onnx.ModelProto:
    """A graph that adds the tensor `more` of these nodes to its logits."""
    product = node("MatMul", "x w", "y")
    return graph([FLATTEN, product, *nodes, node("Add", "y more", "class")], **constants)


@pytest.mark.parametrize(
    "model",
    [
        adding(TILED, reps=np.array([1, 1, 600, 600]), v=np.ones((3, 10), np.float32)),
        adding(FILLED, sizes=np.array([1000, 2000, 1000])),
    ],
    ids=["Tile", "ConstantOfShape"],
)
def test_a_graph_that_needs_much_memory_is_refused(
    tmp_path: Path, model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TENSORS", 1 << 30)
    done = importing(saved(model, tmp_path), tmp_path / "root")
    refused(
        done, "its trial with a few random images needs more than 1.", " GB of memory; check the sizes in its nodes"
    )
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20  # kB
    assert [file for file in (tmp_path / "root").rglob("*") if file.is_file()] == []


def test_a_trial_has_memory_for_a_large_network(tmp_path: Path) -> None:
    """The largest tensors of VGG-16 are those of its first two layers: 64 x 64 x 224 x 224."""
    nodes = [
        node("Resize", "image roi scales", "enlarged"),
        node("Conv", "enlarged v1", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        node("Conv", "b v2", "c", pads=[1, 1, 1, 1]),
        node("ReduceMean", "c", "m", keepdims=0, axes=[2, 3]),
        node("MatMul", "m v3", "more"),
    ]
    ones = {
        f"v{i}": np.full(shape, 0.01, np.float32)
        for i, shape in ((1, (64, 3, 3, 3)), (2, (64, 64, 3, 3)), (3, (64, 10)))
    }
    model = adding(nodes, roi=np.zeros(0, np.float32), scales=np.array([1, 1, 7, 7], np.float32), **ones)
    assert importing(saved(model, tmp_path), tmp_path / "root").returncode == 0


@pytest.mark.parametrize("line", [0, 1])
def test_the_exports_on_the_page_are_accepted(tmp_path: Path, line: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    if line == 0:
        pytest.importorskip("onnxscript")  # torch's exporter needs it, this project does not
    page = (Path(__file__).parents[2] / "docs/inputs.md").read_text()
    code = [block.split("```")[0] for block in page.split("```python\n") if block.startswith("torch.onnx.export")][0]
    calls = [f"torch.onnx.export{call}" for call in code.split("torch.onnx.export")[1:]]
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 10, 5), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    monkeypatch.chdir(tmp_path)
    exec(calls[line], {"torch": torch, "net": net, "images": torch.rand(2, 3, 32, 32)})
    result = own.read_own(tmp_path / "net.onnx")
    assert line == 0 or result.description["opset"] == 17
