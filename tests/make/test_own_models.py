"""ONNX= and OM=: a graph or a compiled model of the user's own, in place of ours."""

from __future__ import annotations

from _support.artifact import read_record

import shutil
from pathlib import Path

import onnx
import pytest

from conftest import House, small_graph


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A graph of the user's own."""
    return small_graph(tmp_path / "own.onnx")


def test_an_own_graph_takes_the_exports_place_and_stays_until_another_is_given(house: House, own: Path) -> None:
    held = house.root / "models/onnx/3d_attention_net.onnx"
    house.set("optimize.resize", "none")
    done = house.make("accuracy", f"ONNX={own}")
    assert held.read_bytes() == own.read_bytes()
    assert "Made from: THE BUILT-IN SAMPLE'S data, own .onnx" in done.stdout
    house.make("accuracy", f"ONNX={own}")
    assert house.pythons() == []  # the same again is a no-op
    before = house.artifacts()
    house.set("onnx.opset", "12")
    house.make("accuracy")
    assert house.rebuilt(before) == set()  # not given: what ROOT holds stays, and nothing is exported over it
    graph = onnx.load(own)
    graph.producer_name = "another exporter"
    onnx.save(graph, other := own.with_name("other.onnx"))
    house.make("accuracy", f"ONNX={other}")
    assert held.read_bytes() == other.read_bytes() != own.read_bytes()
    house.make("accuracy", f"ONNX={own}")
    assert held.read_bytes() == own.read_bytes()
    held.unlink()
    house.make("accuracy")  # removed: exported again
    assert read_record(held.with_suffix(".json"))["provenance"]["opset"] == 12


def test_a_page_says_own_only_as_long_as_the_own_graph_is_held(house: House, tmp_path: Path) -> None:
    held = house.root / "models/onnx/3d_attention_net.onnx"
    page = house.root / "results/null/bs16/accuracy.txt"
    before = page.read_text()
    shutil.copyfile(held, tmp_path / "same.onnx")
    assert "own .onnx" in house.make("accuracy", f"ONNX={tmp_path / 'same.onnx'}").stdout
    assert "checkpoint  " not in page.read_text()  # none was used
    held.unlink()
    house.make("accuracy")  # exported again, with the same bytes
    assert page.read_text() == before


def test_an_own_graph_needs_no_checkpoint(house: House, own: Path) -> None:
    for path in (*house.root.glob("models/checkpoint.*"), house.root / "models/onnx/3d_attention_net.onnx"):
        path.unlink()
    house.set("optimize.resize", "none")
    house.make("accuracy", f"ONNX={own}")
    assert not (house.root / "models/checkpoint.pkl").exists()


@pytest.mark.parametrize(
    "words",
    [("accuracy-all", "OM=params.yaml"), ("best", "OM=params.yaml"), ("om", "OM=params.yaml", "ONNX=params.yaml")],
)
def test_one_ready_model_is_for_one_batch_size_and_stands_alone(house: House, words: tuple[str, ...]) -> None:
    done = house.make(*words, "CHIP=310P3", check=False)
    assert "OM: one ready model, for one BS" in done.stderr
    assert house.pythons() == []


@pytest.mark.parametrize("fault", ["no graph", "another name", "a fixed batch", "an export of before"])
def test_what_cannot_take_the_exports_place_is_refused_and_what_was_there_stays(
    house: House, own: Path, fault: str
) -> None:
    before = house.artifacts()
    graph = onnx.load(own)
    words = "its inputs and outputs are"
    if fault == "another name":
        graph.graph.output[0].name = "logits"
    elif fault == "a fixed batch":
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(graph, own)
    if fault == "no graph":
        own.write_text("no graph")
        words = "no ONNX file"
    elif fault == "an export of before":  # one that was optimized: its resizes cannot be rewritten once more
        shutil.copyfile(house.root / "models/optimized/3d_attention_net.onnx", own)
        words = "0 bilinear align_corners Resize nodes"
    done = house.make("accuracy", f"ONNX={own}", check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if fault == "an export of before":
        house.set("optimize.resize", "none")
        house.make("accuracy")
    else:
        assert house.artifacts() == before
