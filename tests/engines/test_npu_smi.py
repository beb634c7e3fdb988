"""npu-smi's output is parsed in any layout: never a wrong chip, never a traceback."""

from __future__ import annotations

from _support import process

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import STAND_INS
from engines.ascend import _npu_smi

LAYOUTS = sorted(path.name for path in (STAND_INS / "npu-smi").iterdir())

# {layout: (device, name, health) of every chip}
EXPECTED = {
    "310": [(i, "310", "OK") for i in range(4)],
    "310P3": [(0, "310P3", "OK")],
    "310P3-busy": [(0, "310P3", "OK")],
    "310P3-two": [(0, "310P3", "OK"), (1, "310P3", "OK")],
    "310P3-duo": [(0, "310P3", "OK"), (1, "310P3", "OK")],
    "310B1": [(0, "310B1", "OK")],
    "310B": [(0, "310B", "OK")],
    "910B-first-generation": [(0, "910B", "OK")],
    "910B3": [(i, "910B3", "OK") for i in range(8)],
    "910_9392": [(0, "910_9392", "OK"), (1, "910_9392", "OK")],
    "mixed": [(0, "310", "OK"), (1, "310P3", "OK")],
    "310P3-21.0": [(0, "310P3", "OK")],
    "310P3-processes": [(0, "310P3", "OK"), (1, "310P3", "OK")],
    "310P3-sparse": [(0, "310P3", "OK"), (1, "310P3", "OK")],
    "alarm": [(0, "310P3", "Alarm")],
    "power-NA": [(0, "310P3", "OK")],
    "910B4-1": [(0, "910B4-1", "OK"), (1, "910B4-1", "OK"), (2, "910B4-1", "Alarm")],
    "910_9392-container": [(0, "910_9392", "OK"), (1, "910_9392", "OK")],  # Phy-ID 4 and 5
    "950PR_9579": [(0, "950PR_9579", "OK"), (1, "950PR_9579", "OK")],
    "310B4": [(0, "310B4", "Alarm")],
    "310Pvir01": [(0, "310Pvir01", "OK")],
}


def stand_in(layout: str) -> dict[str, str]:
    return {"PATH": f"{STAND_INS / 'bin'}:{os.environ['PATH']}", "STAND_IN_NPU_SMI": layout}


