"""Outputs + outputs of the reference engine + labels -> compare.txt and compare.json: image by image.

Top-1 alone cannot show the cost of `nearest`, fp16 or int8: the 95 % interval of 10,000 images is wider. The labels
that changed can, by McNemar's exact test of those fixed against those broken, and so can the errors of the logits.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, again, needed_record
from _support.cli import die

from pathlib import Path
from typing import Dict

from formats.outputs import read_labels, read_outputs
from network.spec import CLASSES
from reporting.agreement import compared
from reporting.provenance import conditions, digests, made_from, source_of

SETTINGS: Dict[str, str] = {}


def format_flips(flips: list[Record]) -> list[str]:
    """The table of the images whose label changed, without a head if there are none."""
    lines = ["", f"{'image':>6}  {'true':<6} {'reference':<10}{'here':<6}"] if flips else []
    for flip in flips:
        change = {flip["here"]: "fixed", flip["reference"]: "broken"}.get(flip["label"], "")
        names = (CLASSES[flip[side]] for side in ("label", "reference", "here"))
        lines.append("{:>6}  {:<6} {:<10}{:<6} {}".format(flip["image"], *names, change).rstrip())
    return lines


def format_page(comparison: Record) -> list[str]:
    """The lines of compare.txt; `make compare` prints the first eight."""
    provenance, logits, flips = comparison["provenance"], comparison["logits"], comparison["flips"]
    mended, broken, other = (comparison[name] for name in ("mended", "broken", "other"))
    top1, reference_top1 = 100 * comparison["top1"], 100 * comparison["reference_top1"]
    return [
        f"Agreement with the reference engine: {100 * comparison['agreement']:.2f}% of {comparison['images']} images",
        f"Labels changed: {len(flips)}: {mended} fixed, {broken} broken, {other} changed but still wrong",
        f"McNemar's exact p: {comparison['mcnemar_p']:.3g}",
        f"Top-1: {top1:.2f}% here, {reference_top1:.2f}% by the reference engine",
        f"Logits: largest error {logits['largest_error']:.3g} (image {logits['largest_error_image']}; relative "
        f"{logits['relative_error']:.2e}), mean {logits['mean_error']:.2e}, cosine {logits['cosine_mean']:.6f}, "
        f"at least {logits['cosine_min']:.6f}",
        f"Reference: {comparison['reference']['runtime']}, float32, on the plain export",
        made_from(provenance),
        conditions(provenance),
        *format_flips(flips),
        *digests(provenance),
    ]


def check_images(manifest: Path, outputs: Record, labels: Record) -> None:
    """Exits 1 if the outputs are not those of the labels' images."""
    if outputs["provenance"]["archive"] != labels["provenance"]["archive"]:
        die(manifest, "outputs of other images than those of the labels", again(manifest))


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--outputs", type=Path, required=True, help="the manifest.json of the outputs")
    parser.add_argument("--reference", type=Path, required=True, help="the manifest.json of the reference engine")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="compare.txt; compare.json is written beside it")
    args = parser.parse_args()
    outputs = needed_record(args.outputs, args.outputs)
    reference = needed_record(args.reference, args.reference)
    labels_record = needed_record(args.labels)
    inputs = {"outputs": outputs["digest"], "reference": reference["digest"], "labels": labels_record["sha256"]}
    inputs.update(provenance=outputs["provenance"])  # because the page shows it
    with artifact.build_file(args.out, artifact.key_of(inputs, {}), outputs["provenance"]) as job:
        check_images(args.outputs, outputs, labels_record)
        check_images(args.reference, reference, labels_record)
        labels = read_labels(args.labels)
        logits = read_outputs(args.outputs, outputs, len(labels))
        reference_logits = read_outputs(args.reference, reference, len(labels))
        job.record["provenance"].update(outputs=outputs["digest"], reference=reference["digest"])
        job.record.update(compared(logits, reference_logits, labels), source=source_of(outputs["provenance"]))
        job.record["reference"] = {name: reference["provenance"].get(name) for name in ("runtime", "onnx", "threads")}
        job.path.write_text("\n".join(format_page(job.record)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
