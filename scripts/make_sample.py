"""Writes the built-in sample: its archive of images (--archive) or its checkpoint (--checkpoint).

See formats/sample.py.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die

from pathlib import Path
from typing import Dict

from formats.python2 import write_tar
from formats.sample import NOTICE, archive_files, write_checkpoint
from network.shapes import shapes

SETTINGS: Dict[str, Dict[str, str]] = {
    "archive": {
        "seed": "sample.seed",
        "train_images": "sample.train_images",
        "test_images": "sample.test_images",
    },
    "checkpoint": {},
}


def check_replaceable(out: Path, sample: Path) -> None:
    """Exits 1 if there is a file without a valid record at `out` which is not the `sample`: it may be a user's."""
    is_ours = artifact.read_record(artifact.record_of(out)) or not artifact.is_file(out)
    if is_ours or out.stat().st_mtime_ns == artifact.UNFINISHED or artifact.digest(out) == artifact.digest(sample):
        return
    die(out, "not the file that was generated, and its record is missing or damaged", artifact.rebuild_hint(out))


def main() -> None:
    parser = cli.Parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--archive", type=Path)
    what.add_argument("--checkpoint", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-images", type=int, default=0)
    parser.add_argument("--test-images", type=int, default=0)
    args = parser.parse_args()
    settings = cli.settings_of(args, SETTINGS["checkpoint" if args.checkpoint else "archive"])
    out = args.archive or args.checkpoint
    with artifact.build_file(out, artifact.key_of({}, settings)) as job:
        if args.checkpoint:
            write_checkpoint(job.path, shapes())
        else:
            write_tar(job.path, archive_files(args.seed, args.train_images, args.test_images))
        check_replaceable(out, job.path)
        job.record["origin"] = "sample"
        print(f"  this is {NOTICE}")


if __name__ == "__main__":
    main()
