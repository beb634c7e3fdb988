"""Damaged records of results are left out with a reason, or the report shows them; the gate passes no wrong figure."""

from __future__ import annotations

from _support.artifact import RECORD_DIGEST, format_record, read_record

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import accuracy_figures, scenarios
from damage import HOSTILE, JsonEdit, edited, json_edits, outcome
from fuzzing import examples
from reporting import gate, records
from reporting.gate import IMAGES, PASSED, Reference, judge_accuracy
from reporting.junit import judge_case, render_junit
from reporting.pages import render_html, render_markdown
from reporting.results_csv import format_results
from reporting.sections import Settings, notes_of, sections_of
from reporting.tables import Published

TIMES = {"mean": 1.5, "min": 1.0, "max": 9.0, "p50": 1.25, "p90": 2.5, "p99": 7.125}
PROVENANCE: dict[str, Any] = {
    **{"data_origin": "sample", "checkpoint_origin": "sample", "archive": "a" * 64, "model": "b" * 64},
    **{"chip": "cpu", "batch_size": 16, "options": "precision=f32", "engine": "openvino", "precision": "f32"},
    **{"threads": 2, "runtime": "OpenVINO 2026.1", "host": "host", "resize": "exact", "driver": "1.0"},
}
RUN = {
    **{
        "date": "2026-01-01T00:00:00Z",
        "host_name": "host",
        "cpu": "CPU",
        "version": "1.0",
        "commit": "c",
        "clean": True,
    },
    **{"paths": {"data": "/x"}, "packages": {"numpy": "2"}, "inference": {"cpu": "CPU"}},
}
MISTAKES = [{"image": i, "label": 3, "found": 5, "probability": 0.9 - i / 9} for i in range(3)]
VALID: dict[str, Any] = {
    "accuracy": {**accuracy_figures(990, 1000), "source": "sample", "mistakes": MISTAKES},
    "perf": {
        **{"batch_size": 16, "queries": 321, "throughput_images_per_s": 99.5, "latency_ms": TIMES, "stable": False},
        "device": {"name": "d", "throughput_images_per_s": 99.5, "latency_ms": TIMES},
        "end_to_end": {"what": "all", "throughput_images_per_s": 9.5},
        "scenarios": scenarios(["drift of 9 %"]),
        **{"method": "by a clock", "cache": {}, "warmup": {"seconds": 1.0, "queries": 3}},
    },
    "compare": {"agreement": 0.9987, "mended": 4, "broken": 6, "other": 3, "mcnemar_p": 0.754, "images": 1000},
    "layers": {"tolerance": 0.1, "tensors": 3, "errors": {"a": 0.01, "b": 0.5}, "first": "b"},
}
for valid in VALID.values():
    valid.update(provenance=PROVENANCE, run=RUN)
REFERENCES = {"sample": {"cpu": Reference(99.0, 0.2)}, "cifar10": {"cpu": Reference(95.34, 0.1)}}
REFERENCES["own"] = REFERENCES["cifar10"]
SETTINGS = Settings([1, 16], Path("no/bins/manifest.json"), REFERENCES, Published({}, {}, {"cpu": ""}))


