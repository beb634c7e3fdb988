"""All literals of the network are in network/spec.py, and another topology needs no change of other code."""

from __future__ import annotations

from _support.artifact import read_record

import ast
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import SCRIPTS, TREE, Project
from network import spec

OUTSIDE = sorted(path for path in SCRIPTS.rglob("*.py") if path != SCRIPTS / "network/spec.py")
CLASS_NAMES = set(spec.CLASSES)
# These files describe the upstream repository and the layers, so they may contain the literals.
LAYERS = {"network/model.py", "network/shapes.py"}


def literals(path: Path) -> list[ast.Constant]:
    """The constants of a module, without its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]


@pytest.mark.parametrize("path", OUTSIDE, ids=[path.relative_to(SCRIPTS).as_posix() for path in OUTSIDE])
def test_no_literal_of_the_network_is_outside_its_spec(path: Path) -> None:
    for node in literals(path):
        value = node.value
        if isinstance(value, str):
            assert spec.NAME not in value, f"line {node.lineno}: the network's name"
            assert not re.search(r"\b3, ?32, ?32\b", value), f"line {node.lineno}: the image's shape"
            assert value not in CLASS_NAMES or path.name == "sample.py", f"line {node.lineno}: a class name"
        if path.name == "others.py":  # 3072 is the size of a matrix product there
            continue
        assert value not in (spec.IMAGE_VALUES, 4 * spec.IMAGE_VALUES), f"line {node.lineno}: an image's size"
    for tree in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(tree, (ast.Tuple, ast.List)):
            values = [item.value for item in tree.elts if isinstance(item, ast.Constant)]
            assert values[-3:] != [*spec.IMAGE_SHAPE], f"line {tree.lineno}: the image's shape"
        if isinstance(tree, ast.Dict):  # inputs of a session
            keys = [key.value for key in tree.keys if isinstance(key, ast.Constant)]
            assert keys != [spec.INPUT], f"line {tree.lineno}: the input's name"
        if isinstance(tree, ast.Call) and getattr(tree.func, "attr", "") == "run" and tree.args:
            names = [item.value for item in getattr(tree.args[0], "elts", ()) if isinstance(item, ast.Constant)]
            assert spec.OUTPUT not in names, f"line {tree.lineno}: the output's name"


def test_only_the_first_lines_of_the_makefile_name_the_network() -> None:
    lines = re.findall(rf"^(.*{spec.NAME}.*)$", (TREE / "Makefile").read_text(), re.MULTILINE)
    assert len(lines) == 1
    assert lines[0].startswith(f"network := {spec.NAME}#")
    for path in filter(Path.is_file, (SCRIPTS / "make").iterdir()):
        assert spec.NAME not in path.read_text(), path


def small_graph() -> onnx.ModelProto:
    """Another topology: a convolution, its mean over the image, and a product. It has no Resize."""
    draw = np.random.RandomState(0)
    weights = {
        "filters": draw.randn(8, spec.IMAGE_SHAPE[0], 3, 3).astype(np.float32),
        "heads": draw.randn(len(spec.CLASSES), 8).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", [spec.INPUT, "filters"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "heads"], [spec.OUTPUT], transB=1),
    ]
    image = helper.make_tensor_value_info(spec.INPUT, TensorProto.FLOAT, ["N", *spec.IMAGE_SHAPE])
    logits = helper.make_tensor_value_info(spec.OUTPUT, TensorProto.FLOAT, ["N", len(spec.CLASSES)])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "small", [image], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


@pytest.mark.parametrize("chip", ["cpu", "cpu-f32"])
def test_a_graph_of_another_topology_gets_an_accuracy(project: Project, chip: str) -> None:
    onnx.save(small_graph(), project.tree / "small.onnx")
    project.set("optimize.resize", "none")
    done = project.make("accuracy", "ONNX=small.onnx", f"CHIP={chip}", "BS=7")
    assert done.stdout.startswith("  ")
    assert re.search(r"^Top-1 accuracy of inference: [\d.]+%$", done.stdout, re.MULTILINE)
    assert "own .onnx" in done.stdout
    result = read_record(project.root / f"results/{chip}/bs7/accuracy.json")
    assert result["total"] == 40
    assert read_record(project.root / "models/onnx/3d_attention_net.json")["origin"] == "given"
