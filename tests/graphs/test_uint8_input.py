"""input=uint8 in a chip's line: small bins, the same logits, and no bins of the other type."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from conftest import Project, refused, run
from formats.bins import float_images
from graphs.edit import set_batch, set_nodes
from graphs.session import open_session
from graphs.uint8_input import take_pixels
from network.spec import IMAGE_SHAPE, INPUT, PIXEL_SHAPE

PIXELS = np.resize(np.arange(256, dtype=np.uint8), (2, *PIXEL_SHAPE))
CHIPS = {"cpu": "engine=onnxruntime", "cpu-f32": "engine=openvino precision=f32"}


def values_graph() -> onnx.ModelProto:
    """A graph whose output is its input."""
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", *IMAGE_SHAPE])
    values = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", None])
    node = helper.make_node("Flatten", [INPUT], ["values"])
    graph = helper.make_graph([node], "values", [image], [values])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


@pytest.mark.parametrize("batch", ["N", 2])
def test_a_model_of_uint8_gets_every_value_that_a_float32_bin_has(batch: Any) -> None:
    graph = values_graph()
    if batch == 2:
        set_batch(graph, batch)
    take_pixels(graph)
    onnx.checker.check_model(graph, full_check=True)
    expected = np.stack([np.moveaxis(image, -1, 0).astype(np.float32) / np.float32(255) for image in PIXELS])
    assert len(np.unique(expected)) == 256
    np.testing.assert_array_equal(float_images(PIXELS), expected)
    np.testing.assert_array_equal(open_session(graph).run(None, {INPUT: PIXELS})[0], expected.reshape(2, -1))
    core = openvino.Core()
    for precision in ("f32", "bf16"):
        model = core.read_model(graph.SerializeToString())
        model.reshape([2, *PIXEL_SHAPE])
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        np.testing.assert_array_equal(compiled([PIXELS])[0], expected.reshape(2, -1))


def test_a_branch_that_reads_the_images_gets_their_values_too() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, [INPUT], [name])], f"{name}_graph", [], [value])

    graph = values_graph()
    for operators in (("Relu", "Neg"), ("Identity", "Identity")):
        branches = dict(zip(("then_branch", "else_branch"), map(branch, ("a", "b"), operators)))
        nodes = [
            helper.make_node("ReduceMax", [INPUT], ["largest"], keepdims=0),
            helper.make_node("Greater", ["largest", "largest"], ["is_larger"]),
            helper.make_node("If", ["is_larger"], ["chosen"], **branches),  # always the else_branch
            helper.make_node("Flatten", ["chosen"], ["values"]),
        ]
        set_nodes(graph.graph, nodes)
        changed = onnx.ModelProto.FromString(graph.SerializeToString())
        take_pixels(changed)
        onnx.checker.check_model(changed, full_check=True)
        expected = open_session(graph).run(None, {INPUT: float_images(PIXELS)})[0]
        np.testing.assert_array_equal(open_session(changed).run(None, {INPUT: PIXELS})[0], expected)


def bytes_of(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


def test_outputs_of_uint8_bins_are_those_of_float32_bins_bit_by_bit(project: Project) -> None:
    project.set("infer.format", "bin")
    for chip, line in CHIPS.items():
        project.set(f"chips.{chip}-small", f"{line} input=uint8")
    for chip in CHIPS:
        for each in (chip, f"{chip}-small"):
            project.make("compare", CHIP=each, BS="7")
        outputs = project.root / f"results/{chip}/bs7/outputs"
        expected = bytes_of(outputs, "image_*")
        assert len(expected) == 40
        assert bytes_of(project.root / f"results/{chip}-small/bs7/outputs", "image_*") == expected
    project.make("perf", CHIP="cpu-small", BS="7")
    done = project.make("compare", "LAYERS=1", CHIP="cpu-small", BS="7")
    assert "previous tensor: 0.00e+00" in done.stdout  # of the 61 before the first approximated one
    project.make("audit-all")
    project.make("report")
    assert "No pictures" not in (project.root / "results/report.html").read_text()
    bins, pixels = project.root / "data/bin", project.root / "data/bin-uint8"
    for i in range(40):
        image = np.fromfile(pixels / f"image_{i}.bin", np.uint8).reshape(PIXEL_SHAPE)
        np.testing.assert_array_equal(
            np.fromfile(bins / f"image_{i}.bin", np.float32), float_images(image[None]).ravel()
        )
    flipped = bytearray((pixels / "image_3.bin").read_bytes())
    flipped[5] ^= 1
    (pixels / "image_3.bin").write_bytes(flipped)
    done = project.make("audit", check=False, CHIP="cpu-small", BS="7")
    assert "data/bin-uint8: the bins' digest differs from the one in manifest.json" in done.stderr
    project.make("audit", CHIP="cpu", BS="7")
    project.make("clean")
    assert not pixels.exists()


def test_only_a_chip_with_uint8_input_gets_uint8_bins(project: Project) -> None:
    project.set("chips.small", "engine=null input=uint8")
    project.make("bin")
    before = project.artifacts()
    assert "data/bin-uint8/manifest.json" not in before
    project.make("bin", CHIP="small")
    assert project.rebuilt(before) == {"data/bin-uint8/manifest.json"}
    assert {path.stat().st_size for path in (project.root / "data/bin-uint8").glob("*.bin")} == {3072}


def test_bins_of_the_other_type_are_refused_before_anything_runs(project: Project) -> None:
    project.set("chips.small", "engine=null input=uint8")
    project.make("infer", CHIP="null")
    project.make("infer", CHIP="small")
    root = project.root
    for chip, other, words in (("null", "bin-uint8", "uint8, but"), ("small", "bin", "float32, but")):
        model = root / f"models/om/{chip}/3d_attention_net_bs16.null"
        flags = ("--model", model, "--record", root / f"models/om/{chip}/bs16.json", "--format", "txt")
        out = root / f"results/{chip}/bs16/outputs/manifest.json"
        done = run(
            sys.executable,
            project.tree / "scripts/infer.py",
            *flags,
            "--bins",
            root / f"data/{other}/manifest.json",
            "--out",
            out,
        )
        refused(done, f"these bins are {words} the input of {model} is ")
    path = root / "data/bin-uint8/image_3.bin"
    path.write_bytes((root / "data/bin/image_3.bin").read_bytes())
    (root / "results/small/bs16/outputs/manifest.json").unlink()
    done = project.make("infer", check=False, CHIP="small")
    assert f"data/bin-uint8/image_3.bin: {4 * 3072} bytes, not 3072; " in done.stderr
    assert not (root / "results/small/bs16/outputs/manifest.json").exists()


def test_an_unknown_type_of_input_is_named(project: Project) -> None:
    project.set("chips.small", "engine=null input=int4")
    done = project.make("bin", check=False)
    assert "params.yaml: chips.small: input=int4; use float32 or uint8" in done.stderr
