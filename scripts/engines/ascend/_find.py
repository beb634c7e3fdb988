"""The chip that npu-smi shows. Python 3.7, standard library only."""

from __future__ import annotations

from typing import List, Sequence

from engines import Found
from engines.ascend import _npu_smi

SOURCE = "npu-smi"


def find(chips: List[str]) -> Found:
    """The chip of the devices that npu-smi shows; asks it now."""
    try:
        _, devices = _npu_smi.look()
    except _npu_smi.NoNpu as reason:
        return Found("", absent=str(reason), source=SOURCE)
    return chosen(devices, chips)


def chosen(devices: Sequence[_npu_smi.Device], chips: List[str]) -> Found:
    """The one chip of `devices`, of which there is at least one. It is never guessed: several different chips, a family
    or an unknown chip are a problem."""
    names = sorted({device.name for device in devices})
    if len(names) > 1:
        shown = ", ".join(f"device {device.number} {device.name}" for device in devices)
        return problem(f"shows different chips ({shown})", "give CHIP= one of them, and DEVICE= its number")
    name = names[0]
    if name in _npu_smi.VAGUE:
        near = [chip for chip in chips if chip.startswith(name)] or chips
        return problem(f"shows {name}, a family of chips", f"give CHIP= one of {', '.join(near)}")
    if name not in chips:
        remedy = f"add a line for it to chips: in params.yaml, or give CHIP= one of {', '.join(chips)}"
        return problem(f"shows {name}, which params.yaml has no line for", remedy)
    return Found(name, source=SOURCE)


def problem(text: str, remedy: str) -> Found:
    return Found("", problem=text, remedy=remedy, source=SOURCE)
