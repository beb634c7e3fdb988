"""make bench: ratios within a round, gates, ceilings, the guide's way, a small run. No test asks how fast it is."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import bench
import contender
import figures
import numpy as np
import onnx
import pytest
import race
import reference
import roofline
from conftest import House, Inputs, environment, run, script
from onnx import TensorProto, helper

APP = """\
[Step 10/11] Measuring performance (Start inference asynchronously, 2 inference requests, limits: 2000 ms duration)
[ INFO ] Benchmarking in inference only mode (inputs filling are not included in measurement loop).
[ INFO ] First inference took 170.21 ms
[Step 11/11] Dumping statistics report
[ INFO ] Execution Devices:['CPU']
[ INFO ] Count:            26 iterations
[ INFO ] Duration:         2233.57 ms
[ INFO ] Latency:
[ INFO ]    Median:        163.68 ms
[ INFO ]    Average:       170.06 ms
[ INFO ]    Min:           161.09 ms
[ INFO ]    Max:           229.85 ms
[ INFO ] Throughput:   186.25 FPS
"""


def test_a_ratio_is_that_of_one_round() -> None:
    above, below = [10.0, 40.0, None, 9.0], [5.0, 10.0, 1.0, 3.0]
    assert race.ratios(above, below) == [2.0, 4.0, 3.0]
    assert race.spread([2.0, 4.0, 3.0]) == {"median": 3.0, "min": 2.0, "max": 4.0}
    figure = figures.Figure("x / y", "x", "y", 3.0)
    found = figures.judge(figure, {"x": above, "y": below}, {})
    assert (found["median"], found["min"], found["max"], found["verdict"]) == (3.0, 2.0, 4.0, "reached")
    assert figures.judge(figure._replace(wanted=3.1), {"x": above, "y": below}, {})["verdict"] == "not reached"
    at_most = figures.Figure("ms", "ms", "", 50, at_most=True)
    assert figures.judge(at_most, {"ms": [49.0, 50.0, 80.0]}, {})["verdict"] == "reached"
    assert figures.judge(at_most, {"ms": [49.0, 51.0, 80.0]}, {})["verdict"] == "not reached"


def test_a_figure_says_what_it_would_be_at_the_ceiling() -> None:
    series = {"x": [2.0, 3.0], "y": [1.0, 1.0], "product": [4.0, 5.0]}
    found = figures.judge(figures.Figure("x / y", "x", "y", 9.0, "product"), series, {})
    assert (found["median"], found["bounds"], found["bound"]) == (2.5, [4.0, 5.0], 4.5)
    assert figures.row_of(found).endswith("not reached, 4.5 at the ceiling")
    times = {"guide": [30.0], "ours": [10.0], figures.CEILING: [5.0]}
    assert figures.judge(figures.Figure("t", "guide", "ours", 5, figures.CEILING), times, {})["bounds"] == [6.0]


def test_a_figure_of_one_that_fails_its_gate_or_is_not_there_does_not_count() -> None:
    figure = figures.Figure("x / y", "x", "y", 1.0)
    found = figures.judge(figure, {"x": [9.0], "y": [1.0]}, {"x": "does not count: it loses 3.00% of Top-1"})
    assert not found["counts"]
    assert "loses 3.00%" in figures.row_of(found)
    assert "reached" not in found["verdict"]
    absent = figures.judge(figure, {"x": [9.0]}, {"y": "left out: no compiler"})
    assert "median" not in absent
    assert "no compiler" in figures.row_of(absent)


def test_the_gate_counts_lost_labels_image_by_image() -> None:
    labels = np.arange(200) % 10
    logits = np.eye(10)[labels] * 9
    assert bench.gate(logits.astype(np.float32), logits, labels, 0.0)["passed"]
    wrong = logits.copy()
    wrong[0] = np.roll(wrong[0], 1)
    told = bench.gate(wrong, logits, labels, 0.4)
    assert (told["labels_changed"], told["broken"], told["lost"], told["passed"]) == (1, 1, 0.5, False)
    assert bench.gate(wrong, logits, labels, 0.5)["passed"]
    assert not bench.gate(logits * np.nan, logits, labels, 100.0)["passed"]
    assert not bench.gate(logits[:-1], logits, labels, 100.0)["passed"]


def test_benchmark_apps_own_figures_are_read_and_checked() -> None:
    found = race.app_figures(APP, 16)
    assert (found["images"], found["seconds"], found["said_fps"]) == (26 * 16, pytest.approx(2.23357), 186.25)
    with pytest.raises(race.Absent):
        race.app_figures(APP.replace("186.25", "372.50"), 16)
    with pytest.raises(race.Absent):
        race.app_figures("[ ERROR ] no such model", 16)


def test_multiply_adds_are_counted_from_the_graph(tmp_path: Path) -> None:
    weights = {"w1": (8, 3, 3, 3), "w2": (8, 2, 1, 1), "w3": (10, 8 * 16)}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["a", "w2"], ["b"], "grouped", group=4),
        helper.make_node("Flatten", ["b"], ["c"], "flat"),
        helper.make_node("Gemm", ["c", "w3"], ["class"], "last", transB=1),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("class", TensorProto.FLOAT, ["n", 10])
    tensors = [helper.make_tensor(k, TensorProto.FLOAT, s, np.ones(s).ravel().tolist()) for k, s in weights.items()]
    graph = helper.make_graph(nodes, "small", [given], [out], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]), tmp_path / "x.onnx")
    assert roofline.macs_of(tmp_path / "x.onnx") == {"first": 8 * 16 * 27, "grouped": 8 * 16 * 2, "last": 1280}
    assert roofline.images_per_s(4000.0, 20) == 100


def test_the_networks_multiply_adds_are_those_of_its_layers(onnx_file: Path) -> None:
    import torch
    from network import ResidualAttentionNetwork

    network, counted = ResidualAttentionNetwork().eval(), []
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(lambda m, i, o: counted.append(o.numel() * m.weight[0].numel()))
    network(torch.zeros(1, 3, 32, 32))
    assert sum(roofline.macs_of(onnx_file).values()) == sum(counted)


def test_a_profile_is_held_against_the_ceilings() -> None:
    rows = [
        {"operator": "Convolution", "nodes": 2, "ms": 3.0, "macs": 6000, "bytes": 0.0},
        {"operator": "Add", "nodes": 1, "ms": 1.0, "macs": 0, "bytes": 500.0},
    ]
    conv, add = roofline.judged(rows, 8e6, 1e6)
    assert (conv["share"], conv["of_ceiling"], conv["of_bandwidth"]) == (0.75, 0.5, 0.0)
    assert (add["share"], add["of_ceiling"], add["of_bandwidth"]) == (0.25, 0.0, 0.5)


def test_the_last_batch_is_filled_up_and_a_lap_counts_its_images(bins: Path) -> None:
    batches = contender.batches_of(bins, 20, 16)
    images = np.stack([reference.read_bin(bins.with_name(f"image_{i}.bin")) for i in range(20)])
    assert [len(batch) for batch in batches] == [16, 16]
    assert np.array_equal(np.concatenate(batches)[:20], images)
    assert np.array_equal(batches[1][4:], images[:12])
    seen: list[Any] = []
    lap = contender.timed(seen.append, batches, 0.0, 16)
    assert (lap["calls"], lap["images"], len(seen)) == (1, 16, 1)


def test_the_guides_way_ends_in_our_bins_and_our_labels(
    inputs: Inputs, bins: Path, onnx_file: Path, tmp_path: Path
) -> None:
    with tarfile.open(inputs.archive) as archive:
        archive.extractall(tmp_path, filter="data")
    assert script("guide_way", "preprocess", "--data", tmp_path, "--out", tmp_path / "bins").returncode == 0
    names = sorted(path.name for path in bins.parent.glob("*.bin"))
    assert sorted(path.name for path in (tmp_path / "bins").iterdir()) == names
    for name in names:
        assert (tmp_path / "bins" / name).read_bytes() == bins.with_name(name).read_bytes()
    words = ("--bins", tmp_path / "bins", "--onnx", onnx_file, "--batch-size", 16, "--out", tmp_path / "outputs")
    done = script("guide_way", "infer", *words)
    assert done.returncode == 0, done.stderr
    logits = reference.logits_of(onnx_file, reference.some_bins(bins, 20))
    rows = np.stack([np.loadtxt(tmp_path / f"outputs/image_{i}_0.txt") for i in range(20)])
    assert reference.relative_error(rows, logits) < 1e-5
    words = ("--data", tmp_path, "--outputs", tmp_path / "outputs", "--out", tmp_path / "result.txt")
    assert script("guide_way", "postprocess", *words).returncode == 0
    labels = tmp_path / "labels.txt"
    assert (
        script("preprocess", "--archive", inputs.archive, "--official-md5", "0" * 32, "--labels", labels).returncode
        == 0
    )
    top1 = np.mean(logits.argmax(1) == np.loadtxt(labels))
    assert (tmp_path / "result.txt").read_text() == f"Top-1 accuracy of inference: {100 * top1:.2f}%\n"


def small(house: House, contenders: str) -> House:
    """A house whose bench is over in seconds."""
    for key, value in (("rounds: 5", 3), ("seconds: 2", "0.05"), ("images: 1000        # at most", "40 # at most")):
        house.set_param(key, f"{key.split(':')[0]}: {value}")
    house.set_param("contenders: all ", f"contenders: {contenders} ")
    house.set_param("  - 1\n  - 4\n  - 8\n  - 16\n  - 32\n  - 64\n", "  - 16\n")
    return house


def test_a_whole_run_whose_every_ratio_follows_from_its_raw_figures(house: House) -> None:
    names = "\n    - ".join(["", "cpu", "null", "onnxruntime", "product-f32", "copy", "whole"])
    done = small(house, names).make("bench", TMPDIR=str(house.tree / "tmp"))
    found = json.loads((house.root / "results/bench.json").read_text())
    assert set(found["left_out"]) == {"null"}, found["left_out"]
    named = {figure["name"]: figure for figure in found["figures"]}
    for name, entry in found["contenders"].items():
        rates = [lap["images"] / lap["seconds"] for lap in entry["laps"]]
        assert len(rates) == 3
        if name.startswith("product"):
            rates = [lap["images"] / lap["calls"] / lap["fastest_call_s"] / 2 for lap in entry["laps"]]
            rates = [rate / found["macs_an_image"] for rate in rates]
        if name != "copy":
            assert found["series"][name] == pytest.approx(rates)
    for figure in named.values():
        values = found["series"][figure["above"]]
        if figure["below"]:
            values = [a / b for a, b in zip(values, found["series"][figure["below"]])]
        assert figure["ratios"] == pytest.approx(values)
        assert figure["median"] == pytest.approx(statistics.median(values))
        assert (figure["min"], figure["max"]) == pytest.approx((min(values), max(values)))
        assert figure["name"] in done.stdout
    assert set(named) == {
        "cpu / ONNX Runtime, plain export",
        "bins to accuracy.txt: the guide's time / ours",
        "archive to bins: the guide's time / ours",
        "make accuracy with nothing to do, ms",
    }
    assert found["whole"]["chip"] == "cpu"
    assert set(found["whole"]["stages"]) == {"bin", "onnx", "optimized", "om", "infer", "accuracy"}
    assert all(stage["peak_mib"] > 10 for stage in found["whole"]["stages"].values())
    # the stand-in answers wrongly: it is marked, and takes part in no figure
    assert not found["contenders"]["null"]["gate"]["passed"]
    assert "null: best at 16" in done.stdout
    assert "does not count: it loses" in done.stdout
    assert found["contenders"]["cpu"]["gate"]["passed"]
    svg = (house.root / "results/bench.svg").read_text()
    assert "null, batch 16" in svg
    assert re.search(r'class="bad"', svg)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert not list((house.root / ".make").glob("bench.tmp.*"))


def test_bench_takes_the_sample_where_there_are_no_inputs_and_fetches_nothing(fresh: House) -> None:
    done = run("make", "-n", "bench", f"PYTHON={sys.executable}", cwd=fresh.tree)
    assert done.returncode == 0, done.stderr
    assert "--root demo/" in done.stdout
    assert "SOURCE=sample" in done.stdout
    refused = run("make", "bench", "OM=Makefile", f"PYTHON={sys.executable}", cwd=fresh.tree)
    assert refused.returncode == 2
    assert "leave ONNX and OM out" in refused.stderr


def test_a_contender_of_another_name_is_refused(house: House) -> None:
    done = small(house, "cpu-bf61").make("bench", check=False)
    assert done.returncode == 2
    assert "bench.py: params.yaml: bench.contenders: cpu-bf61 is none; give all, or some of" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_contender_that_cannot_is_left_out_with_its_reason(bins: Path, tmp_path: Path) -> None:
    import contextlib

    log = tmp_path / "log"
    log.touch()
    with contextlib.ExitStack() as stack:
        words = ["--kind", "onnxruntime", "--model", str(tmp_path / "none.onnx"), "--bins", str(bins), "--count", "20"]
        worker = race.Worker(words, log, stack)
        with pytest.raises(race.Absent, match="none.onnx"):
            worker.ask(do="load", batch=1)
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(race.Absent, match="died"):
            worker.ask(do="run", seconds=0)


def test_a_bench_that_is_interrupted_leaves_nothing_running(house: House) -> None:
    small(house, "onnxruntime").set_param("rounds: 3", "rounds: 1000")
    words = ["make", "bench", "ROOT=house", f"PYTHON={house.python}"]
    more = environment(TMPDIR=str(house.tree / "tmp"))
    (house.tree / "tmp").mkdir(exist_ok=True)
    with subprocess.Popen(
        words,
        cwd=house.tree,
        env=more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "round 1 of" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
        process.wait()
    time.sleep(0.5)
    assert process.returncode
    assert "Traceback" not in said
    left = subprocess.run(["pgrep", "-f", f"{house.tree}/scripts"], capture_output=True, text=True).stdout
    assert left == ""
    assert not list((house.root / ".make").glob("bench.tmp.*"))
    assert not list(house.root.glob("results/bench.*"))
