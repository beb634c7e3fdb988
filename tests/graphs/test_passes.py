"""Graph optimization passes: each one on small graphs, all of them on the sample's graph."""

from __future__ import annotations

from _support.artifact import digest, read_record

import copy
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from conftest import SCRIPTS, Inputs, optimize, refused, run, script_here
from graphs import agreement, edit, optimization, passes
from network.load import load_checkpoint

RNG = np.random.default_rng(7)
X = RNG.normal(size=(2, 4, 5, 5)).astype(np.float32)


def graph_of(
    nodes: list[Any], constants: dict[str, Any], shape: tuple[int, ...] = (4, 5, 5), opset: int = 11, rank: int = 4
) -> Any:
    """A graph x [N, …] -> y with nodes (operator, inputs, output, attributes)."""
    onnx_nodes = [helper.make_node(op, ins, [out], **(more[0] if more else {})) for op, ins, out, *more in nodes]
    x = helper.make_tensor_value_info("x", 1, ["N", *shape])
    y = helper.make_tensor_value_info("y", 1, [None] * rank)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(helper.make_graph(onnx_nodes, "g", [x], [y], tensors), opset_imports=opsets, ir_version=6)
    onnx.checker.check_model(model, full_check=True)
    return model


def result_of(model: Any, x: Any = X) -> Any:
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=providers).run(None, {"x": x})[0]


def in_float64(model: Any, x: Any = X) -> Any:
    """The exact result: all constants and all arithmetic in float64."""
    wide = copy.deepcopy(model)
    wide.opset_import[0].version = 17  # the evaluator runs BatchNormalization of opset 11 in training mode
    for tensor in wide.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float64), tensor.name))
    return ReferenceEvaluator(wide).run(None, {"x": x.astype(np.float64)})[0]


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def names(model: Any) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer]


def test_unused_nodes_and_initializers_are_removed() -> None:
    nodes = [
        ("Identity", ["x"], "same"),
        ("Relu", ["same"], "y"),
        ("Mul", ["same", "c"], "dead"),
        ("Shape", ["dead"], "s"),
    ]
    model = graph_of(nodes, {"c": np.float32(2), "idle": np.float32(3)})
    for name in ("c", "idle"):  # as old exporters list them
        model.graph.input.append(helper.make_tensor_value_info(name, 1, []))
    expected = result_of(model)
    edit.drop_unused(model)
    assert (operators(model), names(model), [v.name for v in model.graph.input]) == (["Relu"], [], ["x"])
    assert (result_of(model) == expected).all()


def test_only_equal_initializers_are_shared_whatever_their_names() -> None:
    same, zero = RNG.normal(size=(4, 1, 1)).astype(np.float32), np.zeros((4, 1, 1), np.float32)
    constants = {"a": same, "b": same, "zero": zero, "minus_zero": -zero, "flat": same.reshape(1, 4, 1, 1)}
    constants["other"] = same + 1
    nodes, last = [], "x"
    for i, name in enumerate(constants):
        nodes.append(("Add", [last, name], f"t{i}"))
        last = f"t{i}"
    nodes += [("Cast", ["whole"], "cast", {"to": 1}), ("Add", [last, "cast"], "y")]
    constants["whole"] = np.zeros((4, 1, 1), np.int32)  # the bytes and the shape of zero
    model = graph_of(nodes, constants)
    model.graph.initializer[1].CopyFrom(helper.make_tensor("b", 1, [4, 1, 1], same.ravel()))  # in another field
    expected = result_of(model)
    passes.share_equal_initializers(model)
    assert names(model) == ["a", "zero", "minus_zero", "flat", "other", "whole"]
    assert (result_of(model) == expected).all()


def test_constants_are_folded_in_float64_and_rounded_once() -> None:
    """((1 + c) - 1) · 1e8 of float32 c = 1e-8 is 1; step by step in float32 it is 0."""
    constants = {"one": np.float32(1), "c": np.float32(1e-8), "many": np.float32(1e8)}
    nodes = [
        ("Add", ["one", "c"], "p"),
        ("Sub", ["p", "one"], "q"),
        ("Mul", ["q", "many"], "r"),
        ("Add", ["x", "r"], "y"),
    ]
    model = graph_of(nodes, constants)
    exact, in_float32 = in_float64(model), result_of(model)
    edit.fold_constants(model)
    assert operators(model) == ["Add"]
    assert model.graph.initializer[0].data_type == 1
    assert np.abs(result_of(model) - exact).max() < 1e-6 < np.abs(in_float32 - exact).max()


