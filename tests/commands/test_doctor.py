"""make doctor: what is there, what is missing, what to do; never in the way."""

from __future__ import annotations

from _support.query import Fault

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import engines
from conftest import FAKES, SCRIPTS, STAND_INS, TREE, Inputs, Project, ready_host, run, toolkit_of
from doctor import torch_row
from engines.ascend import _tools


def doctor(project: Project, **more: str) -> dict[str, str]:
    """{what: the rest of its line}; a line to act upon begins with an exclamation mark."""
    done = run("make", "doctor", "ROOT=root", cwd=project.tree, **more)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.match(r"  ([! ]) (\S+(?: \S+){0,2}) +(.*)", line) for line in done.stdout.splitlines()]
    assert all(rows), done.stdout
    return {row[2]: f"{row[1]} {row[3]}".strip() for row in rows if row}


def test_it_names_what_is_missing_and_changes_nothing(fresh: Project) -> None:
    before = sorted(fresh.tree.rglob("*"))
    rows = doctor(fresh)
    assert rows[".venv"].startswith("! missing")
    assert "make setup" in rows[".venv"]
    assert re.match(r"! root/data/archive.tar.gz missing  ->  .*ARCHIVE=", rows["archive"])
    assert re.match(r"! root/models/checkpoint.pkl missing  ->  .*WEIGHTS=", rows["checkpoint"])
    assert "basic_layers.py attention_module.py residual_attention_network.py" in rows["upstream"]
    assert [path for path in sorted(fresh.tree.rglob("*")) if "__pycache__" not in path.parts] == before


def test_it_says_what_the_inputs_are(project: Project, inputs: Inputs) -> None:
    assert doctor(project)["archive"].endswith("of the built-in sample")
    shutil.copy(inputs.archive, project.root / "own.tar.gz")
    project.make("bin", "ARCHIVE=root/own.tar.gz")
    assert doctor(project)["archive"].endswith("your own file")
    (project.root / "data/archive.json").unlink()
    assert doctor(project)["archive"].endswith("copied there by hand")
    (project.root / "data/download.tmp.6d958be074577803").write_bytes(bytes(7))
    assert "download" not in doctor(project)
    (project.root / "data/archive.tar.gz").unlink()
    assert "7 bytes so far  ->  the next make continues it" in doctor(project)["download"]


def test_it_shows_proxies_without_passwords_and_a_ca_bundle_that_is_not_there(fresh: Project) -> None:
    proxies = {"https_proxy": "http://user:secret@proxy:3128", "no_proxy": "10.0.0.0/8,here"}
    rows = doctor(fresh, **proxies, CURL_CA_BUNDLE="/no/such.pem")
    assert rows["no proxy"] == "10.0.0.0/8,here"
    assert rows["https proxy"] == "proxy:3128"
    assert rows["CURL_CA_BUNDLE"] == "! /no/such.pem, missing  ->  correct or unset CURL_CA_BUNDLE"


def test_it_needs_no_params_no_environment_and_a_place_that_can_be_written(fresh: Project) -> None:
    (fresh.tree / "params.yaml").write_text("][")
    doctor(fresh, PATH="/usr/bin:/bin")
    done = run("make", "doctor", "ROOT=/proc/nowhere", cwd=fresh.tree)
    assert re.search(r"! ROOT +/proc/nowhere, not writable  ->  use another ROOT=", done.stdout)


def test_it_is_not_stopped_by_what_lies_in_root(project: Project) -> None:
    (project.root / "data/archive.json").unlink()
    os.mkfifo(project.root / "data/archive.json")
    (project.root / "models/checkpoint.json").write_text("[" * 100000)
    (project.root / "models/download.tmp.x").symlink_to("/nowhere")
    rows = doctor(project)
    assert "copied there by hand" in rows["archive"]
    assert "copied there by hand" in rows["checkpoint"]
    done = run("make", "doctor", "ROOT=params.yaml", cwd=project.tree)
    assert re.search(r"! ROOT +\S+params.yaml is not a folder  ->  use another ROOT=", done.stdout)


def test_a_python_that_does_not_run_is_no_traceback(fresh: Project, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = run("make", "doctor", f"PYTHON={broken}", cwd=fresh.tree)
    assert "Traceback" not in done.stderr
    assert re.search(r"! PYTHON +\S+broken, does not run", done.stdout)


# Chips of engine ascend, with the stand-ins


def asked(project: Project, chip: str, host: dict[str, str], *words: str, status: int = 2) -> dict[str, str]:
    """The rows of make doctor CHIP=chip, which has to end with `status`."""
    done = run("make", "doctor", "ROOT=root", f"CHIP={chip}", *words, cwd=project.tree, **host)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if status else 0)  # make's own
    rows = [re.match(r"  ([! ]) (\S+(?: \S+){0,2}) +(.*)", line) for line in done.stdout.splitlines()]
    assert rows[-1]
    assert rows[-1][2] == "CHIP"
    return {row[2]: f"{row[1]} {row[3]}".strip() for row in rows if row}


