"""Rows of make doctor about the driver and the devices. Python 3.7, standard library only."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

from engines import RUN, UNKNOWN, Found, Row
from engines.ascend import _cann, _find, _npu_smi
from engines.ascend._cann_rows import blocker

UNSET = "set it to numbers of npu-smi's column Device, or unset it"


class Npus(NamedTuple):
    """The devices that npu-smi shows, or the reason that it does not."""

    driver: str = ""  # its version
    devices: Tuple[_npu_smi.Device, ...] = ()
    problem: str = ""
    unclear: bool = False  # it is not known whether there are devices, or which ones
    remedy: str = ""  # empty: the usual one
    found: Found = Found("")  # what make does without CHIP=


def query_npus(limit: float, chips: List[str]) -> Npus:
    """Runs npu-smi, of which each call may take `limit` s. `chips`: the names in params.yaml."""
    try:
        driver, devices = _npu_smi.list_devices(limit)
    except _npu_smi.NO_DEVICES as reason:
        return Npus(
            problem=_npu_smi.sentence(reason),
            unclear=isinstance(reason, _npu_smi.Unclear),
            remedy=UNSET if isinstance(reason, _npu_smi.Hidden) else getattr(reason, "remedy", ""),
            found=_find.without_devices(reason, chips),
        )
    return Npus(driver, tuple(devices), found=_find.chip_of_host(devices, chips))


def device_rows(npus: Npus, asked: str, soc_version: str, chips: List[str]) -> Iterator[Row]:
    """The driver, its devices, and problems of the requested ones. `asked`: "0,1"; empty: 0 if a chip is asked for."""
    chip, numbers = soc_version.replace("Ascend", "", 1), []
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", asked or "0", re.ASCII):
        blocks = (blocker("a device number", RUN),)
        yield Row("DEVICE", f"{asked}: not a device number", "set DEVICE= to one number, or to several as 0,1", blocks)
    elif asked or chip:
        numbers = [int(word) for word in (asked or "0").split(",")]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        blocks = (blocker("each device named once", RUN),)
        yield Row("DEVICE", f"{asked}: device {twice} twice", "name each device once", blocks)
    driver = npus.driver or driver_version()
    if not npus.devices:
        yield no_device_row(npus, driver, is_asked=bool(soc_version))
        return
    yield Row("driver", driver or "version unknown")
    for device in npus.devices:
        healthy = [one.number for one in npus.devices if one.name == device.name and one.health == "OK"]
        yield device_row(device, chip, is_asked=device.number in numbers, healthy=healthy)
    for number in dict.fromkeys(numbers):
        yield from number_rows(number, npus.devices, chip, chips)


def driver_version() -> str:
    """The version from the file of the driver's installer, or an empty text."""
    with contextlib.suppress(OSError):
        text = Path(_cann.DRIVER, "version.info").read_text("utf-8", "replace")
        return "".join(re.findall(r"^[Vv]ersion=(\S+)", text, re.MULTILINE)[:1])
    return ""


def no_device_row(npus: Npus, driver: str, is_asked: bool) -> Row:
    """The reason that npu-smi does not show a device. If npu-smi is not installed but a device node exists, as in many
    containers, a device may be usable. `is_asked`: CHIP= is a chip of this engine."""
    nodes = [str(path) for path in sorted(Path("/dev").glob("davinci[0-9]*"))[:1]]
    not_installed = npus.problem == _npu_smi.NOT_ON_PATH
    remedy = npus.remedy or "install the driver; in a container, pass in its devices and npu-smi (docs/ascend.md)"
    if not_installed and (nodes or not is_asked):
        remedy = ""
    is_unknown = npus.unclear or nodes
    needed = "the devices that npu-smi shows" if npus.unclear else "an NPU that npu-smi shows"
    blocks = (blocker(needed, UNKNOWN if is_unknown else RUN),)
    return Row("driver", ", ".join(filter(None, [driver, npus.problem, *nodes])), remedy, blocks)


def device_row(device: _npu_smi.Device, chip: str, is_asked: bool, healthy: List[int]) -> Row:
    """A device. `chip`: npu-smi's name of the requested chip, or empty. `healthy`: the healthy devices of this name."""
    is_healthy, doubts = device.health == "OK", []
    if is_asked and not is_healthy:
        doubts.append(blocker(f"the health of device {device.number}", UNKNOWN))
    if is_asked and _npu_smi.may_be(device.name, chip):
        doubts.append(blocker(f"whether device {device.number}, a {device.name}, is a {chip}", UNKNOWN))
    remedy = ""
    if not is_healthy:
        other = f"set DEVICE={healthy[0]}, or " if is_asked and healthy else ""
        reset = f"{other}have an administrator reset it or restart the host"
        remedy = f"npu-smi info -t health -i {device.npu} says why; it may still work; if a run fails, {reset}"
    texts = [f"{device.name}, health {device.health}"]
    texts += [f"{device.memory} MB used"] if device.memory else []
    if _npu_smi.virtual_base(device.name):
        texts.append(_npu_smi.VIRTUAL_NOTE)
        remedy = remedy or "if the model does not load, use a whole device, or compile with an older CANN"
    return Row(f"device {device.number}", ", ".join(texts), remedy, tuple(doubts))


def number_rows(number: int, devices: Tuple[_npu_smi.Device, ...], chip: str, chips: List[str]) -> Iterator[Row]:
    """A row if a requested device number does not exist or is another chip."""
    by_number = {device.number: device for device in sorted(devices)}
    shown = ", ".join(f"{number} ({device.name})" for number, device in by_number.items())
    fitting = " or ".join(str(number) for number, device in by_number.items() if device.name == chip)
    if number not in by_number:
        blocks = (blocker(f"a device {number}", RUN),)
        remedy = f"set DEVICE={fitting or ' to one of these'}"
        yield Row("DEVICE", f"device {number} does not exist; npu-smi shows {shown}", remedy, blocks)
        return
    name = by_number[number].name
    if chip and name != chip and not _npu_smi.may_be(name, chip):
        other = _find.chip_of([by_number[number]], chips)
        remedy = f"set CHIP={other.chip}" if other.chip else other.remedy
        remedy = f"set DEVICE={fitting}" if fitting else remedy
        blocks = (blocker(f"a {chip} as device {number}", RUN),)
        yield Row("DEVICE", f"device {number} is a {name}; npu-smi shows {shown}", remedy, blocks)
