"""Outputs + labels -> accuracy.txt and accuracy.json: Top-1, Wilson's 95 % interval, a row per class, provenance.

Exits 1 unless there is exactly one output per label, finite and with one value per class, and unless the outputs are
those that inference wrote with this model. Python 3.7.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, again, needed_record, read_record
from _support.cli import die

from pathlib import Path
from typing import Dict, List, NamedTuple

from formats.outputs import read_labels, read_outputs
from reporting.accuracy import accuracy_record
from reporting.provenance import conditions, digests, made_from

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
        problem = "outputs of an earlier run: another model made them"
        die(inputs.manifest, problem, again(inputs.manifest))
    if provenance["archive"] != inputs.labels["provenance"]["archive"]:
        problem = "not the labels that were made with these bins"
        die(inputs.labels_path, problem, again(inputs.labels_path))


def judge_outputs(inputs: Inputs, published: str) -> Record:
    """accuracy.json, but for its cache key; exits 1 unless there is exactly one output per label."""
    labels = read_labels(inputs.labels_path)
    if inputs.outputs["count"] != len(labels):
        problem = f"{inputs.outputs['count']} outputs for {len(labels)} labels"
        die(inputs.manifest, problem, again(inputs.manifest))
    logits = read_outputs(inputs.manifest, inputs.outputs, len(labels))
    provenance = {**inputs.outputs["provenance"], "labels": inputs.labels["sha256"]}
    return accuracy_record(logits, labels, published, provenance)


def format_page(accuracy: Record) -> List[str]:
    """The lines of accuracy.txt; `make accuracy` prints the first six."""
    low, high = accuracy["wilson95"]
    quote, provenance = accuracy["published"], accuracy["provenance"]
    published = "Published: nothing for these inputs"
    if quote:
        published = f"Published ({quote['device']}): {100 * quote['top1']:.2f}%, ratio to it {quote['ratio']:.4f}"
    lines = [
        f"Top-1 accuracy of inference: {100 * accuracy['top1']:.2f}%",
        f"Correct: {accuracy['correct']} of {accuracy['total']} images",
        f"Wilson 95% interval: {100 * low:.2f}% to {100 * high:.2f}%",
        published,
        made_from(provenance),
        conditions(provenance),
        "",
        f"{'class':<8}{'correct':>9}{'total':>9}{'accuracy':>11}",
    ]
    for name, row in accuracy["classes"].items():
        share = f"{100 * row['correct'] / row['total']:.2f}%" if row["total"] else "no images"
        lines.append(f"{name:<8}{row['correct']:>9}{row['total']:>9}{share:>11}")
    return lines + digests(provenance)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--outputs", type=Path, required=True, help="the manifest.json of the outputs")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model-record", type=Path, required=True, help="of the model that must have made the outputs")
    parser.add_argument("--published", default="", help="the device and its Top-1 to quote: `DEVICE PERCENT`")
    parser.add_argument("--out", type=Path, required=True, help="accuracy.txt; accuracy.json is written beside it")
    args = parser.parse_args()
    outputs, model = needed_record(args.outputs, args.outputs), read_record(args.model_record)
    inputs = Inputs(args.outputs, outputs, args.labels, needed_record(args.labels))
    digests_of_inputs = {"outputs": outputs["digest"], "labels": inputs.labels["sha256"]}
    key = artifact.key_of({**digests_of_inputs, "provenance": outputs["provenance"]}, {"published": args.published})
    with artifact.build_file(args.out, key) as job:
        check_origins(inputs, model)
        accuracy = judge_outputs(inputs, args.published)
        job.path.write_text("\n".join(format_page(accuracy)) + "\n", "utf-8")
        job.record.update(accuracy)


if __name__ == "__main__":
    main()
