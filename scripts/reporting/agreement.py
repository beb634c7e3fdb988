"""Compares two sets of logits image by image: changed predictions, McNemar's exact test, errors of the logits.

Python 3.7.
"""

from __future__ import annotations

from _support.artifact import Record

from typing import Any, List

import numpy as np
from numpy.typing import NDArray

from network.spec import CLASSES
from reporting.provenance import conditions_line, provenance_lines, source_line

REFERENCE = ("runtime", "onnx", "threads", "precision", "given")  # what the record contains of the reference


def mcnemar(fixed: int, broken: int) -> float:
    """The two-sided p of McNemar's exact test (Q. McNemar, Psychometrika 12, 1947).

    It is the probability of a split at least as uneven as `fixed` to `broken` under a binomial distribution with 1/2.
    """
    n, k = fixed + broken, min(fixed, broken)
    term = tail = 1  # binomial coefficients; Python 3.7 has no math.comb
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    return float(min(1.0, tail / 2 ** max(n - 1, 0)))


def find_flips(predictions: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any]) -> List[Record]:
    """Every image whose prediction differs from the reference's, with its true label; arguments: int [images]."""
    return [
        {
            "image": int(image),
            "label": int(labels[image]),
            "reference": int(reference[image]),
            "here": int(predictions[image]),
        }
        for image in np.flatnonzero(predictions != reference)
    ]


def logit_errors(logits: NDArray[Any], reference: NDArray[Any]) -> Record:
    """The errors of logits against the reference, both float64 [images, classes].

    Largest and mean |Δ|; the largest |Δ| relative to the largest |reference|; mean and minimum over all images of the
    cosine similarity between an image's logits.
    """
    error = np.abs(logits - reference)
    lengths = np.linalg.norm(logits, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (logits * reference).sum(1) / np.maximum(lengths, 1e-30)
    return {
        "largest_error": float(error.max()),
        "largest_error_image": int(error.max(1).argmax()),
        "mean_error": float(error.mean()),
        "relative_error": float(error.max() / max(np.abs(reference).max(), 1e-30)),
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
    }


def compare_logits(logits: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any]) -> Record:
    """The figures of compare.json, from logits, float64 [images, classes], and labels, int [images]."""
    predictions, reference_predictions = logits.argmax(1), reference.argmax(1)
    flips = find_flips(predictions, reference_predictions, labels)
    fixed, broken = (sum(flip[side] == flip["label"] for flip in flips) for side in ("here", "reference"))
    return {
        "images": len(labels),
        "top1": float((predictions == labels).mean()),
        "reference_top1": float((reference_predictions == labels).mean()),
        "agreement": float((predictions == reference_predictions).mean()),
        "mended": fixed,
        "broken": broken,
        "other": len(flips) - fixed - broken,
        "mcnemar_p": mcnemar(fixed, broken),
        "logits": logit_errors(logits, reference),
        "flips": flips,
    }


def reference_facts(provenance: Record) -> Record:
    """What compare.json says of the reference outputs, from their provenance."""
    return {name: provenance.get(name) for name in REFERENCE}


def format_flips(flips: List[Record]) -> List[str]:
    """The table of the images whose predicted label changed; empty if no label changed."""
    lines = ["", f"{'image':>6}  {'true':<6} {'reference':<10}{'here':<6}"] if flips else []
    for flip in flips:
        change = {flip["here"]: "fixed", flip["reference"]: "broken"}.get(flip["label"], "")
        names = (CLASSES[flip[side]] for side in ("label", "reference", "here"))
        lines.append("{:>6}  {:<6} {:<10}{:<6} {}".format(flip["image"], *names, change).rstrip())
    return lines


def reference_line(reference: Record) -> str:
    """The line that states with what the outputs are compared."""
    graph = "your own .onnx" if reference["given"] else "the plain export"
    return f"Reference: {reference['runtime']}, {reference['precision']}, on {graph}"


def format_page(comparison: Record) -> List[str]:
    """The lines of compare.txt; `make compare` prints the first eight."""
    provenance, logits, flips = comparison["provenance"], comparison["logits"], comparison["flips"]
    fixed, broken, other = (comparison[name] for name in ("mended", "broken", "other"))
    top1, reference_top1 = 100 * comparison["top1"], 100 * comparison["reference_top1"]
    return [
        f"Agreement with the reference engine: {100 * comparison['agreement']:.2f}% of {comparison['images']} images",
        f"Labels changed: {len(flips)} ({fixed} fixed, {broken} broken, {other} changed but still wrong)",
        f"McNemar's exact p: {comparison['mcnemar_p']:.3g}",
        f"Top-1: {top1:.2f}%; reference engine {reference_top1:.2f}%",
        f"Logits: largest error {logits['largest_error']:.3g} (image {logits['largest_error_image']}, relative "
        f"{logits['relative_error']:.2e}), mean error {logits['mean_error']:.2e}, cosine similarity "
        f"{logits['cosine_mean']:.6f} (minimum {logits['cosine_min']:.6f})",
        reference_line(comparison["reference"]),
        source_line(provenance),
        conditions_line(provenance),
        *format_flips(flips),
        *provenance_lines(provenance),
    ]
