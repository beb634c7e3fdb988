"""Measurements of engine ascend with the stand-ins: the times are those of ais_bench, of real images, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_ascend import calls, make, refused

import documents
from conftest import Project, copy_of, shared_once
from engines import PerfRules, RunRequest
from engines.ascend import ais_bench, perf
from engines.timed import batch_numbers
from formats.bins import FORMS
from network.spec import FLOAT32, IMAGE_SHAPE
from reporting import fields


@pytest.fixture(scope="session")
def inferred(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The built project with the outputs of bs2 on 310P3. Tests must not change it."""

    def build(tree: Path) -> None:
        project = copy_of(built, tree)
        project.set("perf.min_queries", "7")
        make(project, "infer", "BS=2")
        (project.tree / "stand-ins.log").write_text("")

    return Project(shared_once(tmp_path_factory, "inferred", build))


@pytest.fixture
def npu(inferred: Project, tmp_path: Path) -> Project:
    return copy_of(inferred, tmp_path)


def perf_of(project: Project) -> Any:
    return json.loads((project.root / "results/310P3/bs2/perf.json").read_text())


@pytest.mark.parametrize("generation", ["old", "new"])
def test_figures_are_the_times_of_ais_bench_over_real_images(npu: Project, generation: str) -> None:
    make(npu, "perf", "BS=2", STAND_IN_AIS=generation)
    perf = perf_of(npu)
    single = perf["scenarios"]["SingleStream"]
    assert single["queue"] == "one batch in flight"
    assert single == perf["scenarios"]["Offline"] | {"latency_ms": perf["latency_ms"], "stability": single["stability"]}
    assert perf["queries"] == len(single["times_ms"]) >= 7
    assert single["images"] == 2 * perf["queries"]  # no batch is padded
    assert single["check"]["answers"] == single["images"] + 20  # every query, and the 10 of the trial
    assert perf["throughput_images_per_s"] == pytest.approx(1000 * single["images"] / sum(single["times_ms"]))
    assert perf["latency_ms"]["p90"] == pytest.approx(np.percentile(single["times_ms"], 90))
    assert perf["device"]["name"] == "0 (310P3)"
    assert perf["device"]["h2d_ms"]["mean"] == perf["device"]["d2h_ms"]["mean"] == pytest.approx(0.01)
    assert ("resolution_ms" in perf["device"]) == (generation == "new")
    assert perf["end_to_end"]["throughput_images_per_s"] < perf["throughput_images_per_s"]
    known = documents.described_fields("perf.json") | documents.described_fields(fields.FILES[0][0])
    assert {"device.h2d_ms.mean", "device.d2h_ms.max", "device.resolution_ms"} <= known
    assert [name for name in documents.field_names(perf) if not documents.is_described(name, known)] == []
    assert "ais_bench's own times" in perf["method"]
    assert perf["provenance"]["runtime"].startswith(f"ais_bench ({generation}er)")
    started = [call for call in calls(npu, "ais_bench") if "--model" in call.get("argv", [])]
    trial, *runs = started[-1 - perf["end_to_end"]["runs"] :]
    assert trial["argv"][-2:] == ["--loop", "3"]
    for run in runs:
        assert "--loop" not in run["argv"]  # every batch is new, as in the published measurements
        assert int(run["argv"][run["argv"].index("--warmup_count") + 1]) == perf["warmup"]["queries"] >= 1
    assert not list(npu.root.rglob("ais_bench.tmp*"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cache", ["seems to return cached results"]),
        ("wrong", ["do not match the accuracy run"]),
        ("wrong-count", ["perf.log", "reports "]),
        ("nan", ["a value is not finite", "perf.log"]),
        ("crash", ["perf.log", "SIGABRT"]),
    ],
)
def test_caching_or_a_failure_writes_no_figure(npu: Project, fault: str, words: list[str]) -> None:
    refused(make(npu, "perf", "BS=2", check=False, STAND_IN_AIS_BENCH=fault), *words)
    assert not (npu.root / "results/310P3/bs2/perf.txt").exists()
    assert not list(npu.root.rglob("*.tmp.*"))


