"""Checkpoint -> ONNX: input `image` [N, 3, 32, 32], output `class` [N, 10], N free.

The TorchScript exporter makes the opset that is asked for (the newer one keeps its own, onnx#8209), folds the batch
norms that follow a convolution, and leaves no local path in the file. Checked before it gets its name: opset and IR
version, onnx.checker, and ONNX Runtime's logits against torch's on bins.
"""

from __future__ import annotations

import _build
from _build import die, digest, needed_record

import hashlib
import io
import warnings
from pathlib import Path

import reference
from engines.threads import threads

HIGHEST_IR = 8  # what the onnx of CANN's and MagicONNX's time still reads (contract, section 1.8)


def checkpoint_origin(checkpoint: Path, official_blob: str) -> str:
    """`sample`, `official` (git's blob id of the file is the upstream repository's) or `own`."""
    if _build.origin_of(checkpoint) == "sample":
        return "sample"
    return "official" if _build.git_blob(checkpoint) == official_blob else "own"


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--opset", type=int, required=True)
    parser.add_argument("--check-images", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="relative, of the largest logit")
    parser.add_argument("--official-blob", required=True, help="git's blob id of the official checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    origin = checkpoint_origin(args.checkpoint, args.official_blob)
    bins = needed_record(args.bins, args.bins)["digest"]
    upstream = {"checkpoint": digest(args.checkpoint), "checkpoint_origin": origin}
    inputs = {**upstream, "bins": bins}
    flags = {"opset": args.opset, "check_images": args.check_images, "tolerance": args.tolerance}
    key = _build.key_of(inputs, flags, ("torch", "onnx", "onnxruntime"))
    with _build.build_file(args.out, key, upstream) as job:
        import network
        import onnx
        import torch

        torch.set_num_threads(threads())
        model = network.load_checkpoint(args.checkpoint, f"rm it, and make gets the official one, or {network.REMEDY}")
        images = reference.some_bins(args.bins, args.check_images)
        with torch.inference_mode():
            wanted = model(torch.from_numpy(images)).numpy()
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this exporter is not the newest is known
            torch.onnx.export(
                model,
                (torch.from_numpy(images[:1]),),
                buffer,  # type: ignore[arg-type]  # a stream, which this exporter takes
                dynamo=False,
                opset_version=args.opset,
                input_names=["image"],
                output_names=["class"],
                dynamic_axes={"image": {0: "N"}, "class": {0: "N"}},
            )
        graph = onnx.load_from_string(buffer.getvalue())
        graph.doc_string = f"Residual Attention Network (92, 32 input, update) for CIFAR-10; weights: {origin}"
        opset = {entry.domain: entry.version for entry in graph.opset_import}
        if opset != {"": args.opset} or graph.ir_version > HIGHEST_IR:
            problem = (
                f"the exporter made opset {opset}, IR {graph.ir_version}, not {args.opset} and at most {HIGHEST_IR}"
            )
            die(args.out, problem, "run make setup for the pinned torch")
        onnx.checker.check_model(graph, full_check=True)
        data = graph.SerializeToString(deterministic=True)
        error = reference.must_agree(args.out, reference.logits_of(data, images), wanted, args.tolerance)
        job.path.write_bytes(data)
        job.record["check"] = {"images": len(images), "relative_error": error}
        job.record["provenance"].update(onnx=hashlib.sha256(data).hexdigest(), opset=args.opset)
        print(
            f"  opset {args.opset}; logits of {len(images)} images within {error:.1e} of torch's, every label the same"
        )


if __name__ == "__main__":
    main()