def test_a_host_with_all_that_is_needed_has_nothing_to_mend_and_status_0(fresh: Project) -> None:
    rows = asked(fresh, "310P3", ready_host(fresh), status=0)
    assert rows["CHIP"] == "310P3 can run here"
    assert rows["CANN"].startswith("7.0.0-stand-in; ")
    assert rows["driver"] == "22.0.4-stand-in"
    assert rows["device 0"] == "310P3, health OK, 1074 / 21534 MB used"
    for name in ("CANN", "atc", "numpy", "atc's modules", "ais_bench", "aclruntime", "driver", "device 0"):
        assert not rows[name].startswith("!"), rows[name]
    assert asked(fresh, "310P3", ready_host(fresh, STAND_IN_NPU_SMI="310P3-two"), "DEVICE=0,1", status=0)


@pytest.mark.parametrize(
    ("fault", "row", "words", "lack"),
    [
        ("numpy", "numpy", "2.2.6  ->  python3 -m pip install 'numpy<2'", "numpy < 2"),
        ("ais_bench", "ais_bench", "missing  ->  install", "ais_bench"),
        ("llm", "ais_bench", "not the inference tool", "ais_bench"),
        ("aclruntime", "aclruntime", "libascendcl.so: cannot open  ->  install", "aclruntime"),
        ("no-driver", "driver", "dcmi", "an NPU"),
        ("310", "device 0", "310, health OK", "a 310P3 as device 0"),
        ("python3", "CANN's python3", "status 7", "a working python3 for CANN"),
        ("SET_ENV", "set_env.sh", "no such file", "CANN"),
        ("platform", "soc_version", "does not support Ascend310P3", "a CANN that supports the chip"),
    ],
)
def test_each_thing_that_is_missing_has_a_row_with_its_fix_and_a_failing_status(
    fresh: Project, fault: str, row: str, words: str, lack: str
) -> None:
    host = ready_host(fresh, fault if fault in ("llm", "ais_bench") else "new", STAND_IN_NPU_SMI="310P3")
    if fault == "numpy":
        (fresh.tree / "packages/numpy/__init__.py").write_text("__version__ = '2.2.6'")
    elif fault == "aclruntime":
        (fresh.tree / "packages/aclruntime.py").write_text("raise ImportError('libascendcl.so: cannot open')")
    elif fault == "python3":
        (fresh.tree / "path/python3").write_text("#!/bin/sh\nexit 7\n")
        (fresh.tree / "path/python3").rename(fresh.tree / "python3-of-cann")
        host["AIS_BENCH"] = f"{fresh.tree}/python3-of-cann -m ais_bench"
    elif fault == "SET_ENV":
        host["SET_ENV"] = "/no/such/set_env.sh"
    elif fault == "platform":
        shutil.copytree(STAND_INS / "toolkit", fresh.tree / "toolkit")
        (fresh.tree / "toolkit/x86_64-linux/data/platform_config").mkdir(parents=True)
        (fresh.tree / "toolkit/x86_64-linux/data/platform_config/Ascend310.ini").write_text("")
        host["SET_ENV"] = f"{fresh.tree}/toolkit/set_env.sh"
    elif fault in ("no-driver", "310"):
        host["STAND_IN_NPU_SMI"] = fault
    rows = asked(fresh, "310P3", host)
    assert words in rows[row]
    assert rows["CHIP"].startswith("! 310P3 cannot run here")
    assert lack in rows["CHIP"]


@pytest.mark.parametrize("line", ["@{", '@{"python": 3}', '@{"more": 1}', "@" + '{"a":' * 9999 + "}" * 9999, "no line"])
def test_an_interpreter_with_an_unexpected_answer_is_a_fault(line: str) -> None:
    fault = _tools.probe_of((0, f"\n{line}\n"))
    assert isinstance(fault, Fault)
    assert fault.text.startswith("status 0, ")


def python_of(project: Project, version: str) -> None:
    """Lets CANN's python3 report another version."""
    numbers = ", ".join(version.split("."))
    start = f"import runpy, sys; sys.version_info = ({numbers}); sys.argv = sys.argv[1:]; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    program = project.tree / "path/python3"
    case = f'case $1 in *_probe.py) exec {sys.executable} -c "{start}" "$@" ;; esac'
    program.write_text(f'#!/bin/sh\n{case}\nexec {sys.executable} "$@"\n')


