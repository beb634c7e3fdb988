"""Checkpoint -> ONNX: the input and the output of network/spec.py, with a free batch dimension.

The TorchScript exporter makes the opset that is asked for (the newer one keeps its own, onnx#8209), folds the batch
norms that follow a convolution, and leaves no local path in the file. Checked before it gets its name: opset and IR
version, onnx.checker, and ONNX Runtime's logits against torch's on bins.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import digest, needed_record
from _support.cli import die
from _support.machine import threads

import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from formats.bins import some_bins
from graphs import agreement
from network.checkpoint import REMEDY
from network.spec import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnx

    from network.model import ResidualAttentionNetwork

SETTINGS = {
    "opset": "onnx.opset",
    "check_images": "onnx.check_images",
    "tolerance": "onnx.tolerance",
    "official_blob": "upstream.model_92_sgd",
}
HIGHEST_IR = 8  # what the onnx of CANN's and MagicONNX's time still reads (contract, section 1.8)


def checkpoint_origin(checkpoint: Path, official_blob: str) -> str:
    """`sample`, `official` (git's blob id of the file is the upstream repository's) or `own`."""
    if artifact.origin_of(checkpoint) == "sample":
        return "sample"
    return "official" if artifact.git_blob(checkpoint) == official_blob else "own"


def exported(model: ResidualAttentionNetwork, images: NDArray[Any], opset: int) -> onnx.ModelProto:
    """The graph that torch exports for float32 [N, *IMAGE_SHAPE]; `images`, of that shape, are traced."""
    import onnx
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is not the newest is known
        torch.onnx.export(
            model,
            (torch.from_numpy(images[:1]),),
            buffer,  # type: ignore[arg-type]  # a stream, which this exporter takes
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        )
    return onnx.load_from_string(buffer.getvalue())


def check_graph(graph: onnx.ModelProto, opset: int, out: Path) -> None:
    """Exits 1 if the graph is of another opset or a newer IR than wanted, or if onnx.checker refuses it."""
    import onnx

    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    if opsets != {"": opset} or graph.ir_version > HIGHEST_IR:
        problem = f"the exporter made opset {opsets}, IR {graph.ir_version}, not {opset} and at most {HIGHEST_IR}"
        die(out, problem, "run make setup for the pinned torch")
    onnx.checker.check_model(graph, full_check=True)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--opset", type=int, required=True)
    parser.add_argument("--check-images", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="relative, of the largest logit")
    parser.add_argument("--official-blob", required=True, help="git's blob id of the official checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    origin = checkpoint_origin(args.checkpoint, args.official_blob)
    upstream = {"checkpoint": digest(args.checkpoint), "checkpoint_origin": origin}
    inputs = {**upstream, "bins": needed_record(args.bins, args.bins)["digest"]}
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), ("torch", "onnx", "onnxruntime"))
    with artifact.build_file(args.out, key, upstream) as job:
        import torch

        from network.load import load_checkpoint

        torch.set_num_threads(threads())
        model = load_checkpoint(args.checkpoint, f"rm it, and make gets the official one, or {REMEDY}")
        images = some_bins(args.bins, args.check_images)
        with torch.inference_mode():
            wanted = model(torch.from_numpy(images)).numpy()
        graph = exported(model, images, args.opset)
        graph.doc_string = f"Residual Attention Network (92, 32 input, update) for CIFAR-10; weights: {origin}"
        check_graph(graph, args.opset, args.out)
        data = graph.SerializeToString(deterministic=True)
        error = agreement.check_agreement(args.out, agreement.logits_of(data, images), wanted, args.tolerance)
        job.path.write_bytes(data)
        job.record["check"] = {"images": len(images), "relative_error": error}
        job.record["provenance"].update(onnx=hashlib.sha256(data).hexdigest(), opset=args.opset)
        shown = f"logits of {len(images)} images within {error:.1e} of torch's, every label the same"
        print(f"  opset {args.opset}; {shown}")


if __name__ == "__main__":
    main()
