"""Engine openvino: the precision is the requested one, batches are split over streams, int8 must be faster."""

from __future__ import annotations

from _support.artifact import read_record

import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import quantize_onnx
from conftest import (
    SCRIPTS,
    TREE,
    Inputs,
    Project,
    model_file,
    refused,
    run,
    script,
    script_here,
    shared_once,
    small_graph,
)
from engines import Choice, CompileRequest, ModelFile
from engines.feed import OneAtATime, run_one
from engines.openvino import compile as compiler
from engines.openvino import cpu, graph
from engines.openvino import run as runner
from engines.split import CHUNK, split_batch
from formats import cifar10
from formats.bins import some_bins
from formats.python2 import write_tar
from graphs import agreement
from graphs import int8 as qdq
from graphs.session import open_session
from network.spec import FLOAT32

HERE = {name: cpu.instructions(name) for name in cpu.INSTRUCTIONS}
f32 = pytest.mark.skipif(not HERE["f32"], reason="no x86-64 CPU")
bf16 = pytest.mark.skipif(not HERE["bf16"], reason="this CPU has no bf16 instructions")
int8 = pytest.mark.skipif(not HERE["int8"], reason="this CPU has no int8 instructions")
TOLERANCE = {"f32": 1e-4, "bf16": 5e-2, "int8": 2e-1}  # of the largest logit; labels have to be equal in each


