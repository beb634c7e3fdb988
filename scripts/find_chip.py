"""Prints the chip for a make without CHIP=: the chip of this host's devices, or else the first of --chips.

It queries each engine that has a _find.py; the first one that finds devices determines the chip. The chip is stored in
the file --note, so that the next make does not query again, together with --host: if that has changed, preflight.sh
runs this script again. A fallback is not stored. Exits 1 if the devices do not determine one chip of --chips. Python
3.7, standard library only.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die

import contextlib
import sys
from pathlib import Path

import engines


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--chips", nargs="+", required=True, help="the names in params.yaml, the fallback first")
    parser.add_argument("--note", type=Path, help="the file that stores the chip")
    parser.add_argument("--host", default="", help="what the stored chip is valid for")
    args = parser.parse_args()
    reasons = []
    for name in engines.names_of():
        if not engines.has(name, "_find"):
            continue
        finder: engines.Finder = engines.load(name, "_find")
        result = finder.find(args.chips)
        if result.problem:
            die(result.source, result.problem, result.remedy)
        if result.chip:
            if args.note:
                with contextlib.suppress(OSError):  # if ROOT is not writable, a later command reports it
                    artifact.write_text(args.note, f"{result.chip} {args.host}".rstrip() + "\n")
            print(result.chip)
            return
        reasons.append(result.absent)
    fallback, reason = args.chips[0], ", ".join(reasons) or "no engine searches for devices"
    print(f"find_chip.py: {reason}: using CHIP={fallback}; run make doctor for details", file=sys.stderr)
    print(fallback)


if __name__ == "__main__":
    main()
