"""Logits of the reference engine, float32 ONNX Runtime, and the comparison that every conversion has to pass."""

from __future__ import annotations

from _support.cli import die

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphs.session import open_session
from network.spec import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnx

BATCH = 16


def logits_of(model: Path | bytes | onnx.ModelProto, images: NDArray[Any], optimized: bool = True) -> NDArray[Any]:
    """What ONNX Runtime answers, in batches of at most 16: float32 [n, classes] for float32 [n, *IMAGE_SHAPE]."""
    session = open_session(model, optimized=optimized)
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    return np.concatenate([session.run([OUTPUT], {INPUT: batch})[0] for batch in batches])


def relative_error(found: NDArray[Any], reference: NDArray[Any]) -> float:
    """max|Δ| / max|reference|; infinite where an answer is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def changed_labels(found: NDArray[Any], reference: NDArray[Any]) -> int:
    """How many images have another largest logit."""
    return int((found.argmax(1) != reference.argmax(1)).sum())


def check_agreement(subject: object, found: NDArray[Any], reference: NDArray[Any], tolerance: float) -> float:
    """The relative error of `found`; exits 1 if it is past the tolerance or any label changed."""
    error, changed = relative_error(found, reference), changed_labels(found, reference)
    if error > tolerance or changed:
        problem = f"its logits are off by {error:.2e} relative (tolerance {tolerance:g}), {changed} labels changed"
        die(subject, problem, "nothing was written; try the pinned requirements, or another opset, and report it")
    return error
