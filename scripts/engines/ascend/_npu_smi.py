"""Parses `npu-smi info`: chips, device numbers, health (docs/ascend-tools.md#npu-smi).

Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import process

import os
import re
import shutil
from typing import Dict, List, NamedTuple, Sequence, Tuple

# A chip's name, with or without "Ascend". It is at least as long as 310, so it cannot be a chip id.
NAME = re.compile(r"(?:Ascend)?([A-Za-z0-9][\w.-]{2,})", re.ASCII)
NUMBER = re.compile(r"\d{1,9}", re.ASCII)
# A line outside the table of devices that is about one of them.
ABOUT_DEVICE = re.compile(
    r"\d+\s+\S|.*(Ascend|\b[3679][15]0[A-Z_]\w*|(?i:\b(npu|chip|card|device|davinci)s?\W*(id\W*)?\d|\bdcmi\b))",
    re.ASCII,
)
NO_PROCESSES = re.compile(r"No running process", re.IGNORECASE)
PROCESSES = re.compile(r"Process (id|name)", re.IGNORECASE)  # in the heading of the table of processes
# Names of families, not of chips. For some, `npu-smi info -t board` shows the chip; see full_name.
ON_BOARD = ("910", "950", "950PR", "950DT")
FAMILIES = ("310P", "310B", "710", *ON_BOARD)
# A slice of a device, such as 310Pvir01 (docs/ascend-tools.md#vnpu). Group 1 is the name of the device.
VIRTUAL = re.compile(r"(\w+?)[-_]?vir\w*", re.ASCII)
NOT_ON_PATH = "npu-smi is not on PATH"
# All that npu-smi prints if there is no driver. Other words or another number may be about a device that exists.
NO_DRIVER = re.compile(
    r"(DrvMngGetConsoleLogLevel failed\. *(\(g_conLogLevel=\d+\))? )?dcmi module initialize failed\. ret is -8005\.?"
)
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
CONTAINER_VISIBLE = "ASCEND_VISIBLE_DEVICES"  # of the container runtime; CANN does not read it
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
    is_whole: bool  # the table of devices has an end


class Start(NamedTuple):
    """The first row of a chip."""

    npu: int
    name: str
    health: str
    columns: int  # 3; 4 if the id and the name have a column each, as for 950


Cells = List[List[str]]  # the words of each cell of a row

BORDER = re.compile(r"[-=+\s]*")  # a line between the rows of a table
# Lines and corners of tables in Unicode, as those in ASCII.
LINES = str.maketrans({code: "+" for code in range(0x2500, 0x2580)})
LINES.update(str.maketrans(dict.fromkeys("│┃║╎╏┆┇┊┋｜¦", "|")))
LINES.update(str.maketrans({**dict.fromkeys("─╌┄┈", "-"), **dict.fromkeys("━═╍┅┉", "="), "\ufeff": ""}))


def plain(text: str) -> str:
    """The text without colours and overstrikes, with the lines of tables in ASCII."""
    return process.without_escapes(text).translate(LINES)


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
    if len(cells) == start.columns - 1 and not cells[0]:
        cells = [[], *cells]  # a row without the bar at its beginning, before which there is nothing
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
    text = plain(text)
    version = re.search(r"Version: *([\w.+-]+)", text)
    devices: List[Device] = []
    above: List[str] = []  # lines before the table
    unread: List[str] = []
    start, start_line = None, ""
    is_physical = below_heading = below_processes = is_whole = False
    for line in map(str.strip, text.splitlines()):
        if below_processes or (below_heading and "|" in line and PROCESSES.search(line)):
            below_processes = is_whole = True  # its rows look like a chip's second row
            if "|" not in line and ABOUT_DEVICE.match(line) and not NO_PROCESSES.match(line):
                unread.append(" ".join(line.split()))
            continue
        below_heading = below_heading or "===" in line
        if "|" not in line:
            if BORDER.fullmatch(line):
                is_whole = "===" in line
            elif below_heading or ABOUT_DEVICE.match(line):
                (unread if below_heading else above).append(" ".join(line.split()))
            continue
        is_whole = False
        cells = [cell.split() for cell in line.strip("|").split("|")]
        if not any(cells):
            continue
        if "Bus-Id" in line or "Health" in line:
            is_physical = is_physical or "Phy-ID" in line
            below_heading = below_heading or "Bus-Id" in line
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
        is_row = below_heading or NUMBER.fullmatch("".join(cells[0][:1])) or ABOUT_DEVICE.match(" ".join(cells[0]))
        if not start and is_row and "Version:" not in line:
            unread.append(start_line)
    unread += [start_line] * bool(start)
    return Page(version.group(1) if version else "", devices, above * bool(devices) + unread, is_whole)


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


def visible_numbers(text: str) -> List[int]:
    """The device numbers in a list such as 0,2-4; other words are left out."""
    numbers: List[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*", word, re.ASCII)
        if match:
            first, last = int(match.group(1)), int(match.group(2) or match.group(1))
            numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def visible_devices(devices: List[Device]) -> List[Device]:
    """The devices as CANN's runtime numbers them. If ASCEND_RT_VISIBLE_DEVICES is set, only those in it, from 0."""
    text = os.environ.get(VISIBLE)
    if text is None:
        return devices
    by_number = {device.number: device for device in devices}
    order = [number for number in visible_numbers(text) if number in by_number]
    return [by_number[number]._replace(number=i) for i, number in enumerate(order)]


class NoNpu(Exception):
    """npu-smi is missing, or says that there is no driver. The text is the reason."""


