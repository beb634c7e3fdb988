"""The accuracy gate: compares Top-1 of a result with its reference in params.yaml."""

from __future__ import annotations

from _support.artifact import Record

from typing import Dict, NamedTuple


class Reference(NamedTuple):
    """A reference Top-1, and how far below it a result may be, both in per cent."""

    top1: float
    tolerance: float


References = Dict[str, Dict[str, Reference]]  # by source and chip

PASSED, FAILED, NO_REFERENCE = "passed", "failed", "no reference"


class Verdict(NamedTuple):
    """The outcome (PASSED, FAILED or NO_REFERENCE), the reason, and the remedy, which is empty if it passed."""

    outcome: str
    finding: str
    remedy: str


def judge_accuracy(accuracy: Record, chip: str, references: References) -> Verdict:
    """The verdict on accuracy.json of `chip`.

    A reference exists only for known inputs: the official data with the official checkpoint, or the built-in sample.
    """
    provenance, source = accuracy["provenance"], accuracy["source"]
    reference = references.get(source, {}).get(chip)
    origins = {provenance["data_origin"], provenance["checkpoint_origin"]}
    if len(origins) > 1 or "own" in origins or reference is None:
        model = provenance.get("given") or f"{provenance['checkpoint_origin']} checkpoint"
        inputs = f"{provenance['data_origin']} data with {model} on {chip}"
        remedy = f"add verify.{source}.{chip} with reference and tolerance to params.yaml"
        if "own" in origins:
            remedy = "see accuracy.txt for the figures"
        return Verdict(NO_REFERENCE, f"no reference accuracy for {inputs}, so nothing was verified", remedy)
    top1 = 100 * accuracy["top1"]
    if round(top1 - (reference.top1 - reference.tolerance), 6) < 0:  # rounded: 95.24 is not below 95.34 - 0.10
        limit = f"{reference.top1:.2f}% - {reference.tolerance:.2f}"
        finding = f"Top-1 {top1:.2f}% is below {limit}, the reference of {source} on {chip}"
        return Verdict(FAILED, finding, "check the provenance in accuracy.txt and the output of git diff params.yaml")
    limit = f"{reference.top1:.2f}% - {reference.tolerance:.2f}%"
    return Verdict(PASSED, f"Top-1 {top1:.2f}%, reference {limit} ({source} on {chip})", "")
