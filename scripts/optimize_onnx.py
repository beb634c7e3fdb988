"""Optimizes an ONNX graph with the passes of graphs/passes.py and checks every pass.

--resize nearest: nearest + asymmetric + floor, as in Ascend's ModelZoo guide; an approximation.
         exact:   bilinear align_corners as two constant matrix products, Y = A·X·Aᵀ.
         none:    bilinear align_corners is kept.
After every pass except nearest the logits must match those of the graph before it. Before the file is renamed to --out,
onnx.checker, the absence of nodes that compute shapes, and the logits against the plain export are checked.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, needed_record
from _support.cli import die

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from formats.bins import some_bins
from graphs import agreement, passes
from graphs.edit import SHAPE_OPERATORS, macs

SETTINGS = {
    "resize": "optimize.resize",
    "check_images": "optimize.check_images",
    "tolerance": "optimize.tolerance",
}
EACH = 4  # passes are checked on every fourth image, the final graph on all images


def size_of(name: str, model: onnx.ModelProto, data: bytes) -> Record:
    """Nodes, initializers, bytes and MACs (per image) of the graph after the pass `name`."""
    graph = model.graph
    counts = {"nodes": len(graph.node), "initializers": len(graph.initializer)}
    by_node = macs(model)
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


def run_passes(
    model: onnx.ModelProto,
    table: list[tuple[str, passes.Pass]],
    images: NDArray[Any],
    logits: NDArray[Any],
    tolerance: float,
    out: Path,
) -> tuple[bytes, list[Record]]:
    """Applies each pass of the table to `model`, whose logits for `images` are `logits`.

    Returns its bytes, and the sizes of the given graph and after each pass that changed it (see size_of). Exits 1 with
    the name of the pass if ONNX Runtime cannot run a graph, or if its logits differ from those of the graph before it
    (except for nearest).
    """
    data = model.SerializeToString(deterministic=True)
    sizes = [size_of("as given", model, data)]
    for name, rewrite in table:
        rewrite(model)
        before, data = data, model.SerializeToString(deterministic=True)
        if data == before:
            continue
        subject = f"{out}, pass {name}"
        try:
            rewritten = agreement.logits_of(data, images)
        except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no common base class
            problem = f"ONNX Runtime cannot run the rewritten graph: {error}".replace(";", ",")
            die(subject, problem, "nothing was written; report this")
        if name != "resize_nearest" or not np.isfinite(rewritten).all():
            agreement.check_agreement(subject, rewritten, logits, tolerance)
        sizes.append(size_of(name, model, data))
        logits = rewritten
    return data, sizes


def load_graph(path: Path) -> onnx.ModelProto:
    """Loads a graph; exits 1 if its nodes contain subgraphs."""
    model = onnx.load(path)
    if any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute):
        die(path, "some of its nodes (If, Loop) contain subgraphs", "use the plain export of this network")
    return model


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


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--resize", choices=["nearest", "exact", "none"], required=True)
    parser.add_argument("--check-images", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="relative: max|difference| / max|logit|")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    plain_record = needed_record(args.onnx)
    inputs = {"onnx": plain_record["sha256"], "bins": needed_record(args.bins, args.bins)["digest"]}
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), ("onnx", "onnxruntime"))
    with artifact.build_file(args.out, key, plain_record["provenance"]) as job:
        model, images = load_graph(args.onnx), some_bins(args.bins, args.check_images)
        table = passes.table(args.resize, args.onnx)
        plain = agreement.logits_of(args.onnx, images)
        data, sizes = run_passes(model, table, images[::EACH], plain[::EACH], args.tolerance, args.out)
        check_graph(args.onnx, model)
        logits = agreement.logits_of(data, images)
        is_approximate = args.resize == "nearest" and np.isfinite(logits).all()
        if not is_approximate:
            agreement.check_agreement(args.out, logits, plain, args.tolerance)
        check = comparison(logits, plain)
        print(size_table(sizes))
        kind = "an approximation" if is_approximate else "the same function"
        changes = f"{check['changed_labels']} of {len(images)} labels changed"
        print(f"  resize {args.resize}: {kind}; {changes}, largest logit change {check['largest_logit_change']:.2g}")
        job.path.write_bytes(data)
        job.record["passes"], job.record["check"] = sizes, check
        job.record["provenance"].update(optimized=hashlib.sha256(data).hexdigest(), resize=args.resize)


if __name__ == "__main__":
    main()
