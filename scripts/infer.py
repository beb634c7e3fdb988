"""Compiled model + bins -> outputs: image_<i>_0.<txt|bin|npy>, one a bin, and manifest.json.

Names and layouts are those of ais_bench. The last batch is padded with its first image, and the answers to the padding
are dropped. The engine is the one that the model's record names; one that runs in this process is fed by a thread that
reads the next bins, while another writes the last answers.
"""

from __future__ import annotations

import _build
from _build import Record, again, die, needed_record

import contextlib
import hashlib
import importlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Generator, Iterator

import _tool
import numpy as np
from _progress import Progress
from numpy.typing import NDArray
from outputs import CLASSES, encode, name_of
from reference import SHAPE, read_bin

Run = Callable[[NDArray[Any]], NDArray[Any]]
Stream = Generator[NDArray[Any], None, None]
BLOCK = 32  # images that go from thread to thread at once; a batch, where that is more
AHEAD = 2  # blocks that are read before they are asked for, and that may wait to be written


def blocks(manifest: Path, bins: Record, size: int = BLOCK) -> Iterator[NDArray[Any]]:
    """All images in order, `size` in an array of its own, float32 [size, 3, 32, 32]; the last one is shorter.

    Exits 1 if one cannot be read and, at the end, if they are not those that the manifest tells of.
    """
    found, count = hashlib.sha256(), bins["count"]
    for start in range(0, count, size):
        images = np.empty((min(size, count - start), *SHAPE), np.float32)
        for i, image in enumerate(images, start):
            read_bin(f"{manifest.parent}/image_{i}.bin", image)
        found.update(images.ravel().data)
        yield images
    if found.hexdigest() != bins["digest"]:
        die(manifest.parent, "the bins are not those that were made (their digest differs)", again(manifest))


def check_bins(manifest: Path, bins: Record) -> None:
    """Exits 1 if the bins are not those that their manifest tells of."""
    for _ in blocks(manifest, bins):
        pass


def ahead(items: Iterator[NDArray[Any]], thread: ThreadPoolExecutor) -> Stream:
    """The same items, AHEAD of them made in `thread` before they are asked for; its errors are raised here."""
    made = deque(thread.submit(next, items, None) for _ in range(AHEAD))
    try:
        while True:
            item = made.popleft().result()
            if item is None:
                return
            made.append(thread.submit(next, items, None))
            yield item
    finally:
        for job in made:
            job.cancel()


def answers(run: Run, images: NDArray[Any], batch_size: int, subject: object) -> NDArray[Any]:
    """One answer an image: float32 [n, 10] for float32 [n, 3, 32, 32]. Exits 1 on one of another shape or type."""
    rows = np.empty((len(images), len(CLASSES)), np.float32)
    for start in range(0, len(images), batch_size):
        batch, part = images[start : start + batch_size], rows[start : start + batch_size]
        if len(batch) < batch_size:
            batch = np.concatenate([batch, *[batch[:1]] * (batch_size - len(batch))])
        found = run(batch)
        if found.shape != (batch_size, len(CLASSES)) or found.dtype != np.float32:
            problem = f"answered {found.dtype} {list(found.shape)}"
            die(subject, problem, "type: make om, and report it if it stays")
        part[:] = found[: len(part)]  # copied: the next answer may come in the same place
    return rows


def answer_all(run: Run, manifest: Path, bins: Record, batch_size: int, subject: object, form: str, out: Path) -> str:
    """Fills the folder `out` with the answers to all bins; returns the sha256 of their bytes, in order.

    `run` is called in this thread, with arrays that nobody changes. Exits 1 on an answer of another shape or not
    finite, and if the bins are not those of their manifest: no answer counts before this returns.
    """
    found, progress, done = hashlib.sha256(), Progress(bins["count"], "images"), 0

    def write(rows: NDArray[Any], first: int) -> int:
        for i, row in enumerate(rows, first):
            data = encode(row, form)
            found.update(data)
            _build.write_bytes(f"{out}/{name_of(i, form)}", data)
        return first + len(rows)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        written: Deque[Any] = deque()
        read = blocks(manifest, bins, batch_size * max(1, BLOCK // batch_size))
        with contextlib.closing(ahead(read, reader)) as parts:
            for images in parts:
                rows = answers(run, images, batch_size, subject)
                if not np.isfinite(rows).all():
                    for _ in parts:  # if the bins are wrong, that is what is said
                        pass
                    bad = done + int(np.argmin(np.isfinite(rows).all(1)))
                    die(
                        subject, f"the answer to image {bad} is not finite", "try optimize.resize: none, then report it"
                    )
                written.append(writer.submit(write, rows, done))
                done += len(rows)
                while len(written) > 1 and (written[0].done() or len(written) > AHEAD):
                    progress.update(written.popleft().result())
        for job in written:  # the last is told once the bins are known to be right
            progress.update(job.result())
    return found.hexdigest()


def digest_of(outputs: Path, count: int, form: str) -> str:
    """The sha256 of the bytes of all outputs in a folder, in order."""
    found = hashlib.sha256()
    for i in range(count):
        found.update(_build.read_bytes(f"{outputs}/{name_of(i, form)}"))
    return found.hexdigest()


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
        if hasattr(engine, "load"):
            # One user a chip, since two at once are slower than one by one, and none while measure.py has the CPU.
            cpu = _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU", shared=True)
            with _build.locked(args.model.parent), cpu:
                run, conditions = engine.load(args.model, dict(word.split("=", 1) for word in made["options"].split()))
                found = answer_all(run, args.bins, bins, made["batch_size"], args.model, args.format, job.path)
        else:
            check_bins(args.bins, bins)
            limits = dict(word.split("=", 1) for word in args.limits.split())
            where, count = args.bins.parent, bins["count"]
            conditions = engine.infer(args.model, model, where, count, args.format, args.devices, limits, job.path)
            found = digest_of(job.path, count, args.format)
        job.record.update(count=bins["count"], format=args.format, digest=found)
        job.record["provenance"].update(conditions)


if __name__ == "__main__":
    main()