@pytest.mark.parametrize("times", [[0.0] * 8, [-1.0, 2.0], [float("nan"), 1.0], [None, 1.0], [["a"], 1.0]])
def test_invalid_times_make_a_summary_invalid(tmp_path: Path, times: list[Any]) -> None:
    summary = tmp_path / "out_summary.json"
    slots = {str(i): {"infiles": ["x"]} for i in range(len(times))}
    summary.write_text(json.dumps({"npu_compute_time_list": times, "filesinfo": slots}))
    expected = ais_bench.Expected(begin=0, devices=1, batches=len(times), loop=1)
    assert "contains invalid times" in ais_bench.summary_problem(summary, expected, len(times))
    summary.write_text(json.dumps({"npu_compute_time_list": [1.0] * len(times), "filesinfo": slots}))
    assert ais_bench.summary_problem(summary, expected, len(times)) == ""


def test_copy_times_of_several_runs_are_weighted_and_damaged_ones_left_out() -> None:
    parts = [{"H2D_latency": {"min": 1, "max": 3, "mean": 2, "count": 3}}]
    parts += [{"H2D_latency": {"min": 2, "max": 9, "mean": 6, "count": 1}}]
    assert perf.merge_copy_times(parts, "H2D_latency") == {"min": 1, "mean": 3.0, "max": 9}
    assert perf.merge_copy_times([{"H2D_latency": [1]}], "H2D_latency") == {}
    assert perf.merge_copy_times([{}], "H2D_latency") == {}


def test_queries_after_one_pass_over_the_images_are_links_to_its_batches(tmp_path: Path) -> None:
    (tmp_path / "bins").mkdir()
    images = np.random.RandomState(0).rand(5, *IMAGE_SHAPE).astype(np.float32)
    for number, image in enumerate(images):
        image.tofile(tmp_path / f"bins/image_{number}.bin")
    request = RunRequest(Path(), {}, tmp_path / "bins", FORMS[FLOAT32], 5, "txt", "", {}, Path())
    pool = perf.Pool(tmp_path / "pool", request, batch_numbers(5, 2), 2)
    numbers = pool.links(5, tmp_path / "run")
    assert len(numbers) == 5 and len(list((tmp_path / "pool").iterdir())) == 2
    for query, chosen in enumerate(numbers):
        path = tmp_path / f"run/batch_{query}.bin"
        assert path.read_bytes() == images[chosen].tobytes()
        assert path.samefile(tmp_path / f"pool/batch_{query % 2}.bin")
    assert len(list((tmp_path / "run").iterdir())) == 5


def test_batches_that_are_faster_when_they_come_again_write_no_figure(npu: Project) -> None:
    npu.set("perf.min_queries", "45")  # the 40 images are 20 batches
    refused(make(npu, "perf", "BS=2", check=False, STAND_IN_AIS_BENCH="remember"), "seems to return cached results")
    assert not (npu.root / "results/310P3/bs2/perf.txt").exists()
    make(npu, "perf", "BS=2")
    assert perf_of(npu)["scenarios"]["SingleStream"]["check"]["answers"] == 2 * (perf_of(npu)["queries"] + 20) >= 130


def test_an_npu_run_lasts_the_minimum_duration(npu: Project) -> None:
    npu.set("perf.min_duration", "2")
    make(npu, "perf", "BS=2")
    assert sum(perf_of(npu)["scenarios"]["SingleStream"]["times_ms"]) >= 2000


def test_a_busy_device_is_reported_and_its_figure_is_not_stable(npu: Project) -> None:
    done = make(npu, "perf", "BS=2", STAND_IN_NPU_SMI="310P3-busy")
    assert "npu-smi shows a device load of 63%" in done.stdout
    perf = perf_of(npu)
    assert perf["stable"] is False
    assert any("load from other processes 63%" in why for why in perf["scenarios"]["Offline"]["stability"]["why"])


def test_only_one_device_can_be_measured_at_a_time(npu: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """make refuses it before it compiles a model."""
    two = {"STAND_IN_NPU_SMI": "310P3-two"}
    for goal in ("perf", "perf-all", "best", "root/results/310P3/bs2/perf.txt"):
        done = make(npu, goal, "DEVICE=0,1", *([] if "all" in goal or goal == "best" else ["BS=2"]), check=False, **two)
        assert "DEVICE=0,1: only one device can be measured at a time; set DEVICE= to one number" in done.stderr
        assert not done.stdout
    monkeypatch.setattr(perf, "Session", lambda _: SimpleNamespace(numbers=[0, 1]))
    request: Any = SimpleNamespace(devices="0,1")
    with pytest.raises(SystemExit):
        perf.measure(request, PerfRules(0, 0, 1, 1), iter(()))
