"""Parses `npu-smi info`: chips, device numbers, health (docs/ascend-tools.md#npu-smi).

Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import process

import os
import re
import shutil
from typing import List, NamedTuple, Tuple

# The second word of a chip's first row. In the process table this word is a number. Group 1 omits "Ascend".
NAME = re.compile(r"(?:Ascend)?(310|310P\d?|310B\d?|910\w*|950\w*|710)", re.ASCII)
# Names of families, not of chips. A 310B board may show nothing else; for A3 `npu-smi info -t board` shows the chip.
FAMILIES = ("310P", "310B", "910", "950", "710")
NOT_ON_PATH = "npu-smi is not on PATH"


class Device(NamedTuple):
    number: int  # device number of ACL and of ais_bench's --device
    npu: int  # NPU id, for npu-smi's -i
    chip: int  # chip id, for npu-smi's -c
    name: str  # 310P3, 910_9392 …
    health: str  # OK, Warning, Alarm, Critical, UNKNOWN
    memory: str  # used / total, MB
    aicore: str = ""  # load in per cent; empty if not shown


def parse(text: str) -> Tuple[str, List[Device]]:
    """Returns (driver's version, devices) from the output of `npu-smi info`, in any layout. Each chip has two rows."""
    version = re.search(r"Version: *([\w.+-]+)", text)
    devices: List[Device] = []
    row: List[str] = []
    for line in text.splitlines():
        if "rocess" in line:  # the process table, whose rows look like a chip's second row
            break
        cells = [cell.split() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|") or len(cells) < 3:
            continue
        first = cells[0]
        if row and all(re.fullmatch(r"\d{1,9}", word, re.ASCII) for word in first) and len(first) in (1, 2):
            number = int(first[1]) if len(first) == 2 else len(devices)  # A2 has no column Device
            sizes = re.findall(r"(\d+) */ *(\d+)", " ".join(cells[2]))
            memory = "{} / {}".format(*sizes[-1]) if sizes else ""
            aicore = re.match(r"\d{1,3}$", cells[2][0]) if cells[2] else None
            load = aicore.group() if aicore else ""
            devices.append(Device(number, int(row[0]), int(first[0]), row[1], row[2], memory, load))
            row = []
            continue
        name = NAME.fullmatch(first[1]) if len(first) == 2 else None
        known = name and re.fullmatch(r"\d{1,9}", first[0], re.ASCII) and len(cells[1]) == 1
        row = [first[0], name.group(1), cells[1][0]] if name and known else []
    return version.group(1) if version else "", devices


def full_name(device: Device, board: str) -> str:
    """The name of a chip of which `npu-smi info` shows only the family, 910 or 950 (docs/ascend-tools.md#soc-version).

    It is both names of `board`, the output of `npu-smi info -t board`, joined by _; empty if they are missing.
    """
    chip = re.search(r"^\s*Chip Name\s*:\s*(?:Ascend)?(9\d0)\s*$", board, re.MULTILINE)
    npu = re.search(r"^\s*NPU Name\s*:\s*(\w+)\s*$", board, re.MULTILINE)
    return f"{chip.group(1)}_{npu.group(1)}" if chip and npu and chip.group(1) == device.name else ""


def visible_devices(devices: List[Device]) -> List[Device]:
    """The devices as CANN's runtime numbers them. If ASCEND_RT_VISIBLE_DEVICES is set, only those in it, from 0."""
    by_number = {device.number: device for device in devices}
    order = [int(word) for word in os.environ.get("ASCEND_RT_VISIBLE_DEVICES", "").split(",") if word.strip().isdigit()]
    return [by_number[n]._replace(number=i) for i, n in enumerate(order) if n in by_number] if order else devices


class NoNpu(Exception):
    """npu-smi is missing, fails or does not show a device. The text is the reason."""


def list_devices(limit: float = 10) -> Tuple[str, List[Device]]:
    """Runs npu-smi and returns (driver's version, devices as CANN's runtime numbers them); raises NoNpu.

    Each call of npu-smi may take `limit` s.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/local/bin"  # the driver's folders
    program = shutil.which("npu-smi", path=path)
    if program is None:
        raise NoNpu(NOT_ON_PATH)
    environment = dict(os.environ, LC_ALL="C")
    status, text = process.ask_program([program, "info"], environment, limit)
    version, devices = parse(text)
    if status or not devices:
        raise NoNpu(f"npu-smi info: status {status}, {' '.join(text.split())[:200] or 'without output'}")
    for i, device in enumerate(devices):
        if device.name in ("910", "950"):
            question = [program, "info", "-t", "board", "-i", str(device.npu), "-c", str(device.chip)]
            name = full_name(device, process.ask_program(question, environment, limit)[1])
            devices[i] = device._replace(name=name or device.name)
    usable = visible_devices(devices)
    if not usable:
        raise NoNpu(
            f"ASCEND_RT_VISIBLE_DEVICES={os.environ['ASCEND_RT_VISIBLE_DEVICES']} hides all devices that npu-smi shows"
        )
    return version, usable
