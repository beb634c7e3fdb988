"""Machine-readable results: what they are of, when and where they were computed, and a description of every field."""

from __future__ import annotations

from _support.run_facts import run_facts

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import documents
from conftest import Project, ascend_host, small_graph
from reporting import fields
from reporting.accuracy import format_predictions
from reporting.provenance import PARTS

SLOW = '{"ms": 2}'  # so that other processes do not distort the null engine's times too much


def record_of(project: Project, name: str, chip: str = "null", batch: int = 16) -> dict[str, Any]:
    path = project.root / f"results/{chip}/bs{batch}/{name}.json"
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def own_archive(project: Project, path: Path) -> Path:
    """The archive of a ROOT with other bytes; as an archive of the user it counts as own data."""
    with gzip.open(project.root / "data/archive.tar.gz") as packed, gzip.open(path, "wb", 1) as own:
        own.write(packed.read())
    return path


def own_checkpoint(project: Project, path: Path) -> Path:
    shutil.copyfile(project.root / "models/checkpoint.pkl", path)
    with open(path, "ab") as file:
        file.write(b"\0")  # the same tensors, another digest
    return path


def origins(**own: str) -> dict[str, str]:
    return {**dict.fromkeys(PARTS, "sample"), **own}


def check_labels(project: Project, source: str, expected: dict[str, str], paths: dict[str, str]) -> None:
    """Checks what every result file says it is of."""
    project.make("accuracy", "compare", "perf", NULL=SLOW)
    project.make("report")
    for name in ("accuracy", "perf", "compare"):
        record = record_of(project, name)
        assert (record["source"], record["origins"]) == (source, expected), name
        assert record["run"]["paths"] == paths, name
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["run"]["date"])
        assert record["run"]["host_name"] == os.uname().nodename
        assert "path" not in json.dumps({**record, "run": {}})  # only below "run"
    (row,) = rows_of(project.root / "results/results.csv")
    suite = ElementTree.parse(project.root / "results/junit.xml").getroot().find("testsuite")
    assert suite is not None
    (case,) = suite
    properties = {item.get("name"): item.get("value") for item in case.iter("property")}
    for values in (row, properties):
        assert values["source"] == source
        assert {part: values[f"{part}_origin"] for part in PARTS} == expected
        assert {part: values[f"{part}_path"] for part in PARTS if values.get(f"{part}_path")} == paths
        assert str(values["date"]).startswith("20")


def test_results_of_the_sample_say_so(project: Project) -> None:
    check_labels(project, "sample", origins(), {})


def test_results_of_own_data_and_an_own_checkpoint_say_so(project: Project, tmp_path: Path) -> None:
    archive, weights = own_archive(project, tmp_path / "my data.tar.gz"), own_checkpoint(project, tmp_path / "my.pkl")
    project.make("accuracy", f"ARCHIVE={archive}")
    check_labels(project, "own", origins(data="own"), {"data": str(archive)})
    project.make("accuracy", "WEIGHTS=my.pkl")  # relative, as typed
    expected = dict.fromkeys(PARTS, "own")
    check_labels(project, "own", expected, {"data": str(archive), "checkpoint": "my.pkl"})
    project.set("batch_sizes", "[16]")
    project.make("perf-all", NULL=SLOW)
    assert {row["data_origin"] + row["model_origin"] for row in rows_of(project.root / "results/null/perf.csv")} == {
        "ownown"
    }
    before = {path: path.read_bytes() for path in project.root.rglob("*.json")}
    for path, name in ((archive, "ARCHIVE"), (weights, "WEIGHTS")):
        other = path.with_name(f"same-{path.name}")
        shutil.copyfile(path, other)
        project.make("accuracy", "perf", f"{name}={other}", NULL=SLOW)
    assert {path: path.read_bytes() for path in project.root.rglob("*.json")} == before  # date and path stay


def test_results_of_an_own_graph_say_so(project: Project, tmp_path: Path) -> None:
    project.set("optimize.resize", "none")
    own = small_graph(tmp_path / "own.onnx")
    project.make("accuracy", f"ONNX={own}")
    expected = origins(checkpoint="own", graph="own", model="own")
    check_labels(project, "own", expected, {"graph": str(own)})


def test_results_of_an_own_model_say_so(project: Project, tmp_path: Path) -> None:
    host = ascend_host(project.tree)
    project.make("om", "CHIP=310P3", "BS=8", **host)
    own = tmp_path / "own.om"
    shutil.move(project.root / "models/om/310P3/3d_attention_net_bs8.om", own)
    project.make("accuracy", "CHIP=310P3", "BS=8", f"OM={own}", **host)
    record = record_of(project, "accuracy", "310P3", 8)
    assert (record["source"], record["origins"]["model"]) == ("own", "own")
    assert record["run"]["paths"] == {"model": str(own)}
    done = project.make("verify", "CHIP=310P3", "BS=8", f"OM={own}", check=False, **host)
    assert "add verify.own.310P3 to params.yaml" in done.stderr


