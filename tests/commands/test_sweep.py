"""make perf-all and make best: batch sizes one after the other, the table, perf.csv, the search."""

from __future__ import annotations

from _support import artifact

import csv
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import sweep
from conftest import Project, environment, scenarios
from reporting import speeds as table_of_speeds
from reporting import words

SIZES = [1, 4, 8, 16, 32, 64]
PUBLISHED = words.by_names(map(words.published_throughput, ["310P:16=7806.96", "T4:1=713.4245"]))


def rows_of(project: Project) -> list[dict[str, str]]:
    with open(project.root / "results/null/perf.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def table_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if re.match(r" +(batch|\d+) +[\di]", line)]


def test_perf_all_measures_one_size_at_a_time_also_with_j_and_prints_each_row(project: Project) -> None:
    done = project.make("-j8", "perf-all", NULL='{"ms": 2}')
    log = project.log.read_text()
    begun = [int(n) for n in re.findall(r"measure\.py .*/bs(\d+)/perf\.txt", log)]
    assert begun == SIZES
    grown, _, whole = done.stdout.partition("\n\n")
    assert [line[:7] for line in table_of(whole)] == [line[:7] for line in table_of(grown)]
    assert len(re.findall(r"  best$", whole, re.MULTILINE)) == 1
    table = table_of(grown)
    assert table[0][:5] == ["batch", "images/s", "p50", "ms", "p99"]
    assert [int(line[0]) for line in table[1:]] == SIZES
    assert all(float(word) > 0 for line in table[1:] for word in line[1:7])
    order = [m.group() for m in re.finditer(r"MEASURE .*|^ +\d+ +[\d.]+ ", grown, re.MULTILINE)]
    assert ["MEASURE" in text for text in order] == [True, False] * 6  # each row as soon as it is known


def test_perf_csv_contains_every_row_with_its_conditions_and_one_best(project: Project) -> None:
    done = project.make("perf-all", NULL='{"ms": 2}')
    rows = rows_of(project)
    assert [int(row["batch_size"]) for row in rows] == SIZES
    assert {(row["source"], row["chip"], row["runtime"]) for row in rows} == {("sample", "null", "stand-in")}
    best = [row for row in rows if row["best"] == "true"]
    assert best == [max(rows, key=lambda row: float(row["throughput_images_per_s"]))]
    assert f"Best: batch size {best[0]['batch_size']}, " in done.stdout
    assert "Source: built-in sample" in done.stdout
    by_size = {row["batch_size"]: row for row in rows}
    ratio = float(by_size["16"]["throughput_images_per_s"]) / 7806.96
    assert float(by_size["16"]["ratio_to_published_310P"]) == pytest.approx(ratio)


def test_perf_all_continues_where_it_stopped(project: Project) -> None:
    project.make("perf-all", NULL='{"ms": 2}')
    for name in ("bs8/perf.txt", "perf.csv"):
        (project.root / "results/null" / name).unlink()
    done = project.make("perf-all", check=False, NULL='{"ms": 2, "wrong": 1}')
    assert done.returncode == 2
    assert "do not match the accuracy run" in done.stderr
    assert not list(project.root.rglob("perf.csv"))
    before = project.artifacts()
    done = project.make("perf-all", NULL='{"ms": 2}')
    assert project.rebuilt(before) == {"results/null/bs8/perf.txt", "results/null/perf.csv"}
    assert len(table_of(done.stdout)) == 14  # as it grows, and whole
    project.make("perf-all")
    assert project.pythons() == ["sweep"]


def test_a_result_under_other_conditions_is_not_in_the_table(project: Project) -> None:
    project.make("perf", "BS=5")
    project.make("perf", "BS=6")
    project.set("optimize.resize", "exact")
    project.make("perf", "BS=6")
    done = project.make("perf-all")
    assert "bs5/perf.txt: not in the table: measured with different optimized" in done.stdout
    project.set("perf.min_queries", "13")
    (project.root / "results/null/bs5/perf.json").unlink()  # as a kill leaves it
    done = project.make("perf-all")
    assert "bs6/perf.txt: not in the table: measured with different flags" in done.stdout
    assert [int(row["batch_size"]) for row in rows_of(project)] == SIZES
    project.set("perf.min_queries", "12")
    done = project.make("perf-all")
    assert [int(row["batch_size"]) for row in rows_of(project)] == sorted([*SIZES, 6])


def test_best_searches_within_its_time_limit_and_continues_later(project: Project) -> None:
    project.set("perf.search", "1")
    done = project.make("best", NULL='{"ms": 2}')
    assert "time limit reached (perf.search: 1 s)" in done.stdout
    some = len(rows_of(project))
    project.set("perf.search", "6")
    project.make("best", NULL='{"ms": 2}')
    sizes = [int(row["batch_size"]) for row in rows_of(project)]
    assert len(sizes) > some
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("peak", [3, 20, 24, 41, 57])
def test_the_search_finds_a_peak_anywhere_and_tries_no_size_twice(peak: int) -> None:
    def curve(n: int) -> float:  # a saw, with one peak that no neighbour tells of from afar
        return 100 * (n % 4 == 0) + n / 100 + (500 - 40 * abs(n - peak) if abs(n - peak) < 6 else 0)

    speeds = {n: curve(n) for n in SIZES}
    tried = []
    while (size := sweep.next_size(speeds)) is not None:
        assert size not in speeds
        assert 1 <= size <= 64
        tried.append(size)
        speeds[size] = curve(size)
    assert len(speeds) == 64
    assert tried.index(peak) < 24 if peak not in SIZES else True


def test_a_listed_size_measured_elsewhere_is_not_called_best(project: Project) -> None:
    project.make("perf-all")
    path = project.root / "results/null/bs4/perf.json"
    record = json.loads(path.read_text())
    record["provenance"]["host"] = "another machine"
    record["throughput_images_per_s"] = record["device"]["throughput_images_per_s"] = 1e9
    artifact.write_record(path, record)
    done = project.make("perf-all")
    assert "bs4/perf.txt: not in the table: measured with different host" in done.stdout
    assert "Best: batch size 4," not in done.stdout
    assert "4" not in [row["batch_size"] for row in rows_of(project)]


def test_the_inner_make_inherits_flags_and_variables_but_no_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\ncase "$*" in *-q) exit 1;; esac\necho "$MAKEFLAGS|$*" > {tmp_path}/arguments\n')
    make.chmod(0o755)
    monkeypatch.setenv("MAKEFLAGS", "rRs -j8 --jobserver-auth=3,4 -- V=1 ROOT=a\\ b")
    sweep.make_target(str(make), 5, Path("x/perf.txt"))
    assert (tmp_path / "arguments").read_text() == "rRs -- V=1 ROOT=a\\ b|--no-print-directory x/perf.txt BS=5\n"


