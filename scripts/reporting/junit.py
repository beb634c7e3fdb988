"""junit.xml: the verdicts of the accuracy gate in the format that CI servers read. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import one_line

from typing import List, NamedTuple
from xml.etree import ElementTree  # only written  # nosec B405

from reporting.gate import ERROR, FAILED, NO_REFERENCE, PASSED, References, Verdict, judge_accuracy
from reporting.provenance import LABELS, label_cells


class Case(NamedTuple):
    """A judged accuracy.json; `accuracy` is empty if it could not be judged."""

    chip: str
    batch: int
    accuracy: Record
    verdict: Verdict


def judge_case(chip: str, batch: int, accuracy: Record, references: References) -> Case:
    return Case(chip, batch, accuracy, judge_accuracy(accuracy, chip, references))


def error_case(chip: str, batch: int, problem: str, remedy: str) -> Case:
    """The case of a result that could not be judged."""
    return Case(chip, batch, {}, Verdict(ERROR, problem, remedy))


def add_case(suite: ElementTree.Element, case: Case, unverified: str) -> None:
    """Adds a test case. Its properties say what the result is of, when and where it was computed."""
    values = dict(zip(LABELS, label_cells(case.accuracy))) if case.accuracy else {}
    name = f"bs{case.batch} ({values['source']})" if values else f"bs{case.batch}"
    element = ElementTree.SubElement(suite, "testcase", classname=one_line(case.chip), name=name)
    if values:
        properties = ElementTree.SubElement(element, "properties")
        for label, value in {"top1": str(case.accuracy["top1"]), **values}.items():
            if value:
                ElementTree.SubElement(properties, "property", name=label, value=one_line(value))
    if case.verdict.outcome != PASSED:
        tag = {FAILED: "failure", ERROR: "error"}.get(case.verdict.outcome, unverified)
        message = one_line(f"{case.verdict.finding}; {case.verdict.remedy}")
        ElementTree.SubElement(element, tag, message=message)


def indent(element: ElementTree.Element, depth: int = 0) -> None:
    """Puts each element on its own line. ElementTree.indent exists since Python 3.9."""
    line = "\n" + "  " * depth
    for child in element:
        indent(child, depth + 1)
        child.tail = line + "  "
    if len(element):
        element.text, element[-1].tail = line + "  ", line


def render_junit(cases: List[Case], unverified: str) -> str:
    """The text of junit.xml. `unverified`: the element of a case without a reference, "skipped" or "error"."""
    outcomes = [case.verdict.outcome for case in cases]
    counts = {"failures": outcomes.count(FAILED), "errors": outcomes.count(ERROR), "skipped": 0}
    counts["errors" if unverified == "error" else "skipped"] += outcomes.count(NO_REFERENCE)
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="accuracy gate", tests=str(len(cases)))
    for name, count in counts.items():
        suite.set(name, str(count))
    for case in cases:
        add_case(suite, case, unverified)
    indent(root)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(root, "unicode") + "\n"
