"""make bench: ratios within a round, accuracy checks, ceilings, the guide's steps, small runs. No test checks speed."""

from __future__ import annotations

from _support.artifact import read_record

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

import documents
from benchmark import contender, end_to_end, entries, others, ratios, roofline, rounds, session, summary
from benchmark.preparation import Reference, Rules, check_accuracy
from benchmark.processes import Program, Unavailable, module, run_timed, started
from benchmark.ratios import TIME_AT_CEILING, Figure
from conftest import SCRIPTS, TREE, Inputs, Project, copy_of, environment, refused, run, script, shared_once
from engines.feed import OneAtATime
from formats.bins import read_bins, some_bins
from formats.cifar10 import read_batch
from graphs.agreement import logits_of, relative_error
from network.model import ResidualAttentionNetwork
from network.spec import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT
from params import schema
from reporting import fields

PARAMS: dict[str, Any] = yaml.load((TREE / "params.yaml").read_text("utf-8"), yaml.BaseLoader)
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
    assert rounds.ratios(above, below) == [2.0, 4.0, 3.0]
    assert rounds.spread([2.0, 4.0, 3.0]) == {"median": 3.0, "min": 2.0, "max": 4.0}
    figure = Figure("x / y", "x", "y", 3.0)
    record = ratios.judge(figure, {"x": above, "y": below}, {})
    assert (record["median"], record["min"], record["max"], record["verdict"]) == (3.0, 2.0, 4.0, "reached")
    assert ratios.judge(figure._replace(wanted=3.1), {"x": above, "y": below}, {})["verdict"] == "not reached"
    at_most = Figure("ms", "ms", "", 50, at_most=True)
    assert ratios.judge(at_most, {"ms": [49.0, 50.0, 80.0]}, {})["verdict"] == "reached"
    assert ratios.judge(at_most, {"ms": [49.0, 51.0, 80.0]}, {})["verdict"] == "not reached"


def test_a_figure_states_its_value_at_the_ceiling() -> None:
    series = {"x": [2.0, 3.0], "y": [1.0, 1.0], "product": [4.0, 5.0]}
    record = ratios.judge(Figure("x / y", "x", "y", 9.0, "product"), series, {})
    assert (record["median"], record["bounds"], record["bound"]) == (2.5, [4.0, 5.0], 4.5)
    assert summary.row_of(record).endswith("not reached, 4.5 at the ceiling")
    times = {"guide": [30.0], "ours": [10.0], TIME_AT_CEILING: [5.0]}
    assert ratios.judge(Figure("t", "guide", "ours", 5, TIME_AT_CEILING), times, {})["bounds"] == [6.0]


def test_a_figure_of_an_excluded_or_missing_contender_does_not_count() -> None:
    figure = Figure("x / y", "x", "y", 1.0)
    record = ratios.judge(figure, {"x": [9.0], "y": [1.0]}, {"x": "excluded: Top-1 is 3.00% below"})
    assert not record["counts"]
    assert "3.00% below" in summary.row_of(record)
    assert "reached" not in record["verdict"]
    missing = ratios.judge(figure, {"x": [9.0]}, {"y": "left out: no compiler"})
    assert "median" not in missing
    assert "no compiler" in summary.row_of(missing)


def test_the_accuracy_check_counts_broken_predictions_image_by_image() -> None:
    labels = np.arange(200) % len(CLASSES)
    logits = np.eye(len(CLASSES))[labels] * 9
    reference = Reference(labels, logits)
    assert check_accuracy(logits.astype(np.float32), reference, 0.0)["passed"]
    wrong = logits.copy()
    wrong[0] = np.roll(wrong[0], 1)
    result = check_accuracy(wrong, reference, 0.4)
    assert (result["labels_changed"], result["broken"], result["lost"], result["passed"]) == (1, 1, 0.5, False)
    assert check_accuracy(wrong, reference, 0.5)["passed"]
    assert not check_accuracy(logits * np.nan, reference, 100.0)["passed"]
    assert not check_accuracy(logits[:-1], reference, 100.0)["passed"]


