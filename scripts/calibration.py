"""The training part of a CIFAR-10 archive -> the images that int8 is calibrated on and judged by, never the test set.

`--out data/calibration.bin`: rows of CIFAR-10's binary version, 3073 bytes: a label, then uint8 CHW. They are spread
evenly over data_batch_1 to data_batch_5 and stand in turn, one of each batch.
"""

from __future__ import annotations

import _build
from _build import digest

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from preprocess import read_batch

BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
ROW = 1 + 3 * 32 * 32


def read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """(images float32 [n, 3, 32, 32] as bins have them, labels uint8 [n])."""
    rows = np.fromfile(path, np.uint8).reshape(-1, ROW)
    return rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255), rows[:, 0]


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--images", type=int, required=True, help="at most")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    archive = {"sha256": digest(args.archive), "origin": _build.origin_of(args.archive)}
    with _build.build_file(args.out, _build.key_of({"archive": archive}, {"images": args.images})) as job:
        parts = []
        for name in BATCHES:
            images, labels, _ = read_batch(
                args.archive, name, f"{args.archive} (int8 needs its training part, cpu-bf16 does not)"
            )
            chosen = np.unique(np.linspace(0, len(images) - 1, min(args.images // 5, len(images))).astype(int))
            parts.append(np.column_stack([np.array(labels, np.uint8)[chosen], images[chosen].reshape(len(chosen), -1)]))
        shortest = min(len(part) for part in parts)
        rows = np.stack([part[:shortest] for part in parts], 1).reshape(-1, ROW)
        job.path.write_bytes(rows.tobytes())
        job.record["count"] = len(rows)


if __name__ == "__main__":
    main()
