"""Exports a checkpoint to ONNX with the input and output of network/spec.py and a dynamic batch dimension.

It uses the TorchScript exporter, which writes the requested opset (the newer exporter writes its own, onnx#8209), folds
batch norms that follow a convolution, and stores no local path. Before the file is renamed to --out, the opset, the IR
version, onnx.checker and ONNX Runtime's logits against torch's on some bins are checked.
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

from formats import held
from formats.bins import some_bins
from formats.official import CHECKPOINT
from formats.user_inputs import RETURN
from graphs import agreement
from network.spec import INPUT, OUTPUT

if TYPE_CHECKING:
    import onnx

    from network.model import ResidualAttentionNetwork

SETTINGS = {
    "opset": "onnx.opset",
    "check_images": "onnx.check_images",
    "tolerance": "onnx.tolerance",
}
HIGHEST_IR = 8  # the highest that ONNX 1.8 and MagicONNX read (docs/ascend-tools.md#atc-versions)


def checkpoint_origin(checkpoint: Path, sha256: str) -> str:
    """`sample`, `official` (the file's git blob id is that of the upstream repository) or `own`."""
    if held.origin_of(checkpoint, sha256) == "sample":
        return "sample"
    return "official" if CHECKPOINT.is_at(checkpoint) else "own"


def exported(model: ResidualAttentionNetwork, images: NDArray[Any], opset: int) -> onnx.ModelProto:
    """The graph that torch exports for float32 [N, *IMAGE_SHAPE]; the first of `images`, of that shape, is traced."""
    import onnx
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns that a newer one exists
        torch.onnx.export(
            model,
            (torch.from_numpy(images[:1]),),
            buffer,  # type: ignore[arg-type]  # this exporter accepts a stream
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        )
    return onnx.load_from_string(buffer.getvalue())


def check_graph(graph: onnx.ModelProto, opset: int, out: Path) -> None:
    """Exits 1 if the graph has another opset or a newer IR version; onnx.checker raises on other faults."""
    import onnx

    opsets = {entry.domain: entry.version for entry in graph.opset_import}
    if opsets != {"": opset} or graph.ir_version > HIGHEST_IR:
        problem = f"exported as opset {opsets}, IR {graph.ir_version} instead of {opset}, at most {HIGHEST_IR}"
        die(out, problem, "run make setup to install the pinned torch")
    onnx.checker.check_model(graph, full_check=True)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--opset", type=int, required=True)
    parser.add_argument("--check-images", type=int, required=True)
    parser.add_argument("--tolerance", type=float, required=True, help="relative: max|difference| / max|logit|")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    sha256 = digest(args.checkpoint)
    origin = checkpoint_origin(args.checkpoint, sha256)
    upstream = {"checkpoint": sha256, "checkpoint_origin": origin}
    bins = needed_record(args.bins, args.bins)
    inputs = {**upstream, "bins": bins["digest"]}
    if origin == "own":
        upstream["checkpoint_path"] = artifact.imported_from(args.checkpoint, sha256)
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), ("torch", "onnx", "onnxruntime"))
    with artifact.build_file(args.out, key, upstream) as job:
        import torch

        from network.load import load_checkpoint

        torch.set_num_threads(threads())
        content = artifact.read_verified(args.checkpoint, sha256)
        model = load_checkpoint(args.checkpoint, RETURN, content)
        images = some_bins(args.bins, bins, args.check_images)
        with torch.inference_mode():
            logits = model(torch.from_numpy(images)).numpy()
        graph = exported(model, images, args.opset)
        graph.doc_string = f"Residual Attention Network (92, 32 input, update) for CIFAR-10; weights: {origin}"
        check_graph(graph, args.opset, args.out)
        data = graph.SerializeToString(deterministic=True)
        error = agreement.check_agreement(args.out, agreement.logits_of(data, images), logits, args.tolerance)
        job.path.write_bytes(data)
        job.record["check"] = {"images": len(images), "relative_error": error}
        job.record["provenance"].update(onnx=hashlib.sha256(data).hexdigest(), opset=args.opset)
        shown = f"logits of {len(images)} images match torch's (relative error {error:.1e}), no label changed"
        print(f"  opset {args.opset}; {shown}")


if __name__ == "__main__":
    main()
