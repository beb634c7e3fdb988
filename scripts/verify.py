"""Compares Top-1 in accuracy.json with its reference in params.yaml; exits 1 below reference - tolerance.

Exits 1 also if there is no reference for the source of the data and the chip, or if the inputs are the user's own.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import needed_record
from _support.cli import die

from pathlib import Path

from reporting import gate, words

SETTINGS = {"references": "verify.*.*"}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--accuracy", type=Path, required=True, help="accuracy.json")
    parser.add_argument("--chip", required=True)
    parser.add_argument(
        "--references", nargs="*", default=[], type=words.reference, help="SOURCE:CHIP=PERCENT,TOLERANCE …"
    )
    args = parser.parse_args()
    accuracy = needed_record(args.accuracy.with_suffix(".txt"))
    verdict = gate.judge_accuracy(accuracy, args.chip, words.by_names(args.references))
    if verdict.outcome != gate.PASSED:
        die(args.accuracy, verdict.finding, verdict.remedy)
    print(f"verified: {verdict.finding}")


if __name__ == "__main__":
    main()
