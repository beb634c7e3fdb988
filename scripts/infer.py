"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one a bin, and manifest.json.

The names and the txt layout are those of ais_bench (contract, section 2.4), but numbers keep all digits of a float32.
The last batch is padded with its first image, and the answers to the padding are dropped.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from pathlib import Path
from typing import Any, Callable, Iterator

import _build
import numpy as np
from _build import die, digest, needed_record
from numpy.typing import NDArray
from reference import SHAPE, read_bin

CLASSES = 10
Run = Callable[[NDArray[Any]], NDArray[Any]]


def encode(row: NDArray[Any], form: str) -> bytes:
    """One answer, float32 [10], as a file of the given form; npy keeps ais_bench's shape [1, 10]."""
    if form == "txt":
        return ("%.9g " * CLASSES % tuple(row) + "\n").encode()
    if form == "bin":
        return row.tobytes()
    stream = io.BytesIO()
    np.save(stream, row[None])
    return stream.getvalue()


def answers(run: Run, bins: Path, count: int, batch_size: int, subject: object) -> Iterator[NDArray[Any]]:
    """One answer an image, float32 [10], in the order of the bins; exits 1 on one of another shape or not finite."""
    progress = _build.Progress(count, "images")
    batch = np.empty((batch_size, *SHAPE), np.float32)
    for start in range(0, count, batch_size):
        used = min(batch_size, count - start)
        for slot in range(used):
            batch[slot] = read_bin(bins / f"image_{start + slot}.bin")
        batch[used:] = batch[0]
        rows = run(batch)
        if rows.shape != (batch_size, CLASSES) or rows.dtype != np.float32:
            die(subject, f"answered {rows.dtype} {list(rows.shape)}", "type: make om, and report it if it stays")
        if not np.isfinite(rows[:used]).all():
            bad = start + int(np.argmin(np.isfinite(rows[:used]).all(1)))
            die(subject, f"the answer to image {bad} is not finite", "try optimize.resize: none, then report it")
        yield from rows[:used]
        progress.update(start + used)


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
    if inputs["model"] != model["sha256"]:
        die(args.model, f"not the model that {args.record} tells of", f"type: rm {args.model}, then the same command")
    key = _build.key_of(inputs, {"format": args.format}, engine.PACKAGES, name)
    upstream = {**made, **bins["provenance"]}
    device = args.model.parent / "device"  # a chip has one user at a time; a CPU, too, is faster so
    with _build.build_folder(args.out, key, upstream) as job, _build.locked(device):
        run, conditions = engine.load(args.model, dict(word.split("=", 1) for word in made["options"].split()))
        found = hashlib.sha256()
        rows = answers(run, args.bins.parent, bins["count"], made["batch_size"], args.model)
        for i, row in enumerate(rows):
            data = encode(row, args.format)
            found.update(data)
            (job.path / f"image_{i}_0.{args.format}").write_bytes(data)
        job.record.update(count=bins["count"], format=args.format, digest=found.hexdigest())
        job.record["provenance"].update(conditions)


if __name__ == "__main__":
    main()
