"""The gate: Top-1 of accuracy.json against its reference in params.yaml; exits 1 below reference - tolerance.

There is a reference only for what is known: the official data with the official checkpoint, or the built-in sample.
"""

from __future__ import annotations

import _build
from _build import Record, die, needed_record

from pathlib import Path
from typing import Dict, List, Tuple


def judged(result: Record, chip: str, references: Dict[str, List[float]]) -> Tuple[str, str, str]:
    """(passed | failed | no reference, what was found, what to do) of a result on `chip`; `references` hold a source's
    reference and tolerance, in per cent, or nothing."""
    made, source = result["provenance"], result["source"]
    reference = references.get(source, [])
    origins = {made["data_origin"], made["checkpoint_origin"]}
    if len(origins) > 1 or "own" in origins or len(reference) != 2:
        model = made.get("given") or f"{made['checkpoint_origin']} checkpoint"
        what = f"{made['data_origin']} data with {model} on {chip}"
        remedy = (
            f"add verify.{source}.{chip}, its reference and tolerance"
            if "own" not in origins
            else "judge it by accuracy.txt itself"
        )
        return "no reference", f"no reference for {what}, so nothing was verified", remedy
    top1, (wanted, tolerance) = 100 * result["top1"], reference
    if round(top1 - (wanted - tolerance), 6) < 0:  # 95.24 is not below 95.34 - 0.10
        problem = f"Top-1 {top1:.2f}% is below {wanted:.2f}% - {tolerance:.2f}, the reference of {source} on {chip}"
        return "failed", problem, "see what it was made from at the end of accuracy.txt, and git diff params.yaml"
    return "passed", f"Top-1 {top1:.2f}%, reference {wanted:.2f}% - {tolerance:.2f}% ({source} on {chip})", ""


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--accuracy", type=Path, required=True, help="accuracy.json")
    parser.add_argument("--chip", required=True)
    for source in ("cifar10", "sample"):
        parser.add_argument(
            f"--{source}", nargs="*", type=float, default=[], help="reference and tolerance, in per cent"
        )
    args = parser.parse_args()
    result = needed_record(args.accuracy.with_suffix(".txt"))
    verdict, found, remedy = judged(result, args.chip, {"cifar10": args.cifar10, "sample": args.sample})
    if verdict != "passed":
        die(args.accuracy, found, remedy)
    print(f"verified: {found}")


if __name__ == "__main__":
    main()
