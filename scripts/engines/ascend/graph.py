"""Which graphs of the user's own atc can compile (docs/ascend-tools.md#atc-versions). Python 3.7."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import short

from pathlib import Path
from typing import Tuple

from engines import Options

OPSET = 17  # of ONNX 1.12, which CANN 7.0 to 9.x document


def refusal(description: Record, model: Path, options: Options) -> Tuple[str, str] | None:
    """Why atc cannot compile a graph, and the remedy; None if nothing is known against it."""
    opset, domains = description.get("opset", 0), description.get("domains", ())
    if opset > OPSET:
        # With dynamo=True, torch 2.13 writes opset 18 even if it is asked for 17.
        remedy = f"export it with opset_version={OPSET} or lower and dynamo=False"
        return f"its opset is {opset}, atc reads up to {OPSET}", remedy
    if domains:
        problem = f"it has operators of {', '.join(map(short, domains[:3]))}, which atc does not have"
        return problem, "export it with ONNX's own operators only"
    return None
