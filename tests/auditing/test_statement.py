"""The statement of a result: always that of the present files, in the form of in-toto and SLSA."""

from __future__ import annotations

from _support import artifact

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import FAST, Project, copy_of, run

SHA256 = re.compile("[0-9a-f]{64}")


def statement_of(project: Project, name: str = "statement.json", size: int = 4) -> Any:
    return json.loads((project.root / f"results/null/bs{size}" / name).read_text())


def without_run(statement: Any) -> Any:
    subjects = [entry for entry in statement["subject"] if not entry["name"].endswith(".json")]
    return subjects, statement["predicateType"], statement["predicate"]["buildDefinition"]


FILES = {
    "statement.json": ["accuracy.json", "accuracy.txt", "predictions.csv"],
    "perf.statement.json": ["perf.json", "perf.txt"],
}


@pytest.mark.parametrize("name", FILES)
def test_it_names_the_files_and_what_they_were_made_from(measured: Project, name: str) -> None:
    statement, folder = statement_of(measured, name), measured.root / "results/null/bs4"
    assert {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]} == {
        file: artifact.digest(folder / file) for file in FILES[name]
    }
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    made_from = {entry["name"]: entry["digest"]["sha256"] for entry in definition["resolvedDependencies"]}
    root = measured.root
    expected = {
        "archive": root / "data/archive.tar.gz",
        "checkpoint": root / "models/checkpoint.pkl",
        "onnx": root / "models/onnx/3d_attention_net.onnx",
        "optimized": root / "models/optimized/3d_attention_net.onnx",
        "model": next(root.glob("models/om/null/*_bs4.*")),
    }
    command = "scripts/measure.py" if name.startswith("perf") else "scripts/postprocess.py"
    expected[command] = measured.tree / command
    assert {file: made_from[file] for file in expected} == {file: artifact.digest(p) for file, p in expected.items()}
    for folder_name, manifest in (("bins", root / "data/bin"), ("outputs", root / "results/null/bs4/outputs")):
        assert made_from[folder_name] == artifact.read_record(manifest / "manifest.json")["digest"]
    assert definition["externalParameters"]["batch_size"] == 4
    record = artifact.read_record(folder / FILES[name][0])
    assert details["metadata"]["finishedOn"] == record["run"]["date"] >= details["metadata"]["startedOn"]
    shown = ("host_name", "cpu", "python", "packages", "at_start", "inference")
    host = {name: record["run"][name] for name in shown if name in record["run"]}
    assert details["byproducts"][0]["annotations"] == host
    assert json.loads(base64.b64decode(details["byproducts"][0]["content"])) == host
    assert {"python", "packages", "inference"} <= {*host}
    requirements = artifact.digest(measured.tree / "requirements.txt")
    assert details["builder"]["builderDependencies"][0]["digest"]["sha256"] == requirements


def test_a_second_build_differs_only_in_its_run(measured: Project, tmp_path: Path) -> None:
    copy = copy_of(measured, tmp_path)
    (copy.root / "results/null/bs4/accuracy.txt").unlink()
    (copy.root / "results/null/bs4/accuracy.json").unlink()
    copy.make("accuracy", "BS=4", LC_ALL="C", TZ="Asia/Kathmandu")
    before, after = statement_of(measured), statement_of(copy)
    assert without_run(before) == without_run(after)
    assert before["predicate"]["runDetails"]["metadata"] != after["predicate"]["runDetails"]["metadata"]


def test_it_is_never_stale(measured: Project, tmp_path: Path) -> None:
    """After a touch, a deleted statement, other bytes upstream and a measurement again, audit finds nothing."""
    project = copy_of(measured, tmp_path)
    folder = project.root / "results/null/bs4"

    def check() -> None:
        done = project.make("audit", "BS=4", check=False)
        assert done.returncode == 0, done.stderr

    check()
    for name in FILES:
        (folder / name).unlink()
    assert "statement.json: no such file" in project.make("audit", "BS=4", check=False).stderr
    times = {name: (folder / name).read_bytes() for name in ("accuracy.json", "perf.json")}
    project.make("accuracy", "BS=4")
    project.make("perf", "BS=4", NULL=FAST)
    assert times == {name: (folder / name).read_bytes() for name in times}  # nothing was computed again
    check()
    os.utime(folder / "outputs/manifest.json")
    project.make("accuracy", "BS=4")
    check()
    project.make("perf", "BS=4", "FRESH=1", NULL=FAST)
    check()
    project.set("sample.seed", "7")
    project.make("accuracy", "compare", "BS=4")
    project.make("perf", "BS=4", NULL=FAST)
    check()
    assert without_run(statement_of(project)) != without_run(statement_of(measured))


