"""Compares Top-1 of each accuracy.json with its reference in params.yaml, and writes the verdicts to junit.xml.

Before that it audits each result: the record's own digest, its chip and batch size, and Top-1 from outputs and labels.
Exits 1 if a Top-1 is below reference - tolerance, if there is no reference for its source, chip and number of images,
or if a result is missing or damaged. junit.xml is written in any case, with a test case for each record.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record, read_record, rebuild_hint, record_problem, write_text
from _support.cli import PERMISSIONS, die

import argparse
import re
from pathlib import Path
from typing import List, NamedTuple

from auditing.figures import Auditor
from reporting import gate, words
from reporting.junit import Case, error_case, judge_case, render_junit
from reporting.records import validation_error

SETTINGS = {"references": "verify.*.*"}


class Judged(NamedTuple):
    """A verdict, and the file that it is about. The verdict on another file than the record names it."""

    file: Path
    problem: str  # without the file
    case: Case


def record_path(text: str) -> Path:
    """The path of an accuracy.json, whose folder has the name of its batch size."""
    path = Path(text)
    if len(path.parts) < 3 or path.name != "accuracy.json" or not re.fullmatch(r"bs[1-9]\d?", path.parent.name):
        raise argparse.ArgumentTypeError(f"{text!r} does not have the form results/CHIP/bsN/accuracy.json")
    return path


def batch_of(path: Path) -> int:
    return int(path.parent.name[2:])


def judge(path: Path, chip: str, references: gate.References) -> Judged:
    """The verdict on the accuracy.json at `path`. A record that is missing, damaged or not readable is an error."""
    page, file, remedy = path.with_suffix(".txt"), path, rebuild_hint(path.with_suffix(".txt"))
    record: Record = {}
    try:
        record = read_record(path)
        file, problem = record_problem(page, path, record) or (path, validation_error(path, record))
    except OSError as error:
        problem, remedy = f"it cannot be read ({(error.strerror or '').lower()})", PERMISSIONS
    if not problem:
        auditor = Auditor(path.parents[3])
        fault = auditor.fault(chip, batch_of(path), "accuracy")
        if fault:
            file, problem, remedy = Path(str(fault.subject)), fault.problem, fault.remedy
        elif not auditor.has_outputs(chip, batch_of(path)):
            problem = "its outputs are missing, so Top-1 was not computed again, and nothing was verified"
    if problem:
        finding = problem if file == path else f"{file}: {problem}"
        return Judged(file, problem, error_case(chip, batch_of(path), finding, remedy))
    case = judge_case(chip, batch_of(path), record, references)
    return Judged(path, case.verdict.finding, case)


def print_verdicts(results: List[Judged], folder: Path) -> None:
    """Prints a line for each verdict that passed; exits 1 with one line that names the others. `folder`: the chip's."""
    failed = [result for result in results if result.case.verdict.outcome != gate.PASSED]
    for case in (result.case for result in results):
        if case.verdict.outcome == gate.PASSED:
            size = f", batch size {case.batch}" if len(results) > 1 else ""
            print(f"verified: {case.verdict.finding}{size}")
    if failed:
        file, problem, (_, _, _, verdict) = failed[0]
        if len(failed) == 1:
            die(file, problem, verdict.remedy)
        sizes = " ".join(f"bs{result.case.batch}" for result in failed)
        problem = f"{len(failed)} of {len(results)} did not pass ({sizes}), the first: {verdict.finding}"
        die(folder, problem, verdict.remedy)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--accuracy", type=record_path, nargs="+", required=True, help="results/CHIP/bsN/accuracy.json")
    parser.add_argument("--chip", required=True)
    parser.add_argument(
        "--references", nargs="*", default=[], type=words.reference, help="SOURCE:CHIP=PERCENT,TOLERANCE …"
    )
    parser.add_argument("--out", type=Path, required=True, help="junit.xml")
    args = parser.parse_args()
    # First all as errors: if this command is interrupted, no verdict of an earlier run must be left.
    pending = [
        error_case(args.chip, batch_of(path), "not judged: verify.py did not end", "see its output")
        for path in args.accuracy
    ]
    write_text(args.out, render_junit(pending, "error"))
    references = words.by_names(args.references)
    results = [judge(path, args.chip, references) for path in args.accuracy]
    write_text(args.out, render_junit([result.case for result in results], "error"))
    print_verdicts(results, args.accuracy[0].parent.parent)


if __name__ == "__main__":
    main()
