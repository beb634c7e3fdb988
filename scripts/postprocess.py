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
from outputs import CLASSES, decode, name_of

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
CONDITIONS = ("chip", "batch_size", "resize", "precision", "runtime", "threads", "device", "driver")
WORDS = {"sample": "THE BUILT-IN SAMPLE'S", "official": "official", "own": "own"}


def read_outputs(manifest: Path, record: Record, labels: int) -> NDArray[Any]:
    """Every output in the labels' order: float64 [labels, 10]. Exits 1 unless there is exactly one for each label."""
    folder, form = manifest.parent, record["format"]
    wanted = [name_of(i, form) for i in range(labels)]
    have = {path.name for path in folder.iterdir()} - {manifest.name}
    missing = [name for name in wanted if name not in have]
    extra = sorted(have.difference(wanted))
    if missing:
        die(folder / missing[0], f"missing ({len(missing)} of {labels} outputs are)", again(manifest))
    if extra:
        die(folder / extra[0], f"one output too many ({len(extra)} in all), no label asks for it", again(manifest))
    found = hashlib.sha256()
    rows = np.empty((labels, len(CLASSES)))
    for i, name in enumerate(wanted):
        data = (folder / name).read_bytes()
        found.update(data)
        rows[i] = decode(folder / name, data, form)
    if found.hexdigest() != record["digest"]:
        die(folder, "the files are not those that this inference wrote (their digest differs)", again(manifest))
    return rows


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a fraction, at 95 %."""
    p, n = correct / total, total
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def read_labels(path: Path) -> NDArray[Any]:
    """One integer 0…9 a line: int [n]; exits 1 on anything else."""
    lines = path.read_text().split("\n")[:-1]
    for i, line in enumerate(lines):
        if line not in "0123456789" or len(line) != 1:
            die(f"{path}:{i + 1}", f"{line!r} is no label 0…9", again(path))
    if not lines:
        die(path, "no labels", again(path))
    return np.array(lines, int)


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
    if made["data_origin"] == made["checkpoint_origin"] == "sample":
        lines += ["Made from: THE BUILT-IN SAMPLE, not CIFAR-10: this figure shows that the chain works, no more"]
    else:
        model = made.get("given") or f"{WORDS[made['checkpoint_origin']]} checkpoint"
        lines += [f"Made from: {WORDS[made['data_origin']]} data, {model}"]
    lines += ["Conditions: " + ", ".join(f"{k.replace('_', ' ')} {made[k]}" for k in CONDITIONS if k in made)]
    lines += ["", f"{'class':<8}{'correct':>9}{'total':>9}{'accuracy':>11}"]
    for name, row in result["classes"].items():
        share = f"{100 * row['correct'] / row['total']:.2f}%" if row["total"] else "no images"
        lines.append(f"{name:<8}{row['correct']:>9}{row['total']:>9}{share:>11}")
    lines += ["", "made from"]
    lines += [f"  {name:<18}{value}" for name, value in sorted(made.items()) if value != ""]
    return lines


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
        found = read_outputs(args.outputs, outputs, len(labels)).argmax(1)
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
            "source": "sample" if "sample" in origins else "cifar10",
            "published": published,
            "digests": {name: provenance[name] for name in ("model", "labels", "predictions")},
            "provenance": provenance,
        }
        job.path.write_text("\n".join(lines_of(result)) + "\n", "utf-8")
        job.record.update(result)


if __name__ == "__main__":
    main()