def test_clean_keeps_the_statement_of_a_measurement(measured: Project, tmp_path: Path) -> None:
    project = copy_of(measured, tmp_path)
    folder = project.root / "results/null/bs4"
    project.make("clean", "ROOT=root", CHIP="", ROOT="")
    assert sorted(os.listdir(folder)) == ["perf.json", "perf.statement.json", "perf.txt"]
    project.make("clean-results", "ROOT=root", CHIP="", ROOT="")
    assert not folder.exists()


def check_descriptor(entry: Any) -> None:
    """A ResourceDescriptor of in-toto: a URI, a digest or the content; digests in hexadecimal."""
    assert entry.keys() <= {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert entry.get("uri") or entry.get("digest") or entry.get("content")
    assert all(SHA256.fullmatch(value) for value in entry.get("digest", {}).values())


@pytest.mark.parametrize("name", FILES)
def test_it_has_the_fields_of_the_specifications(measured: Project, name: str) -> None:
    """in-toto Statement v1 and SLSA Provenance v1: required fields, no unknown ones, and their types."""
    statement = statement_of(measured, name)
    assert statement.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert all(entry["digest"] for entry in statement["subject"])
    definition, details = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    assert statement["predicate"].keys() == {"buildDefinition", "runDetails"}
    parts = {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert definition.keys() == parts
    assert re.match(r"[a-z]+:", definition["buildType"])
    assert isinstance(definition["externalParameters"], dict)
    assert details.keys() == {"builder", "metadata", "byproducts"}
    assert details["builder"].keys() <= {"id", "version", "builderDependencies"}
    assert re.match(r"[a-z]+:", details["builder"]["id"])
    assert all(isinstance(value, str) for value in details["builder"]["version"].values())
    assert details["metadata"].keys() <= {"invocationId", "startedOn", "finishedOn"}
    for value in (details["metadata"]["startedOn"], details["metadata"]["finishedOn"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value)
    descriptors = [*statement["subject"], *definition["resolvedDependencies"], *details["byproducts"]]
    for entry in [*descriptors, *details["builder"]["builderDependencies"]]:
        check_descriptor(entry)


@pytest.mark.parametrize("name", FILES)
def test_the_messages_of_in_toto_accept_it(measured: Project, name: str) -> None:
    """The published protobuf messages have no unknown fields, and their own check passes."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    statement_v1 = pytest.importorskip("in_toto_attestation.v1.statement")
    provenance_v1 = pytest.importorskip("in_toto_attestation.predicates.provenance.v1.provenance_pb2")
    statement = statement_of(measured, name)
    message = json_format.ParseDict(statement, statement_v1.spb.Statement())
    statement_v1.Statement.copy_from_pb(message).validate()
    provenance = json_format.ParseDict(statement["predicate"], provenance_v1.Provenance())
    content = provenance.run_details.byproducts[0].content
    assert json.loads(content) == statement["predicate"]["runDetails"]["byproducts"][0]["annotations"]


def test_python_3_7_writes_it(measured: Project) -> None:
    python = Path.home() / ".pyenv/versions/3.7.16/bin/python"
    if not python.exists():
        pytest.skip("no Python 3.7")
    code = "import sys; sys.path.insert(0, 'scripts'); from pathlib import Path; import reporting._statement as s; "
    code += "print(s.expected_statement(Path('root/results/null/bs4/accuracy.txt')), end='')"
    done = run(python, "-c", code, cwd=measured.tree)
    assert done.stdout == (measured.root / "results/null/bs4/statement.json").read_text(), done.stderr
