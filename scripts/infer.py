"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one a bin, and manifest.json.

Names and layouts are those of ais_bench. The last batch is padded with its first image, and the answers to the padding
are dropped. The engine is the one that the model's record names.
"""

from __future__ import annotations

import _build
from _build import Record, again, die, needed_record

import hashlib
import importlib
from pathlib import Path
from typing import Any, Callable, Iterator

import _tool
import numpy as np
from _progress import Progress
from numpy.typing import NDArray
from outputs import CLASSES, encode, name_of
from reference import SHAPE, read_bin

Run = Callable[[NDArray[Any]], NDArray[Any]]


def answers(run: Run, manifest: Path, bins: Record, batch_size: int, subject: object) -> Iterator[NDArray[Any]]:
    """One answer an image, float32 [10], in the order of the bins.

    Exits 1 on an answer of another shape or not finite.
    """
    count = bins["count"]
    progress = Progress(count, "images")
    batch = np.empty((batch_size, *SHAPE), np.float32)
    for start in range(0, count, batch_size):
        used = min(batch_size, count - start)
        for slot in range(used):
            batch[slot] = read_bin(manifest.with_name(f"image_{start + slot}.bin"))
        batch[used:] = batch[0]
        rows = run(batch)
        if rows.shape != (batch_size, len(CLASSES)) or rows.dtype != np.float32:
            die(subject, f"answered {rows.dtype} {list(rows.shape)}", "type: make om, and report it if it stays")
        if not np.isfinite(rows[:used]).all():
            bad = start + int(np.argmin(np.isfinite(rows[:used]).all(1)))
            die(subject, f"the answer to image {bad} is not finite", "try optimize.resize: none, then report it")
        yield from rows[:used]
        progress.update(start + used)


def check_bins(manifest: Path, bins: Record) -> None:
    """Exits 1 if the bins are not those that their manifest tells of."""
    found = hashlib.sha256()
    for i in range(bins["count"]):
        found.update(read_bin(manifest.with_name(f"image_{i}.bin")).tobytes())
    if found.hexdigest() != bins["digest"]:
        die(manifest.parent, "the bins are not those that were made (their digest differs)", again(manifest))


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="the model's")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--format", choices=["txt", "bin", "npy"], required=True)
    parser.add_argument("--devices", default="", help="an NPU's device number, or several: 0,1")
    parser.add_argument("--limits", default="", help="keys of params.yaml that shape no bytes, as words key=value")
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    model, bins = needed_record(args.model, args.record), needed_record(args.bins, args.bins)
    made = model["provenance"]
    name = f"engines.{made['engine']}_run"
    engine = importlib.import_module(name)
    inputs = {"model": model["sha256"], "bins": bins["digest"]}
    key = _build.key_of(inputs, {"format": args.format}, engine.PACKAGES, name)
    precision = model.get("engine", {}).get("precision", "as the given model's")
    upstream = {**made, **bins["provenance"], "precision": precision}
    with _build.build_folder(args.out, key, upstream) as job:
        files = [job.path / name_of(i, args.format) for i in range(bins["count"])]
        check_bins(args.bins, bins)
        if hasattr(engine, "load"):
            # One user a chip, since two at once are slower than one by one, and none while measure.py has the CPU.
            cpu = _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU", shared=True)
            with _build.locked(args.model.parent), cpu:
                run, conditions = engine.load(args.model, dict(word.split("=", 1) for word in made["options"].split()))
                rows = answers(run, args.bins, bins, made["batch_size"], args.model)
                for row, file in zip(rows, files):  # in this order, so that the last batch is told too
                    file.write_bytes(encode(row, args.format))
        else:
            limits = dict(word.split("=", 1) for word in args.limits.split())
            where, count = args.bins.parent, bins["count"]
            conditions = engine.infer(args.model, model, where, count, args.format, args.devices, limits, job.path)
        found = hashlib.sha256()
        for file in files:
            found.update(file.read_bytes())
        job.record.update(count=bins["count"], format=args.format, digest=found.hexdigest())
        job.record["provenance"].update(conditions)


if __name__ == "__main__":
    main()