@pytest.mark.parametrize(
    ("cann", "python", "numpy", "row", "chip"),
    [
        (
            "8.5.0",
            "3.12.1",
            "2.2.6",
            "! 2.2.6  ->  python3 -m pip install 'numpy<2'",
            "cannot run here: it needs numpy < 2",
        ),
        (
            "8.5.0",
            "3.13.1",
            "2.2.6",
            "2.2.6, which this CANN accepts; not known whether",
            "may run here; not certain: whether",
        ),
        (
            "8.5.0",
            "3.13.1",
            "2.1.0",
            "! 2.1.0  ->  python3 -m pip install 'numpy>2.1'",
            "cannot run here: it needs numpy > 2.1",
        ),
        (
            "9.1.0",
            "3.13.1",
            "2.2.6",
            "2.2.6, which this CANN accepts; not known whether",
            "may run here; not certain: whether",
        ),
        (
            "9.1.0",
            "3.11.1",
            "2.2.6",
            "! 2.2.6, which this CANN accepts",
            "may run here; not certain: whether aclruntime",
        ),
        ("9.1.0", "3.14.0", "1.26.4", "1.26.4", "can run here"),
        (
            "8.3.RC1",
            "3.13.0",
            "2.2.6",
            "! 2.2.6  ->  put an older Python first on PATH",
            "cannot run here: it needs numpy < 2",
        ),
        (
            "unknown",
            "3.11.0",
            "2.2.6",
            "! 2.2.6  ->  python3 -m pip install 'numpy<2'",
            "may run here; not certain: numpy < 2",
        ),
    ],
)
def test_numpy_is_judged_by_the_version_of_cann_and_of_python(
    fresh: Project, cann: str, python: str, numpy: str, row: str, chip: str
) -> None:
    set_env = toolkit_of(fresh.tree / "toolkit", cann, ops=cann)
    if cann == "unknown":
        next((fresh.tree / "toolkit").glob("*/ascend_toolkit_install.info")).unlink()
    host = ready_host(fresh, numpy=numpy, SET_ENV=str(set_env))
    python_of(fresh, python)
    rows = asked(fresh, "310P3", host, status=2 if "cannot" in chip else 0)
    assert rows["numpy"].startswith(row)
    assert f"310P3 {chip}" in rows["CHIP"]
    newest = {"8.5.0": 13, "9.1.0": 14, "8.3.RC1": 11}.get(cann, 10)
    assert ("->" in rows["CANN's python3"]) == (int(python.split(".")[1]) > newest)


def test_an_old_cann_says_which_python_it_needs(fresh: Project) -> None:
    host = ready_host(fresh, SET_ENV=str(toolkit_of(fresh.tree / "toolkit", "8.2.RC1")))
    python_of(fresh, "3.12.1")
    rows = asked(fresh, "310P3", host, status=0)
    assert rows["CANN's python3"] == "! python3 3.12.1  ->  CANN 8.2 needs Python 3.7 to 3.11: put one first on PATH"


def test_the_cann_that_is_used_and_the_others_are_shown(fresh: Project) -> None:
    ascend = fresh.tree / "home/Ascend"
    toolkit_of(ascend / "ascend-toolkit", "8.0.0")
    toolkit_of(ascend / "cann-9.2.0", "9.2.0", compiler="9.1.0", ops="9.1.0")
    host = ready_host(fresh, SET_ENV="", HOME=str(fresh.tree / "home"))
    row = asked(fresh, "310P3", host, status=0)["CANN"]
    used, other = f"9.2.0; {ascend}/cann-9.2.0/set_env.sh", f"8.0.0 ({ascend}/ascend-toolkit/set_env.sh)"
    assert row == f"{used}; its atc is of 9.1.0; also installed: {other}"


def test_the_ops_package_has_a_row_from_cann_8_5_on(fresh: Project) -> None:
    versions = {
        "old": ("8.3.RC1", ""),
        "lacking": ("8.5.0", ""),
        "good": ("8.5.0", "8.5.0"),
        "other": ("9.0.0", "8.5.0"),
    }
    rows = {}
    for name, (cann, ops) in versions.items():
        host = ready_host(fresh, SET_ENV=str(toolkit_of(fresh.tree / name, cann, ops=ops)))
        rows[name] = asked(fresh, "310P3", host, status=0)
    assert "ops" not in rows["old"]
    assert rows["lacking"]["ops"].startswith("! no record of it; from CANN 8.5 on atc needs this package  ->  install")
    assert rows["lacking"]["CHIP"].endswith("not certain: whether the ops package of the chip is installed")
    assert rows["good"]["ops"] == "Ascend-cann-310p-ops 8.5.0"
    assert rows["good"]["CHIP"] == "310P3 can run here"
    assert "of another version than the toolkit" in rows["other"]["ops"]


