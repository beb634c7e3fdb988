"""Compares the built-in sample in ROOT with its lock, tests/golden/lock.json, or renews the lock (--write).

The lock contains what every machine computes: see reproduction/lock.py. Prints one line. A difference is a line too and
no error: other settings and other versions of packages may be the reason.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import needed_record

from pathlib import Path

from reproduction.lock import differences, format_lock, lock_of

SETTINGS: dict[str, str] = {}
SAME = "same data, checkpoint, graphs and predicted labels as in"


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--accuracy", type=Path, required=True, help="accuracy.txt of a result of the sample")
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="write the lock instead of comparing with it")
    args = parser.parse_args()
    lock = lock_of(args.root, needed_record(args.accuracy))
    if args.write:
        artifact.write_text(args.lock, format_lock(lock))
        print(f"  locked    {len(lock)} entries in {args.lock}")
        return
    expected = artifact.read_json(args.lock)
    different = differences(lock, expected)
    if not expected:
        print(f"Sample: not compared, because {args.lock} is missing or damaged")
    elif not different:
        print(f"Sample: {SAME} {args.lock}")
    elif different[0].startswith("setting "):
        changed = ", ".join(f"{name.split()[1]} {lock[name]}, locked {expected.get(name)}" for name in different)
        print(f"Sample: not compared with {args.lock}, because settings differ: {changed}")
    else:
        print(f"Sample: differs from {args.lock}: {', '.join(different)}")


if __name__ == "__main__":
    main()
