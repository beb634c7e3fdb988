"""The chip of a make without CHIP=: that of this host's devices, never guessed, or else the first of params.yaml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import FAKES, NAMESPACE, SCRIPTS, STAND_INS, Project, may_mount, refused, run, script
from engines.ascend import _find

CHIPS = ["cpu", "310", "310P1", "310P3", "310B1", "310B4", "910A", "910B", "910B3", "910_9392"]


def stand_in(layout: str) -> dict[str, str]:
    return {"PATH": f"{STAND_INS / 'bin'}:{os.environ['PATH']}", "STAND_IN_NPU_SMI": layout}


def found(tmp_path: Path, layout: str) -> subprocess.CompletedProcess[str]:
    return script("find_chip", "--chips", *CHIPS, "--note", tmp_path / "chip", **stand_in(layout))


@pytest.mark.parametrize(
    ("layout", "chip"),
    [
        ("310", "310"),
        ("310P3-duo", "310P3"),
        ("910B3", "910B3"),
        ("910_9392", "910_9392"),
        ("910_9392-container", "910_9392"),
        ("310B4", "310B4"),
        ("alarm", "310P3"),
    ],
)
def test_the_one_chip_that_npu_smi_shows_is_taken_and_remembered(tmp_path: Path, layout: str, chip: str) -> None:
    done = found(tmp_path, layout)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{chip}\n", "")
    assert (tmp_path / "chip").read_text() == f"{chip}\n"


def test_different_chips_and_families_are_not_guessed_at(tmp_path: Path) -> None:
    refused(found(tmp_path, "mixed"), "device 0 310, device 1 310P3", "CHIP=", "DEVICE=")
    refused(found(tmp_path, "310B"), "310B, a family of chips", "CHIP= to one of 310B1, 310B4")
    done = script("find_chip", "--chips", "cpu", "310", "--note", tmp_path / "chip", **stand_in("310P3"))
    refused(done, "shows 310P3, which params.yaml does not list")
    assert not (tmp_path / "chip").exists()


def test_a_name_that_params_lacks_and_a_slice_are_refused_by_name(tmp_path: Path) -> None:
    remedy = "add a line for it to chips: in params.yaml, or set CHIP=cpu"
    refused(found(tmp_path, "910B4-1"), f"npu-smi: shows 910B4-1, which params.yaml does not list; {remedy}")
    refused(found(tmp_path, "950PR_9579"), "shows 950PR_9579, which params.yaml does not list")
    refused(found(tmp_path, "310Pvir01"), "shows 310Pvir01, a vNPU", "set CHIP= to one of 310P1, 310P3")


def test_devices_without_npu_smi_are_not_taken_for_a_host_without_an_npu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _find.find(CHIPS).absent == "npu-smi is not on PATH"
    (tmp_path / "davinci0").touch()
    monkeypatch.setattr(_find, "NODES", str(tmp_path / "davinci[0-9]*"))
    answer = _find.find(CHIPS)
    assert (answer.chip, answer.absent) == ("", "")
    assert answer.problem == f"is not installed, but {tmp_path}/davinci0 exists"
    assert answer.remedy == "set CHIP= to the chip of this host, or set CHIP=cpu"
    (tmp_path / "npu-smi").write_text("#!/bin/sh\necho 'dcmi module initialize failed. ret is -8005'\nexit 1\n")
    (tmp_path / "npu-smi").chmod(0o755)
    words = "says that there is no driver: status 1, dcmi module initialize failed. ret is -8005"
    assert _find.find(CHIPS).problem == f"{words}, but {tmp_path}/davinci0 exists"


def npu_smi(tmp_path: Path, page: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """find_chip with an npu-smi that prints a page."""
    (tmp_path / "page").write_text(page)
    (tmp_path / "npu-smi").write_text(f"#!/bin/sh\ncat {tmp_path}/page\nexit {status}\n")
    (tmp_path / "npu-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return script("find_chip", "--chips", *CHIPS, "--note", tmp_path / "chip", PATH=path)


def test_rows_of_devices_that_are_not_understood_never_mean_cpu(tmp_path: Path) -> None:
    page = (STAND_INS / "npu-smi/310P3").read_text()
    row = "| 0 310P3 (x) | OK | 15.8 42 0 / 0 |"
    changed = page.replace("| 0       310P3    ", "| 0       310P3 (x)")
    refused(
        npu_smi(tmp_path, changed),
        f"npu-smi: shows a row that is not understood: {row}; set CHIP= to the chip of this host, or set CHIP=cpu",
    )
    refused(npu_smi(tmp_path, page, 5), "npu-smi: fails with status 5, although it shows devices (310P3)")
    assert not (tmp_path / "chip").exists()
    lines = page.splitlines()
    for text, status in (("\n".join(lines[:6]), 0), ("\n".join(lines[:6]), 1), ("", 0), ("out of order", 1)):
        shown = f"shows no device and does not say that there is none: status {status}, "
        refused(
            npu_smi(tmp_path, text, status), f"npu-smi: {shown}", "set CHIP= to the chip of this host, or set CHIP=cpu"
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("ASCEND_RT_VISIBLE_DEVICES", value) for value in ("5", "", "-1", "none", "2-4")],
        *[("ASCEND_VISIBLE_DEVICES", value) for value in ("", "-1")],
    ],
)
def test_a_variable_that_hides_all_devices_never_means_cpu(tmp_path: Path, name: str, value: str) -> None:
    done = script("find_chip", "--chips", *CHIPS, "--note", tmp_path / "chip", **stand_in("310P3"), **{name: value})
    refused(
        done,
        f"find_chip.py: {name}={value}: hides all devices that npu-smi shows (310P3); ",
        "unset it, or set CHIP= to the chip of this host, or set CHIP=cpu",
    )
    assert not (tmp_path / "chip").exists()


@pytest.mark.parametrize(("name", "value"), [("ASCEND_RT_VISIBLE_DEVICES", "1-3"), ("ASCEND_VISIBLE_DEVICES", "4-5")])
def test_a_variable_that_shows_a_device_is_read(tmp_path: Path, name: str, value: str) -> None:
    done = script("find_chip", "--chips", *CHIPS, **stand_in("mixed"), **{name: value})
    if name == "ASCEND_RT_VISIBLE_DEVICES":
        assert (done.stdout, done.stderr) == ("310P3\n", "")
    else:  # it only concerns the container runtime
        refused(done, "shows different chips")


def test_an_npu_smi_that_hangs_never_means_cpu(tmp_path: Path) -> None:
    (tmp_path / "page").write_text((STAND_INS / "npu-smi/310P3").read_text())
    (tmp_path / "npu-smi").write_text(f"#!/bin/sh\ncat {tmp_path}/page\nexec sleep 60\n")
    (tmp_path / "npu-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = script("find_chip", "--chips", *CHIPS, PATH=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "310P3\n", "")
    (tmp_path / "page").write_text("")
    refused(script("find_chip", "--chips", *CHIPS, PATH=path), "npu-smi: does not end: no answer within 10 s")


# A /dev with a device of the driver, as in a container that gets the devices without npu-smi.
DEV_WITH_A_DEVICE = """
set -e
mkdir -p real
mount --rbind /dev real
mount -t tmpfs dev /dev
for name in null urandom; do touch /dev/$name; mount --bind real/$name /dev/$name; done
touch /dev/davinci0
exec "$@"
"""


@may_mount
def test_make_does_not_take_the_cpu_where_devices_exist_without_npu_smi(project: Project) -> None:
    words = (
        *NAMESPACE,
        "sh",
        "-c",
        DEV_WITH_A_DEVICE,
        "sh",
        "make",
        "-n",
        "om",
        "ROOT=root",
        f"PYTHON={project.python}",
    )
    done = run(*words, cwd=project.tree, PATH="/usr/bin:/bin")
    assert done.returncode == 2
    assert "find_chip.py: npu-smi: is not installed, but /dev/davinci0 exists; set CHIP= to the chip" in done.stderr
    assert "--chip cpu" in run(*words, "CHIP=cpu", cwd=project.tree, PATH="/usr/bin:/bin").stdout


def test_a_driver_that_fails_means_cpu_is_said_and_not_remembered(tmp_path: Path) -> None:
    done = found(tmp_path, "no-driver")
    assert (done.returncode, done.stdout) == (0, "cpu\n")
    assert "dcmi" in done.stderr
    assert "using CHIP=cpu" in done.stderr
    refused(found(tmp_path, "in-use"), "because the device is used. ret is -8020", "set CHIP=cpu")
    assert not (tmp_path / "chip").exists()


def test_make_asks_once_and_a_noop_starts_no_python(project: Project) -> None:
    log = project.tree / "asked.log"
    folder = project.tree / "path"
    folder.mkdir()
    for name, program in (("npu-smi", STAND_INS / "bin/npu-smi"), ("python3", sys.executable)):
        (folder / name).write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {program} "$@"\n')
        (folder / name).chmod(0o755)
    words = ("make", "-n", "om", "CHIP=", "ROOT=root", f"PYTHON={project.python}")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "STAND_IN_NPU_SMI": "310P3"}
    first = run("make", "root/.make/inputs.mk", *words[3:], cwd=project.tree, **environment)
    assert (first.returncode, first.stderr) == (0, "")
    assert "npu-smi" in log.read_text()
    log.unlink()
    assert "--chip 310P3" in run(*words, cwd=project.tree, **environment).stdout
    assert not log.exists()
    other = run(*words, "SOURCE=sample", cwd=project.tree, PATH=environment["PATH"], STAND_IN_NPU_SMI="mixed")
    assert "--chip 310P3" in other.stdout  # remembered; inference looks at the device itself
    (project.tree / "other").mkdir()
    shutil.copy(folder / "npu-smi", project.tree / "other")
    environment = {"PATH": f"{project.tree}/other:{environment['PATH']}", "STAND_IN_NPU_SMI": "910B3"}
    changed = run(*words, cwd=project.tree, **environment)  # by another npu-smi
    assert "--chip 910B3" in changed.stdout
    assert "make: CHIP=910B3 is used now; at an earlier make npu-smi showed 310P3\n" in changed.stderr


def test_make_without_an_npu_takes_cpu_and_with_several_chips_stops_in_one_line(project: Project) -> None:
    words = ("make", "-n", "om", "ROOT=root", f"PYTHON={project.python}")
    assert "--chip cpu" in run(*words, cwd=project.tree, PATH="/usr/bin:/bin").stdout
    done = run(*words, cwd=project.tree, **stand_in("mixed"))
    assert done.returncode == 2
    assert "find_chip.py: npu-smi: shows different chips" in done.stderr
    assert (
        run("make", "-n", "bin", *words[3:], cwd=project.tree, **stand_in("mixed")).returncode == 0
    )  # no matter there
    assert "Traceback" not in done.stderr


def test_an_engine_folder_with_a_find_is_asked_without_a_change_elsewhere(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(FAKES / "device_engine", tmp_path / "scripts/engines/device_engine")
    words = (sys.executable, "scripts/find_chip.py", "--note", "chip", "--chips", "laptop", "310P3", "fake")

    def find(**more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "chip").unlink(missing_ok=True)
        return run(*words, cwd=tmp_path, **{"PATH": "/usr/bin:/bin", **more})

    done = find(FAKE_CHIP="fake")
    assert (done.returncode, done.stdout, done.stderr) == (0, "fake\n", "")
    assert (tmp_path / "chip").read_text() == "fake\n"
    refused(find(FAKE_PROBLEM="shows two"), "find_chip.py: fake-smi: shows two; fix the fake")
    assert not (tmp_path / "chip").exists()
    done = find(FAKE_CHIP="fake", **stand_in("310P3"))
    assert (done.stdout, done.stderr) == ("310P3\n", "")  # the first engine that finds a device decides
    done = find()
    assert (done.returncode, done.stdout) == (0, "laptop\n")
    reasons = "npu-smi is not on PATH, no fake device"
    assert done.stderr == f"find_chip.py: {reasons}: using CHIP=laptop; run make doctor for details\n"
    assert not (tmp_path / "chip").exists()


def test_without_engines_that_look_for_devices_the_first_chip_is_taken(tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__", "_find.py"))
    done = run(sys.executable, "scripts/find_chip.py", "--note", "chip", "--chips", "laptop", "310P3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "laptop\n")
    assert len(done.stderr.splitlines()) == 1