def test_the_newest_cann_for_an_old_chip_is_an_advice(fresh: Project) -> None:
    newer = ready_host(fresh, STAND_IN_NPU_SMI="310", SET_ENV=str(toolkit_of(fresh.tree / "b", "8.3.RC1")))
    rows = asked(fresh, "310", newer, status=0)
    wanted = "! CANN 8.2 is the newest that is documented for Ascend310  ->  if atc or ais_bench fails, use CANN 8.2"
    assert rows["soc_version"] == f"{wanted} or older"
    assert "310 may run here; not certain" in rows["CHIP"]
    older = ready_host(fresh, STAND_IN_NPU_SMI="310", SET_ENV=str(toolkit_of(fresh.tree / "a", "8.2.RC1")))
    assert "soc_version" not in asked(fresh, "310", older, status=0)


def test_an_aclruntime_that_the_loader_rejects_is_explained(fresh: Project) -> None:
    host = ready_host(fresh)
    for words, fix in {
        "libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by x.so)": "build aclruntime on this host",
        "libgomp.so.1: cannot allocate memory in static TLS block": "export LD_PRELOAD=",
    }.items():
        (fresh.tree / "packages/aclruntime.py").write_text(f"raise ImportError({words!r})")
        row = asked(fresh, "310P3", host)["aclruntime"]
        assert words in row
        assert fix in row


def test_devices_are_shown_by_name_number_and_what_npu_smi_knows(fresh: Project) -> None:
    rows = asked(fresh, "910B4-1", ready_host(fresh, STAND_IN_NPU_SMI="910B4-1"), status=0)
    assert rows["device 0"] == "910B4-1, health OK, 3200 / 65536 MB used"
    assert rows["device 2"].startswith("! 910B4-1, health Alarm, 3420 / 65536 MB used")
    assert "DEVICE=" not in rows["device 2"]  # it is not the one that would be used
    two = asked(fresh, "910B4-1", ready_host(fresh, STAND_IN_NPU_SMI="910B4-1"), "DEVICE=2", status=0)
    assert two["device 2"].endswith(
        "if a run fails, set DEVICE=0, or have an administrator reset it or restart the host"
    )
    assert rows["CHIP"] == "910B4-1 can run here"
    rows = asked(fresh, "910_9392", ready_host(fresh, STAND_IN_NPU_SMI="910_9392-container"), status=0)
    assert (rows["device 0"], "device 1" in rows, "device 4" in rows) == (
        "910_9392, health OK, 3140 / 65536 MB used",
        True,
        False,
    )
    rows = asked(fresh, "310B4", ready_host(fresh, STAND_IN_NPU_SMI="310B4"), status=0)
    why = "npu-smi info -t health -i 0 says why; it may still work; if a run fails, have an administrator reset it"
    assert rows["device 0"] == f"! 310B4, health Alarm  ->  {why} or restart the host"
    assert (
        "end the container" in asked(fresh, "310B4", ready_host(fresh, STAND_IN_NPU_SMI="in-use"), status=0)["driver"]
    )
    rows = asked(fresh, "310P3", ready_host(fresh, STAND_IN_NPU_SMI="310Pvir01"), status=0)
    assert rows["device 0"].startswith("! 310Pvir01, health OK, 249 / 2690 MB used, a vNPU, on which an .om of CANN 8")
    assert rows["CHIP"].endswith("not certain: whether device 0, a 310Pvir01, is a 310P3")


def test_a_row_of_npu_smi_that_is_not_understood_is_quoted(fresh: Project) -> None:
    host = ready_host(fresh)
    (fresh.tree / "path/npu-smi").write_text("#!/bin/sh\necho '| 0  310P3 X | OK | 1 |'\n")
    (fresh.tree / "path/npu-smi").chmod(0o755)
    rows = asked(fresh, "310P3", host, status=0)
    assert "shows a row that is not understood: | 0 310P3 X | OK | 1 |  ->  " in rows["driver"]
    assert rows["CHIP"] == "310P3 may run here; not certain: the devices that npu-smi shows"
    row = doctor(fresh, **host)["CHIP"]
    assert row.startswith("! not set, and npu-smi shows a row that is not understood: | 0 310P3 X")


def test_a_build_host_is_told_that_make_om_works(fresh: Project) -> None:
    rows = asked(fresh, "910B3", ready_host(fresh, STAND_IN_NPU_SMI="no-driver"))
    assert "make om works here, but running needs an NPU" in rows["CHIP"]


def test_modules_that_atc_wants_are_named_with_one_command(fresh: Project) -> None:
    host = ready_host(fresh)
    shutil.rmtree(fresh.tree / "packages/decorator")
    shutil.rmtree(fresh.tree / "packages/tornado")
    rows = asked(fresh, "310P3", host)
    text = "missing: decorator; some CANN versions need tornado"
    remedy = "python3 -m pip install decorator tornado 'numpy<2'"
    assert rows["atc's modules"] == f"! {text}  ->  {remedy}"
    assert rows["CHIP"].startswith("! 310P3 can run here, but only a compiled .om: make om needs atc's modules")


