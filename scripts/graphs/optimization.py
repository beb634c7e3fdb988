"""Optimizes a graph with the passes of graphs/passes.py and checks every pass.

After every pass except nearest the logits must match those of the graph before it. A graph of the user's own may be of
another network: a pass that does not fit it is left out.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record
from _support.cli import die

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from graphs import agreement, passes
from graphs.edit import SHAPE_OPERATORS, has_subgraphs, macs

EACH = 4  # passes are checked on every fourth image, the final graph on all images

NOTHING = "none (nothing to replace)"


class Settings(NamedTuple):
    """How the passes are checked."""

    tolerance: float
    subject: object  # of messages: the file to write
    is_own: bool  # whether the graph is the user's own


def size_of(name: str, model: onnx.ModelProto, data: bytes) -> Record:
    """Nodes, initializers, bytes and MACs (per image) of the graph after the pass `name`."""
    graph = model.graph
    counts = {"nodes": len(graph.node), "initializers": len(graph.initializer)}
    try:
        by_node = macs(model)
    except Exception:  # noqa: BLE001  onnx raises many kinds of errors on operators that it does not know
        by_node = None
    return {"pass": name, **counts, "bytes": len(data), "macs": None if by_node is None else sum(by_node.values())}


def size_table(sizes: list[Record]) -> str:
    """The table of the graph's size after each pass."""
    width = max(len(size["pass"]) for size in sizes)
    rows = [f"  {'':{width}}  nodes  initializers  {'bytes':>12}  {'MACs per image':>15}"]
    for size in sizes:
        macs = "unknown" if size["macs"] is None else f"{size['macs']:,}"
        counts = f"{size['nodes']:5}  {size['initializers']:12}  {size['bytes']:12,}  {macs:>15}"
        rows.append(f"  {size['pass']:{width}}  {counts}")
    return "\n".join(rows)


class Optimized(NamedTuple):
    """The result of the passes."""

    data: bytes  # of the graph
    sizes: list[Record]  # of the given graph and after each pass that changed it, see size_of()
    left_out: dict[str, str]  # {pass: why it was not applied}; only for a graph of the user's own


def rewritten_logits(data: bytes, images: NDArray[Any]) -> tuple[NDArray[Any] | None, str]:
    """(logits, "") of a rewritten graph, or (None, why ONNX Runtime cannot run it)."""
    try:
        return agreement.logits_of(data, images), ""
    except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no common base class
        return None, f"ONNX Runtime cannot run the rewritten graph: {error}".replace(";", ",")


def run_passes(
    model: onnx.ModelProto,
    table: list[tuple[str, passes.Pass]],
    images: NDArray[Any],
    logits: NDArray[Any],
    settings: Settings,
) -> Optimized:
    """Applies each pass of the table to `model`, whose logits for `images` are `logits`.

    A pass fails if ONNX Runtime cannot run its graph, or if its logits differ from those of the graph before it (except
    for nearest). For the export it then exits 1 with the name of the pass; a user's own graph is left as it was before
    the pass.
    """
    data = model.SerializeToString(deterministic=True)
    result = Optimized(data, [size_of("as given", model, data)], {})
    for name, rewrite in table:
        rewritten = onnx.ModelProto()
        rewritten.CopyFrom(model)
        try:
            rewrite(rewritten)
            fault = ""
        except passes.NotApplicable as error:
            fault = str(error)
        except Exception as error:  # onnx raises many kinds of errors on operators that it does not know
            if not settings.is_own:
                raise
            fault = f"{type(error).__name__}: {cli.one_line(error)[:100]}"
        after = data if fault else rewritten.SerializeToString(deterministic=True)
        if after != data:
            new_logits, fault = rewritten_logits(after, images)
            if new_logits is not None and (name != "resize_nearest" or not np.isfinite(new_logits).all()):
                fault = agreement.disagreement(new_logits, logits, settings.tolerance)
        if fault and settings.is_own:
            result.left_out[name] = fault
        elif fault:
            remedy = "nothing was written; use the pinned packages, and report this"
            die(f"{settings.subject}, pass {name}", fault, remedy)
        elif after != data and new_logits is not None:
            model, data, logits = rewritten, after, new_logits
            result.sizes.append(size_of(name, model, data))
    return result._replace(data=data)


def check_graph(path: Path, model: onnx.ModelProto) -> None:
    """Exits 1 if nodes that compute shapes are left; onnx.checker raises on other faults. `path` is the input file."""
    left = sorted(SHAPE_OPERATORS.intersection(node.op_type for node in model.graph.node))
    if left:
        die(path, f"{', '.join(left)} nodes cannot be folded", "use the plain export of this network")
    onnx.checker.check_model(model, full_check=True)


def comparison(logits: NDArray[Any], plain: NDArray[Any]) -> Record:
    """Differences between the logits of the optimized and the plain graph, float32 [n, classes]."""
    return {
        "images": len(logits),
        "relative_error": agreement.relative_error(logits, plain),
        "changed_labels": agreement.changed_labels(logits, plain),
        "largest_logit_change": float(np.abs(logits - plain).max()),
    }


def optimized(
    model: onnx.ModelProto, resize: str, images: NDArray[Any], plain: NDArray[Any], settings: Settings
) -> Optimized:
    """Applies the passes to `model`, whose logits for `images` are `plain`.

    A user's own graph with subgraphs, or whose small deviations add up to more than the tolerance, is taken as it is.
    """
    if settings.is_own and has_subgraphs(model):
        result = run_passes(model, [], images[::EACH], plain[::EACH], settings)
        return result._replace(left_out={"all passes": "some of its nodes (If, Loop) contain subgraphs"})
    result = run_passes(model, passes.table(resize, settings.is_own), images[::EACH], plain[::EACH], settings)
    is_nearest = any(size["pass"] == "resize_nearest" for size in result.sizes)
    if settings.is_own and not is_nearest:
        fault = agreement.disagreement(agreement.logits_of(result.data, images), plain, settings.tolerance)
        if fault:
            result = run_passes(model, [], images[::EACH], plain[::EACH], settings)
            return result._replace(left_out={"all passes": fault})
    return result


def resize_text(resize: str, model: onnx.ModelProto, result: Optimized) -> str:
    """What became of the bilinear Resize nodes of `model`: `resize`, or none with the reason."""
    if not {f"resize_{resize}", "all passes"}.intersection(result.left_out):
        return resize
    count = passes.count_resizes(model)
    return f"none ({count} bilinear kept)" if count else NOTHING