def test_a_terminated_make_leaves_no_measurement_running(project: Project) -> None:
    project.make("accuracy-all")  # so that the slow engine below only measures
    words = ["make", "perf-all", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    more = environment(**project.locks, NULL='{"ms": 3000}')
    with subprocess.Popen(words, cwd=project.tree, env=more, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "MEASURE" not in process.stdout.readline():
            pass
        time.sleep(1)
        process.terminate()
        process.wait()
    time.sleep(1)
    left = subprocess.run(["pgrep", "-f", f"measure.py.*{project.tree}"], capture_output=True, text=True).stdout
    assert left == ""


def perf(size: int, speed: float, **more: Any) -> dict[str, Any]:
    provenance = {"data_origin": "official", "checkpoint_origin": "official", "model": "m", **more}
    times = dict.fromkeys(("p50", "p90", "p99"), 1.0)
    return {
        "batch_size": size,
        "throughput_images_per_s": speed,
        "latency_ms": times,
        "provenance": provenance,
        "stable": True,
        "scenarios": scenarios([]),
    }


def test_ratios_exist_for_published_figures_and_not_for_own_graphs() -> None:
    assert table_of_speeds.ratios(perf(16, 780.696), PUBLISHED) == {"310P": pytest.approx(0.1), "T4": None}
    assert table_of_speeds.ratios(perf(16, 780.696, given="own .onnx"), PUBLISHED) == {"310P": None, "T4": None}


def test_perf_csv_has_the_correct_column_names() -> None:
    record = perf(16, 780.696, chip="cpu")
    record.update(latency_ms={"p50": 5.0, "p90": 9.0, "p99": 9.9}, queries=7, source="cifar10")
    record["end_to_end"] = {"throughput_images_per_s": 700.0}
    (row,) = csv.DictReader(table_of_speeds.format_csv({16: record}, PUBLISHED, 16).splitlines())
    assert (row["p50_ms"], row["p90_ms"], row["p99_ms"], row["queries"]) == ("5.0", "9.0", "9.9", "7")
    assert (row["throughput_images_per_s"], row["end_to_end_images_per_s"]) == ("780.696", "700.0")
    assert (row["ratio_to_published_T4"], row["best"], row["stable"]) == ("", "true", "true")
    assert row["throughput_scenario"] == "Offline, queue kept full"
    assert row["latency_scenario"] == "SingleStream, one batch in flight"


def test_make_n_perf_all_measures_nothing(project: Project) -> None:
    before = project.artifacts()
    done = project.make("-n", "perf-all")
    assert "sweep.py" in done.stdout
    assert project.rebuilt(before) == set()
    assert project.pythons() == []


def test_paths_of_roots_reach_the_inner_make(project: Project, tmp_path: Path) -> None:
    project.make("perf-all", "SOURCE=sample", f"ROOT={tmp_path}/elsewhere", NULL='{"ms": 1}')
    assert (tmp_path / "elsewhere/results/null/perf.csv").is_file()
