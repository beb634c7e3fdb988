"""ONNX= and OM=: the user's own graph or compiled model instead of the built one."""

from __future__ import annotations

from _support.artifact import read_record

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from conftest import Project, small_graph

OPTIMIZED = "models/optimized/3d_attention_net.onnx"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The user's own graph."""
    return small_graph(tmp_path / "own.onnx")


def test_an_own_graph_replaces_the_export_until_another_is_passed(project: Project, own: Path) -> None:
    graph = project.root / "models/onnx/3d_attention_net.onnx"
    done = project.make("accuracy", f"ONNX={own}")
    assert graph.read_bytes() == own.read_bytes()
    assert "Source: built-in sample data, own .onnx" in done.stdout
    project.make("accuracy", f"ONNX={own}")
    assert project.pythons() == []  # the same again is a no-op
    before = project.artifacts()
    project.set("onnx.opset", "12")
    project.make("accuracy")
    assert project.rebuilt(before) == set()  # without ONNX, the graph in ROOT is kept and not exported over
    model = onnx.load(own)
    model.producer_name = "another exporter"
    onnx.save(model, other := own.with_name("other.onnx"))
    project.make("accuracy", f"ONNX={other}")
    assert graph.read_bytes() == other.read_bytes() != own.read_bytes()
    project.make("accuracy", f"ONNX={own}")
    assert graph.read_bytes() == own.read_bytes()
    graph.unlink()
    project.make("accuracy")  # removed: exported again
    assert read_record(graph.with_suffix(".json"))["provenance"]["opset"] == 12


def test_a_page_says_own_only_while_the_own_graph_is_in_root(project: Project, tmp_path: Path) -> None:
    graph = project.root / "models/onnx/3d_attention_net.onnx"
    page = project.root / "results/null/bs16/accuracy.txt"
    before = page.read_text()
    shutil.copyfile(graph, tmp_path / "same.onnx")
    assert "own .onnx" in project.make("accuracy", f"ONNX={tmp_path / 'same.onnx'}").stdout
    assert "checkpoint  " not in page.read_text()  # no checkpoint was used
    graph.unlink()
    project.make("accuracy")  # exported again, with the same bytes
    assert page.read_text() == before


def test_an_own_graph_needs_no_checkpoint(project: Project, own: Path) -> None:
    for path in (*project.root.glob("models/checkpoint.*"), project.root / "models/onnx/3d_attention_net.onnx"):
        path.unlink()
    project.make("accuracy", f"ONNX={own}")
    assert not (project.root / "models/checkpoint.pkl").exists()


@pytest.mark.parametrize(
    "words",
    [("accuracy-all", "OM=params.yaml"), ("best", "OM=params.yaml"), ("om", "OM=params.yaml", "ONNX=params.yaml")],
)
def test_om_is_for_one_batch_size_and_excludes_onnx(project: Project, words: tuple[str, ...]) -> None:
    done = project.make(*words, "CHIP=310P3", check=False)
    assert "OM: a compiled model for one BS" in done.stderr
    assert project.pythons() == []


@pytest.mark.parametrize("fault", ["no graph", "a fixed batch", "a random operator", "a pipe"])
def test_a_graph_that_cannot_replace_the_export_is_rejected_and_leaves_nothing_behind(
    project: Project, own: Path, fault: str
) -> None:
    before = project.artifacts()
    graph = onnx.load(own)
    words = "with a fixed batch dimension"
    if fault == "a random operator":
        graph.graph.node.insert(0, onnx.helper.make_node("RandomNormalLike", ["image"], ["noise"]))
        words = "random operators (RandomNormalLike)"
    elif fault == "a fixed batch":
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(graph, own)
    if fault == "no graph":
        own.write_text("no graph")
        words = "not an ONNX file"
    elif fault == "a pipe":
        own.unlink()
        os.mkfifo(own)
        words = "a pipe or a device, not a file"
    done = project.make("accuracy", f"ONNX={own}", check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("make: ")]) == 1
    assert project.artifacts() == before
    assert not list(project.root.glob(".make/given/onnx*"))
    project.make("accuracy")
    assert project.artifacts() == before
    weights = project.root / "models/checkpoint.pkl"
    shutil.copyfile(weights, own.with_name("own.pkl"))
    project.make("accuracy", f"WEIGHTS={own.with_name('own.pkl')}")  # not refused because of an own graph


def test_nothing_of_a_refused_graph_is_in_a_new_root(project: Project, own: Path) -> None:
    own.write_bytes(own.read_bytes()[:100])
    project.make("optimized", f"ONNX={own}", "SOURCE=sample", "ROOT=new", check=False)
    assert [path for path in (project.tree / "new").rglob("*") if path.is_file() and ".make" not in path.parts] == []