def write(folder: Path, kind: str, record: Any) -> Path:
    """Writes a record and its page; its digest is right."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind}.txt").write_text("page")
    path = folder / f"{kind}.json"
    path.write_text(format_record(record) if isinstance(record, dict) else json.dumps(record))
    return path


def render(folder: Path) -> int:
    """All pages of the report of `folder`; returns the number of results that they show."""
    collected = records.collect_results(folder, ["cpu"])
    if collected.results:
        sections = sections_of(collected.results, SETTINGS, read_record(folder / "bench.json"))
        notes = notes_of(collected.results, collected.left_out)
        for text in (render_markdown(sections, notes), render_html(sections, notes)):
            text.encode("utf-8")
        format_results(collected.results, REFERENCES).encode("utf-8")
    return len(collected.results)


@given(st.sampled_from([*VALID]), json_edits)
@examples(30)
def test_a_damaged_record_is_left_out_of_the_report_or_shown(scratch: Path, kind: str, edits: list[JsonEdit]) -> None:
    folder = scratch / "results"
    for name in VALID:
        write(folder / "cpu/bs16", name, edited(VALID[name], edits) if name == kind else VALID[name])
    assert outcome(lambda: render(folder))  # at least the other three are shown


def test_a_chip_that_no_page_can_show_is_named_without_its_characters(tmp_path: Path) -> None:
    provenance = {**PROVENANCE, "chip": "c\ud800\n" + "x" * 5000}
    write(tmp_path / "results/cpu/bs16", "compare", {**VALID["compare"], "provenance": provenance})
    (line,) = records.collect_results(tmp_path / "results", ["cpu"]).left_out
    assert "is of chip c? xxx" in line
    assert len(line.replace(str(tmp_path), "")) < 300


def test_errors_of_layers_that_the_report_cannot_show_are_refused() -> None:
    layers = VALID["layers"]
    less = {name: value for name, value in layers.items() if name != "first"}
    for record, words in ((less, "(first)"), ({**layers, "errors": {"b": 10**400}}, "(errors)")):
        assert words in records.check_layers(record)
    assert not records.check_layers({**layers, "errors": {"b": math.inf}, "first": None})


@given(st.sampled_from([*VALID]), json_edits)
def test_the_check_of_any_record_is_a_text(kind: str, edits: list[JsonEdit]) -> None:
    reason = outcome(lambda: [records.CHECKS[kind](edited(VALID[kind], edits))])
    assert reason is not None and isinstance(reason[0], str)


# The gate


def is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def check_verdict(record: Any, reference: Reference) -> None:
    """Judges a record as verify.py does. What passes is what its confusion matrix says, of all images."""
    if not isinstance(record, dict):
        return
    reason = outcome(lambda: [records.check_accuracy(record)])
    assert reason is not None
    if reason[0]:
        return
    references = {source: {"cpu": reference} for source in REFERENCES}
    verdict = outcome(lambda: judge_accuracy(record, "cpu", references))
    assert verdict is not None
    page = outcome(lambda: render_junit([judge_case("cpu", 16, record, references)], "error"))
    assert page is not None
    ElementTree.fromstring(page.encode("utf-8"))
    if verdict.outcome == PASSED:
        rows = record["confusion"]
        total, correct = sum(map(sum, rows)), sum(rows[i][i] for i in range(10))
        assert all(is_whole(value) for row in rows for value in row)
        assert (record["total"], record["correct"]) == (total, correct)
        assert type(record["top1"]) in (int, float) and math.isclose(record["top1"], correct / total, abs_tol=1e-6)
        assert 100 * correct / total >= reference.top1 - reference.tolerance - 1e-3
        source = "own" if record["provenance"].get("given") else gate.source_of(record["provenance"])
        assert total == IMAGES.get(source, total)


@given(json_edits, st.floats(0, 100), st.floats(0, 1))
@example([JsonEdit("replace", 0, HOSTILE.index(10**400))], 99.0, 0.2)
def test_the_gate_passes_no_damaged_figure(edits: list[JsonEdit], top1: float, tolerance: float) -> None:
    check_verdict(edited(VALID["accuracy"], edits), Reference(top1, tolerance))


FIGURES = st.sampled_from(HOSTILE) | st.integers(0, 1001) | st.floats(-1, 2)
COUNTS = st.integers(0, 1000)


@given(
    COUNTS,
    st.sampled_from([10, 999, 1000, 10000]),
    st.dictionaries(st.sampled_from(["top1", "correct", "total"]), FIGURES),
    FIGURES,
)
def test_the_gate_passes_only_figures_that_follow_from_each_other(
    correct: int, total: int, changes: dict[str, Any], cell: Any
) -> None:
    record = {**VALID["accuracy"], **accuracy_figures(min(correct, total), total), **changes}
    check_verdict(record, Reference(0.0, 0.0))
    record["confusion"] = [[cell, *record["confusion"][0][1:]], *record["confusion"][1:]]
    check_verdict(record, Reference(0.0, 0.0))


def test_a_valid_record_passes() -> None:
    assert judge_accuracy(VALID["accuracy"], "cpu", REFERENCES).outcome == PASSED
    with mock.patch.dict(IMAGES, sample=999), pytest.raises(AssertionError):
        assert judge_accuracy(VALID["accuracy"], "cpu", REFERENCES).outcome == PASSED
    assert RECORD_DIGEST not in VALID["accuracy"]
