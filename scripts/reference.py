"""The reference engine, float32 ONNX Runtime, and the comparison of logits that every conversion has to pass."""

from __future__ import annotations

from _build import again, die, needed_record

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from engines.threads import threads
from numpy.typing import NDArray

SHAPE = (3, 32, 32)
BIN_BYTES = 4 * 3 * 32 * 32


def read_bin(path: Path | str, image: NDArray[Any] | None = None) -> NDArray[Any]:
    """One bin: float32 [3, 32, 32], new or the given one; exits 1 if it is missing or of another size."""
    image = np.empty(SHAPE, np.float32) if image is None else image
    size = 0
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, BlockingIOError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # not to wait for who would write to a pipe
        try:
            size = os.readv(file, [image.data, bytearray(1)])
        finally:
            os.close(file)
    if size != BIN_BYTES:
        path = Path(path)
        there, remedy = path.is_file(), again(path.with_name("manifest.json"))
        problem = f"{path.stat().st_size} bytes, not {BIN_BYTES}" if there else "missing, though the manifest counts it"
        die(path, problem, remedy)
    return image


def some_bins(manifest: Path, count: int) -> NDArray[Any]:
    """Up to `count` images, spread evenly over the set: float32 [n, 3, 32, 32]."""
    have = needed_record(manifest, manifest)["count"]
    indices = np.unique(np.linspace(0, have - 1, min(count, have)).astype(int))
    return np.stack([read_bin(manifest.parent / f"image_{i}.bin") for i in indices])


def logits_of(model: Path | bytes, images: NDArray[Any]) -> NDArray[Any]:
    """What ONNX Runtime answers, in batches of at most 16: float32 [n, 10]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
    batches = [images[i : i + 16] for i in range(0, len(images), 16)]
    return np.concatenate([session.run(["class"], {"image": batch})[0] for batch in batches])


def relative_error(found: NDArray[Any], reference: NDArray[Any]) -> float:
    """max|Δ| / max|reference|; infinite where an answer is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def changed_labels(found: NDArray[Any], reference: NDArray[Any]) -> int:
    """How many images have another largest logit."""
    return int((found.argmax(1) != reference.argmax(1)).sum())


def must_agree(subject: object, found: NDArray[Any], reference: NDArray[Any], tolerance: float) -> float:
    """The relative error of `found`; exits 1 if it is past the tolerance or any label changed."""
    error, changed = relative_error(found, reference), changed_labels(found, reference)
    if error > tolerance or changed:
        problem = f"its logits are off by {error:.2e} relative (tolerance {tolerance:g}), {changed} labels changed"
        die(subject, problem, "nothing was written; try the pinned requirements, or another opset, and report it")
    return error