def test_integers_are_folded_as_the_graph_computes_them() -> None:
    """floor(0.7 · 10) is 7 in float32, and 6 in float64 of the same constants."""
    constants = {"c": np.float32(0.7), "ten": np.float32(10), "one": np.array([1], np.int64), "minus": np.array([-1])}
    nodes = [
        ("Mul", ["c", "ten"], "p"),
        ("Floor", ["p"], "f"),
        ("Cast", ["f"], "i", {"to": 7}),
        ("Sub", ["i", "one"], "six"),
        ("Concat", ["minus", "six"], "to", {"axis": 0}),
        ("Reshape", ["x", "to"], "y"),
    ]
    model = graph_of(nodes, constants, (6,), rank=2)
    edit.fold_constants(model)
    assert operators(model) == ["Reshape"]
    (shape,) = model.graph.initializer
    assert (shape.data_type, numpy_helper.to_array(shape).tolist()) == (7, [-1, 6])


def test_random_numbers_and_eight_bit_weights_are_not_folded() -> None:
    nodes = [("RandomNormal", [], "r", {"shape": [4, 1, 1]}), ("DequantizeLinear", ["w", "s", "z"], "d")]
    nodes += [("Add", ["x", "r"], "t"), ("Add", ["t", "d"], "y")]
    model = graph_of(nodes, {"w": np.ones((4, 1, 1), np.int8), "s": np.float32(0.1), "z": np.int8(0)})
    edit.fold_constants(model)
    assert operators(model) == ["RandomNormal", "DequantizeLinear", "Add", "Add"]


def test_only_a_reshape_that_keeps_the_batch_becomes_flatten() -> None:
    for shape, expected in (([-1, 100], "Flatten"), ([-1, 25], "Reshape")):  # of x, N × 4 × 5 × 5
        model = graph_of([("Reshape", ["x", "s"], "y")], {"s": np.array(shape)}, rank=2)
        before = result_of(model)
        passes.flatten_reshapes(model)
        assert operators(model) == [expected] and np.array_equal(result_of(model), before)


def test_nodes_that_the_evaluator_cannot_run_stay() -> None:
    constants = {"a": np.eye(5, dtype=np.float32), "b": np.ones((5, 5), np.float32)}
    model = graph_of([("MatMul", ["a", "b"], "c"), ("Add", ["x", "c"], "y")], constants)
    model.graph.node[0].op_type, model.graph.node[0].domain = "FusedMatMul", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    edit.fold_constants(model)
    assert operators(model) == ["FusedMatMul", "Add"]


@pytest.mark.parametrize("left", [False, True])
def test_a_soft_mask_becomes_a_sum_without_a_constant(left: bool) -> None:
    """The sum may stand left or right, the 1 too; only (1 + s)·x of one shape, with the 1 exact and used once."""
    nodes = [("Sigmoid", ["x"], "s"), ("Add", ["one", "s"] if left else ["s", "one"], "m"), ("Relu", ["x"], "r")]
    nodes.append(("Mul", ["m", "r"] if left else ["r", "m"], "y"))
    model = graph_of(nodes, {"one": np.ones(1, np.float32)})
    exact, before = in_float64(model), result_of(model)
    passes.sum_masks(model)
    assert (operators(model), names(model)) == (["Sigmoid", "Relu", "Mul", "Add"], [])
    assert np.abs(result_of(model) - exact).max() <= 2 * np.abs(before - exact).max() < 1e-5
    other = graph_of(nodes, {"one": np.full(1, 1.0001, np.float32)})
    twice = graph_of([*nodes[:2], ("Mul", ["m", "m"], "y")], {"one": np.ones(1, np.float32)})
    mean = [("ReduceMean", ["x"], "s"), ("Add", ["one", "s"], "m"), ("Mul", ["m", "x"], "y")]  # s of another shape
    ranked = graph_of(nodes, {"one": np.ones((1, 1, 1, 1, 1, 1), np.float32)}, rank=6)
    for model in (other, twice, graph_of(mean, {"one": np.ones(1, np.float32)}), ranked):
        expected = operators(model)
        passes.sum_masks(model)
        assert operators(model) == expected


def test_onnxruntime_keeps_its_layout_through_the_optimized_graph(bins: Path, onnx_file: Path, tmp_path: Path) -> None:
    """The purpose of sum_masks: it reduces the reordered tensors in the graph that ONNX Runtime runs."""
    import onnxruntime

    out, found = tmp_path / "m.onnx", []
    assert optimize(onnx_file, bins, out, "nearest", how=script_here).returncode == 0
    for path in (onnx_file, out):
        model = onnx.load(path)
        edit.fix_batch(model, 16)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "runs.onnx"), 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found.append(sum("Reorder" in operator for operator in operators(onnx.load(tmp_path / "runs.onnx"))))
    if not found[0]:
        pytest.skip("this processor's ONNX Runtime has no blocked layout")
    assert found[1] <= 2 < found[0]


def macs_by_torch(checkpoint: Path) -> int:
    model, total = load_checkpoint(checkpoint), []

    def count(module: Any, given: Any, found: Any) -> None:
        weight = module.weight
        total.append(found[0].numel() * weight[0].numel())

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32))
    return sum(total)


