"""Compares Top-1 of each accuracy.json with its reference in params.yaml, and writes the verdicts to junit.xml.

Exits 1 if a Top-1 is below reference - tolerance, or if there is no reference for its source and chip. junit.xml is
written in any case, unless a record is missing or damaged: then it is absent.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import needed_record, remove, write_text
from _support.cli import die

from pathlib import Path
from typing import List

from reporting import gate, words
from reporting.junit import Case, judge_case, render_junit

SETTINGS = {"references": "verify.*.*"}


def print_verdicts(paths: List[Path], cases: List[Case]) -> None:
    """Prints a line for each verdict that passed; exits 1 with one line that names the others."""
    failed = [(path, case.verdict) for path, case in zip(paths, cases) if case.verdict.outcome != gate.PASSED]
    for case in cases:
        if case.verdict.outcome == gate.PASSED:
            size = f", batch size {case.batch}" if len(cases) > 1 else ""
            print(f"verified: {case.verdict.finding}{size}", flush=True)
    if len(failed) == 1:
        path, verdict = failed[0]
        die(path, verdict.finding, verdict.remedy)
    if failed:
        sizes = " ".join(path.parent.name for path, _ in failed)
        path, verdict = failed[0]
        problem = f"{len(failed)} of {len(cases)} did not pass ({sizes}), the first: {verdict.finding}"
        die(path.parent.parent, problem, verdict.remedy)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--accuracy", type=Path, nargs="+", required=True, help="results/<chip>/bs<n>/accuracy.json …")
    parser.add_argument("--chip", required=True)
    parser.add_argument(
        "--references", nargs="*", default=[], type=words.reference, help="SOURCE:CHIP=PERCENT,TOLERANCE …"
    )
    parser.add_argument("--out", type=Path, required=True, help="junit.xml")
    args = parser.parse_args()
    remove(args.out)  # a verdict of an earlier run must not look like this one's
    references = words.by_names(args.references)
    cases = []
    for path in args.accuracy:
        accuracy = needed_record(path.with_suffix(".txt"))
        cases.append(judge_case(args.chip, accuracy["provenance"]["batch_size"], accuracy, references))
    write_text(args.out, render_junit(cases, "error"))
    print_verdicts(args.accuracy, cases)


if __name__ == "__main__":
    main()
