"""ONNX -> optimized ONNX: the passes of graphs/passes.py, one after the other, each one checked.

--resize nearest: the guide's rewrite, nearest + asymmetric + floor: an approximation, reported with what it changes.
         exact:   bilinear align_corners as two constant matrix products, Y = A·X·Aᵀ.
         none:    bilinear align_corners stays.
Every pass but nearest has to answer as the graph before it. Checked before the file gets its name: onnx.checker,
nothing left that computes a shape, and the logits against the plain export's.
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
EACH = 4  # a pass is held against the graph before it on every fourth image, the last graph against the plain on all


def size_of(name: str, model: onnx.ModelProto, data: bytes) -> Record:
    graph = model.graph
    counts = {"nodes": len(graph.node), "initializers": len(graph.initializer)}
    found = macs(model)
    return {"pass": name, **counts, "bytes": len(data), "macs": None if found is None else sum(found.values())}


def shown(sizes: list[Record]) -> str:
    """The table of what each pass left, a row each."""
    wide = max(len(size["pass"]) for size in sizes)
    rows = [f"  {'':{wide}}  nodes  initializers  {'bytes':>12}  {'MACs an image':>15}"]
    for size in sizes:
        macs = "unknown" if size["macs"] is None else f"{size['macs']:,}"
        counts = f"{size['nodes']:5}  {size['initializers']:12}  {size['bytes']:12,}  {macs:>15}"
        rows.append(f"  {size['pass']:{wide}}  {counts}")
    return "\n".join(rows)


def run_passes(
    model: onnx.ModelProto,
    table: list[tuple[str, passes.Pass]],
    images: NDArray[Any],
    wanted: NDArray[Any],
    tolerance: float,
    out: Path,
) -> tuple[bytes, list[Record]]:
    """Rewrites `model`, which answers to `images` as `wanted` says, by each pass of the table.

    Returns its bytes and, for the graph as it was and after each pass that changed it, nodes, initializers, bytes and
    MACs. Exits 1, naming the pass, if a graph cannot be run or does not answer as the one before (nearest excepted).
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
            found = agreement.logits_of(data, images)
        except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no base of their own
            problem = f"ONNX Runtime cannot run what it made: {error}".replace(";", ",")
            die(subject, problem, "nothing was written; report it")
        if name != "resize_nearest" or not np.isfinite(found).all():
            agreement.check_agreement(subject, found, wanted, tolerance)
        sizes.append(size_of(name, model, data))
        wanted = found
    return data, sizes


def load_graph(path: Path) -> onnx.ModelProto:
    """The graph of a file; exits 1 if its nodes hold graphs."""
    model = onnx.load(path)
    if any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute):
        die(path, "some of its nodes (If, Loop) hold graphs", "give the plain export of this network")
    return model


def check_graph(path: Path, model: onnx.ModelProto) -> None:
    """Exits 1 if nodes that compute shapes are left, or if onnx.checker refuses the graph; `path`: of the plain one."""
    left = sorted(SHAPE_OPERATORS.intersection(node.op_type for node in model.graph.node))
    if left:
        die(path, f"{', '.join(left)} nodes cannot be folded away", "give the plain export of this network")
    onnx.checker.check_model(model, full_check=True)


def comparison(logits: NDArray[Any], plain: NDArray[Any]) -> Record:
    """How far the optimized graph's logits, float32 [n, classes], are from the plain one's."""
    return {
        "images": len(logits),
        "relative_error": agreement.relative_error(logits, plain),
        "changed_labels": agreement.changed_labels(logits, plain),
        "largest_logit_change": float(np.abs(logits - plain).max()),
    }


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--resize", choices=["nearest", "exact", "none"], required=True)
    parser.add_argument("--check-images", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="relative, of the largest logit")
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
        approximate = args.resize == "nearest" and np.isfinite(logits).all()
        if not approximate:
            agreement.check_agreement(args.out, logits, plain, args.tolerance)
        check = comparison(logits, plain)
        print(shown(sizes))
        print(
            f"  resize {args.resize}: {'an approximation' if approximate else 'the same function'}; of {len(images)}"
            f" images {check['changed_labels']} changed their label, largest logit change"
            f" {check['largest_logit_change']:.2g}"
        )
        job.path.write_bytes(data)
        job.record["passes"], job.record["check"] = sizes, check
        job.record["provenance"].update(optimized=hashlib.sha256(data).hexdigest(), resize=args.resize)


if __name__ == "__main__":
    main()