def test_a_host_without_atc_can_run_where_a_model_is_ready(fresh: Project) -> None:
    (fresh.tree / "set_env.sh").write_text("export ASCEND_TOOLKIT_HOME=$PWD\n[ -f /no/such ] && true\n")
    host = ready_host(fresh, SET_ENV=str(fresh.tree / "set_env.sh"))
    rows = asked(fresh, "310P3", host)
    assert rows["atc"].startswith("! missing")
    assert rows["CHIP"].startswith("! 310P3 can run here, but only a compiled .om: make om needs atc")
    assert asked(fresh, "310P3", host, "OM=ready.om", status=0)["CHIP"] == rows["CHIP"]
    (fresh.root / "models/om/310P3").mkdir(parents=True)
    (fresh.root / "models/om/310P3/3d_attention_net_bs16.om").write_text("")
    assert asked(fresh, "310P3", host, status=0)["CHIP"] == rows["CHIP"]
    assert "make om needs atc" in asked(fresh, "310P3", ready_host(fresh, ATC="false"), status=0)["CHIP"]


def test_an_ais_bench_of_the_users_own_needs_no_python_of_cann(fresh: Project) -> None:
    host = ready_host(fresh, AIS_BENCH="OPTION=1 ./own")
    (fresh.tree / "packages/numpy/__init__.py").write_text("__version__ = '2.2.6'")
    rows = asked(fresh, "310P3", host, "OM=ready.om", status=0)
    assert rows["ais_bench"] == "env OPTION=1 ./own, used as given"
    assert rows["CHIP"].startswith("! 310P3 can run here, but only a compiled .om: make om needs numpy < 2")


def test_a_set_env_that_sets_up_nothing_is_named_with_what_it_says(fresh: Project) -> None:
    for text, words in {
        "echo the licence has expired >&2; return 3": "does not set up CANN (status 3): the licence has expired",
        "if": "syntax error",
        "true": "does not set up CANN (status 0): it prints nothing",
        "echo bye; exit 0": "cannot be sourced (status 0): it ends the shell",
    }.items():
        (fresh.tree / "bad.sh").write_text(text + "\n")
        rows = asked(fresh, "310P3", ready_host(fresh, SET_ENV=str(fresh.tree / "bad.sh")))
        assert words in rows["set_env.sh"]
        assert "bad.sh" in rows["set_env.sh"]
        assert "CANN" not in rows


def test_an_answer_that_comes_late_is_no_no(fresh: Project) -> None:
    (fresh.tree / "slow.sh").write_text(f"sleep 3\nsource {STAND_INS}/toolkit/set_env.sh\n")
    rows = asked(fresh, "310P3", ready_host(fresh, STAND_IN_NPU_SMI="hang"), status=0)
    assert "no answer within 1." in rows["driver"]
    assert rows["CHIP"] == "310P3 may run here; not certain: the devices that npu-smi shows"
    unset = doctor(fresh, **ready_host(fresh, STAND_IN_NPU_SMI="hang"))["CHIP"]
    assert re.search(r"no answer within 1[.0-9]* s\)?  ->  set CHIP= to the chip of this host, or set CHIP=cpu$", unset)
    rows = asked(fresh, "310P3", ready_host(fresh, SET_ENV=str(fresh.tree / "slow.sh")), status=0)
    assert rows["CHIP"] == "310P3 may run here; not certain: whether set_env.sh sets up CANN"


def test_without_a_chip_it_says_which_one_make_takes(fresh: Project) -> None:
    def row(layout: str) -> str:
        return doctor(fresh, **ready_host(fresh, STAND_IN_NPU_SMI=layout))["CHIP"]

    assert row("310P3").startswith("not set: make uses 310P3")
    assert "shows different chips (device 0 310, device 1 310P3)  ->  set CHIP=" in row("mixed")
    assert row("310B").endswith("set CHIP= to one of 310B1, 310B4")
    note = fresh.root / f".make/chip-{os.uname().nodename}"
    note.parent.mkdir(parents=True)
    note.write_text("310 boot=1\n")
    wanted = "! 310 is stored and may still be used; now npu-smi shows 310P3"
    assert row("310P3") == f"{wanted}  ->  rm {note.relative_to(fresh.tree)}, or set CHIP="


def test_inputs_that_are_given_are_not_called_missing(fresh: Project) -> None:
    rows = doctor(fresh, ARCHIVE="params.yaml", WEIGHTS="/no/such")
    assert rows["archive"] == "params.yaml"
    assert rows["checkpoint"] == "! /no/such, missing  ->  check the path"


