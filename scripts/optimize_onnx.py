"""Optimizes an ONNX graph with the passes of graphs/passes.py and checks every pass.

--resize nearest: nearest + asymmetric + floor, as in Ascend's ModelZoo guide; an approximation.
         exact:   bilinear align_corners as two constant matrix products, Y = A·X·Aᵀ.
         none:    bilinear align_corners is kept.
After every pass except nearest the logits must match those of the graph before it. Before the file is renamed to --out,
onnx.checker, the absence of nodes that compute shapes, and the logits against the plain export are checked.

A graph of the user's own may be of another network: a pass that does not fit it is left out, and the page says what
became of its Resize nodes.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import needed_record

import hashlib
from pathlib import Path

from formats.bins import some_bins

SETTINGS = {
    "resize": "optimize.resize",
    "check_images": "optimize.check_images",
    "tolerance": "optimize.tolerance",
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
    bins = needed_record(args.bins, args.bins)
    inputs = {"onnx": plain_record["sha256"], "bins": bins["digest"]}
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), ("onnx", "onnxruntime"))
    with artifact.build_file(args.out, key, plain_record["provenance"]) as job:
        # Here, because a host without onnx may use the graph that another host built.
        import numpy as np
        import onnx

        from graphs import agreement, optimization
        from graphs.description import description_of

        data = artifact.read_verified(args.onnx, plain_record["sha256"])
        model, images = onnx.load_from_string(data), some_bins(args.bins, bins, args.check_images)
        settings = optimization.Settings(args.tolerance, args.out, plain_record.get("origin") == "given")
        plain = agreement.logits_of(data, images)
        result = optimization.optimized(model, args.resize, images, plain, settings)
        graph = onnx.ModelProto.FromString(result.data)
        if not settings.is_own:  # a user's own graph was checked when it was imported
            optimization.check_graph(args.onnx, graph)
        logits = agreement.logits_of(result.data, images)
        resize = optimization.resize_text(args.resize, model, result)
        is_approximate = resize == "nearest" and np.isfinite(logits).all()
        if not is_approximate:
            agreement.check_agreement(args.out, logits, plain, args.tolerance)
        check = optimization.comparison(logits, plain)
        print(optimization.size_table(result.sizes))
        for name, reason in result.left_out.items():
            if not name.startswith("resize") or resize != optimization.NOTHING:
                print(f"  {name} left out: {reason}")
        kind = "an approximation" if is_approximate else "the same function"
        changes = f"{check['changed_labels']} of {len(images)} labels changed"
        print(f"  resize {resize}: {kind}; {changes}, largest logit change {check['largest_logit_change']:.2g}")
        job.path.write_bytes(result.data)
        job.record.update(passes=result.sizes, check=check, graph=description_of(graph))
        job.record["provenance"].update(optimized=hashlib.sha256(result.data).hexdigest(), resize=resize)


if __name__ == "__main__":
    main()