def test_an_unchanged_result_keeps_its_record(project: Project) -> None:
    project.make("perf", NULL=SLOW)
    before = {path: path.read_bytes() for path in project.root.rglob("*.json")}
    for path in project.tree.rglob("*.py"):
        path.touch()
    for path in (project.root / "data").glob("*"):
        path.touch()
    done = project.make("perf", NULL=SLOW)
    assert "unchanged" in done.stdout
    assert {path: path.read_bytes() for path in project.root.rglob("*.json")} == before


def git(tree: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", tree, *identity, *words], check=True, capture_output=True, text=True).stdout


def test_a_commit_is_recorded_only_if_the_project_is_part_of_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text('[project]\nversion = "4.5.6"\n')
    (tree / "Makefile").write_text("")
    facts = run_facts(tree)
    assert facts["version"] == "4.5.6"
    assert not {"commit", "clean"} & facts.keys()
    git(tmp_path, "init", "-q")
    (tmp_path / "other").write_text("")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-qm", "another project")
    assert "commit" not in run_facts(tree)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "with the project")
    facts = run_facts(tree)
    assert (facts["commit"], facts["clean"]) == (git(tmp_path, "rev-parse", "HEAD").strip(), True)
    (tree / "Makefile").write_text("# changed\n")
    assert run_facts(tree)["clean"] is False


def test_predictions_have_the_probabilities_of_the_softmax() -> None:
    logits = np.random.default_rng(1).normal(size=(20, 10)) * 3
    labels = logits.argmax(1)
    labels[3] = (labels[3] + 1) % 10
    rows = list(csv.DictReader(format_predictions(logits, labels).splitlines()))
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert [int(row["image"]) for row in rows] == list(range(20))
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert [int(row["prediction"]) for row in rows] == logits.argmax(1).tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(softmax.max(1).tolist(), rel=1e-8)
    assert [row["correct"] for row in rows] == ["false" if i == 3 else "true" for i in range(20)]


def test_make_accuracy_writes_predictions_that_agree_with_accuracy_json(project: Project) -> None:
    rows = rows_of(project.root / "results/null/bs16/predictions.csv")
    record = record_of(project, "accuracy")
    assert len(rows) == record["total"]
    assert sum(row["correct"] == "true" for row in rows) == record["correct"]


def test_the_reference_describes_every_field_of_every_result_file(project: Project, tmp_path: Path) -> None:
    project.set("batch_sizes", "[5, 16]")
    archive = own_archive(project, tmp_path / "own.tar.gz")
    project.make("accuracy", "compare", "perf", "CHIP=cpu", "BS=5", "LAYERS=1", f"ARCHIVE={archive}")
    project.make("perf-all", NULL=SLOW)
    project.make("report")
    for name in ("accuracy", "perf", "compare", "layers"):
        known = documents.described_fields(f"{name}.json") | documents.described_fields(fields.FILES[0][0])
        for field in documents.field_names(record_of(project, name, "cpu", 5)):
            assert documents.is_described(field, known), f"{name}.json: {'.'.join(field)}"
    results = project.root / "results"
    for path in (results / "cpu/bs5/predictions.csv", results / "null/perf.csv", results / "results.csv"):
        known = documents.described_fields(path.name)
        for column in rows_of(path)[0]:
            assert documents.is_described((column,), known), f"{path.name}: {column}"
    known = documents.described_fields("junit.xml")
    for element in ElementTree.parse(results / "junit.xml").iter():
        if element.tag == "property":
            assert f"property {element.get('name')}" in known
        elif element.tag not in ("testsuites", "testsuite", "testcase", "properties"):
            assert any(element.tag in field for field in known)
        for attribute in element.attrib if element.tag in ("testsuite", "testcase") else ():
            assert attribute == "name" or f"{element.tag}: {attribute}" in known


def test_fresh_measures_again_and_keeps_the_outputs(project: Project) -> None:
    project.make("perf", NULL=SLOW)
    before, date = project.artifacts(), record_of(project, "perf")["scenarios"]
    project.make("perf", NULL=SLOW)
    assert project.pythons() == []
    done = project.make("perf", "FRESH=1", "WHY=1", NULL=SLOW)
    assert project.pythons() == ["measure"]
    assert "built because of: FRESH=1" in done.stdout
    assert project.rebuilt(before) == {"results/null/bs16/perf.txt"}
    assert record_of(project, "perf")["scenarios"] != date
    project.make("perf", NULL=SLOW)
    assert project.pythons() == []  # nothing is left stale


def test_perf_all_also_writes_the_accuracies_and_fresh_measures_all(project: Project) -> None:
    project.set("batch_sizes", "[4, 16]")
    done = project.make("perf-all", NULL=SLOW)
    assert "up to date" not in done.stdout
    for size in (4, 16):
        assert (project.root / f"results/null/bs{size}/accuracy.txt").is_file()
    project.make("perf-all", "FRESH=1", NULL=SLOW)
    assert project.pythons() == ["sweep", "measure", "measure"]
    project.set("perf.search", "60")
    project.make("best", NULL='{"ms": 1}')
    for page in project.root.glob("results/null/bs*/perf.txt"):
        assert page.with_name("accuracy.txt").is_file()
    assert len(list(project.root.glob("results/null/bs*"))) > 2