COMPARE = "compare the output of npu-smi info with docs/ascend-tools.md#npu-smi; set CHIP= and DEVICE= yourself"
HANGS = "run npu-smi info; if it hangs too, restart the host"
NOT_ALLOWED = "have yourself added to the group of that file, or set CHIP= and DEVICE= yourself"
OCCUPIED = "end the container that has the device, or pass another device to this one; see docs/ascend.md"
NO_PERMISSION = (
    "have yourself added to the group of /dev/davinci_manager (HwHiAiUser), or set CHIP= and DEVICE= yourself"
)
NOT_PASSED = "pass the devices and the driver's folder into this container; see docs/ascend.md"
NOT_READY = "wait and run npu-smi info again; if it fails again, restart the host"
NO_LIBRARY = (
    "add the driver's lib64 folders to LD_LIBRARY_PATH; in a container, pass in the driver's folder (docs/ascend.md)"
)
# {a pattern in the output of npu-smi that shows no device: the remedy}, docs/ascend-tools.md#npu-smi
REMEDIES = {
    r"(?i)\bdevice is used\b|-8020\b": OCCUPIED,
    r"(?i)permission denied|not permitted|-8002\b": NO_PERMISSION,
    r"(?i)libdcmi|libdrvdsmi|libascend_hal|shared librar|shared object": NO_LIBRARY,
    r"(?i)\bcontainer\b|-8013\b": NOT_PASSED,
    r"(?i)\bnot ready\b|time ?-?out|\boffline\b|\bdcmi\b.*\bfail|-80(0[6-9]|1[0-2]|1[5-7])\b": NOT_READY,
}


class Unclear(Exception):
    """What npu-smi prints does not show whether there are devices, or which ones. The text, a predicate, quotes it."""

    def __init__(self, text: str, remedy: str = COMPARE) -> None:
        super().__init__(text)
        self.remedy = remedy


class NoAnswer(Unclear):
    """npu-smi exceeds the time limit and does not print a whole page before."""

    def __init__(self, text: str) -> None:
        super().__init__(text, HANGS)


class Hidden(Exception):
    """A variable hides all devices that npu-smi shows. `variable` is its name and value; the text is a predicate."""

    def __init__(self, name: str, devices: Sequence[Device]) -> None:
        shown = ", ".join(dict.fromkeys(device.name for device in devices))
        super().__init__(f"hides all devices that npu-smi shows ({shown})")
        self.variable = f"{name}={os.environ[name]}"


NO_DEVICES = (NoNpu, Unclear, Hidden)  # what list_devices raises


def sentence(reason: Exception) -> str:
    """Why there are no devices, with the subject."""
    subject = "npu-smi info " if isinstance(reason, Unclear) else ""
    return f"{reason.variable} {reason}" if isinstance(reason, Hidden) else f"{subject}{reason}"


def find_program() -> str:
    """The path of npu-smi. Raises NoNpu if it is not installed, Unclear if this user must not run it."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/local/bin"  # the driver's folders
    program = shutil.which("npu-smi", path=path)
    if program:
        return program
    files = [file for file in (os.path.join(folder, "npu-smi") for folder in path.split(":")) if os.path.isfile(file)]
    if files:
        raise Unclear(f"cannot be run by this user ({files[0]} is not executable)", NOT_ALLOWED)
    raise NoNpu(NOT_ON_PATH)


def list_devices(limit: float = 10) -> Tuple[str, List[Device]]:
    """Runs npu-smi and returns (driver's version, devices as CANN's runtime numbers them).

    Raises NoNpu, Unclear or Hidden. Each call of npu-smi may take `limit` s. What it prints before it hangs counts if
    it is a whole page.
    """
    program, environment = find_program(), dict(os.environ, LC_ALL="C")
    status, text = process.ask_program([program, "info"], environment, limit)
    is_late = status == process.TIMED_OUT
    page = parse(text.rpartition("\n")[0] if is_late else text)  # without the line about the time limit
    if page.unread:
        raise Unclear(f"shows a row that is not understood: {page.unread[0][:200]}")
    if is_late and not (page.devices and page.is_whole):
        raise NoAnswer(f"does not end: {quote(text)}")
    if status and page.devices and not is_late:
        names = ", ".join(device.name for device in page.devices)
        raise Unclear(f"fails with status {status}, although it shows devices ({names})")
    if not page.devices:
        if status and NO_DRIVER.fullmatch(" ".join(plain(text).split())):
            raise NoNpu(f"npu-smi info: status {status}, {quote(text)}")
        problem = f"shows no device and does not say that there is none: status {status}, {quote(text)}"
        raise Unclear(problem, next((REMEDIES[cause] for cause in REMEDIES if re.search(cause, text)), COMPARE))
    full_names: Dict[Tuple[int, str], str] = {}  # the chips of an NPU are equal, and each question takes time
    devices = []
    for device in page.devices:
        shown = (device.npu, device.name)
        if device.name in ON_BOARD and shown not in full_names:
            full_names[shown] = ask_board(device, program, environment, limit)
        devices.append(device._replace(name=full_names.get(shown) or device.name))
    usable = visible_devices(devices)
    if not usable:
        raise Hidden(VISIBLE, devices)
    return page.driver, usable


def quote(text: str) -> str:
    """The words of an output, for a message."""
    return " ".join(plain(text).split())[-200:] or "without output"


def ask_board(device: Device, program: str, environment: Dict[str, str], limit: float) -> str:
    """The full name of a device of which `npu-smi info` shows only the family; empty if the board does not have it."""
    board = [program, "info", "-t", "board", "-i", str(device.npu)]
    for question in ([*board, "-c", str(device.chip)], board):  # some boards do not accept -c
        status, text = process.ask_program(question, environment, limit)
        if status == process.TIMED_OUT:
            raise NoAnswer(f"shows {device.name}, a family of chips, and info -t board does not end: {quote(text)}")
        name = full_name(device, plain(text))
        if name:
            return name
    return ""
