"""Finds the chip of this host by npu-smi. Python 3.7, standard library only."""

from __future__ import annotations

from _support.cli import SETTINGS_FILE

import glob
import os
from typing import List, Sequence

from engines import Found
from engines.ascend import _npu_smi

SOURCE = "npu-smi"
NODES = "/dev/davinci[0-9]*"  # the driver's devices


def find(chips: List[str]) -> Found:
    """Runs npu-smi and returns the chip of its devices."""
    try:
        _, devices = _npu_smi.list_devices()
    except _npu_smi.NO_DEVICES as reason:
        return without_devices(reason, chips)
    return chip_of_host(devices, chips)


def without_devices(reason: Exception, chips: List[str]) -> Found:
    """Why there are no devices: a problem, unless npu-smi is missing or says that there is none."""
    if isinstance(reason, _npu_smi.Hidden):
        return hidden(reason, chips)
    if isinstance(reason, _npu_smi.Unclear):
        return unclear(str(reason), chips)
    nodes = sorted(glob.glob(NODES))
    if nodes:
        said = "is not installed"  # as in a container that gets the devices without the program
        if str(reason) != _npu_smi.NOT_ON_PATH:
            said = str(reason).replace("npu-smi info:", "says that there is no driver:", 1)
        return unclear(f"{said}, but {nodes[0]} exists", chips)
    return Found("", absent=str(reason), source=SOURCE)


def chip_of_host(devices: Sequence[_npu_smi.Device], chips: List[str]) -> Found:
    """The chip of `devices`, unless the variable of the container runtime says that none is to be used."""
    if os.environ.get(_npu_smi.CONTAINER_VISIBLE, "0").strip() in ("", "-1"):
        return hidden(_npu_smi.Hidden(_npu_smi.CONTAINER_VISIBLE, devices), chips)
    return chip_of(devices, chips)


def unclear(reason: str, chips: List[str]) -> Found:
    """It is not known whether there is a device, or which one, so the fallback chip could be wrong."""
    return problem(reason, f"set CHIP= to the chip of this host{or_fallback(chips)}")


def hidden(reason: _npu_smi.Hidden, chips: List[str]) -> Found:
    """A variable hides all devices; the fallback chip would be used without a word."""
    remedy = f"unset it, or set CHIP= to the chip of this host{or_fallback(chips)}"
    return problem(str(reason), remedy)._replace(source=reason.variable)


def or_fallback(chips: List[str]) -> str:
    """The end of a remedy: the fallback chip, if params.yaml has any."""
    return f", or set CHIP={chips[0]}" if chips else ""


def chip_of(devices: Sequence[_npu_smi.Device], chips: List[str]) -> Found:
    """The common chip of `devices`, which has at least one. It is never guessed: different chips, a name that only says
    the family, or a chip that params.yaml does not list are a problem."""
    names = sorted({device.name for device in devices})
    if len(names) > 1:
        shown = ", ".join(f"device {device.number} {device.name}" for device in devices)
        return problem(f"shows different chips ({shown})", "set CHIP= to one of them, and DEVICE= to its number")
    name = names[0]
    if _npu_smi.is_vague(name):
        near = [chip for chip in chips if _npu_smi.may_be(name, chip)] or chips
        what = _npu_smi.VIRTUAL_NOTE if _npu_smi.virtual_base(name) else "a family of chips"
        return problem(f"shows {name}, {what}", f"set CHIP= to one of {', '.join(near)}")
    if name not in chips:
        remedy = f"add a line for it to chips: in {SETTINGS_FILE}{or_fallback(chips)}"
        return problem(f"shows {name}, which {SETTINGS_FILE} does not list", remedy)
    return Found(name, source=SOURCE)


def problem(text: str, remedy: str) -> Found:
    return Found("", problem=text, remedy=remedy, source=SOURCE)
