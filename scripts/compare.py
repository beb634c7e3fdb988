"""Outputs + outputs of the reference engine + labels -> compare.txt and compare.json: image by image.

Top-1 alone cannot show the cost of `nearest`, fp16 or int8, because its 95 % interval for 10,000 images is too wide.
The predictions that changed can show it (McNemar's exact test of fixed against broken ones), and so can the errors of
the logits.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, needed_record, rebuild_hint
from _support.cli import die

from pathlib import Path
from typing import Dict

from formats.outputs import read_labels, read_outputs
from network.spec import CLASSES
from reporting.agreement import compare_logits
from reporting.provenance import (
    conditions_line,
    labels_of,
    needed_outputs,
    provenance_lines,
    source_line,
    without_paths,
)

SETTINGS: Dict[str, str] = {}
REFERENCE = ("runtime", "onnx", "threads", "precision", "given")  # what the record contains of the reference


def format_flips(flips: list[Record]) -> list[str]:
    """The table of the images whose predicted label changed; empty if no label changed."""
    lines = ["", f"{'image':>6}  {'true':<6} {'reference':<10}{'here':<6}"] if flips else []
    for flip in flips:
        change = {flip["here"]: "fixed", flip["reference"]: "broken"}.get(flip["label"], "")
        names = (CLASSES[flip[side]] for side in ("label", "reference", "here"))
        lines.append("{:>6}  {:<6} {:<10}{:<6} {}".format(flip["image"], *names, change).rstrip())
    return lines


def reference_line(reference: Record) -> str:
    """The line that states with what the outputs are compared."""
    graph = "your own .onnx" if reference["given"] else "the plain export"
    return f"Reference: {reference['runtime']}, {reference['precision']}, on {graph}"


def format_page(comparison: Record) -> list[str]:
    """The lines of compare.txt; `make compare` prints the first eight."""
    provenance, logits, flips = comparison["provenance"], comparison["logits"], comparison["flips"]
    fixed, broken, other = (comparison[name] for name in ("mended", "broken", "other"))
    top1, reference_top1 = 100 * comparison["top1"], 100 * comparison["reference_top1"]
    return [
        f"Agreement with the reference engine: {100 * comparison['agreement']:.2f}% of {comparison['images']} images",
        f"Labels changed: {len(flips)} ({fixed} fixed, {broken} broken, {other} changed but still wrong)",
        f"McNemar's exact p: {comparison['mcnemar_p']:.3g}",
        f"Top-1: {top1:.2f}%; reference engine {reference_top1:.2f}%",
        f"Logits: largest error {logits['largest_error']:.3g} (image {logits['largest_error_image']}, relative "
        f"{logits['relative_error']:.2e}), mean error {logits['mean_error']:.2e}, cosine similarity "
        f"{logits['cosine_mean']:.6f} (minimum {logits['cosine_min']:.6f})",
        reference_line(comparison["reference"]),
        source_line(provenance),
        conditions_line(provenance),
        *format_flips(flips),
        *provenance_lines(provenance),
    ]


def check_images(manifest: Path, outputs: Record, labels: Record) -> None:
    """Exits 1 unless the outputs and the labels come from the same dataset archive."""
    if outputs["provenance"]["archive"] != labels["provenance"]["archive"]:
        problem = "the outputs and the labels come from different dataset archives"
        die(manifest, problem, rebuild_hint(manifest))


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--outputs", type=Path, required=True, help="the manifest.json of the outputs")
    parser.add_argument("--reference", type=Path, required=True, help="the manifest.json of the reference engine")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="compare.txt; compare.json is written beside it")
    args = parser.parse_args()
    outputs, reference = needed_outputs(args.outputs), needed_outputs(args.reference)
    labels_record = needed_record(args.labels)
    inputs = {"outputs": outputs["digest"], "reference": reference["digest"], "labels": labels_record["sha256"]}
    provenance = without_paths(outputs["provenance"])
    inputs.update(provenance=provenance)  # because the page shows it
    with artifact.build_file(args.out, artifact.key_of(inputs, {}), provenance) as job:
        check_images(args.outputs, outputs, labels_record)
        check_images(args.reference, reference, labels_record)
        labels = read_labels(args.labels, labels_record["sha256"])
        logits = read_outputs(args.outputs, outputs, len(labels))
        reference_logits = read_outputs(args.reference, reference, len(labels))
        job.record["provenance"].update(outputs=outputs["digest"], reference=reference["digest"])
        job.record.update(compare_logits(logits, reference_logits, labels), **labels_of(outputs["provenance"], outputs))
        job.record["reference"] = {name: reference["provenance"].get(name) for name in REFERENCE}
        job.path.write_text("\n".join(format_page(job.record)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