@pytest.mark.parametrize(
    ("body", "status"), [("import os; os.kill(os.getpid(), 11)", 2), ("import time; time.sleep(600)", 0)]
)
def test_an_aclruntime_that_crashes_or_hangs_hides_nothing_else(fresh: Project, body: str, status: int) -> None:
    host = ready_host(fresh)
    (fresh.tree / "packages/aclruntime.py").write_text(body)
    rows = asked(fresh, "310P3", host, status=status)
    assert rows["numpy"] == "1.23.5"
    assert rows["ais_bench"].startswith("installed")
    assert ("no answer within" in rows["aclruntime"]) == (not status)


def test_whatever_hangs_it_answers_in_time(fresh: Project) -> None:
    slow = fresh.tree / "slow"
    slow.write_text("#!/bin/sh\nsleep 600\n")
    slow.chmod(0o755)
    host = ready_host(fresh, STAND_IN_NPU_SMI="hang", SET_ENV=str(slow))
    begin = time.monotonic()
    rows = asked(fresh, "310P3", host, f"PYTHON={slow}")
    assert time.monotonic() - begin < 10  # under 2 on a machine that is not busy
    assert "no answer within 1.5 s" in rows["set_env.sh"]
    assert "no answer within 1." in rows["driver"]
    assert "no answer within 1.5 s" in rows["PYTHON"]


def test_the_devices_asked_for_are_those_that_cann_numbers(fresh: Project) -> None:
    two = ready_host(fresh, STAND_IN_NPU_SMI="310P3-two")
    assert "a device 7" in asked(fresh, "310P3", two, "DEVICE=7")["CHIP"]
    assert asked(fresh, "310P3", two, "DEVICE=x")["DEVICE"].startswith("! x: not a device number")
    assert asked(fresh, "310P3", two, "DEVICE=0,1,00")["DEVICE"].startswith("! 0,1,00: device 0 twice")
    one = {**two, "ASCEND_RT_VISIBLE_DEVICES": "1"}
    assert asked(fresh, "310P3", one, status=0)
    assert "a device 1" in asked(fresh, "310P3", one, "DEVICE=1")["CHIP"]
    rows = asked(fresh, "310B1", ready_host(fresh, STAND_IN_NPU_SMI="310B"), status=0)
    assert rows["CHIP"].endswith("not certain: whether device 0, a 310B, is a 310B1")
    mixed = ready_host(fresh, STAND_IN_NPU_SMI="mixed")
    assert asked(fresh, "310P3", mixed)["DEVICE"].endswith("set DEVICE=1")
    assert asked(fresh, "310B1", mixed)["DEVICE"].endswith("set CHIP=310")
    rows = asked(fresh, "310P3", ready_host(fresh, STAND_IN_NPU_SMI="310B"))
    assert rows["DEVICE"].endswith("set CHIP= to one of 310B1, 310B4")
    rows = asked(fresh, "310P3", ready_host(fresh, ASCEND_RT_VISIBLE_DEVICES="5"))
    assert rows["driver"].startswith("! ASCEND_RT_VISIBLE_DEVICES=5 hides all")


def test_a_path_that_cann_refuses_keeps_the_chip_from_running(fresh: Project) -> None:
    done = run("make", "doctor", "CHIP=310P3", "ROOT=a+b", cwd=fresh.tree, **ready_host(fresh))
    assert done.returncode == 2
    assert "310P3 cannot run here: it needs a ROOT path that CANN's tools accept" in done.stdout


def test_no_environment_however_odd_gives_a_traceback(fresh: Project, tmp_path: Path) -> None:
    words = ("python3", "scripts/doctor.py", "--root", "root", "--make", "4.3")
    for more in ({"ATC": "'"}, {"AIS_BENCH": "'"}, {"ATC": "/"}, {"SET_ENV": "/dev/null"}, {"HOME": ""}):
        done = run(*words, cwd=fresh.tree, **ready_host(fresh, **more))
        assert (done.returncode, done.stderr) == (0, ""), more
    for end in ("> /dev/full", "| true"):
        done = run("sh", "-c", " ".join((*words, end)), cwd=fresh.tree)
        assert (done.returncode, done.stderr) == (0, ""), end
    (fresh.tree / "params.yaml").write_bytes(b"chips:\n  \xff][\n")
    assert "params.yaml" in asked(fresh, "310P3", {})["CHIP"]


def test_an_unhealthy_device_and_an_odd_path_are_shown(fresh: Project) -> None:
    rows = asked(fresh, "310P3", ready_host(fresh, STAND_IN_NPU_SMI="alarm"), status=0)
    assert rows["device 0"].startswith("! 310P3, health Alarm")
    assert rows["CHIP"].endswith("not certain: the health of device 0")
    done = run("make", "doctor", "CHIP=310P3", "ROOT=a+b", cwd=fresh.tree, **ready_host(fresh))
    assert re.search(r"! path of ROOT +contains '\+', which CANN's tools reject  ->  set ROOT=", done.stdout)


