"""Converts the test batch of a CIFAR-10 archive to bins or labels.

`--bins data/bin`: writes image_<i>.bin (float32, CHW, RGB, value/255; i = index in test_batch) and manifest.json with
their count and digest. With `--type uint8` a bin has the values of the archive: uint8, HWC, RGB.
`--labels data/labels.txt`: writes one integer per line, in the same order. Only the test batch is read,
by an unpickler that runs no code of the pickle.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, digest
from _support.progress import Progress

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import held
from formats.bins import FORMS
from formats.cifar10 import Content, origin_of_batches, read_batch, release
from network.spec import FLOAT32, UINT8

SETTINGS: dict[str, str] = {}
RELEASE = 4096  # images after which their memory is given back


def provenance(archive: Record, raw: Content, path: str) -> Record:
    """What to record of a batch: the archive's digest, and whether its images are sample, official or own. `path` is
    where the archive was imported from; it is recorded for own images."""
    origin = "sample" if archive["origin"] == "sample" else origin_of_batches({"test_batch": raw})
    own = {"data_path": path} if origin == "own" else {}
    return {"archive": archive["sha256"], "data_origin": origin, **own}


def encode(image: NDArray[Any], kind: str) -> bytes:
    """The bytes of the bin of an image, uint8 IMAGE_SHAPE."""
    if kind == UINT8:
        return np.ascontiguousarray(np.moveaxis(image, 0, -1)).tobytes()
    return (image.astype(np.float32) / np.float32(255)).tobytes()


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--type", choices=FORMS, default=FLOAT32, help="of the values of a bin")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bins", type=Path)
    what.add_argument("--labels", type=Path)
    args = parser.parse_args()
    sha256 = digest(args.archive)
    archive = {"sha256": sha256, "origin": held.origin_of(args.archive, sha256)}
    path = artifact.imported_from(args.archive, sha256)
    key = artifact.key_of({"archive": archive}, {**cli.settings_of(args, SETTINGS), "type": args.type})
    if args.labels:
        with artifact.build_file(args.labels, key) as job:
            with artifact.opened_verified(args.archive, sha256) as file:
                _, labels, raw = read_batch(args.archive, "test_batch", file=file)
            job.path.write_text("".join(f"{label}\n" for label in labels))
            job.record["count"] = len(labels)
            job.record["provenance"].update(provenance(archive, raw, path))
        return
    with artifact.build_folder(args.bins / "manifest.json", key) as job:
        with artifact.opened_verified(args.archive, sha256) as file:
            images, _, raw = read_batch(args.archive, "test_batch", file=file)
        bins, progress = hashlib.sha256(), Progress(len(images), "bins")
        for i, image in enumerate(images):
            data = encode(image, args.type)
            bins.update(data)
            artifact.write_bytes(f"{job.path}/image_{i}.bin", data)
            progress.update(i + 1)
            if i % RELEASE == 0:
                release(raw)
        job.record.update(count=len(images), type=args.type, digest=bins.hexdigest())
        job.record["provenance"].update(provenance(archive, raw, path), bins=bins.hexdigest())


if __name__ == "__main__":
    main()
