"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one a bin, and manifest.json.

The names and the txt layout are those of ais_bench (contract, section 2.4), but numbers keep all digits of a float32.
The last batch is padded with its first image, and the answers to the padding are dropped.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from pathlib import Path
from typing import Any

import _build
import numpy as np
from _build import die, digest, needed_record
from numpy.typing import NDArray
from reference import SHAPE, read_bin

CLASSES = 10


def encode(row: NDArray[Any], form: str) -> bytes:
    """One answer, float32 [10], as a file of the given form; npy keeps ais_bench's shape [1, 10]."""
    if form == "txt":
        return ("%.9g " * CLASSES % tuple(row) + "\n").encode()
    if form == "bin":
        return row.tobytes()
    stream = io.BytesIO()
    np.save(stream, row[None])
    return stream.getvalue()


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--format", choices=["txt", "bin", "npy"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    model, bins = needed_record(args.record, "om"), needed_record(args.bins, "bin")
    made = model["provenance"]
    name = f"engines.{made['engine']}_run"
    engine = importlib.import_module(name)
    inputs = {"model": digest(args.model), "bins": bins["digest"]}
    key = _build.key_of(inputs, {"format": args.format}, engine.PACKAGES, name)
    device = args.model.parent / "device"  # a chip has one user at a time; a CPU, too, is faster so
    with _build.build_folder(args.out, key) as job, _build.locked(device):
        run, conditions = engine.load(args.model, dict(word.split("=", 1) for word in made["options"].split()))
        count, batch_size = bins["count"], made["batch_size"]
        found, top1 = hashlib.sha256(), hashlib.sha256()
        progress = _build.Progress(count, "images")
        batch = np.empty((batch_size, *SHAPE), np.float32)
        for start in range(0, count, batch_size):
            indices = range(start, min(start + batch_size, count))
            for slot, i in enumerate(indices):
                batch[slot] = read_bin(args.bins.parent / f"image_{i}.bin")
            batch[len(indices) :] = batch[0]
            answers = run(batch)
            if answers.shape != (batch_size, CLASSES) or answers.dtype != np.float32:
                die(args.model, f"answered {answers.dtype} {answers.shape}", "type: make om, and report it if it stays")
            for i, row in zip(indices, answers):
                if not np.isfinite(row).all():
                    die(
                        args.model,
                        f"image {i}: an answer is not finite: {row}",
                        "try another precision, then report it",
                    )
                data = encode(row, args.format)
                found.update(data)
                top1.update(b"%d\n" % row.argmax())
                (job.path / f"image_{i}_0.{args.format}").write_bytes(data)
            progress.update(indices[-1] + 1)
        job.record.update(count=count, format=args.format, digest=found.hexdigest(), conditions=conditions)
        job.record["provenance"] = {**made, **bins["provenance"], **conditions, "predictions": top1.hexdigest()}


if __name__ == "__main__":
    main()