def test_chips_of_the_quantized_graph_have_a_separate_limit_of_the_loss() -> None:
    rules = Rules(0.1, 16, loss=0.2, loss_int8=0.5, int8=frozenset({"small"}))
    assert (rules.loss_of("small"), rules.loss_of("large")) == (0.5, 0.2)


def test_the_output_of_benchmark_app_is_parsed_and_checked() -> None:
    result = entries.parse_benchmark_app(APP, 16)
    assert (result["images"], result["seconds"], result["said_fps"]) == (26 * 16, pytest.approx(2.23357), 186.25)
    with pytest.raises(Unavailable):
        entries.parse_benchmark_app(APP.replace("186.25", "372.50"), 16)
    with pytest.raises(Unavailable):
        entries.parse_benchmark_app("[ ERROR ] no such model", 16)


def test_multiply_adds_are_counted_from_the_graph(tmp_path: Path) -> None:
    weights = {"w1": (8, 3, 3, 3), "w2": (8, 2, 1, 1), "w3": (10, 8 * 16)}
    nodes = [
        helper.make_node("Conv", [INPUT, "w1"], ["a"], "first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Conv", ["a", "w2"], ["b"], "grouped", group=4),
        helper.make_node("Flatten", ["b"], ["c"], "flat"),
        helper.make_node("Gemm", ["c", "w3"], [OUTPUT], "last", transB=1),
    ]
    given = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 10])
    tensors = [helper.make_tensor(k, TensorProto.FLOAT, s, np.ones(s).ravel().tolist()) for k, s in weights.items()]
    graph = helper.make_graph(nodes, "small", [given], [out], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]), tmp_path / "x.onnx")
    assert roofline.macs_of(tmp_path / "x.onnx") == {"first": 8 * 16 * 27, "grouped": 8 * 16 * 2, "last": 1280}
    assert roofline.images_per_s(4000.0, 20) == 100


def test_the_networks_multiply_adds_are_those_of_its_layers(onnx_file: Path) -> None:
    import torch

    network, counted = ResidualAttentionNetwork().eval(), []
    for layer in network.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(lambda m, i, o: counted.append(o.numel() * m.weight[0].numel()))
    network(torch.zeros(1, *IMAGE_SHAPE))
    assert sum(roofline.macs_of(onnx_file).values()) == sum(counted)


def test_a_profile_is_compared_with_the_ceilings() -> None:
    rows = [
        {"operator": "Convolution", "nodes": 2, "ms": 3.0, "macs": 6000, "bytes": 0.0},
        {"operator": "Add", "nodes": 1, "ms": 1.0, "macs": 0, "bytes": 500.0},
    ]
    conv, add = roofline.with_shares(rows, 8e6, 1e6)
    assert (conv["share"], conv["of_ceiling"], conv["of_bandwidth"]) == (0.75, 0.5, 0.0)
    assert (add["share"], add["of_ceiling"], add["of_bandwidth"]) == (0.25, 0.0, 0.5)


def test_the_last_batch_is_filled_up_and_a_run_counts_its_images(bins: Path) -> None:
    batches = contender.batches_of(bins, 20, 16)
    images = read_bins(bins, {}, range(20))
    assert [len(batch) for batch in batches] == [16, 16]
    assert np.array_equal(np.concatenate(batches)[:20], images)
    assert np.array_equal(batches[1][4:], images[:12])
    seen: list[Any] = []

    def run_batch(batch: Any) -> Any:
        seen.append(batch)
        return batch

    lap = contender.timed(OneAtATime(run_batch, {}), batches, 0.0, 16)
    assert (lap["calls"], lap["images"], len(seen)) == (1, 16, 1)


