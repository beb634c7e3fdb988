"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one a bin, and manifest.json.

The names and the txt layout are those of ais_bench (contract, section 2.4), but numbers keep all digits of a float32.
The last batch is padded with its first image, and the answers to the padding are dropped.
"""

from __future__ import annotations

import _build
from _build import Record, again, die, needed_record

import hashlib
import importlib
import io
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
from _progress import Progress
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


def answers(run: Run, manifest: Path, bins: Record, batch_size: int, subject: object) -> Iterator[NDArray[Any]]:
    """One answer an image, float32 [10], in the order of the bins.

    Exits 1 on an answer of another shape or not finite, and if the bins are not those that their manifest counts.
    """
    count = bins["count"]
    progress = Progress(count, "images")
    found = hashlib.sha256()
    batch = np.empty((batch_size, *SHAPE), np.float32)
    for start in range(0, count, batch_size):
        used = min(batch_size, count - start)
        for slot in range(used):
            batch[slot] = read_bin(manifest.with_name(f"image_{start + slot}.bin"))
        found.update(batch[:used].tobytes())
        batch[used:] = batch[0]
        rows = run(batch)
        if rows.shape != (batch_size, CLASSES) or rows.dtype != np.float32:
            die(subject, f"answered {rows.dtype} {list(rows.shape)}", "type: make om, and report it if it stays")
        if not np.isfinite(rows[:used]).all():
            bad = start + int(np.argmin(np.isfinite(rows[:used]).all(1)))
            die(subject, f"the answer to image {bad} is not finite", "try optimize.resize: none, then report it")
        yield from rows[:used]
        progress.update(start + used)
    if found.hexdigest() != bins["digest"]:
        die(manifest.parent, "the bins are not those that were made (their digest differs)", again(manifest))


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--format", choices=["txt", "bin", "npy"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    made = model["provenance"]
    name = f"engines.{made['engine']}_run"
    engine = importlib.import_module(name)
    inputs = {"model": model["sha256"], "bins": bins["digest"]}
    key = _build.key_of(inputs, {"format": args.format}, engine.PACKAGES, name)
    upstream = {**made, **bins["provenance"]}
    chip = _build.locked(args.model.parent)  # one user a chip; on a CPU, too, two at once are slower than one by one
    with _build.build_folder(args.out, key, upstream) as job, chip:
        run, conditions = engine.load(args.model, dict(word.split("=", 1) for word in made["options"].split()))
        found = hashlib.sha256()
        rows = answers(run, args.bins, bins, made["batch_size"], args.model)
        for i, row in enumerate(rows):
            data = encode(row, args.format)
            found.update(data)
            (job.path / f"image_{i}_0.{args.format}").write_bytes(data)
        job.record.update(count=bins["count"], format=args.format, digest=found.hexdigest())
        job.record["provenance"].update(conditions)


if __name__ == "__main__":
    main()
