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
from reporting.agreement import compare_logits, format_page, reference_facts
from reporting.provenance import labels_of, needed_outputs, without_paths

SETTINGS: Dict[str, str] = {}


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
    compared_with = reference_facts(reference["provenance"])
    inputs.update(provenance=provenance, compared_with=compared_with)  # because the page shows them
    with artifact.build_file(args.out, artifact.key_of(inputs, {}), provenance) as job:
        check_images(args.outputs, outputs, labels_record)
        check_images(args.reference, reference, labels_record)
        labels = read_labels(args.labels, labels_record["sha256"])
        logits = read_outputs(args.outputs, outputs, len(labels))
        reference_logits = read_outputs(args.reference, reference, len(labels))
        job.record["provenance"].update(outputs=outputs["digest"], reference=reference["digest"])
        job.record.update(compare_logits(logits, reference_logits, labels), **labels_of(outputs["provenance"], outputs))
        job.record["reference"] = compared_with
        job.path.write_text("\n".join(format_page(job.record)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
