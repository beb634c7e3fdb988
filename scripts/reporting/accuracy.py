"""accuracy.json: Top-1 with its interval, the confusion matrix, and the most confident mistakes; predictions.csv.

Python 3.7.
"""

from __future__ import annotations

from _support.artifact import Record

import hashlib
import math
from typing import Any, List, Tuple

import numpy as np
from numpy.typing import NDArray

from network.spec import CLASSES
from reporting.provenance import source_of

MISTAKES = 24  # the most that are recorded and shown in the report
Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def wilson(correct: int, total: int) -> Tuple[float, float]:
    """Wilson's 95 % score interval of the fraction correct / total (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    p, n = correct / total, total
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    # The ends are exactly 0 and 1 if nothing or everything is correct, which rounding would miss.
    return max(0.0, middle - half) if correct else 0.0, min(1.0, middle + half) if correct < total else 1.0


def confidence_of(logits: NDArray[Any]) -> NDArray[Any]:
    """The probability (softmax) of each image's prediction; `logits` are float64 [images, classes]."""
    probabilities: NDArray[Any] = 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)
    return probabilities


def format_predictions(logits: NDArray[Any], labels: NDArray[Any]) -> str:
    """The text of predictions.csv; arguments as in confident_mistakes(). Label and prediction are class numbers."""
    rows = zip(labels, logits.argmax(1), confidence_of(logits))
    lines = [
        f"{image},{label},{prediction},{probability:.9g},{'true' if label == prediction else 'false'}"
        for image, (label, prediction, probability) in enumerate(rows)
    ]
    return "\n".join(["image,label,prediction,probability,correct", *lines]) + "\n"


def confident_mistakes(logits: NDArray[Any], labels: NDArray[Any]) -> List[Record]:
    """The misclassified images with the highest probability (softmax), at most MISTAKES, highest first.

    `logits` are float64 [images, classes], `labels` int [images].
    """
    predictions = logits.argmax(1)
    confidence = confidence_of(logits)
    wrong = np.flatnonzero(predictions != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "image": int(image),
            "label": int(labels[image]),
            "found": int(predictions[image]),
            "probability": float(confidence[image]),
        }
        for image in wrong
    ]


def published_quote(published: str, top1: float, provenance: Record) -> Record | None:
    """The published device and Top-1, and `top1` relative to it. `published` is "DEVICE PERCENT" or empty.

    None if nothing was published, or if not all inputs are the official ones.
    """
    if not published or source_of(provenance) != "cifar10":
        return None
    device, percent = published.split()
    return {"device": device, "top1": float(percent) / 100, "ratio": top1 / float(percent) * 100}


def accuracy_record(logits: NDArray[Any], labels: NDArray[Any], published: str, provenance: Record) -> Record:
    """The contents of accuracy.json without the cache key and what labels_of() adds.

    `logits` are float64 [images, classes], `labels` int [images]. `published` is as in published_quote().
    `provenance` is that of the outputs and contains the digest of the labels.
    """
    predictions = logits.argmax(1)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)  # rows: true, columns: predicted
    np.add.at(confusion, (labels, predictions), 1)
    correct, total = int((predictions == labels).sum()), len(labels)
    text = "".join(f"{prediction}\n" for prediction in predictions)
    provenance = {**provenance, "predictions": hashlib.sha256(text.encode()).hexdigest()}
    return {
        "top1": correct / total,
        "correct": correct,
        "total": total,
        "wilson95": list(wilson(correct, total)),
        "classes": {
            name: {"correct": int(confusion[k, k]), "total": int(confusion[k].sum())} for k, name in enumerate(CLASSES)
        },
        "confusion": confusion.tolist(),
        "mistakes": confident_mistakes(logits, labels),
        "published": published_quote(published, correct / total, provenance),
        "digests": {name: provenance[name] for name in ("model", "labels", "predictions")},
        "provenance": provenance,
    }
