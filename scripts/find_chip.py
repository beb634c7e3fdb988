"""The chip for a make without CHIP=, on stdout: that of this host's devices, or else the first of --chips.

Each engine that has a _find.py is asked; the first that finds devices decides. The chip is remembered in --note, so
that the next make does not ask again; a fallback is not. If the devices do not tell one chip of --chips, this exits 1.
Python 3.7, standard library only.
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
    parser.add_argument("--note", type=Path, required=True, help="the file to remember the chip in")
    args = parser.parse_args()
    reasons = []
    for name in engines.names_of():
        if not engines.has(name, "_find"):
            continue
        finder: engines.Finder = engines.load(name, "_find")
        found = finder.find(args.chips)
        if found.problem:
            die(found.source, found.problem, found.remedy)
        if found.chip:
            with contextlib.suppress(OSError):  # if ROOT cannot be written, the command that writes there says so
                artifact.write_text(args.note, found.chip + "\n")
            print(found.chip)
            return
        reasons.append(found.absent)
    fallback, reason = args.chips[0], ", ".join(reasons) or "no engine looks for devices"
    print(f"find_chip.py: {reason}: CHIP={fallback} is taken; make doctor tells more", file=sys.stderr)
    print(fallback)


if __name__ == "__main__":
    main()
