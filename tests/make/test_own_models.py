"""ONNX= and OM=: the user's own graph or compiled model instead of the built one."""

from __future__ import annotations

from _support.artifact import read_record

import shutil
from pathlib import Path

import onnx
import pytest

from conftest import Project, small_graph


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The user's own graph."""
    return small_graph(tmp_path / "own.onnx")


def test_an_own_graph_replaces_the_export_until_another_is_passed(project: Project, own: Path) -> None:
    graph = project.root / "models/onnx/3d_attention_net.onnx"
    project.set("optimize.resize", "none")
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
    project.set("optimize.resize", "none")
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


@pytest.mark.parametrize("fault", ["no graph", "another name", "a fixed batch", "an export of before"])
def test_a_graph_that_cannot_replace_the_export_is_rejected_and_the_present_one_is_kept(
    project: Project, own: Path, fault: str
) -> None:
    before = project.artifacts()
    graph = onnx.load(own)
    words = "its inputs and outputs are"
    if fault == "another name":
        graph.graph.output[0].name = "logits"
    elif fault == "a fixed batch":
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(graph, own)
    if fault == "no graph":
        own.write_text("no graph")
        words = "not an ONNX file"
    elif fault == "an export of before":  # an optimized one, whose resizes cannot be rewritten again
        shutil.copyfile(project.root / "models/optimized/3d_attention_net.onnx", own)
        words = "0 bilinear align_corners Resize nodes"
    done = project.make("accuracy", f"ONNX={own}", check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if fault == "an export of before":
        project.set("optimize.resize", "none")
        project.make("accuracy")
    else:
        assert project.artifacts() == before
