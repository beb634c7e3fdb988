"""CPU, float32, ONNX Runtime: runs what onnxruntime_compile made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import onnxruntime
from numpy.typing import NDArray

from engines.threads import threads

PACKAGES = ("onnxruntime",)


def load(model: Path, options: dict[str, str]) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], dict[str, object]]:
    """(run, what to record): run takes float32 [batch, 3, 32, 32] and returns float32 [batch, 10]."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])

    def run(images: NDArray[Any]) -> NDArray[Any]:
        answer: NDArray[Any] = session.run(["class"], {"image": images})[0]
        return answer

    runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return run, {"runtime": runtime, "threads": settings.intra_op_num_threads}
