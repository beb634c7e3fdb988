"""Logits by ONNX Runtime in float32, and the comparison that every conversion of the graph must pass."""

from __future__ import annotations

from _support.cli import die

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphs.session import open_session
from network.spec import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnx

BATCH = 16


def logits_of(model: bytes | onnx.ModelProto, images: NDArray[Any], optimized: bool = True) -> NDArray[Any]:
    """ONNX Runtime's logits, float32 [n, classes], for float32 [n, *IMAGE_SHAPE], in batches of at most 16."""
    session = open_session(model, optimized=optimized)
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    return np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in batches])


def relative_error(logits: NDArray[Any], reference: NDArray[Any]) -> float:
    """max|Δ| / max|reference|; infinite if a logit is not finite."""
    if not np.isfinite(logits).all():
        return float("inf")
    largest, scale = float(np.abs(logits - reference).max()), float(np.abs(reference).max())
    return largest / scale if scale else float("inf") if largest else 0.0


def changed_labels(logits: NDArray[Any], reference: NDArray[Any]) -> int:
    """The number of images whose predicted label differs."""
    return int((logits.argmax(1) != reference.argmax(1)).sum())


def disagreement(logits: NDArray[Any], reference: NDArray[Any], tolerance: float) -> str:
    """How the logits differ, if the relative error exceeds the tolerance or if a label changed; else empty."""
    error, changed = relative_error(logits, reference), changed_labels(logits, reference)
    if error <= tolerance and not changed:
        return ""
    return f"relative error of the logits {error:.2e} (tolerance {tolerance:g}), {changed} labels changed"


def check_agreement(subject: object, logits: NDArray[Any], reference: NDArray[Any], tolerance: float) -> float:
    """The relative error of `logits`; exits 1 if it exceeds the tolerance or if a label changed."""
    problem = disagreement(logits, reference, tolerance)
    if problem:
        die(subject, problem, "nothing was written; use the pinned packages or another onnx.opset, and report it")
    return relative_error(logits, reference)
