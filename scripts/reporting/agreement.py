"""Two sets of logits compared image by image: changed labels, McNemar's exact test, errors of the logits."""

from __future__ import annotations

from _support.artifact import Record

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mcnemar(mended: int, broken: int) -> float:
    """The two-sided p of McNemar's exact test (Q. McNemar, Psychometrika 12, 1947).

    It is the probability, by the binomial distribution at 1/2, of a split at least as uneven as `mended` to `broken`.
    """
    n, k = mended + broken, min(mended, broken)
    tail: int = sum(math.comb(n, i) for i in range(k + 1))
    return float(min(1.0, tail / 2 ** max(n - 1, 0)))


def find_flips(here: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any]) -> list[Record]:
    """Every image whose predicted label changed, with its true label; all arguments are labels, int [images]."""
    return [
        {
            "image": int(image),
            "label": int(labels[image]),
            "reference": int(reference[image]),
            "here": int(here[image]),
        }
        for image in np.flatnonzero(here != reference)
    ]


def logit_errors(logits: NDArray[Any], reference: NDArray[Any]) -> Record:
    """The errors of logits against the reference, both float64 [images, classes].

    Largest and mean |Δ|; the largest |Δ| relative to the largest |reference|; the cosine between the two logits of an
    image, its mean and its minimum over all images.
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


def compared(logits: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any]) -> Record:
    """The figures of compare.json, from logits, float64 [images, classes], and labels, int [images]."""
    here, there = logits.argmax(1), reference.argmax(1)
    flips = find_flips(here, there, labels)
    mended, broken = (sum(flip[side] == flip["label"] for flip in flips) for side in ("here", "reference"))
    return {
        "images": len(labels),
        "top1": float((here == labels).mean()),
        "reference_top1": float((there == labels).mean()),
        "agreement": float((here == there).mean()),
        "mended": mended,
        "broken": broken,
        "other": len(flips) - mended - broken,
        "mcnemar_p": mcnemar(mended, broken),
        "logits": logit_errors(logits, reference),
        "flips": flips,
    }
