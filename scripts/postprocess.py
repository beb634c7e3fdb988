"""Outputs + labels -> accuracy.txt and accuracy.json.

Every label must have exactly one output, finite, of ten values, and the outputs must be those that inference wrote:
otherwise exits 1 with what is missing. Top-1 as the guide prints it, Wilson's 95 % interval (E. B. Wilson, J. Am.
Stat. Assoc. 22, 1927), a row a class, and what it was made from.
"""

from __future__ import annotations

import _build
from _build import Record, again, die, needed_record, read_record

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from outputs import CLASSES, read_labels, read_outputs
from provenance import conditions, digests, made_from, source_of

MISTAKES = 24  # as many of them, the surest first, are kept for the report to show
Z = 1.959963984540054  # the normal distribution's 97.5 % quantile


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a fraction, at 95 %."""
    p, n = correct / total, total
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def surest_mistakes(logits: NDArray[Any], labels: NDArray[Any]) -> list[Record]:
    """The images with a wrong label of the highest probability (softmax), at most MISTAKES, the surest first."""
    found = logits.argmax(1)
    surest = 1 / np.exp(logits - logits.max(1, keepdims=True)).sum(1)  # the largest logit's share
    wrong = np.flatnonzero(found != labels)
    wrong = wrong[np.argsort(-surest[wrong], kind="stable")][:MISTAKES]
    names = ("image", "label", "found", "probability")
    return [dict(zip(names, (int(i), int(labels[i]), int(found[i]), float(surest[i])))) for i in wrong]


def lines_of(result: Record) -> list[str]:
    """accuracy.txt, line by line; `make accuracy` prints the first six."""
    low, high = result["wilson95"]
    made, published = result["provenance"], result["published"]
    lines = [
        f"Top-1 accuracy of inference: {100 * result['top1']:.2f}%",
        f"Correct: {result['correct']} of {result['total']} images",
        f"Wilson 95% interval: {100 * low:.2f}% to {100 * high:.2f}%",
    ]
    if published:
        lines += [
            f"Published ({published['device']}): {100 * published['top1']:.2f}%, ratio to it {published['ratio']:.4f}"
        ]
    else:
        lines += ["Published: nothing for these inputs"]
    lines += [made_from(made), conditions(made)]
    lines += ["", f"{'class':<8}{'correct':>9}{'total':>9}{'accuracy':>11}"]
    for name, row in result["classes"].items():
        share = f"{100 * row['correct'] / row['total']:.2f}%" if row["total"] else "no images"
        lines.append(f"{name:<8}{row['correct']:>9}{row['total']:>9}{share:>11}")
    return lines + digests(made)


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--outputs", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model-record", type=Path, required=True, help="of the model the outputs have to come from")
    parser.add_argument("--published", default="", help="the device and its Top-1 in per cent, to quote: `GPU 95.40`")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    outputs, model, labels_record = (
        needed_record(args.outputs, args.outputs),
        read_record(args.model_record),
        needed_record(args.labels),
    )
    inputs = {"outputs": outputs["digest"], "labels": labels_record["sha256"], "provenance": outputs["provenance"]}
    with _build.build_file(args.out, _build.key_of(inputs, {"published": args.published})) as job:
        if outputs["provenance"]["model"] != model.get("sha256"):
            die(args.outputs, "outputs of an earlier run: another model made them", again(args.outputs))
        if outputs["provenance"]["archive"] != labels_record["provenance"]["archive"]:
            die(args.labels, "not the labels that were made with these bins", again(args.labels))
        labels = read_labels(args.labels)
        if outputs["count"] != len(labels):
            die(args.outputs, f"{outputs['count']} outputs for {len(labels)} labels", again(args.outputs))
        logits = read_outputs(args.outputs, outputs, len(labels))
        found = logits.argmax(1)
        confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
        np.add.at(confusion, (labels, found), 1)
        correct, total = int((found == labels).sum()), len(labels)
        origins = {outputs["provenance"]["data_origin"], outputs["provenance"]["checkpoint_origin"]}
        published = None
        if origins == {"official"} and args.published:
            device, figure = args.published.split()
            published = {"device": device, "top1": float(figure) / 100, "ratio": correct / total / float(figure) * 100}
        predictions = hashlib.sha256("".join(f"{k}\n" for k in found).encode()).hexdigest()
        provenance = {**outputs["provenance"], "labels": inputs["labels"], "predictions": predictions}
        result: Record = {
            "top1": correct / total,
            "correct": correct,
            "total": total,
            "wilson95": list(wilson(correct, total)),
            "classes": {
                name: {"correct": int(confusion[k, k]), "total": int(confusion[k].sum())}
                for k, name in enumerate(CLASSES)
            },
            "confusion": confusion.tolist(),
            "mistakes": surest_mistakes(logits, labels),
            "source": source_of(provenance),
            "published": published,
            "digests": {name: provenance[name] for name in ("model", "labels", "predictions")},
            "provenance": provenance,
        }
        job.path.write_text("\n".join(lines_of(result)) + "\n", "utf-8")
        job.record.update(result)


if __name__ == "__main__":
    main()
