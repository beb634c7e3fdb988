"""Outputs + the reference engine's outputs + labels -> compare.txt and compare.json: image by image.

Top-1 alone cannot show what `nearest`, fp16 or int8 cost: the 95 % interval of 10,000 images is wider. Labels that
changed can: with McNemar's exact test (Q. McNemar, Psychometrika 12, 1947) of those that became right against those
that became wrong, and with the logits themselves.
"""

from __future__ import annotations

import _build
from _build import Record, again, die, needed_record

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from outputs import CLASSES, read_labels, read_outputs
from provenance import conditions, digests, made_from, source_of


def mcnemar(mended: int, broken: int) -> float:
    """The two-sided exact p of as uneven a split or more, if either way were as likely: binomial, at 1/2."""
    n, k = mended + broken, min(mended, broken)
    tail: int = sum(math.comb(n, i) for i in range(k + 1))
    return float(min(1.0, tail / 2 ** max(n - 1, 0)))


def flips_of(found: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any]) -> list[Record]:
    """Every image whose label changed: image, true label, the reference's and the one here, all int."""
    names = ("image", "label", "reference", "here")
    changed = np.flatnonzero(found != reference)
    return [dict(zip(names, (int(i), int(labels[i]), int(reference[i]), int(found[i])))) for i in changed]


def logit_errors(found: NDArray[Any], reference: NDArray[Any]) -> Record:
    """How far logits, float64 [n, 10], are from the reference's: largest and mean |Δ|, the largest relative to the
    largest |reference|, and the cosine of an image's ten, mean and smallest."""
    error = np.abs(found - reference)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (found * reference).sum(1) / np.maximum(lengths, 1e-30)
    return {
        "largest_error": float(error.max()),
        "largest_error_image": int(error.max(1).argmax()),
        "mean_error": float(error.mean()),
        "relative_error": float(error.max() / max(np.abs(reference).max(), 1e-30)),
        "cosine_mean": float(cosine.mean()),
        "cosine_min": float(cosine.min()),
    }


def compared(found: NDArray[Any], reference: NDArray[Any], labels: NDArray[Any]) -> Record:
    """compare.json's figures, of logits float64 [n, 10] and labels int [n]."""
    here, there = found.argmax(1), reference.argmax(1)
    flips = flips_of(here, there, labels)
    mended, broken = (sum(flip[side] == flip["label"] for flip in flips) for side in ("here", "reference"))
    return {
        "images": len(labels),
        "top1": float((here == labels).mean()),
        "reference_top1": float((there == labels).mean()),
        "agreement": float((here == there).mean()),
        "mended": mended,
        "broken": broken,
        "other": len(flips) - mended - broken,
        "mcnemar_p": mcnemar(mended, broken),
        "logits": logit_errors(found, reference),
        "flips": flips,
    }


def lines_of(result: Record) -> list[str]:
    """compare.txt, line by line; `make compare` prints the first eight."""
    made, logits, flips = result["provenance"], result["logits"], result["flips"]
    split = f"{result['mended']} became right, {result['broken']} wrong, {result['other']} wrong in another way"
    lines = [
        f"Agreement with the reference engine: {100 * result['agreement']:.2f}% of {result['images']} images",
        f"Labels changed: {len(flips)}: {split}",
        f"McNemar's exact p: {result['mcnemar_p']:.3g}",
        f"Top-1: {100 * result['top1']:.2f}% here, {100 * result['reference_top1']:.2f}% by the reference engine",
        f"Logits: largest error {logits['largest_error']:.3g} (image {logits['largest_error_image']}; relative "
        f"{logits['relative_error']:.2e}), mean {logits['mean_error']:.2e}, cosine {logits['cosine_mean']:.6f}, "
        f"at least {logits['cosine_min']:.6f}",
        f"Reference: {result['reference']['runtime']}, float32, on the plain export",
        made_from(made),
        conditions(made),
    ]
    if flips:
        lines += ["", f"{'image':>6}  {'true':<6} {'reference':<10}{'here':<6}"]
    for flip in flips:
        way = {flip["here"]: "became right", flip["reference"]: "became wrong"}.get(flip["label"], "")
        names = (CLASSES[flip[side]] for side in ("label", "reference", "here"))
        lines.append("{:>6}  {:<6} {:<10}{:<6} {}".format(flip["image"], *names, way).rstrip())
    return lines + digests(made)


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--outputs", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--reference", type=Path, required=True, help="the reference engine's manifest.json")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="compare.txt; compare.json lies beside it")
    args = parser.parse_args()
    outputs, reference = (needed_record(path, path) for path in (args.outputs, args.reference))
    labels_record = needed_record(args.labels)
    inputs = {"outputs": outputs["digest"], "reference": reference["digest"], "labels": labels_record["sha256"]}
    inputs.update(provenance=outputs["provenance"])  # the page tells it
    with _build.build_file(args.out, _build.key_of(inputs, {}), outputs["provenance"]) as job:
        for path, record in ((args.outputs, outputs), (args.reference, reference)):
            if record["provenance"]["archive"] != labels_record["provenance"]["archive"]:
                die(path, "outputs for other images than the labels'", again(path))
        labels = read_labels(args.labels)
        here, there = (
            read_outputs(*pair, len(labels)) for pair in ((args.outputs, outputs), (args.reference, reference))
        )
        job.record["provenance"].update(outputs=outputs["digest"], reference=reference["digest"])
        job.record.update(compared(here, there, labels), source=source_of(outputs["provenance"]))
        job.record["reference"] = {name: reference["provenance"].get(name) for name in ("runtime", "onnx", "threads")}
        job.path.write_text("\n".join(lines_of(job.record)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