def test_every_layout_has_an_expected_result() -> None:
    assert set(LAYOUTS) == set(EXPECTED)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chips_device_numbers_and_health_are_read_from_every_layout(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stand_in(layout).items():
        monkeypatch.setenv(name, value)
    driver, devices = _npu_smi.list_devices()
    assert "stand-in" in driver
    assert [(device.number, device.name, device.health) for device in devices] == EXPECTED[layout]


# Random outputs in the form of docs/ascend-tools.md#npu-smi

NAMES = st.sampled_from(
    ["310", "310P1", "310P3", "310B1", "310B", "910A", "910B", "910B3", "910B4-1", "Ascend910B2", "1980", "610Lite"]
)
CELL = st.text(st.sampled_from("0123456789./ NA-"), max_size=20)
PROCESS = st.tuples(st.integers(0, 310), st.integers(0, 310), st.integers(1, 99999), st.sampled_from(["python", "310"]))


@st.composite
def pages(draw: st.DrawFn) -> tuple[str, list[tuple[int, str, str]]]:
    """(an output of npu-smi info, its devices)"""
    second, wide = draw(st.sampled_from(["", "Device", "Phy-ID"])), draw(st.integers(0, 12))
    rule = f"+{'-' * (20 + wide)}+{'-' * 17}+{'-' * 54}+"
    lines = [rule, f"| npu-smi 22.0.4 {' ' * wide} Version: 22.0.4 |", rule]
    lines += ["| NPU   Name | Health | Power(W)  Temp(C)  Hugepages-Usage(page) |"]
    lines += [f"| Chip  {second} | Bus-Id | AICore(%)  Memory-Usage(MB) |", rule.replace("-", "=")]
    expected, npu = [], 0
    for i in range(draw(st.integers(1, 8))):
        name = draw(NAMES)
        health = draw(st.sampled_from(["OK", "Warning", "Alarm", "Critical", "UNKNOWN"]))
        npu += draw(st.sampled_from([0, 1, 24, 32896]))
        number = draw(st.integers(0, 63)) if second else i
        pad = " " * draw(st.integers(1, 9))
        lines.append(f"| {npu}{pad}{name}{pad}| {health} | {draw(CELL)} |")
        lines.append(f"| 0{pad}{str(number) * bool(second)}{pad}| {draw(CELL)} | {draw(CELL)} |")
        lines.append(draw(st.sampled_from([rule, rule.replace("-", "=")])))
        expected.append((number if second == "Device" else i, name.replace("Ascend", ""), health))
    if draw(st.booleans()):
        lines += [rule, "| NPU     Chip | Process id | Process name | Process memory(MB) |", rule]
        lines += [f"| {a}  {b} | {c} | {d} | 100 |" for a, b, c, d in draw(st.lists(PROCESS))]
        lines += ["| No running processes found in NPU 7 |", rule]
    return "\n".join(lines), expected


@given(pages())
def test_a_random_output_is_parsed_exactly(page: tuple[str, list[tuple[int, str, str]]]) -> None:
    _, devices, unread, _ = _npu_smi.parse(page[0])
    assert [(device.number, device.name, device.health) for device in devices] == page[1]
    assert unread == []


@given(pages(), st.data())
def test_a_damaged_output_never_shows_a_chip_that_does_not_exist_elsewhere(page: Any, data: st.DataObject) -> None:
    text, expected = page
    where = data.draw(st.integers(0, len(text)))
    text = text[:where] + text[where + data.draw(st.integers(0, 200)) :]
    names = {name for _, name, _ in expected}
    wrong = [device for device in _npu_smi.parse(text).devices if device.name not in names]
    assert len(wrong) <= 1  # only where the damage is: a name may be cut short, as 310P3 to 310


@given(st.text())
def test_any_text_is_no_traceback_and_no_chip(text: str) -> None:
    assert _npu_smi.parse(text).devices == []


FIRST, SECOND = "| 0       310P3       | OK              |", "| 0       0           | 0000:82:00.0    |"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FIRST, FIRST.replace("310P3", "310P3 X")),  # a name of two words
        (FIRST, FIRST.replace("310P3", "3")),
        (FIRST, FIRST.replace("OK", "0 1")),
        (FIRST, FIRST.replace("| 0", "| NPU0")),
        (SECOND, SECOND.replace("| 0 ", "| x ")),
        (SECOND, f"{SECOND} x |"),
        (SECOND, FIRST),
    ],
)
def test_a_row_that_is_not_understood_is_quoted_and_never_no_npu(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (STAND_INS / "npu-smi/310P3").read_text()
    assert before in page
    (tmp_path / "page").write_text(page.replace(before, after))
    for status in (0, 1):
        program = tmp_path / "npu-smi"
        program.write_text(f"#!/bin/sh\ncat {tmp_path}/page\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(_npu_smi.Unclear, match="not understood: [|]"):
            _npu_smi.list_devices()


def test_devices_of_an_npu_smi_that_fails_are_not_no_npu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "npu-smi"
    program.write_text(f"#!/bin/sh\ncat {STAND_INS}/npu-smi/310P3\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(_npu_smi.Unclear, match=r"status 3, although it shows devices \(310P3\)"):
        _npu_smi.list_devices()
    program.write_text(program.read_text().replace("310P3", "910B4-1").replace("exit 3", "exit 0"))
    assert len(_npu_smi.list_devices()[1]) == 3


def test_values_that_npu_smi_does_not_show_are_empty() -> None:
    page = (STAND_INS / "npu-smi/910B3").read_text()
    assert _npu_smi.parse((STAND_INS / "npu-smi/310B4").read_text()).devices[0].memory == ""
    assert _npu_smi.parse(page.replace("3390 / 65536", "NA   / 65536")).devices[0].memory == ""
    assert _npu_smi.parse(page.replace("3390 / 65536", "0    / 0    ")).devices[0].memory == ""


@pytest.mark.parametrize(
    ("name", "chip", "may_be"),
    [
        ("310P", "310P3", True),
        ("310Pvir01", "310P3", True),
        ("310Pvir04", "310", False),
        ("910B3-vir05", "910B3", True),
        ("950PR", "950PR_9579", True),
        ("950PR", "950DT_9582", False),
        ("910", "910_9392", True),
        ("310P3", "310P3", False),
        ("910B4", "910B4-1", False),
    ],
)
def test_families_and_slices_may_be_a_chip(name: str, chip: str, may_be: bool) -> None:
    assert _npu_smi.may_be(name, chip) == may_be


def test_the_load_of_a_device_is_parsed() -> None:
    loads = {
        path.name: _npu_smi.parse(path.read_text()).devices[0].aicore for path in (STAND_INS / "npu-smi").iterdir()
    }
    assert loads.pop("310P3-busy") == "63"
    assert set(loads.values()) == {"0"}


def test_output_counts_even_if_the_program_leaves_another_one_running(tmp_path: Path) -> None:
    program = tmp_path / "npu-smi"
    program.write_text("#!/bin/sh\n(setsid sleep 30 &)\necho the page\n")
    program.chmod(0o755)
    begin = time.monotonic()
    assert process.ask_program([str(program)], dict(os.environ), 1) == (0, "the page\n")
    assert time.monotonic() - begin < 20


def test_a_warning_above_the_page_hides_no_device() -> None:
    page = (STAND_INS / "npu-smi/310P3").read_text()
    for warning in ("[WARN] another process holds the driver lock\n", "npu-smi: Processing...\n"):
        assert _npu_smi.parse(warning + page).devices == _npu_smi.parse(page).devices != []


def test_digits_of_other_alphabets_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (STAND_INS / "npu-smi/310P3").read_text()
    (device,) = _npu_smi.parse(re.sub(r"\d+ */ *\d+ *\|", "1 / ² |", page)).devices
    assert device.memory == ""
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "²")
    assert _npu_smi.visible_devices([device]) == []


# Pages as terminals and pagers show them

BOXES = str.maketrans({"|": "│", "-": "─", "=": "═", "+": "┼"})
DISGUISES = {
    "without the bar at the beginning": lambda page: re.sub(r"^\|", " ", page, flags=re.MULTILINE),
    "without the bars at both ends": lambda page: re.sub(r"^\||\|$", " ", page, flags=re.MULTILINE),
    "box drawing": lambda page: page.translate(BOXES),
    "heavy bars": lambda page: page.replace("|", "┃"),
    "colours": lambda page: re.sub(r"(OK|Alarm|910B3|310P3)", "\x1b[1;32m\\1\x1b[0m", page),
    "coloured bars": lambda page: page.replace("|", "\x1b[38;5;7m|\x1b(B\x1b[m"),
    "a title": lambda page: "\x1b]0;npu-smi\x07\ufeff" + page,
    "CRLF": lambda page: page.replace("\n", "\r\n"),
    "tabs": lambda page: re.sub(r" {4,}", "\t", page),
    "bold by a pager": lambda page: re.sub(r"(\w)", "\\1\b\\1", page),
    "underlined by a pager": lambda page: re.sub(r"([A-Z0-9])", "_\b\\1", page),
    "no-break spaces": lambda page: page.replace("  ", " \xa0"),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_page_of_a_terminal_or_pager_is_read_like_the_plain_one(disguise: str, layout: str) -> None:
    page = (STAND_INS / "npu-smi" / layout).read_text()
    shown = _npu_smi.parse(DISGUISES[disguise](page))
    assert shown.devices == _npu_smi.parse(page).devices != []
    assert shown.unread == []


def program_of(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npu-smi on PATH that runs `body`."""
    program = folder / "npu-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return program


@pytest.mark.parametrize(
    "row",
    [
        "0       310P3        OK              15.8         42",
        "NPU0    Ascend310P3  OK",
        "  1\t910B3\tOK",
        "║ 0       310P3       ║ OK  ║ 1 ║\n",
    ],
)
def test_a_row_without_bars_is_quoted(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (STAND_INS / "npu-smi/310P3").read_text().splitlines()
    (tmp_path / "page").write_text("\n".join([*page[:8], row, *page[8:]]))
    program_of(tmp_path, f"cat {tmp_path}/page", monkeypatch)
    with pytest.raises(_npu_smi.Unclear, match="not understood: .*(310P3|910B3)"):
        _npu_smi.list_devices()


@pytest.mark.parametrize(
    "row",
    [
        "| 1     910B3   Failed to get the information of this chip (-8007) |",
        "| NPU 1 query failed                                           |",
        "| NPU 1 failed to process                                      |",
        "NPU 1: device is lost",
        "card 1 is offline",
        "Failed to query /dev/davinci1",
        "dcmi get device info failed, ret is -8007",
    ],
)
@pytest.mark.parametrize(("layout", "place"), [("310P3", 0), ("310P3", 8), ("310P3", 9), ("310P3-processes", 99)])
def test_no_line_about_a_device_is_left_out(
    row: str, layout: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (STAND_INS / "npu-smi" / layout).read_text().splitlines()
    if place == 99 and row.startswith("|"):
        pytest.skip("a row of the table of processes")
    (tmp_path / "page").write_text("\n".join([*page[:place], row, *page[place:]]))
    program_of(tmp_path, f"cat {tmp_path}/page", monkeypatch)
    with pytest.raises(_npu_smi.Unclear, match="not understood: ") as failure:
        _npu_smi.list_devices()
    assert " ".join(row.split()) in str(failure.value)


@pytest.mark.parametrize("row", ["device lost", "| the driver does not answer |", "1", "|| 1 |"])
def test_every_line_of_the_table_is_understood_or_quoted(row: str) -> None:
    page = (STAND_INS / "npu-smi/310P3").read_text().splitlines()
    assert _npu_smi.parse("\n".join([*page[:8], row, *page[8:]])).unread[0] == row


@pytest.mark.parametrize("layout", ["310P3", "310P3-processes", "310", "910B3"])
def test_a_whole_page_counts_even_if_npu_smi_does_not_end(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = STAND_INS / "npu-smi" / layout
    program_of(tmp_path, f"cat {page}; exec sleep 60", monkeypatch)
    assert _npu_smi.list_devices(1)[1] == _npu_smi.parse(page.read_text()).devices


@pytest.mark.parametrize("lines", [0, 3, 6, 7, 8, 9, 10])
def test_a_part_of_a_page_before_a_hang_is_unclear(lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_of(tmp_path, f"head -n {lines} {STAND_INS}/npu-smi/310; exec sleep 60", monkeypatch)
    words = "not understood: [|] 0 310 " if lines in (7, 10) else "does not end: .*no answer within 0.5 s"
    with pytest.raises(_npu_smi.Unclear, match=words):
        _npu_smi.list_devices(0.5)


def test_a_board_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = STAND_INS / "npu-smi/910_9392-container"
    program_of(tmp_path, f'echo "$*" >> {tmp_path}/log; [ "$*" = info ] && exec cat {page}; exec sleep 60', monkeypatch)
    with pytest.raises(_npu_smi.NoAnswer, match="shows 910, a family of chips, and info -t board does not end"):
        _npu_smi.list_devices(0.5)
    assert (tmp_path / "log").read_text().splitlines() == ["info", "info -t board -i 2 -c 0"]


UNCLEAR = {
    "nothing": "exit 0",
    "nothing and a status": "exit 1",
    "a heading": "echo '| npu-smi 22.0.4  Version: 22.0.4 |'",
    "a heading and a dcmi error": "echo 'Version: 22.0.4'; echo 'dcmi module initialize failed. ret is -8005'; exit 1",
    "a device that is used": "echo 'dcmi model initialized failed, because the device is used. ret is -8020'; exit 1",
    "a loader's error": "echo 'npu-smi: error while loading shared libraries: libdcmi.so'; exit 127",
    "words": "echo 'This version of npu-smi has expired'; exit 3",
    "dcmi without a failure": "echo 'dcmi module initialize failed. ret is -8005'; exit 0",
    "a chip in words": "echo 'NPU 0: Ascend310P3 OK'",
    **{
        words: f"echo '{words}'; exit 1"
        for words in (
            "dcmi model initialized failed, because the device is not ready. ret is -8012",
            "dcmi get device 0 info failed, ret is -8007: card 910B3 is offline",
            "dcmi module initialize failed. ret is -8002",
            "dcmi module initialize failed. ret is -8006",
            "dcmi module initialize failed. ret is -8013",
            "dcmi module initialize failed. ret is -80051",
            "dcmi module initialize failed. ret is -8005. Permission denied: /dev/davinci_manager",
            "dcmi module initialize failed. ret is -8005, the firmware is upgrading",
            "Failed to load dcmi library: libdcmi.so fail",
        )
    },
}


@pytest.mark.parametrize("body", UNCLEAR.values(), ids=UNCLEAR)
def test_only_a_clear_answer_means_that_there_is_no_npu(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_of(tmp_path, body, monkeypatch)
    with pytest.raises(_npu_smi.Unclear, match="shows no device and does not say that there is none: status"):
        _npu_smi.list_devices()
    for before in ("", "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n"):
        program_of(tmp_path, f"echo '{before}dcmi module initialize failed. ret is -8005'; exit 1", monkeypatch)
        with pytest.raises(_npu_smi.NoNpu, match="ret is -8005"):
            _npu_smi.list_devices()


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("dcmi model initialized failed, because the device is used. ret is -8020", _npu_smi.OCCUPIED),
        ("dcmi model initialized failed, because the device is not ready. ret is -8012", _npu_smi.NOT_READY),
        ("dcmi get device 0 info failed, ret is -8007: card 910B3 is offline", _npu_smi.NOT_READY),
        ("dcmi module initialize failed. ret is -8002", _npu_smi.NO_PERMISSION),
        ("dcmi failed, -8005 Permission denied: /dev/davinci_manager", _npu_smi.NO_PERMISSION),
        ("dcmi module initialize failed. ret is -8013", _npu_smi.NOT_PASSED),
        ("Failed to load dcmi library: libdcmi.so fail", _npu_smi.NO_LIBRARY),
        ("this version has expired", _npu_smi.COMPARE),
    ],
)
def test_a_failure_of_npu_smi_has_the_remedy_that_fits(
    words: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_of(tmp_path, f"echo '{words}'; exit 1", monkeypatch)
    with pytest.raises(_npu_smi.Unclear) as failure:
        _npu_smi.list_devices()
    assert failure.value.remedy == remedy


def test_an_npu_smi_that_this_user_must_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(tmp_path, "exit 0", monkeypatch)
    program.chmod(0o644)
    with pytest.raises(_npu_smi.Unclear, match=f"cannot be run by this user .{program} is not executable"):
        _npu_smi.list_devices()


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("0", [0]),
        ("3,1", [3, 1]),
        ("0-3", [0, 1, 2, 3]),
        ("0,2-4", [0, 2, 3, 4]),
        (" 1 , 2 - 3 ", [1, 2, 3]),
        ("1,1,1-2", [1, 2]),
        ("3-1", []),
        ("", []),
        ("-1", []),
        ("x", []),
        ("0,-1", [0]),
    ],
)
def test_lists_and_ranges_of_visible_devices(value: str, numbers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    devices = _npu_smi.parse((STAND_INS / "npu-smi/910B3").read_text()).devices
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", value)
    usable = _npu_smi.visible_devices(devices)
    assert [(device.number, device.npu) for device in usable] == list(enumerate(numbers))
