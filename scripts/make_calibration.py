"""Selects training images of a CIFAR-10 archive for the calibration and check of int8; it never uses test images.

`--out data/calibration.bin`: rows of CIFAR-10's binary version: a label, then uint8 CHW. They are spread evenly over
data_batch_1 to data_batch_5; consecutive rows come from different batches.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import digest

from pathlib import Path

import numpy as np

from formats import held
from formats.cifar10 import BATCHES, ROW, origin_of_batches, read_batch

SETTINGS = {"images": "int8.images"}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--images", type=int, required=True, help="the maximum number of images")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sha256 = digest(args.archive)
    archive = {"sha256": sha256, "origin": held.origin_of(args.archive, sha256)}
    with artifact.build_file(args.out, artifact.key_of({"archive": archive}, cli.settings_of(args, SETTINGS))) as job:
        parts, members = [], {}
        subject = f"{args.archive} (the training part, which only int8 needs)"
        with artifact.opened_verified(args.archive, sha256) as file:
            for name in BATCHES:
                images, labels, members[name] = read_batch(args.archive, name, subject, file)
                chosen = np.unique(np.linspace(0, len(images) - 1, min(args.images // 5, len(images))).astype(int))
                rows_of_images = images[chosen].reshape(len(chosen), -1)
                parts.append(np.column_stack([np.array(labels, np.uint8)[chosen], rows_of_images]))
        shortest = min(len(part) for part in parts)
        rows = np.stack([part[:shortest] for part in parts], 1).reshape(-1, ROW)
        job.path.write_bytes(rows.tobytes())
        job.record["count"] = len(rows)
        origin = "sample" if archive["origin"] == "sample" else origin_of_batches(members)
        job.record["provenance"]["calibration_origin"] = origin


if __name__ == "__main__":
    main()