@pytest.mark.parametrize("chip", ["310P", "Ascend310P3", "310p3", "it's; touch mark", "x"])
def test_a_chip_that_there_is_not_is_named_with_the_near_ones(fresh: Project, chip: str) -> None:
    rows = asked(fresh, chip, {})
    assert "unknown chip  ->  use one of" in rows["CHIP"]
    if chip == "310P":
        assert rows["CHIP"].endswith("use one of 310P1, 310P3, 310P3-uint8")
    elif "310" in chip:
        assert rows["CHIP"].endswith("use one of 310P3, 310P3-uint8")
    assert not (fresh.tree / "mark").exists()


def test_a_laptop_has_one_calm_line_and_cpu_can_run_there(project: Project) -> None:
    rows = doctor(project, PATH="/usr/bin:/bin")
    assert rows["Ascend"] == "no CANN, npu-smi is not on PATH; use CHIP=cpu"
    assert not any(name in rows for name in ("CANN", "atc", "numpy", "driver"))
    assert asked(project, "cpu", {}, status=0)["CHIP"] == "cpu can run here"


def test_a_cpu_without_the_instructions_of_a_chip_cannot_run_it(fresh: Project) -> None:
    module = fresh.tree / "scripts/engines/openvino/cpu.py"
    text = module.read_text()
    assert '"amx_bf16", "avx512_bf16"' in text
    module.write_text(text.replace('"amx_bf16", "avx512_bf16"', '"amx_bf99", "avx512_bf99"'))
    rows = asked(fresh, "cpu-bf16", {})
    assert rows["CHIP"].startswith("! cpu-bf16 cannot run here: it needs a CPU with amx_bf99 or avx512_bf99")
    assert "threads; " in rows["CPU"] and "bf16" not in rows["CPU"]
    assert asked(fresh, "cpu", {}, status=0)["CHIP"] == "cpu can run here"


def test_json_holds_the_same_rows_and_needs_no_make(fresh: Project) -> None:
    words = ("scripts/doctor.py", "--json", "--root", "root", "--chip", "310P3")
    done = run("python3", *words, cwd=fresh.tree, **ready_host(fresh))
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["chip"], found["can_run"]) == (0, "", "310P3", True)
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["GNU Make"]["found"][0].isdigit()
    assert rows["device 0"] == {
        "part": "Ascend",
        "what": "device 0",
        "found": "310P3, health OK, 1074 / 21534 MB used",
        "fix": "",
    }
    assert json.loads(run("python3", *words[:4], cwd=fresh.tree).stdout)["can_run"] is None


# The doctor knows no engine: each engine that has a _doctor.py is asked


@pytest.fixture
def faked(fresh: Project) -> Project:
    """A tree with one more engine, which is only a folder, and one more chip, which is only a line of params.yaml."""
    shutil.copytree(FAKES / "device_engine", fresh.tree / "scripts/engines/device_engine")
    fresh.set("chips.fake", "engine=device_engine speed=fast")
    return fresh


def answer(project: Project, *words: str, status: int = 0, **more: str) -> tuple[Any, dict[str, dict[str, str]]]:
    """(can_run, {what: row}) of scripts/doctor.py --json."""
    command = (sys.executable, "scripts/doctor.py", "--json", "--root", "root", "--make", "4.3")
    done = run(*command, *words, cwd=project.tree, **{"PATH": "/usr/bin:/bin", **more})
    assert (done.returncode, done.stderr) == (status, ""), done.stdout
    page = json.loads(done.stdout)
    assert all(list(row) == ["part", "what", "found", "fix"] for row in page["rows"])
    return page["can_run"], {row["what"]: row for row in page["rows"]}


def test_an_engine_folder_with_a_doctor_is_asked_without_a_change_elsewhere(faked: Project) -> None:
    can_run, rows = answer(faked, "--chip", "fake", "--devices", "0,1", FAKE_CHIP="x")
    chips = len(re.findall(r"^  \S+: engine=", (faked.tree / "params.yaml").read_text(), re.MULTILINE))
    found = f"x; devices 0,1; atc.memory=8 speed=fast; {chips} chips"
    assert rows["fake device"] == {"part": "fakes", "what": "fake device", "found": found, "fix": ""}
    assert re.fullmatch(r"\d+ threads; fast enough for fakes; .*", rows["CPU"]["found"])
    assert rows["CPU"]["part"] == "machine"
    assert (can_run, rows["CHIP"]["found"]) == (True, "fake can run here")
    assert "; atc.memory=8; " in answer(faked, "--chip", "310P3", status=1)[1]["fake device"]["found"]


