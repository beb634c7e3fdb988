"""Export, optimization and compilation of the graph."""

from __future__ import annotations

from _support.artifact import digest, read_record, write_record

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from conftest import TREE, Inputs, export, optimize, refused, script_here
from formats.bins import some_bins
from graphs import agreement, passes


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def dims(value: Any) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def images(bins: Path) -> Any:
    return some_bins(bins, read_record(bins), 20)


def adopt(path: Path, like: Path) -> None:
    """Writes a record for a graph of a test, so that the next stage accepts it."""
    write_record(path.with_suffix(".json"), {**read_record(like.with_suffix(".json")), "sha256": digest(path)})


# export


@pytest.mark.parametrize("opset", range(11, 18))
def test_every_opset_from_11_to_17_is_exported_as_asked(
    inputs: Inputs, bins: Path, onnx_file: Path, tmp_path: Path, opset: int
) -> None:
    out = onnx_file if opset == 11 else tmp_path / "m.onnx"
    if opset > 11:
        done = export(inputs.checkpoint, bins, out, opset, how=script_here)
        assert done.returncode == 0, done.stderr
    model = onnx.load(out)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version <= 8
    onnx.checker.check_model(model, full_check=True)
    (image,), (classes,) = model.graph.input, model.graph.output
    assert (image.name, dims(image)) == ("image", ["N", 3, 32, 32])
    assert (classes.name, dims(classes)) == ("class", ["N", 10])
    for resize in ("nearest", "exact") if opset in (13, 17) else ():
        assert optimize(out, bins, tmp_path / f"{resize}.onnx", resize, how=script_here).returncode == 0


