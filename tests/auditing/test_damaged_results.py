"""A damaged file of a result is named in one line by audit, verify and report, or nothing of the figures is wrong."""

from __future__ import annotations

from _support import artifact
from _support.artifact import format_record, read_record
from _support.cli import Refusal

import json
import shutil
from pathlib import Path
from typing import Callable, NamedTuple
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import audit
import verify
from auditing import chain
from auditing.figures import Auditor
from conftest import Project
from damage import HOSTILE, Damage, JsonEdit, damages, edited, json_edits, outcome
from fuzzing import examples
from network.spec import NAME
from reporting import gate
from reporting.gate import PASSED, Reference

RESULT = "results/null/bs4"
RECORDS = ("accuracy", "compare", "perf")
JSON = [f"{RESULT}/{name}" for name in ("accuracy.json", "compare.json", "perf.json", "outputs/manifest.json")]
JSON += ["results/reference/outputs/manifest.json", "data/labels.json"]
OTHERS = [f"{RESULT}/{name}" for name in ("accuracy.txt", "predictions.csv", "statement.json", "perf.statement.json")]
OTHERS += ["data/labels.txt", f"{RESULT}/outputs/image_0_0.txt", f"{RESULT}/perf.txt", *JSON]


class Copied(NamedTuple):
    """A ROOT with the files of a result, and the links of its chain that are not in it."""

    root: Path
    shared: dict[str, chain.Checked]
    top1: float
    images: int

    def __repr__(self) -> str:
        return "…"


@pytest.fixture(scope="module")
def copied(measured: Project, scratch: Path) -> Copied:
    root = scratch / "root"
    for name in (RESULT, "results/reference"):
        shutil.copytree(measured.root / name, root / name)
    (root / "data").mkdir()
    for name in ("labels.txt", "labels.json"):
        shutil.copyfile(measured.root / "data" / name, root / "data" / name)
    shared = {}
    for name, link in chain.LINKS.items():
        path = measured.root / link.record.format(chip="null", size=4)
        if path.is_file() and not (root / path.relative_to(measured.root)).exists():
            record = read_record(path)
            sha256 = record.get("digest") or record["sha256"]
            shared[name] = chain.Checked(measured.root / link.path.format(chip="null", size=4), record, sha256)
    assert {"model", "optimized", "onnx", "bins", "archive", "checkpoint"} <= {*shared}
    record = read_record(root / RESULT / "accuracy.json")
    return Copied(root, shared, record["top1"], record["total"])


def judged(copied: Copied, reference: Reference) -> str:
    """The verdict of verify.py on the accuracy."""
    references = {source: {"null": reference} for source in ("sample", "cifar10", "own")}
    with mock.patch.dict(gate.IMAGES, sample=copied.images):
        result = outcome(lambda: verify.judge(copied.root / RESULT / "accuracy.json", "null", references))
    assert result is not None
    return result.case.verdict.outcome


def whole_audit(copied: Copied) -> str | None:
    return outcome(lambda: audit.audit(copied.root, "null", 4, dict(copied.shared)))


def test_the_copied_result_holds(copied: Copied) -> None:
    assert "audited: " in (whole_audit(copied) or "")
    assert judged(copied, Reference(100 * copied.top1, 0.01)) == PASSED
    assert judged(copied, Reference(100 * copied.top1 + 1, 0.5)) == gate.FAILED


def check_damage(copied: Copied, path: Path, damage: Callable[[bytes], bytes]) -> bool:
    """Damages a file, lets all readers of results read it, and mends it. Returns whether the whole audit accepts it."""
    before = path.read_bytes()
    try:
        path.write_bytes(damage(before))
        auditor = Auditor(copied.root)
        for kind in RECORDS:
            fault = outcome(lambda kind=kind: [auditor.fault("null", 4, kind)])  # type: ignore[misc]
            assert fault is not None and isinstance(fault[0], (Refusal, type(None)))
        if judged(copied, Reference(100 * copied.top1 + 1, 0.5)) == PASSED:
            raise AssertionError("passed by a Top-1 that the outputs do not give")
        line = whole_audit(copied)
        if line is not None:
            assert "audited: " in line
        return line is not None
    finally:
        path.write_bytes(before)


@given(st.sampled_from(OTHERS), damages("file"))
@examples(30)
def test_damaged_bytes_of_a_result_are_found(copied: Copied, name: str, damage: Damage) -> None:
    path = copied.root / name
    before = path.read_bytes()
    accepted = check_damage(copied, path, lambda data: damage.of({"file": data}))
    if damage.of({"file": before}) == before:
        assert accepted
    elif not name.endswith("predictions.csv"):  # of which the last digits may differ
        assert not accepted


@given(st.sampled_from(JSON), json_edits)
@examples(30)
@example(f"{RESULT}/accuracy.json", [JsonEdit("replace", 0, HOSTILE.index(10**400))])
def test_an_edited_record_with_a_right_digest_is_refused_in_one_line_or_holds(
    copied: Copied, name: str, edits: list[JsonEdit]
) -> None:
    def damage(data: bytes) -> bytes:
        return format_record(edited(json.loads(data), edits)).encode()

    check_damage(copied, copied.root / name, damage)


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_without_an_entry_of_its_key_or_provenance_is_no_traceback(copied: Copied, kind: str) -> None:
    path = copied.root / RESULT / f"{kind}.json"
    record = read_record(path)
    for part in ("key", "provenance"):
        for name in record[part]:
            less = {**record, part: {other: value for other, value in record[part].items() if other != name}}
            check_damage(copied, path, lambda _, less=less: format_record(less).encode())  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (f"{RESULT}/perf.json", {"times_ms": [None]}),
        (f"{RESULT}/perf.json", {"times_ms": []}),
        (f"{RESULT}/perf.json", {"images": None}),
        (f"{RESULT}/accuracy.json", {"key": {"inputs": {}, "flags": 1}}),
        (f"{RESULT}/accuracy.json", {"run": [1]}),
        (f"{RESULT}/outputs/manifest.json", {"count": None}),
        (f"{RESULT}/outputs/manifest.json", {"format": [1]}),
    ],
)
def test_a_field_of_another_type_is_no_traceback_and_not_accepted(
    copied: Copied, name: str, change: dict[str, object]
) -> None:
    assert not check_damage(
        copied, copied.root / name, lambda data: format_record({**json.loads(data), **change}).encode()
    )


def test_nothing_is_written_by_an_audit(copied: Copied) -> None:
    before = {path: artifact.digest(path) for path in copied.root.rglob("*") if path.is_file()}
    whole_audit(copied)
    assert {path: artifact.digest(path) for path in copied.root.rglob("*") if path.is_file()} == before
    assert NAME not in str([*copied.root.iterdir()])