@pytest.mark.parametrize(
    ("kinds", "can_run", "text"),
    [
        ("run", False, "fake cannot run here: make om works here, but running needs the fake tool"),
        ("run compile", False, "fake cannot run here: it needs the fake tool"),
        ("compile", False, "fake can run here, but only a compiled .fake: make om needs the fake tool"),
        ("unknown", None, "fake may run here; not certain: the fake tool"),
    ],
)
def test_what_a_row_blocks_decides_for_chips_of_its_engine_alone(
    faked: Project, kinds: str, can_run: bool | None, text: str
) -> None:
    found, rows = answer(faked, "--chip", "fake", status=1 if can_run is False else 0, FAKE_LACKS=kinds)
    assert (found, rows["CHIP"]["found"]) == (can_run, text)
    assert rows["fake tool"] == {"part": "fakes", "what": "fake tool", "found": "missing", "fix": "install it"}
    assert answer(faked, "--chip", "cpu", FAKE_LACKS=kinds)[0] is True
    if kinds == "compile":
        (faked.root / "models/om/fake").mkdir(parents=True)
        (faked.root / "models/om/fake/net_bs1.fake").write_text("")
        assert answer(faked, "--chip", "fake", FAKE_LACKS=kinds)[0] is True


def test_without_a_chip_any_engine_may_find_one(faked: Project) -> None:
    assert "CHIP" not in answer(faked)[1]
    row = answer(faked, FAKE_CHIP="fake")[1]["CHIP"]
    assert row["found"] == "not set: make uses fake; make doctor CHIP=fake checks whether it can run"
    row = answer(faked, FAKE_PROBLEM="shows two")[1]["CHIP"]
    assert (row["found"], row["fix"]) == ("not set, and fake-smi shows two", "fix the fake")


def test_hints_name_the_first_chip_of_params(faked: Project) -> None:
    params = faked.tree / "params.yaml"
    params.write_text(params.read_text().replace("chips:\n", "chips:\n  laptop: engine=onnxruntime\n"))
    assert answer(faked)[1]["Ascend"]["found"].endswith("not on PATH; use CHIP=laptop")


def test_a_chip_of_an_unknown_engine_cannot_run(faked: Project) -> None:
    faked.set("chips.fake", "engine=nowhere")
    can_run, rows = answer(faked, "--chip", "fake", status=1)
    assert can_run is False
    assert "it needs a known engine=" in rows["CHIP"]["found"]


@pytest.mark.parametrize("name", ["doctor", "find_chip"])
def test_no_engine_no_chip_and_no_vendor_tool_is_named_outside_of_engines(name: str) -> None:
    text = (SCRIPTS / f"{name}.py").read_text()
    chips = re.findall(r"^  ([\w-]+): engine=", (TREE / "params.yaml").read_text(), re.MULTILINE)
    assert len(chips) > 10
    for word in (*chips, *engines.names_of(), "npu-smi", "atc", "ais_bench", "ascend", "openvino"):
        assert not re.search(rf"(?<!\+)\b{re.escape(word)}\b", text), word  # +cpu is a build of torch


def test_what_this_cpu_lacks_is_only_a_matter_of_its_own_engines_chips(fresh: Project) -> None:
    module = fresh.tree / "scripts/engines/openvino/cpu.py"
    module.write_text(re.sub(r'"(avx|amx|sse)\w+"', '"no_such"', module.read_text()))
    can_run, rows = answer(fresh, "--chip", "cpu-f32", status=1)
    assert can_run is False
    assert "it needs a CPU with no_such" in rows["CHIP"]["found"]
    assert re.fullmatch(r"\d+ threads; no instructions for OpenVINO's precisions; use CHIP=cpu", rows["CPU"]["found"])
    assert answer(fresh, "--chip", "cpu")[0] is True


@pytest.mark.parametrize(
    ("settings", "reachable", "words"),
    [
        ({"find-links": "wheels"}, False, "would be 2.13.0+cpu, offered by pip's configuration"),
        ({"cert": "x"}, True, "would be 2.13.0+cpu, from download.pytorch.org"),
        ({"cert": "x"}, False, "would be 2.13.0, the plain build"),
        ({"index-url": "http://host/simple"}, False, "would be 2.13.0+cpu if pip's indexes or download.pytorch"),
        ({"no-index": "1"}, False, "would be 2.13.0, in the build that pip's folders of wheels contain"),
        (Fault("no answer", "", True), Fault("no answer", "", True), "would be 2.13.0+cpu if pip's indexes or"),
        (Fault("no answer", "", True), True, "would be 2.13.0+cpu, from download.pytorch.org"),
    ],
)
def test_it_says_which_torch_set_up_would_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, reachable: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    row = torch_row("2.13.0", settings, reachable)
    assert row.found.startswith(words)
    assert ("pip's own variables" in row.fix) == (row.found.startswith("would be 2.13.0, the plain build"))


def test_it_says_which_torch_is_installed(fresh: Project) -> None:
    (fresh.tree / ".venv/lib/python3.11/site-packages/torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    shutil.copy(fresh.tree / "requirements.txt", fresh.tree / ".venv")
    assert doctor(fresh)["torch"] == "2.13.0+cpu, in .venv"