def test_the_export_has_the_same_bytes_each_time_and_no_paths_in_it(
    inputs: Inputs, bins: Path, onnx_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "elsewhere" / "again.onnx"
    assert export(inputs.checkpoint, bins, out, PYTHONHASHSEED="7").returncode == 0
    data = onnx_file.read_bytes()
    assert out.read_bytes() == data
    for text in (str(TREE), str(tmp_path), sys.prefix, ".py", "site-packages", "/home", "/tmp", "202"):
        assert text.encode() not in data.replace(onnx.load(onnx_file).producer_version.encode(), b""), text
    model = onnx.load(onnx_file)
    assert not any(node.doc_string for node in model.graph.node)
    assert "sample" in model.doc_string


def test_logits_above_the_tolerance_leave_no_artifact(inputs: Inputs, bins: Path, tmp_path: Path) -> None:
    flags = ("--opset", 11, "--check-images", 2)
    out = tmp_path / "m.onnx"
    done = script_here(
        "export_onnx", "--checkpoint", inputs.checkpoint, "--bins", bins, *flags, "--tolerance", "1e-12", "--out", out
    )
    refused(done, "relative error", "tolerance 1e-12")
    assert not out.exists()


def test_one_changed_label_is_an_error_at_any_tolerance(capsys: pytest.CaptureFixture[str]) -> None:
    expected = np.array([[1.0, 1.00001]])
    with pytest.raises(SystemExit):
        agreement.check_agreement("m", expected[:, ::-1], expected, 1.0)
    assert "1 labels changed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        agreement.check_agreement("m", expected * np.nan, expected, 1.0)


# optimize


@pytest.mark.parametrize("resize", ["exact", "none", "nearest"])
def test_each_resize_mode(onnx_file: Path, plain_logits: Any, bins: Path, tmp_path: Path, resize: str) -> None:
    out = tmp_path / "m.onnx"
    done = optimize(onnx_file, bins, out, resize, 20, how=script_here)
    assert done.returncode == 0, done.stderr
    assert f"resize {resize}: " in done.stdout
    assert "labels changed, largest logit change" in done.stdout
    plain, logits = plain_logits, agreement.logits_of(out.read_bytes(), images(bins))
    error = agreement.relative_error(logits, plain)
    found_operators = operators(out)
    assert not {"Shape", "Gather", "Slice", "Concat", "Identity", "Constant", "Reshape"} & set(found_operators)
    resizes = [node for node in onnx.load(out).graph.node if node.op_type == "Resize"]
    if resize == "nearest":
        assert error > 1e-3  # nearest is an approximation, which the sample shows
        assert "an approximation" in done.stdout
        assert np.abs(logits - plain).max() == pytest.approx(
            read_record(tmp_path / "m.json")["check"]["largest_logit_change"]
        )
        for node in resizes:
            modes = {a.name: a.s for a in node.attribute}
            expected = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
            assert modes == expected
    else:
        assert error < 1e-4
        assert (logits.argmax(1) == plain.argmax(1)).all()
        assert "the same function" in done.stdout
    assert len(resizes) == (0 if resize == "exact" else 4)
    assert found_operators["MatMul"] == (8 if resize == "exact" else 0)


def test_the_constant_matrices_interpolate_as_align_corners() -> None:
    for size in (8, 16):
        matrix = torch.from_numpy(passes.align_corners_matrix(size)).double()
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
        expected = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        assert (matrix @ x @ matrix.T - expected).abs().max() < 1e-6


def test_another_exporters_graph_with_computed_sizes_and_other_names_is_understood(
    inputs: Inputs, bins: Path, onnx_file: Path, tmp_path: Path
) -> None:
    """Resizes to a size computed from Shape, Slice and Concat, x.view(x.size(0), -1), Identity, every node renamed."""
    model = onnx.load(onnx_file)
    nodes, makers = [], onnx.helper
    constant = onnx.numpy_helper.from_array
    model.graph.initializer.extend(
        [constant(np.array(v, np.int64), n) for n, v in {"zero": [0], "two": [2], "minus": [-1], "s": 0}.items()]
    )
    model.graph.initializer.extend([constant(np.array([n, n], np.int64), f"to{n}") for n in (16, 32)])
    model.graph.initializer.append(constant(np.array([], np.float32), "empty"))
    ups = iter([16, 32, 16, 16])
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
        if node.op_type == "Resize":
            x, y = node.input[0], node.output[0]
            nodes.append(makers.make_node("Shape", [x], [f"{y}_shape"]))
            nodes.append(makers.make_node("Slice", [f"{y}_shape", "zero", "two", "zero"], [f"{y}_nc"]))
            nodes.append(makers.make_node("Concat", [f"{y}_nc", f"to{next(ups)}"], [f"{y}_sizes"], axis=0))
            node.input[:] = [x, node.input[1], "empty", f"{y}_sizes"]
        if node.op_type == "Flatten":
            x, y = node.input[0], node.output[0]
            nodes.append(makers.make_node("Shape", [x], [f"{y}_shape"]))
            nodes.append(makers.make_node("Gather", [f"{y}_shape", "s"], [f"{y}_n"], axis=0))
            nodes.append(makers.make_node("Unsqueeze", [f"{y}_n"], [f"{y}_n1"], axes=[0]))
            nodes.append(makers.make_node("Concat", [f"{y}_n1", "minus"], [f"{y}_sizes"], axis=0))
            nodes.append(makers.make_node("Identity", [x], [f"{y}_same"]))
            node = makers.make_node("Reshape", [f"{y}_same", f"{y}_sizes"], [y])
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    other = tmp_path / "other.onnx"
    onnx.save(model, other)
    onnx.checker.check_model(model)
    adopt(other, onnx_file)
    assert {"Shape", "Gather", "Slice", "Concat", "Identity"} <= set(operators(other))
    for resize in ("none", "exact", "nearest"):
        done = optimize(other, bins, tmp_path / "m.onnx", resize, how=script_here)
        assert done.returncode == 0, done.stderr
        assert not {"Shape", "Gather", "Slice", "Concat", "Identity", "Reshape"} & set(operators(tmp_path / "m.onnx"))


@pytest.mark.parametrize("fault", ["three", "five", "optimized"])
def test_a_graph_without_exactly_four_resizes_is_rejected(
    onnx_file: Path, bins: Path, tmp_path: Path, fault: str
) -> None:
    model = onnx.load(onnx_file)
    resizes = [node for node in model.graph.node if node.op_type == "Resize"]
    if fault == "three":
        next(a for a in resizes[0].attribute if a.name == "coordinate_transformation_mode").s = b"half_pixel"
    if fault == "five":
        extra = onnx.NodeProto()
        extra.CopyFrom(resizes[-1])
        extra.name, extra.output[0] = "fifth", "fifth"
        model.graph.node.insert(list(model.graph.node).index(resizes[-1]) + 1, extra)
        model.graph.output.append(onnx.helper.make_tensor_value_info("fifth", 1, ["N", 256, 16, 16]))
    graph_file = tmp_path / "given.onnx"
    onnx.save(model, graph_file)
    adopt(graph_file, onnx_file)
    if fault == "optimized":
        assert optimize(onnx_file, bins, graph_file, "nearest", how=script_here).returncode == 0
    done = optimize(graph_file, bins, tmp_path / "m.onnx", "exact", how=script_here)
    refused(done, "Resize nodes, not 4", {"three": "3 ", "five": "5 ", "optimized": "0 "}[fault])
    assert not (tmp_path / "m.onnx").exists()


def test_a_graph_that_differs_from_its_record_is_rejected(onnx_file: Path, bins: Path, tmp_path: Path) -> None:
    graph_file = tmp_path / "given.onnx"
    graph_file.write_text("junk")
    (tmp_path / "given.json").write_text(onnx_file.with_suffix(".json").read_text())
    refused(
        optimize(graph_file, bins, tmp_path / "m.onnx", "none"),
        "given.onnx",
        "its digest differs from the one in given.json",
    )


# compile


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_compiled_model_has_its_batch_fixed_and_nothing_that_computes_shapes(
    onnx_file: Path, optimized: Path, bins: Path, tmp_path: Path, batch_size: int
) -> None:
    out = tmp_path / "cpu" / f"3d_attention_net_bs{batch_size}.onnx"
    done = script_here(
        *("compile_model", "--onnx", optimized, "--chip", "cpu", "--engine", "onnxruntime"),
        *("--batch-size", batch_size, "--out", out),
    )
    assert done.returncode == 0, done.stderr
    model = onnx.load(out)
    assert dims(model.graph.input[0]) == [batch_size, 3, 32, 32]
    assert dims(model.graph.output[0]) == [batch_size, 10]
    assert not {"Shape", "Gather", "Slice", "Concat", "Identity", "Constant"} & set(operators(out))
    flags = ("--onnx", optimized, "--chip", "cpu", "--engine", "onnxruntime", "--out", tmp_path / "x.onnx")
    for wrong in (0, 65):
        refused(script_here("compile_model", *flags, "--batch-size", wrong), "--batch-size", status=2)
    record = read_record(tmp_path / f"cpu/bs{batch_size}.json")
    assert (record["provenance"]["chip"], record["provenance"]["batch_size"]) == ("cpu", batch_size)
    batch = np.resize(images(bins), (batch_size, 3, 32, 32))
    logits, expected = (session_run(path, batch) for path in (out, onnx_file))
    assert agreement.relative_error(logits, expected) < 1e-4


def session_run(path: Path, batch: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": batch})[0]