@pytest.fixture(scope="session")
def training(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("training") / "calibration.bin"
    done = script_here("make_calibration", "--archive", inputs.archive, "--images", 10, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def quantized(optimized: Path, training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def build(folder: Path) -> None:
        out = folder / "3d_attention_net.onnx"
        done = script_here("quantize_onnx", "--onnx", optimized, "--calibration", training, "--loss", 20, "--out", out)
        assert done.returncode == 0, done.stderr

    return shared_once(tmp_path_factory, "int8", build) / "3d_attention_net.onnx"


def compiled(graph: Path, precision: str, batch_size: int, out: Path, *more: object) -> Any:
    return script(
        *("compile_model", "--onnx", graph, "--chip", f"cpu-{precision}", "--engine", "openvino", "--out", out),
        *("--options", f"precision={precision}", "--batch-size", batch_size, *more),
    )


# Logits


@pytest.mark.parametrize("batch_size", [1, 3, 16, 21])
@pytest.mark.parametrize(
    "precision", [pytest.param("f32", marks=f32), pytest.param("bf16", marks=bf16), pytest.param("int8", marks=int8)]
)
def test_each_precision_agrees_with_the_reference_engine_at_any_batch_size(
    request: Any,
    monkeypatch: pytest.MonkeyPatch,
    optimized: Path,
    plain_logits: Any,
    bins: Path,
    tmp_path: Path,
    precision: str,
    batch_size: int,
) -> None:
    graph = request.getfixturevalue("quantized") if precision == "int8" else optimized
    (tmp_path / "m.onnx").write_bytes(compiler.fixed(graph.read_bytes(), batch_size, FLOAT32))
    monkeypatch.setattr(runner, "threads", lambda: 2)  # a worker of the tests has one CPU
    session = runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": precision})
    assert session.conditions["streams"] == min(2, batch_size)
    images = np.resize(some_bins(bins, read_record(bins), 20), (batch_size, 3, 32, 32))
    expected = np.resize(plain_logits, (batch_size, 10))
    for reverse in (False, True):  # twice, because streams finish in any order
        order = slice(None, None, -1 if reverse else 1)
        logits = run_one(session, np.ascontiguousarray(images[order]))[order]
        assert logits.shape == (batch_size, 10) and logits.dtype == np.float32
        assert agreement.relative_error(logits, expected) < TOLERANCE[precision]
        assert not agreement.changed_labels(logits, expected)
    assert session.conditions["instructions"] == HERE[precision]
    assert str(session.conditions["runtime"]).startswith("OpenVINO 20")


@int8
def test_how_batches_are_shared_out_changes_no_label_in_int8(quantized: Path, bins: Path, tmp_path: Path) -> None:
    """test_tuning.py has the other precisions."""
    (tmp_path / "m.onnx").write_bytes(compiler.fixed(quantized.read_bytes(), 16, FLOAT32))
    images = np.ascontiguousarray(np.resize(some_bins(bins, read_record(bins), 20), (16, 3, 32, 32)))
    logits = []
    for choice in (Choice(2, 8), Choice(1, 16), Choice(2, 3), Choice(1, 1), Choice(3, 4)):
        session = runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": "int8"}, choice)
        logits.append(run_one(session, images))
    for other in logits[1:]:
        assert not agreement.changed_labels(other, logits[0])
        assert agreement.relative_error(other, logits[0]) < 2e-2


@f32
def test_logits_are_not_overwritten_by_the_next_ones(optimized: Path, bins: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(compiler.fixed(optimized.read_bytes(), 2, FLOAT32))
    session = runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": "f32"})
    images = some_bins(bins, read_record(bins), 4)
    stream = session.stream([images[:2], images[2:]])
    first = next(stream)
    copy = first.copy()
    next(stream)
    assert np.array_equal(first, copy)


@given(st.integers(1, 64), st.integers(1, 128))
def test_a_batch_is_split_into_equal_parts_with_little_padding(batch_size: int, streams: int) -> None:
    used, chunk = split_batch(batch_size, streams)
    parts = math.ceil(batch_size / chunk)
    assert 1 <= used <= min(streams, batch_size) and 1 <= chunk <= CHUNK
    assert (parts - 1) * chunk < batch_size <= parts * chunk
    assert math.ceil(parts / used) * chunk < batch_size / used + 2 * max(1, batch_size / used / CHUNK)


@f32
def test_threads_and_streams_respect_the_limits_of_the_process(
    optimized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(compiler.fixed(optimized.read_bytes(), 4, FLOAT32))
    monkeypatch.setattr(runner, "threads", lambda: 1)
    conditions = runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": "f32"}).conditions
    assert (conditions["threads"], conditions["streams"], conditions["images_a_request"]) == (1, 1, 4)
    conditions = runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": "f32", "streams": "3"}).conditions
    assert conditions["streams"] == 3


# The precision is the requested one


@pytest.mark.parametrize(
    ("flags", "f32", "bf16", "int8"),
    [
        ("fpu sse4_2 avx2", "avx2", "", ""),
        ("fpu sse4_2 avx2 avx_vnni", "avx2", "", "avx_vnni"),
        ("avx2 avx512f avx512_vnni", "avx512f", "", "avx512_vnni"),
        ("avx2 avx512f avx512_bf16 avx512_vnni", "avx512f", "avx512_bf16", "avx512_vnni"),
        ("avx512f avx512_bf16 avx512_vnni amx_bf16 amx_tile amx_int8", "avx512f", "amx_bf16", "amx_int8"),
    ],
)
def test_instructions_are_those_of_cpuinfo(tmp_path: Path, flags: str, f32: str, bf16: str, int8: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: planted\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t: none\n")
    names = [cpu.instructions(name, cpuinfo) for name in ("f32", "bf16", "int8")]
    assert names == [f32, bf16, int8]


def test_an_arm_host_and_one_without_proc_have_no_instructions(tmp_path: Path) -> None:
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n")
    for name in ("arm", "missing"):
        assert not cpu.instructions("f32", tmp_path / name)


@pytest.mark.parametrize(
    ("precision", "take"), [("bf16", "precision=f32"), ("int8", "precision=f32"), ("f32", "another engine")]
)
def test_a_cpu_without_the_instructions_is_an_error_and_not_a_slow_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str, take: str
) -> None:
    known = {"f32": "avx2" if precision != "f32" else "", "bf16": "", "int8": ""}
    monkeypatch.setattr(cpu, "instructions", known.__getitem__)
    with pytest.raises(SystemExit, match="1"):
        runner.open_session(ModelFile(tmp_path / "never read.onnx", b""), {"precision": precision})
    line = capsys.readouterr().err
    assert (
        f"precision={precision}: this CPU" in line
        and "would be slow" in line
        and f"set CHIP= to a chip of {take}\n" in line
    )


@pytest.mark.parametrize(
    "precision", [pytest.param("f32", marks=f32), pytest.param("bf16", marks=bf16), pytest.param("int8", marks=int8)]
)
def test_a_precision_that_is_not_the_chips_is_refused(
    optimized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    """OpenVINO may choose one itself (openvino#27795). Here: an unquantized graph as int8, and other types."""
    (tmp_path / "m.onnx").write_bytes(compiler.fixed(optimized.read_bytes(), 1, FLOAT32))
    if precision != "int8":
        monkeypatch.setitem(runner.TYPES, precision, {"f16"})
    with pytest.raises(SystemExit, match="1"):
        runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": precision})
    assert f"not in {precision}" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["engines.openvino.run", "benchmark.contender", "benchmark.app"])
def test_openvino_reports_nothing_to_its_maker(tmp_path: Path, module: str) -> None:
    """Its client writes the number of the user below ~/intel before it sends anything."""
    for code, written in ((f"import {module}, openvino", []), ("import openvino", ["intel"])):
        done = run(sys.executable, "-c", code, PYTHONPATH=str(SCRIPTS), HOME=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert [path.name for path in tmp_path.iterdir()] == written


@f32
def test_the_precision_is_recorded_and_printed(project: Project) -> None:
    done = project.make("accuracy", "CHIP=cpu-f32", "BS=16")
    assert f"precision float32, instructions {HERE['f32']}, runtime OpenVINO 20" in done.stdout
    provenance = read_record(project.root / "results/cpu-f32/bs16/accuracy.json")["provenance"]
    assert (provenance["precision"], provenance["instructions"]) == ("float32", HERE["f32"])
    assert read_record(project.root / "models/om/cpu-f32/bs16.json")["engine"] == {"precision": "float32"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("engine=openvino", ["chips.cpu-f32", "precision= is missing"]),
        ("engine=openvino precison=bf16", ["chips.cpu-f32", "precision= is missing", "engine openvino"]),
        ("engine=openvino precision=fp8", ["sync_inputs.py", "chips.cpu-f32: precision=fp8", "f32, bf16, int8"]),
        ("engine=openvino precision=f32 streams=0", ["streams=0", "from 1"]),
        ("engine=openvino precision=f32 hint=latency", ["unknown option hint of engine openvino"]),
    ],
)
def test_a_wrong_option_of_a_chips_line_is_one_line(project: Project, line: str, words: list[str]) -> None:
    project.set("chips.cpu-f32", line)
    done = project.make("om", "CHIP=cpu-f32", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


# int8


def test_calibration_uses_only_training_images_from_all_batches(inputs: Inputs, training: Path) -> None:
    images, labels = cifar10.read_rows(training.read_bytes())
    assert len(images) == len(labels) == 10  # two in each batch of this sample
    batches = [cifar10.read_batch(inputs.archive, name) for name in cifar10.BATCHES]
    for i, (image, label) in enumerate(zip(images, labels)):
        batch_images, batch_labels, _ = batches[i % 5]
        assert np.array_equal(image, batch_images[i // 5].astype(np.float32) / np.float32(255))
        assert label == batch_labels[i // 5]
    test_images, _, _ = cifar10.read_batch(inputs.archive, "test_batch")
    assert not {x.tobytes() for x in test_images} & {np.rint(x * 255).astype(np.uint8).tobytes() for x in images}
    rules = re.findall(r"^\$\((?:calibration|int8)\):(?:.+\n)+", (TREE / "Makefile").read_text(), re.M)
    assert len(rules) == 2 and not [rule for rule in rules if "$(bins)" in rule]


def test_missing_training_batches_are_named_in_one_line(tmp_path: Path, inputs: Inputs) -> None:
    test_batch = cifar10.read_member(inputs.archive, "test_batch")
    write_tar(tmp_path / "archive.tar.gz", {"test_batch": test_batch})
    out = tmp_path / "calibration.bin"
    done = script("make_calibration", "--archive", tmp_path / "archive.tar.gz", "--images", 10, "--out", out)
    refused(
        done,
        "no cifar-10-batches-py/data_batch_1 in it",
        "the training part, which only int8 needs",
    )
    assert not out.exists()


def small_model(weight: np.ndarray[Any, Any], relu: bool) -> onnx.ModelProto:
    """image [N, 3, 32, 32] -> (Relu) -> Conv 1x1 -> mean -> class [N, 10]."""
    nodes = [helper.make_node("Relu", ["image"], ["x"])] if relu else [helper.make_node("Neg", ["image"], ["x"])]
    nodes += [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("GlobalAveragePool", ["y"], ["z"]),
        helper.make_node("Flatten", ["z"], ["class"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])
    answer = helper.make_tensor_value_info("class", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "small", [image], [answer], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)


@pytest.mark.parametrize("relu", [True, False])
def test_scales_are_those_of_the_largest_value_by_channel_and_symmetric(relu: bool) -> None:
    draw = np.random.RandomState(1)
    weight = draw.randn(10, 3, 1, 1).astype(np.float32) * np.arange(10, dtype=np.float32).reshape(-1, 1, 1, 1)
    images = draw.rand(6, 3, 32, 32).astype(np.float32)
    model = qdq.quantize(small_model(weight, relu), images)
    have = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    largest = np.abs(weight).reshape(10, -1).max(1)
    expected = np.where(largest > 0, largest, 1) / 127
    assert np.allclose(have["int8_w_scale"], expected, rtol=1e-6) and have["int8_w"].dtype == np.int8
    assert (np.abs(have["int8_w"].astype(int)) <= 127).all() and np.abs(have["int8_w"]).max() == 127
    restored = have["int8_w"] * have["int8_w_scale"].reshape(-1, 1, 1, 1)
    assert np.abs(restored - weight).max() <= expected.max() / 2 * 1.001
    assert have["int8_x_zero"].dtype == (np.uint8 if relu else np.int8) and not have["int8_x_zero"].any()
    assert have["int8_x_scale"] == pytest.approx(images.max() / (255 if relu else 127), rel=1e-6)
    runner = open_session(model, optimized=False)
    x = np.clip(np.rint((images if relu else -images) / have["int8_x_scale"]), -127, 255) * have["int8_x_scale"]
    expected_logits = np.einsum("nchw,oc->no", x, have["int8_w"][:, :, 0, 0] * have["int8_w_scale"][:, None]) / 1024
    assert np.allclose(runner.run(None, {"image": images})[0], expected_logits, atol=1e-4)


def test_new_names_differ_from_those_of_the_graph() -> None:
    """The names are typical of quantization-aware exporters. A scale in the user's graph must keep its value."""
    model = small_model(np.eye(10, 3, dtype=np.float32).reshape(10, 3, 1, 1), True)
    model.graph.node[-1].output[0] = "before"
    names = ["int8_x_scale", "x_scale", "int8__w_scale", "int8_x_int8"]
    for i, name in enumerate(names):
        source, result = "before" if not i else f"after{i - 1}", "class" if i == len(names) - 1 else f"after{i}"
        model.graph.node.append(helper.make_node("Mul", [source, name], [result]))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(7), name))
    images = np.random.RandomState(4).rand(3, 3, 32, 32).astype(np.float32)
    expected = open_session(model).run(None, {"image": images})[0]
    logits = open_session(qdq.quantize(model, images)).run(None, {"image": images})[0]
    assert agreement.relative_error(logits, expected) < 0.02


@pytest.mark.parametrize("turned", [True, False])
def test_a_gemm_whose_weight_has_its_channels_last_stays_as_it_is(turned: bool) -> None:
    weight = np.random.RandomState(2).randn(*((10, 3) if turned else (3, 10))).astype(np.float32)
    model = small_model(np.ones((3, 3, 1, 1), np.float32), True)
    del model.graph.node[-1]
    model.graph.node.extend(
        [
            helper.make_node("Flatten", ["z"], ["flat"]),
            helper.make_node("Gemm", ["flat", "g"], ["class"], transB=int(turned)),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(weight, "g"))
    images = np.random.RandomState(3).rand(2, 3, 32, 32).astype(np.float32)
    done = qdq.quantize(model, images)
    have = {tensor.name for tensor in done.graph.initializer}
    assert ("int8_g" in have) == turned and ("g" in have) != turned and "int8_w" in have
    open_session(done).run(None, {"image": images})


def test_every_convolution_of_the_graph_is_quantized_and_nothing_else(optimized: Path, quantized: Path) -> None:
    before, after = (onnx.load(path).graph for path in (optimized, quantized))
    producers = {name: node for node in after.node for name in node.output}
    for node in after.node:
        if node.op_type in ("Conv", "Gemm"):
            assert [producers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
    kinds = ("QuantizeLinear", "DequantizeLinear")
    rest = [node.op_type for node in after.node if node.op_type not in kinds]
    assert rest == [node.op_type for node in before.node]


def test_int8_above_the_allowed_loss_is_refused_and_nothing_is_written(
    optimized: Path, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(qdq, "LARGEST", {np.dtype(np.uint8): 1, np.dtype(np.int8): 1})  # two bits instead of eight
    out, flags = tmp_path / "m.onnx", ["--onnx", optimized, "--calibration", training, "--loss", "0.5"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / "quantize_onnx.py"), *map(str, flags), "--out", str(out)])
    with pytest.raises(SystemExit, match="1"):
        quantize_onnx.main()
    line = capsys.readouterr().err
    assert (
        "int8 loses too much" in line
        and "in float32 100.00%" in line
        and "set CHIP= to a chip with another precision" in line
    )
    assert not out.exists()


def test_no_image_is_used_for_calibration_and_for_judging(
    optimized: Path, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[bytes]] = {"calibrates": [], "judges": []}

    def calibrate(model: Any, images: Any) -> Any:
        seen["calibrates"] += [image.tobytes() for image in images]
        return model

    def judge(model: Any, images: Any, labels: Any, optimized: bool = True) -> float:
        seen["judges"] += [image.tobytes() for image in images]
        return 99.0

    monkeypatch.setattr(qdq, "quantize", calibrate)
    monkeypatch.setattr(qdq, "top1", judge)
    flags = ["--onnx", optimized, "--calibration", training, "--loss", "0.5", "--out", tmp_path / "m.onnx"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / "quantize_onnx.py"), *map(str, flags)])
    quantize_onnx.main()
    assert len(seen["calibrates"]) == 5 and len(seen["judges"]) == 2 * 5
    assert not {*seen["calibrates"]} & {*seen["judges"]}


def planted(milliseconds: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces OpenVINO by sessions that take the given time for each precision."""

    def open_planted(model: ModelFile, options: dict[str, str]) -> OneAtATime:
        def run(images: Any) -> Any:
            time.sleep(milliseconds[options["precision"]] / 1000)

        return OneAtATime(run, {})

    monkeypatch.setattr(compiler, "open_session", open_planted)
    monkeypatch.setattr(compiler, "require_instructions", lambda *_: "planted")
    monkeypatch.setattr(compiler, "DURATION", 0.4)


@pytest.mark.parametrize("other", ["bf16", "f32"])
def test_int8_that_is_not_faster_is_refused(
    optimized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    monkeypatch.setattr(compiler, "instructions", lambda name: "planted" if other == "bf16" else "")
    planted({"int8": 30, other: 10}, monkeypatch)
    options = {"precision": "int8"}
    request = CompileRequest(
        model_file(optimized), model_file(optimized), 2, tmp_path / "m.onnx", tmp_path / "log", options, {}
    )
    with pytest.raises(SystemExit, match="1"):
        compiler.compile_model(request)
    assert (
        f"times the speed of {other} on this machine; nothing was written; set CHIP= to a chip of precision={other}"
        in (capsys.readouterr().err)
    )
    planted({"int8": 10, other: 30}, monkeypatch)
    record = compiler.compile_model(request)
    # The speed differs between equal builds, so it is below "run", which is not compared.
    assert record == {"precision": "int8", "run": {f"speed_against_{other}": record["run"][f"speed_against_{other}"]}}
    assert 2 < record["run"][f"speed_against_{other}"] < 4
    assert "times the speed of" in capsys.readouterr().out


@int8
def test_a_refused_int8_writes_neither_model_nor_record(
    optimized: Path, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "cpu-int8" / "3d_attention_net_bs1.onnx"
    refused(compiled(quantized, "int8", 1, out, "--unquantized", tmp_path / "missing.onnx"), "missing.onnx")
    assert not list(out.parent.glob("*.onnx")) and not list(out.parent.glob("*.json"))


def test_batch_sizes_share_one_int8_graph_and_other_chips_need_none(project: Project) -> None:
    stages = project.make("-n", "accuracy-all", "CHIP=cpu-int8", "PYTHON=python3").stdout
    assert stages.count("scripts/quantize_onnx.py") == stages.count("scripts/make_calibration.py") == 1
    assert stages.count("--unquantized root/models/optimized/3d_attention_net.onnx") == 6
    for chip in ("cpu-bf16", "cpu", "310P3"):
        stages = project.make("-n", "accuracy", f"CHIP={chip}", "PYTHON=python3").stdout
        assert "quantize" not in stages and "calibration" not in stages and "compile_model" in stages


@int8
def test_make_calibrates_judges_compares_speed_and_cleans_up(project: Project) -> None:
    project.set("int8.loss", "100.0")  # five images judge here
    done = project.make("accuracy", "CHIP=cpu-int8", "BS=4")
    assert project.pythons()[1:] == ["make_calibration", "quantize_onnx", "compile_model", "infer", "postprocess"], (
        done.stdout
    )
    assert "precision int8" in done.stdout and "calibrated on 5 training images" in done.stdout
    provenance = read_record(project.root / "results/cpu-int8/bs4/accuracy.json")["provenance"]
    assert provenance["calibration"] == read_record(project.root / "data/calibration.json")["sha256"]
    project.make("accuracy", "CHIP=cpu-int8", "BS=4")
    assert project.pythons() == []
    run("make", "clean", "ROOT=root", cwd=project.tree)
    assert not (project.root / "models/int8").exists() and not list((project.root / "data").glob("calibration*"))


@f32
def test_a_graph_that_openvino_cannot_run_is_refused_at_import_and_at_inference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_graph(tmp_path / "own.onnx")
    assert graph.refusal({}, path, {"precision": "f32"}) is None
    model = onnx.load(path)
    model.graph.node[0].output[0] = "inner"
    model.graph.node.insert(1, helper.make_node("Det", ["image"], ["determinants"]))
    model.graph.node.insert(2, helper.make_node("ReduceMax", ["determinants"], ["largest"], keepdims=0))
    model.graph.node.insert(3, helper.make_node("Mul", ["inner", "largest"], ["maps"]))
    onnx.save(model, path)
    words = "OpenVINO cannot run it (Conversion is failed for: "
    problem, remedy = graph.refusal({}, path, {"precision": "f32"}) or ("", "")
    assert (problem[: len(words)], remedy) == (words, "set CHIP= to a chip of another engine")
    (tmp_path / "fixed.onnx").write_bytes(compiler.fixed(path.read_bytes(), 2, FLOAT32))
    with pytest.raises(SystemExit, match="1"):
        runner.open_session(model_file(tmp_path / "fixed.onnx"), {"precision": "f32"})
    assert words in capsys.readouterr().err


@f32
def test_a_graph_without_convolutions_runs_and_one_with_int8_operators_is_named(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["class"])
    nodes = [helper.make_node("Flatten", ["image"], ["x"], axis=1), product]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 32, 32])
    logits = helper.make_tensor_value_info("class", TensorProto.FLOAT, [2, 10])
    weight = numpy_helper.from_array(np.ones((3072, 10), np.float32), "w")
    body = helper.make_graph(nodes, "product", [image], [logits], [weight])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    batch = np.full((2, 3, 32, 32), 0.5, np.float32)
    logits_here = run_one(runner.open_session(model_file(tmp_path / "m.onnx"), {"precision": "f32"}), batch)
    assert np.allclose(logits_here, 1536)
    assert compiler.precision_of("bf16", {"precision": "float32"}) == "bfloat16"
    assert compiler.precision_of("bf16", {"precision": "float16"}) == "float16 graph in bfloat16"
    assert compiler.precision_of("f32", {"precision": "int8"}) == "int8 graph in float32"
    assert compiler.precision_of("int8", {"precision": "int8"}) == "int8"
