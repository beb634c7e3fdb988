"""The chip for a make without CHIP=: the one that npu-smi shows, on stdout; `cpu` where it shows none.

What npu-smi shows is remembered in --note, so that the next make does not ask again; a failure is not. Several
different chips, or one that npu-smi does not name in full, exit 1 with what there is. Standard library, Python 3.7.
"""

from __future__ import annotations

import _build
from _build import die

import contextlib
import sys
from pathlib import Path

import _npu


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--chips", nargs="+", required=True, help="the names that params.yaml has a line for")
    parser.add_argument("--note", type=Path, required=True)
    args = parser.parse_args()
    try:
        _, devices = _npu.look()
    except _npu.NoNpu as problem:
        print(f"find_chip.py: {problem}: CHIP=cpu is taken; make doctor tells more", file=sys.stderr)
        print("cpu")
        return
    names = sorted({device.name for device in devices})
    shown = " and ".join(names)
    if len(names) > 1:
        there = ", ".join(f"device {device.number} {device.name}" for device in devices)
        die("npu-smi", f"shows different chips ({there})", "give CHIP= one of them, and DEVICE= its number")
    if names[0] in _npu.VAGUE:
        near = [chip for chip in args.chips if chip.startswith(names[0])] or args.chips
        die("npu-smi", f"shows {shown}, a family of chips", f"give CHIP= one of {', '.join(near)}")
    if names[0] not in args.chips:
        remedy = f"add a line for it to chips: in params.yaml, or give CHIP= one of {', '.join(args.chips)}"
        die("params.yaml", f"no chip {shown}, which npu-smi shows", remedy)
    with contextlib.suppress(OSError):  # a ROOT that cannot be written is explained later, by who needs it
        _build.write_text(args.note, names[0] + "\n")
    print(names[0])


if __name__ == "__main__":
    main()
