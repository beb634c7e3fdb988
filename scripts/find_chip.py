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
from typing import List, Sequence, Tuple

import _npu


def chosen(devices: Sequence[_npu.Device], chips: List[str]) -> Tuple[str, str, str]:
    """(the one chip of `devices`, what is wrong, what to do); one of the first two is empty."""
    names = sorted({device.name for device in devices})
    if len(names) > 1:
        there = ", ".join(f"device {device.number} {device.name}" for device in devices)
        return "", f"shows different chips ({there})", "give CHIP= one of them, and DEVICE= its number"
    if names[0] in _npu.VAGUE:
        near = [chip for chip in chips if chip.startswith(names[0])] or chips
        return "", f"shows {names[0]}, a family of chips", f"give CHIP= one of {', '.join(near)}"
    if names[0] not in chips:
        remedy = f"add a line for it to chips: in params.yaml, or give CHIP= one of {', '.join(chips)}"
        return "", f"shows {names[0]}, which params.yaml has no line for", remedy
    return names[0], "", ""


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--chips", nargs="+", required=True, help="the names that params.yaml has a line for")
    parser.add_argument("--note", type=Path, required=True)
    args = parser.parse_args()
    try:
        _, devices = _npu.look()
    except _npu.NoNpu as reason:
        print(f"find_chip.py: {reason}: CHIP=cpu is taken; make doctor tells more", file=sys.stderr)
        print("cpu")
        return
    chip, problem, remedy = chosen(devices, args.chips)
    if problem:
        die("npu-smi", problem, remedy)
    with contextlib.suppress(OSError):  # a ROOT that cannot be written is explained later, by who needs it
        _build.write_text(args.note, chip + "\n")
    print(chip)


if __name__ == "__main__":
    main()
