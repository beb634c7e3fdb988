"""Parses `npu-smi info`: chips, device numbers, health (docs/ascend-tools.md#npu-smi).

Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import process

import os
import re
import shutil
from typing import Dict, List, NamedTuple, Tuple

# A chip's name, with or without "Ascend". It is at least as long as 310, so it cannot be a chip id.
NAME = re.compile(r"(?:Ascend)?([A-Za-z0-9][\w.-]{2,})", re.ASCII)
NUMBER = re.compile(r"\d{1,9}", re.ASCII)
# Names of families, not of chips. For some, `npu-smi info -t board` shows the chip; see full_name.
ON_BOARD = ("910", "950", "950PR", "950DT")
FAMILIES = ("310P", "310B", "710", *ON_BOARD)
# A slice of a device, such as 310Pvir01 (docs/ascend-tools.md#vnpu). Group 1 is the name of the device.
VIRTUAL = re.compile(r"(\w+?)[-_]?vir\w*", re.ASCII)
NOT_ON_PATH = "npu-smi is not on PATH"
VIRTUAL_NOTE = "a vNPU, on which an .om of CANN 8 or newer may not load"


class Device(NamedTuple):
    number: int  # device number of ACL and of ais_bench's --device
    npu: int  # NPU id, for npu-smi's -i
    chip: int  # chip id, for npu-smi's -c
    name: str  # 310P3, 910B4-1, 910_9392 …
    health: str  # OK, Warning, Alarm, Critical, UNKNOWN
    memory: str  # used / total, MB; empty if not shown
    aicore: str = ""  # load in per cent; empty if not shown


class Page(NamedTuple):
    """The output of `npu-smi info`."""

    driver: str  # its version
    devices: List[Device]
    unread: List[str]  # rows of the table of devices that are not understood


class Start(NamedTuple):
    """The first row of a chip."""

    npu: int
    name: str
    health: str
    columns: int  # 3; 4 if the id and the name have a column each, as for 950


Cells = List[List[str]]  # the words of each cell of a row


def parse_start(cells: Cells) -> Start | None:
    """The first row of a chip: NPU id and name, health, power."""
    columns = len(cells)
    if columns > 3 and len(cells[0]) == 1:
        cells = [cells[0] + cells[1], *cells[2:]]
    words = cells[0]
    name = NAME.fullmatch("".join(words[1:])) if len(words) == 2 or words[1:2] == ["Ascend"] else None
    if not name or len(cells) < 2 or not NUMBER.fullmatch(words[0]):
        return None
    health = re.fullmatch(r"[A-Za-z/-]+", " ".join(cells[1]))  # in the table of processes this is a number
    return Start(int(words[0]), name.group(1), health.group(), columns) if health else None


def parse_end(cells: Cells, start: Start) -> Tuple[int, str, List[str]] | None:
    """The second row of a chip: (chip id, its second number or an empty text, the words of load and memory)."""
    words = cells[0]
    if len(cells) != start.columns or len(words) > 2 or (start.columns == 3 and not words):
        return None
    if not all(NUMBER.fullmatch(word) for word in words[:1]) or (start.columns > 3 and cells[1]):
        return None
    second = words[1] if len(words) == 2 else ""
    if second and not NUMBER.fullmatch(second) and second not in ("-", "NA", "N/A"):
        return None
    return int(words[0]) if words else 0, second if NUMBER.fullmatch(second) else "", cells[-1]


def new_device(number: int, start: Start, chip: int, usage: List[str]) -> Device:
    """A device; `usage` is its load and memory. Values that npu-smi does not show are left out."""
    pairs = re.findall(r"([^\s/]+) */ *([^\s/]+)", " ".join(usage))  # the last one is that of HBM, if there is HBM
    used, total = pairs[-1] if pairs else ("", "")
    memory = f"{used} / {total}" if NUMBER.fullmatch(used) and NUMBER.fullmatch(total) and int(total) else ""
    load = usage[0] if usage and re.fullmatch(r"\d{1,3}", usage[0], re.ASCII) else ""
    return Device(number, start.npu, chip, start.name, start.health, memory, load)


def parse(text: str) -> Page:
    """Parses the output of `npu-smi info`, in any layout. Each chip has two rows.

    The device number is that of the column Device. Without such a column, or if it is called Phy-ID, it is the position
    of the chip.
    """
    version = re.search(r"Version: *([\w.+-]+)", text)
    devices: List[Device] = []
    unread: List[str] = []
    start, start_line = None, ""
    is_physical = below_heading = False
    for line in map(str.strip, text.splitlines()):
        if below_heading and line.startswith("|") and "rocess" in line:
            break  # the table of processes, whose rows look like a chip's second row
        below_heading = below_heading or "===" in line
        cells = [cell.split() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or not any(cells):
            continue
        if "Bus-Id" in line or "Health" in line:
            is_physical = is_physical or "Phy-ID" in line
            continue
        end = parse_end(cells, start) if start else None
        if start and end:
            chip, second, usage = end
            number = int(second) if second and not is_physical else len(devices)
            devices.append(new_device(number, start, chip, usage))
            start = None
            continue
        if start:
            unread.append(start_line)
        start, start_line = parse_start(cells), " ".join(line.split())
        is_row = len(cells) > 1 and (below_heading or NUMBER.fullmatch("".join(cells[0][:1])))
        if not start and is_row and "Version:" not in line:
            unread.append(start_line)
    return Page(version.group(1) if version else "", devices, unread + [start_line] * bool(start))


def full_name(device: Device, board: str) -> str:
    """The name of a chip of which `npu-smi info` shows only the family (docs/ascend-tools.md#soc-version).

    It is both names of `board`, the output of `npu-smi info -t board`, joined by _; empty if they are missing.
    """
    chip = re.search(r"^\s*Chip Name\s*:\s*(?:Ascend)?(\w+)\s*$", board, re.MULTILINE)
    npu = re.search(r"^\s*NPU Name\s*:\s*(\d\w*)\s*$", board, re.MULTILINE)
    return f"{chip.group(1)}_{npu.group(1)}" if chip and npu and chip.group(1) == device.name else ""


def virtual_base(name: str) -> str:
    """The name of the device that a vNPU is a slice of; empty if `name` is not that of a vNPU."""
    base = VIRTUAL.fullmatch(name)
    return base.group(1) if base else ""


def is_vague(name: str) -> bool:
    """Whether npu-smi's name of a device does not name one chip."""
    return name in FAMILIES or bool(virtual_base(name))


def may_be(name: str, chip: str) -> bool:
    """Whether npu-smi's name of a device does not name one chip, and it can be `chip`."""
    return is_vague(name) and chip.startswith(virtual_base(name) or name)


def visible_devices(devices: List[Device]) -> List[Device]:
    """The devices as CANN's runtime numbers them. If ASCEND_RT_VISIBLE_DEVICES is set, only those in it, from 0."""
    by_number = {device.number: device for device in devices}
    words = os.environ.get("ASCEND_RT_VISIBLE_DEVICES", "").split(",")
    order = [int(word) for word in map(str.strip, words) if NUMBER.fullmatch(word)]
    return [by_number[n]._replace(number=i) for i, n in enumerate(order) if n in by_number] if order else devices


class NoNpu(Exception):
    """npu-smi is missing, fails or does not show a device. The text is the reason."""


class Unclear(Exception):
    """npu-smi shows devices, but not in a form that this module understands. The text, a predicate, quotes it."""


def list_devices(limit: float = 10) -> Tuple[str, List[Device]]:
    """Runs npu-smi and returns (driver's version, devices as CANN's runtime numbers them); raises NoNpu or Unclear.

    Each call of npu-smi may take `limit` s.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/local/bin"  # the driver's folders
    program = shutil.which("npu-smi", path=path)
    if program is None:
        raise NoNpu(NOT_ON_PATH)
    environment = dict(os.environ, LC_ALL="C")
    status, text = process.ask_program([program, "info"], environment, limit)
    page = parse(text)
    if page.unread:
        raise Unclear(f"shows a row that is not understood: {page.unread[0][:200]}")
    if status and page.devices:
        names = ", ".join(device.name for device in page.devices)
        raise Unclear(f"fails with status {status}, although it shows devices ({names})")
    if not page.devices:
        raise NoNpu(f"npu-smi info: status {status}, {' '.join(text.split())[:200] or 'without output'}")
    full_names: Dict[Tuple[int, str], str] = {}  # the chips of an NPU are equal, and each question takes time
    devices = []
    for device in page.devices:
        shown = (device.npu, device.name)
        if device.name in ON_BOARD and shown not in full_names:
            full_names[shown] = ask_board(device, program, environment, limit)
        devices.append(device._replace(name=full_names.get(shown) or device.name))
    usable = visible_devices(devices)
    if not usable:
        raise NoNpu(
            f"ASCEND_RT_VISIBLE_DEVICES={os.environ['ASCEND_RT_VISIBLE_DEVICES']} hides all devices that npu-smi shows"
        )
    return page.driver, usable


def ask_board(device: Device, program: str, environment: Dict[str, str], limit: float) -> str:
    """The full name of a device of which `npu-smi info` shows only the family; empty if the board does not have it."""
    board = [program, "info", "-t", "board", "-i", str(device.npu)]
    for question in ([*board, "-c", str(device.chip)], board):  # some boards do not accept -c
        name = full_name(device, process.ask_program(question, environment, limit)[1])
        if name:
            return name
    return ""