def test_a_graph_with_external_data_is_one_file_and_a_change_of_the_data_is_noticed(
    project: Project, own: Path
) -> None:
    graph = project.root / "models/onnx/3d_attention_net.onnx"
    model = onnx.load(own)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    onnx.save(model, own, save_as_external_data=True, location="net.data", size_threshold=0)
    done = project.make("accuracy", f"ONNX={own}")
    assert "data of net.data read in" in done.stdout
    assert not onnx.load(graph, load_external_data=False).graph.initializer[0].external_data
    project.make("accuracy", f"ONNX={own}")
    assert project.pythons() == []  # the same again is a no-op
    own.with_name("net.data").write_bytes((2 * weight).tobytes())
    project.make("accuracy", f"ONNX={own}")
    assert (onnx.numpy_helper.to_array(onnx.load(graph).graph.initializer[0]) == 2 * weight).all()
    project.make("accuracy", f"ONNX={own}")
    assert project.pythons() == []
    shutil.copytree(own.parent, copy := own.parent.parent / "copy", ignore=lambda *_: {"root", "tree", "scripts"})
    before = project.artifacts()
    project.make("accuracy", f"ONNX={copy / own.name}")
    assert project.rebuilt(before) == set()  # the same bytes from another path
    own.with_name("net.data").unlink()
    done = project.make("accuracy", f"ONNX={own}", check=False)
    assert "its data file net.data is missing" in done.stderr
    assert project.artifacts() == before


def resizing_graph(path: Path, count: int) -> Path:
    """Writes a graph with `count` bilinear Resize nodes."""
    nodes = [onnx.helper.make_node("AveragePool", ["image"], ["half0"], kernel_shape=[2, 2], strides=[2, 2])]
    for i in range(count):
        modes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        nodes.append(onnx.helper.make_node("Resize", [f"half{i}", "", "scales"], [f"full{i}"], **modes))
        pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(onnx.helper.make_node("AveragePool", [f"full{i}"], [f"half{i + 1}"], **pool))
    model = onnx.load(small_graph(path))
    nodes[-1].output[0] = "last"
    model.graph.node[0].input[0] = "last"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    model.opset_import[0].version = 13
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("count", "resize", "text"),
    [
        (0, "nearest", "none (nothing to replace)"),
        (2, "nearest", "none (2 bilinear kept)"),
        (2, "exact", "exact"),
        (4, "nearest", "nearest"),
    ],
)
def test_the_page_says_what_became_of_the_resizes_of_an_own_graph(
    project: Project, tmp_path: Path, count: int, resize: str, text: str
) -> None:
    own = resizing_graph(tmp_path / "own.onnx", count)
    project.set("optimize.resize", resize)
    done = project.make("accuracy", f"ONNX={own}")
    assert f"resize {text}, precision" in done.stdout
    left = sum(node.op_type == "Resize" for node in onnx.load(project.root / OPTIMIZED).graph.node)
    assert left == (0 if resize == "exact" else count)


def test_a_float16_graph_is_called_float16_on_every_page(project: Project, own: Path) -> None:
    model = onnx.load(own)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight.astype(np.float16), "weight"))
    model.graph.node[0].input[0], model.graph.node[-1].output[0] = "half", "logits"
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["half"], to=onnx.TensorProto.FLOAT16))
    model.graph.node.append(onnx.helper.make_node("Cast", ["logits"], ["class"], to=onnx.TensorProto.FLOAT))
    onnx.save(model, own)
    shown = project.make("accuracy", "compare", f"ONNX={own}", "CHIP=cpu").stdout
    project.make("report")
    assert "precision float16," in shown
    assert "float16, on your own .onnx" in shown
    for name in ("cpu/bs16/accuracy.txt", "cpu/bs16/compare.txt"):
        assert "float32" not in (project.root / "results" / name).read_text()
    assert "float16" in (project.root / "results/report.md").read_text()


def test_a_graph_that_atc_does_not_read_is_refused_before_it_is_imported_and_before_atc_runs(
    project: Project, own: Path
) -> None:
    model = onnx.load(own)
    model.opset_import[0].version = 18
    onnx.save(model, own)
    before = project.artifacts()
    done = project.make("om", f"ONNX={own}", "CHIP=310P3", check=False)
    assert "its opset is 18, atc reads up to 17; export it with opset_version=17 or lower" in done.stderr
    assert project.artifacts() == before
    project.make("accuracy", f"ONNX={own}", "CHIP=cpu")  # ONNX Runtime reads it
    done = project.make("om", "CHIP=310P3", check=False, ATC="/bin/false")
    assert "compile_model.py: " in done.stderr and "its opset is 18" in done.stderr
    assert not list(project.root.glob("models/om/310P3/*.om"))
