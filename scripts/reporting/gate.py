"""The accuracy gate: compares Top-1 of a result with its reference in params.yaml."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import SETTINGS_FILE

from typing import Dict, NamedTuple

from params.schema import GATE_SOURCES
from reporting.provenance import model_name, source_of


class Reference(NamedTuple):
    """A reference Top-1, and how far below it a result may be, both in per cent."""

    top1: float
    tolerance: float


References = Dict[str, Dict[str, Reference]]  # by source and chip

PASSED, FAILED, NO_REFERENCE, ERROR = "passed", "failed", "no reference", "error"
# The references of these sources are of this many images: all of CIFAR-10, and the sample at its default size.
IMAGES = {"cifar10": 10000, "sample": 1000}


class Verdict(NamedTuple):
    """The outcome, the reason, and the remedy, which is empty if it passed.

    The outcome is PASSED, FAILED, NO_REFERENCE, or ERROR for a record that cannot be judged.
    """

    outcome: str
    finding: str
    remedy: str


def judge_accuracy(accuracy: Record, chip: str, references: References) -> Verdict:
    """The verdict on a valid accuracy.json of `chip`, by the reference of its source and chip.

    The source follows from the provenance, so that own inputs are never compared with the reference of other inputs.
    """
    provenance = accuracy["provenance"]
    source = source_of(provenance)
    reference = references.get(source, {}).get(chip) if source in GATE_SOURCES else None
    if reference is None:
        inputs = f"{provenance['data_origin']} data with {model_name(provenance)} on {chip}"
        remedy = f"add verify.{source}.{chip} to {SETTINGS_FILE}, with reference and tolerance: see docs/accuracy.md"
        if source not in GATE_SOURCES:
            remedy = "use data and checkpoint of one source"
        return Verdict(NO_REFERENCE, f"no reference accuracy for {inputs}, so nothing was verified", remedy)
    images, needed = accuracy["total"], IMAGES.get(source, accuracy["total"])
    if images != needed:
        finding = f"the gate of {source} is for {needed} images, not {images}, so nothing was verified"
        remedy = "use all test images"
        if source == "sample":
            remedy = f"set sample.test_images to {needed} in {SETTINGS_FILE}, or use another ROOT="
        return Verdict(NO_REFERENCE, finding, remedy)
    top1 = 100 * accuracy["top1"]
    if round(top1 - (reference.top1 - reference.tolerance), 6) < 0:  # rounded: 95.24 is not below 95.34 - 0.10
        limit = f"{reference.top1:.2f}% - {reference.tolerance:.2f}%"
        finding = f"Top-1 {top1:.2f}% is below {limit}, the reference of {source} on {chip}"
        return Verdict(FAILED, finding, f"check the provenance in accuracy.txt and what has changed in {SETTINGS_FILE}")
    limit = f"{reference.top1:.2f}% - {reference.tolerance:.2f}%"
    return Verdict(PASSED, f"Top-1 {top1:.2f}%, reference {limit} ({source} on {chip})", "")
