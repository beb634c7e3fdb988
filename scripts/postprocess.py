"""Outputs + labels -> accuracy.txt and accuracy.json: Top-1, Wilson's 95 % interval, a row per class, provenance.

Writes predictions.csv beside them: a row for each image, with the prediction and its probability. statement.json says
in in-toto's form what the result was made from.

Exits 1 unless there is exactly one output per label, with one finite value per class, and unless inference wrote the
outputs with this model. Python 3.7.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, needed_record, read_record, rebuild_hint
from _support.cli import die

import hashlib
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from numpy.typing import NDArray

from formats.outputs import read_labels, read_outputs
from reporting._statement import rebuild_reason, with_statement
from reporting.accuracy import accuracy_record, format_predictions
from reporting.provenance import (
    conditions_line,
    labels_of,
    needed_outputs,
    provenance_lines,
    source_line,
    without_paths,
)

SETTINGS: Dict[str, str] = {}


class Inputs(NamedTuple):
    """The outputs' manifest and the labels, with their records."""

    manifest: Path
    outputs: Record
    labels_path: Path
    labels: Record


def check_origins(inputs: Inputs, model: Record) -> None:
    """Exits 1 if the outputs come from another model, or the labels from another archive than the outputs' bins."""
    provenance = inputs.outputs["provenance"]
    if provenance["model"] != model.get("sha256"):
        problem = "these outputs were written with another model"
        die(inputs.manifest, problem, rebuild_hint(inputs.manifest))
    if provenance["archive"] != inputs.labels["provenance"]["archive"]:
        problem = "the labels and the bins come from different dataset archives"
        die(inputs.labels_path, problem, rebuild_hint(inputs.labels_path))


def read_logits(inputs: Inputs, labels: NDArray[Any]) -> NDArray[Any]:
    """The outputs, float64 [images, classes]; exits 1 unless there is exactly one per label."""
    if inputs.outputs["count"] != len(labels):
        problem = f"{inputs.outputs['count']} outputs for {len(labels)} labels"
        die(inputs.manifest, problem, rebuild_hint(inputs.manifest))
    return read_outputs(inputs.manifest, inputs.outputs, len(labels))


def format_page(accuracy: Record) -> List[str]:
    """The lines of accuracy.txt; `make accuracy` prints the first six."""
    low, high = accuracy["wilson95"]
    quote, provenance = accuracy["published"], accuracy["provenance"]
    published = "Published: no figure for these inputs"
    if quote:
        published = f"Published ({quote['device']}): {100 * quote['top1']:.2f}%, ratio to it {quote['ratio']:.4f}"
    lines = [
        f"Top-1 accuracy of inference: {100 * accuracy['top1']:.2f}%",
        f"Correct: {accuracy['correct']} of {accuracy['total']} images",
        f"Wilson 95% interval: {100 * low:.2f}% to {100 * high:.2f}%",
        published,
        source_line(provenance),
        conditions_line(provenance),
        "",
        f"{'class':<8}{'correct':>9}{'total':>9}{'accuracy':>11}",
    ]
    for name, row in accuracy["classes"].items():
        share = f"{100 * row['correct'] / row['total']:.2f}%" if row["total"] else "no images"
        lines.append(f"{name:<8}{row['correct']:>9}{row['total']:>9}{share:>11}")
    return lines + provenance_lines(provenance)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--outputs", type=Path, required=True, help="the manifest.json of the outputs")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model-record", type=Path, required=True, help="record of the model that wrote the outputs")
    parser.add_argument("--published", default="", help="device and Top-1 to quote: `DEVICE PERCENT`")
    parser.add_argument("--out", type=Path, required=True, help="accuracy.txt; accuracy.json is written beside it")
    args = parser.parse_args()
    outputs, model = needed_outputs(args.outputs), read_record(args.model_record)
    inputs = Inputs(args.outputs, outputs, args.labels, needed_record(args.labels))
    digests_of_inputs = {"outputs": outputs["digest"], "labels": inputs.labels["sha256"]}
    provenance = without_paths(outputs["provenance"])
    predictions = args.out.with_name("predictions.csv")
    reason = rebuild_reason(args.out) if artifact.is_file(predictions) else f"no {predictions.name}"
    key = artifact.key_of({**digests_of_inputs, "provenance": provenance}, {"published": args.published})
    with with_statement(args.out), artifact.build_file(args.out, key, reason=reason) as job:
        check_origins(inputs, model)
        labels = read_labels(args.labels, inputs.labels["sha256"])
        logits = read_logits(inputs, labels)
        origin = {**provenance, "labels": inputs.labels["sha256"]}
        accuracy = accuracy_record(logits, labels, args.published, origin)
        table = format_predictions(logits, labels)
        artifact.write_text(predictions, table)
        job.record["predictions_sha256"] = hashlib.sha256(table.encode()).hexdigest()
        job.path.write_text("\n".join(format_page(accuracy)) + "\n", "utf-8")
        job.record.update(accuracy, **labels_of(outputs["provenance"], outputs))


if __name__ == "__main__":
    main()