@pytest.mark.parametrize("resize", ["nearest", "exact"])
def test_the_printed_and_recorded_numbers_are_those_of_the_graphs(
    inputs: Inputs, bins: Path, onnx_file: Path, tmp_path: Path, resize: str
) -> None:
    out = tmp_path / "m.onnx"
    done = optimize(onnx_file, bins, out, resize, how=script_here)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^  (\S+(?: \S+)*) +(\d+) +(\d+) +([\d,]+) +([\d,]+)$", done.stdout, re.MULTILINE)
    rows = [(name, *(int(number.replace(",", "")) for number in numbers)) for name, *numbers in lines]
    record = read_record(tmp_path / "m.json")["passes"]
    assert rows == [tuple(size.values()) for size in record]
    assert [list(size) for size in record] == [["pass", "nodes", "initializers", "bytes", "macs"]] * len(rows)
    convolutions = macs_by_torch(inputs.checkpoint)
    # Y = A·(X·Aᵀ): at 128 channels from 8 and from 16, at 256 channels from 8 twice
    products = sum(c * (h * 2 * h * h + 2 * h * 2 * h * h) for c, h in ((128, 8), (128, 16), (256, 8), (256, 8)))
    for row, path, macs in (
        (rows[0], onnx_file, convolutions),
        (rows[-1], out, convolutions + (products if resize == "exact" else 0)),
    ):
        graph = onnx.load(path).graph
        assert row[1:] == (len(graph.node), len(graph.initializer), path.stat().st_size, macs)
    assert rows[0][0] == "as given"
    order = [name for name, _ in passes.table(resize)]
    assert [row[0] for row in rows[1:]] == [name for name in order if name in dict.fromkeys(row[0] for row in rows)]
    lean = onnx.load(out).graph
    values = {(t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes()) for t in lean.initializer}
    assert len(values) == len(lean.initializer)
    assert {t.name for t in lean.initializer} <= {name for node in lean.node for name in node.input}
    assert rows[-1][1] < rows[0][1]
    assert rows[-1][3] < rows[0][3]


def test_optimization_is_reproducible_and_idempotent(
    bins: Path, onnx_file: Path, optimized: Path, tmp_path: Path
) -> None:
    assert optimize(onnx_file, bins, tmp_path / "b.onnx", "none", PYTHONHASHSEED="7").returncode == 0
    assert digest(optimized) == digest(tmp_path / "b.onnx")
    second = optimize(optimized, bins, tmp_path / "c.onnx", "none", how=script_here)
    assert second.returncode == 0, second.stderr
    assert (tmp_path / "c.onnx").read_bytes() == optimized.read_bytes()


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("fold_constants", "exact[name].astype(", "(exact[name] + 1).astype("),
        ("resize_exact", "(size - 1) / (2 * size - 1)", "0.5"),
        ("sum_masks", "[x, masks[mask]]", "[x, x]"),
        ("share_equal_initializers", ", numpy_helper.to_array(tensor).tobytes()", ""),
        ("fold_constants", "known[name].dtype)", "np.float64)"),  # a graph that no engine can load
        (
            "drop_unused",
            "del graph.node[:]\n    graph.node.extend(nodes",
            "del graph.node[:]\n    graph.node.extend(nodes[1:]",
        ),
    ],
)
def test_a_pass_that_changes_the_logits_is_named_and_nothing_is_written(
    bins: Path, onnx_file: Path, tmp_path: Path, name: str, right: str, wrong: str
) -> None:
    broken = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, broken)
    texts = {path: path.read_text() for path in (broken / "graphs").glob("*.py")}
    (module,) = (path for path, text in texts.items() if right in text)
    module.write_text(texts[module].replace(right, wrong))
    flags = ("--bins", bins, "--resize", "exact", "--check-images", 4, "--tolerance", "1e-4")
    out = tmp_path / "made" / "m.onnx"
    done = run(sys.executable, broken / "optimize_onnx.py", "--onnx", onnx_file, *flags, "--out", out)
    refused(done, f"m.onnx, pass {name}: ", "nothing was written")
    assert [path.name for path in out.parent.iterdir() if not path.name.endswith(".lock")] == []


def test_one_changed_label_after_a_pass_is_an_error_at_any_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    weights = np.eye(2, dtype=np.float32)
    model = graph_of([("Gemm", ["x", "w"], "y")], {"w": weights}, (2,), rank=2)
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"
    model.graph.output[0].name = model.graph.node[0].output[0] = "class"

    def swap(model: Any) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights[::-1].copy(), "w"))

    images = np.array([[1, 1.00001]], np.float32)
    expected = agreement.logits_of(model.SerializeToString(), images)
    with pytest.raises(SystemExit):
        settings = optimization.Settings(1.0, "m", is_own=False)
        optimization.run_passes(model, [("swap", swap)], images, expected, settings)
    assert "m, pass swap: " in capsys.readouterr().err