class Queue:
    """A session that takes two more batches before its first output, and keeps the order."""

    conditions: dict[str, Any] = {}

    def stream(self, batches: Any) -> Iterator[Any]:
        waiting: list[Any] = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) > 2:
                yield waiting.pop(0)
        yield from waiting


def test_a_run_of_a_session_with_several_batches_in_flight_counts_every_output() -> None:
    batches = [np.full(1, value) for value in range(5)]
    lap = contender.timed(Queue(), batches, 0.0, 16)
    assert (lap["calls"], lap["images"]) == (3, 48)


def guide(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs a step of the guide as the bench does."""
    program = module("benchmark.guide_baseline", *words)
    assert program.environment
    return run(*program.command, PYTHONPATH=program.environment["PYTHONPATH"])


def test_the_guides_steps_give_our_bins_and_our_labels(
    inputs: Inputs, bins: Path, onnx_file: Path, tmp_path: Path
) -> None:
    with tarfile.open(inputs.archive) as archive:
        archive.extractall(tmp_path, filter="data")
    assert guide("preprocess", "--data", tmp_path, "--out", tmp_path / "bins").returncode == 0
    names = sorted(path.name for path in bins.parent.glob("*.bin"))
    assert sorted(path.name for path in (tmp_path / "bins").iterdir()) == names
    for name in names:
        assert (tmp_path / "bins" / name).read_bytes() == bins.with_name(name).read_bytes()
    words = ("--bins", tmp_path / "bins", "--onnx", onnx_file, "--batch-size", 16, "--out", tmp_path / "outputs")
    done = guide("infer", *words)
    assert done.returncode == 0, done.stderr
    logits = logits_of(onnx_file.read_bytes(), some_bins(bins, read_record(bins), 20))
    rows = np.stack([np.loadtxt(tmp_path / f"outputs/image_{i}_0.txt") for i in range(20)])
    assert relative_error(rows, logits) < 1e-5
    files = ("--data", tmp_path, "--outputs", tmp_path / "outputs", "--out", tmp_path / "result.txt")
    assert guide("postprocess", *files).returncode == 0
    top1 = np.mean(logits.argmax(1) == read_batch(inputs.archive, "test_batch")[1])
    assert (tmp_path / "result.txt").read_text() == f"Top-1 accuracy of inference: {100 * top1:.2f}%\n"


# Pairs of params.yaml


def test_every_pair_of_params_is_a_figure_of_known_names() -> None:
    known = {*PARAMS["chips"], *others.NAMES}
    figures = [ratios.figure_of(pair) for pair in PARAMS["bench"]["pairs"]]
    for figure in figures:
        assert {figure.above, figure.below} <= known
        assert figure.ceiling in ("", *others.PRODUCT_NAMES)
        assert len(figure.name) < 46, figure.name  # the width of its column
    assert PARAMS["bench"]["chip"] in PARAMS["chips"]
    wanted = {figure.name: (figure.wanted, figure.ceiling) for figure in figures if figure.wanted}
    assert wanted == {
        "cpu-bf16 / onnxruntime (plain export)": (4.5, "product-bf16"),
        "cpu-bf16 / benchmark_app-bf16 (plain export)": (1.05, "product-bf16"),
        "cpu-bf16 / product-bf16 (matrix product)": (0.78, ""),
        "cpu-int8 / cpu-bf16": (1.3, "product-int8"),
        "cpu / onnxruntime (plain export)": (1.05, "product-f32"),
    }


def test_the_excerpt_on_the_page_has_figures_of_today_with_their_wanted_values() -> None:
    figures = [*map(ratios.figure_of, PARAMS["bench"]["pairs"]), *end_to_end.FIGURES]
    wanted = {figure.name: figure.wanted for figure in figures}
    page = (TREE / "docs/performance.md").read_text("utf-8")
    rows = re.findall(r"^(\S.*?)  +[\d.]+ +\[.*\](?: +[<>]= ([\d.]+))?", page, re.MULTILINE)
    assert len(rows) >= 8
    for name, least in rows:
        assert wanted[name] == (float(least) if least else None), name


@pytest.mark.parametrize(
    "word", ["a", "a/", "/b", "a/b,wanted=fast", "a/b,least=2", "a/b,ceiling=", "a/b/c", "a/b,wanted=1,"]
)
def test_a_malformed_pair_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="a list of A/B"):
        schema.SCHEMA["bench.pairs"](f"c/d {word}")
    with pytest.raises(ValueError, match=re.escape(word)):
        ratios.figure_of(word)


def bench(**settings: str) -> subprocess.CompletedProcess[str]:
    """Runs bench.py with the chips x and y of an engine and these settings; it exits before it starts anything."""
    defaults = {"batch_sizes": "16", "rounds": "1", "seconds": "0.1", "images": "1", "contenders": "all", "loss": "1"}
    defaults.update(pairs="x/y", chip="x", loss_int8="1")
    flags = [[f"--{name.replace('_', '-')}", *words.split()] for name, words in {**defaults, **settings}.items()]
    fixed = ("--make", "false", "--root", "nowhere", "--chips", "x=some", "y=some", "--out", "nowhere/bench.json")
    return script("bench", *fixed, *sum(flags, []))


@pytest.mark.parametrize(
    ("setting", "words", "unknown"),
    [
        ("pairs", "x/y x/z", "bench.pairs: z"),
        ("pairs", "z/onnxruntime,wanted=2", "bench.pairs: z"),
        ("pairs", "x/y,ceiling=product-f23", "bench.pairs: product-f23"),
        ("pairs", "x/y x:y", "bench.pairs: x:y"),
        ("contenders", "x whole z", "bench.contenders: z"),
        ("chip", "onnxruntime", "bench.chip: onnxruntime"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line(setting: str, words: str, unknown: str) -> None:
    refused(bench(**{setting: words}), f"bench.py: {unknown}: ")


def test_a_chip_with_the_name_of_a_contender_is_refused() -> None:
    refused(bench(chips="x=some y=some copy=some"), "chips.copy", "give the chip another name")


def words_of(text: str) -> str:
    """A list of params.yaml."""
    return json.dumps(text.split())


def small(project: Project, contenders: str) -> Project:
    """A project whose bench takes some seconds."""
    for key, value in {"rounds": "3", "seconds": "0.05", "images": "40", "contenders": words_of(contenders)}.items():
        project.set(f"bench.{key}", value)
    project.set("batch_sizes", "[16]")
    return project


@pytest.fixture(scope="session")
def benched(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which bench has run with a new chip, `mine`, and what it printed is in bench.log."""

    def build(tree: Path) -> None:
        project = copy_of(built, tree)
        project.set("chips.mine", "engine=onnxruntime")
        project.set("bench.pairs", words_of("cpu/onnxruntime mine/onnxruntime,wanted=0.01 null/mine mine/copy"))
        project.set("bench.chip", "mine")
        small(project, "cpu mine null onnxruntime product-f32 copy whole")
        (tree / "bench.log").write_text(project.make("bench").stdout)

    return Project(shared_once(tmp_path_factory, "benched", build))


def test_every_ratio_of_a_run_follows_from_its_raw_figures(benched: Project) -> None:
    printed = (benched.tree / "bench.log").read_text()
    result = json.loads((benched.root / "results/bench.json").read_text())
    assert set(result["left_out"]) == {"null"}, result["left_out"]
    known = documents.described_fields("bench.json") | documents.described_fields(fields.FILES[0][0])
    assert not [name for name in documents.field_names(result) if not documents.is_described(name, known)]
    named = {figure["name"]: figure for figure in result["figures"]}
    for name, entry in result["contenders"].items():
        rates = [lap["images"] / lap["seconds"] for lap in entry["laps"]]
        assert len(rates) == 3
        if name.startswith("product"):
            rates = [lap["images"] / lap["calls"] / lap["fastest_call_s"] / 2 for lap in entry["laps"]]
            rates = [rate / result["macs_an_image"] for rate in rates]
        if name != "copy":
            assert result["series"][name] == pytest.approx(rates)
    for figure in named.values():
        values = result["series"][figure["above"]]
        if figure["below"]:
            values = [a / b for a, b in zip(values, result["series"][figure["below"]])]
        assert figure["ratios"] == pytest.approx(values)
        assert figure["median"] == pytest.approx(statistics.median(values))
        assert (figure["min"], figure["max"]) == pytest.approx((min(values), max(values)))
        assert figure["name"] in printed
    assert set(named) == {
        "cpu / onnxruntime (plain export)",
        "mine / onnxruntime (plain export)",
        "null / mine",
        "bins to accuracy, time of guide / this project",
        "archive to bins, time of guide / this project",
        "make accuracy, everything up to date, ms",
    }
    assert set(result["whole"]["stages"]) == {"bin", "onnx", "optimized", "om", "infer", "accuracy"}
    assert all(stage["peak_mib"] > 10 for stage in result["whole"]["stages"].values())
    # the outputs of the stand-in engine are wrong: it is marked and excluded from all figures
    assert not result["contenders"]["null"]["gate"]["passed"]
    assert "null: best batch size 16" in printed
    assert "excluded: Top-1 is" in printed
    assert result["contenders"]["cpu"]["gate"]["passed"]
    svg = (benched.root / "results/bench.svg").read_text()
    assert "null, batch 16" in svg
    assert re.search(r'class="bad"', svg)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert not list((benched.root / ".make").glob("bench.tmp.*"))


def test_bench_uses_the_sample_if_there_are_no_inputs_and_downloads_nothing(fresh: Project) -> None:
    done = run("make", "-n", "bench", f"PYTHON={sys.executable}", cwd=fresh.tree)
    assert done.returncode == 0, done.stderr
    assert "--root demo/" in done.stdout
    assert "SOURCE=sample" in done.stdout
    refused = run("make", "bench", "OM=Makefile", f"PYTHON={sys.executable}", cwd=fresh.tree)
    assert refused.returncode == 2
    assert "omit ONNX and OM" in refused.stderr


def test_an_unknown_contender_is_refused(project: Project) -> None:
    done = small(project, "cpu-bf61").make("bench", check=False)
    assert done.returncode == 2
    assert "bench.py: bench.contenders: cpu-bf61: unknown chip or contender; use names of " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_chip_and_pair_in_params_take_part_without_a_code_change(benched: Project) -> None:
    result = json.loads((benched.root / "results/bench.json").read_text())
    named = {figure["name"]: figure for figure in result["figures"]}
    assert named["mine / onnxruntime (plain export)"]["verdict"] == "reached"
    assert "excluded" in named["null / mine"]["verdict"]
    assert "mine / copy" not in named  # copies are counted in bytes, not in images
    assert result["whole"]["chip"] == "mine"
    assert result["contenders"]["mine"]["gate"]["passed"]


def test_whole_processes_run_on_the_preferred_chip_or_the_first_that_passed() -> None:
    def entry(name: str, engine: str, passed: bool) -> Any:
        return SimpleNamespace(name=name, contender=SimpleNamespace(engine=engine), gate={"passed": passed})

    entries = [
        entry("wrong", "e", False),
        entry("library", "", True),
        entry("first", "e", True),
        entry("other", "e", True),
    ]
    for preferred, chosen in (("other", "other"), ("wrong", "first"), ("library", "first"), ("unknown", "first")):
        assert session.chip_for_processes(entries, preferred).name == chosen
    assert session.chip_for_processes(entries[:2], "wrong") is None


def test_an_unknown_name_in_a_pair_stops_make_in_one_line(project: Project) -> None:
    project.set("bench.pairs", words_of("null/onnxruntime null/cpu-bf61"))
    done = project.make("bench", check=False)
    assert done.returncode == 2
    assert "bench.py: bench.pairs: cpu-bf61: unknown chip or contender; use names of " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_contender_that_cannot_run_is_left_out_with_the_reason(bins: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.onnx")
    with contextlib.ExitStack() as stack:
        workers = entries.Workers(bins, 20, tmp_path, stack)
        worker = workers.start(others.LIBRARIES[0], missing)
        with pytest.raises(Unavailable, match=r"none\.onnx"):
            worker.ask(do="load", batch=1)
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(Unavailable, match="died"):
            worker.ask(do="run", seconds=0)


def test_the_reason_of_a_contender_with_a_rejected_input_is_the_line_of_its_log(bins: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pkl").write_bytes(b"not a checkpoint")
    torch = next(contender for contender in others.LIBRARIES if contender.kind == "torch")
    with contextlib.ExitStack() as stack:
        worker = entries.Workers(bins, 20, tmp_path, stack).start(torch, tmp_path / "checkpoint.pkl")
        with pytest.raises(Unavailable, match=r"contender\.py: .*checkpoint\.pkl: "):
            worker.ask(do="load", batch=1)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    """Whether all processes end within ten seconds."""
    for _ in range(1000):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.01)
    return False


def test_a_program_and_what_it_starts_end_with_the_block(tmp_path: Path) -> None:
    with started(Program(["sh", "-c", "sleep 600 & echo $!; wait"]), tmp_path / "log", pipes=True) as child:
        assert child.stdout
        pids = (child.pid, int(child.stdout.readline()))
        assert all(map(alive, pids))
    assert gone(*pids)


def test_a_program_and_what_it_starts_end_when_the_bench_is_killed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from benchmark.processes import Program, started
with started(Program(["sh", "-c", "sleep 600 & echo $! $$; wait"]), Path({str(tmp_path / "log")!r}), True) as child:
    print(child.stdout.readline(), end="", flush=True)
    child.wait()
"""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, env=environment(PYTHONPATH=str(SCRIPTS)), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = list(map(int, parent.stdout.readline().split()))
        assert all(map(alive, pids))
        parent.kill()
    assert gone(*pids)


def test_the_reason_of_a_failed_program_is_its_last_line_without_those_of_make(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    code = "echo first; echo 'x.py: y: broken; repair it'; echo 'make: *** [z] Error 1'; exit 3"
    with pytest.raises(Unavailable, match=r"^x\.py: y: broken; repair it$"):
        run_timed(Program(["sh", "-c", code]), log)
    with pytest.raises(Unavailable, match="^false exited with status 1$"):
        run_timed(Program(["false"]), log)
    usage = run_timed(Program(["sh", "-c", "sleep 0.1"]), log)
    assert usage.seconds >= 0.1
    assert usage.peak_mib > 0


def processes_in(folder: Path) -> list[str]:
    """The command lines of all processes whose working directory is `folder` or below it."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder in (process / "cwd").readlink().parents or (process / "cwd").readlink() == folder:
                commands.append((process / "cmdline").read_text().replace("\0", " "))
    return commands


def test_a_bench_that_is_interrupted_leaves_nothing_running(project: Project) -> None:
    small(project, "onnxruntime").set("bench.rounds", "1000")
    words = ["make", "bench", "ROOT=root", f"PYTHON={project.python}"]
    more = environment(**project.locks)
    (project.tree / "tmp").mkdir(exist_ok=True)
    with subprocess.Popen(
        words,
        cwd=project.tree,
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
        assert any("benchmark.contender" in line for line in processes_in(project.tree))
        os.killpg(process.pid, signal.SIGINT)
        messages = process.stderr.read()
        process.wait()
    time.sleep(0.5)
    assert process.returncode
    assert "Traceback" not in messages
    assert processes_in(project.tree) == []
    assert not list((project.root / ".make").glob("bench.tmp.*"))
    assert not list(project.root.glob("results/bench.*"))
