"""The virtual environment: made when it is missing or its pins changed, and at no other time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SCRIPTS, Project, environment, run

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null", "PIP_EXTRA_INDEX_URL": ""}


@pytest.fixture
def pins(fresh: Project) -> Project:
    """A fresh project whose requirements are empty, so that pip installs nothing, without a network."""
    (fresh.tree / "requirements.txt").write_text("# nothing\n")
    return fresh


def setup(project: Project) -> subprocess.CompletedProcess[str]:
    return run("make", "setup", cwd=project.tree, **OFFLINE)


def test_it_is_made_once_and_anew_when_pins_change(pins: Project) -> None:
    done = setup(pins)
    assert done.returncode == 0, done.stderr
    mark = pins.tree / ".venv/mark"
    mark.write_text("")
    (pins.tree / "requirements.txt").touch()
    assert "venv --clear" not in setup(pins).stdout
    assert mark.exists()
    assert run("make", "-q", "setup", cwd=pins.tree).returncode == 0
    (pins.tree / "requirements.txt").write_text("# still nothing\n")
    done = run("make", "-n", "accuracy", cwd=pins.tree)
    assert ".venv: missing or outdated" in done.stderr
    assert mark.exists()
    assert "venv --clear" in setup(pins).stdout
    assert not mark.exists()


def test_a_broken_installation_is_said_and_begun_anew(pins: Project) -> None:
    (pins.tree / "requirements.txt").write_text("no-such-package-here==1\n")
    done = setup(pins)
    assert done.returncode == 2
    ours = [line for line in done.stderr.splitlines() if line.startswith("setup_env.py: ")]
    assert len(ours) == 1
    assert "failed with status 1; see pip's message above" in ours[0]
    assert not (pins.tree / ".venv/requirements.txt").exists()
    (pins.tree / "requirements.txt").write_text("# nothing\n")
    assert setup(pins).returncode == 0


def test_two_at_once_make_it_once(pins: Project) -> None:
    both = [
        subprocess.Popen(
            ["make", "setup"],
            cwd=pins.tree,
            env=environment(**OFFLINE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert "".join(out for out, _ in texts).count("venv --clear") == 1


def test_an_interrupt_is_one_line(pins: Project) -> None:
    command = [sys.executable, SCRIPTS / "setup_env.py", "--out", ".venv", "--requirements", "requirements.txt"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=pins.tree, env=environment(**OFFLINE), text=True, **pipes)
    assert process.stdout is not None
    assert "venv --clear" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert error == "setup_env.py: interrupted; run the same command again to continue\n"


def test_what_a_killed_installation_left_running_is_waited_for(pins: Project) -> None:
    command = [sys.executable, SCRIPTS / "setup_env.py", "--out", ".venv", "--requirements", "requirements.txt"]
    process = subprocess.Popen(command, cwd=pins.tree, env=environment(**OFFLINE), stdout=subprocess.DEVNULL)
    left: list[str] = []
    while not left and process.poll() is None:  # venv starts ensurepip, which starts pip
        left = run("pgrep", "-f", f"{pins.tree}/.venv/bin/python").stdout.split()
    for pid in left:
        os.kill(int(pid), signal.SIGSTOP)
    process.kill()
    process.wait()
    following = subprocess.Popen(["make", "setup"], cwd=pins.tree, env=environment(**OFFLINE), stdout=subprocess.PIPE)
    assert select.select([following.stdout], [], [], 2)[0] == []  # it has not begun
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert following.communicate(timeout=60)[0].count(b"venv --clear") == 1
    assert following.returncode == 0


def test_an_interpreter_without_the_packages_is_one_line(pins: Project, tmp_path: Path) -> None:
    setup(pins)
    done = run("make", "accuracy", "SOURCE=sample", "ROOT=root", "PYTHON=.venv/bin/python", cwd=pins.tree)
    assert done.returncode == 2
    assert "sync_inputs.py: " in done.stderr
    assert "not installed for" in done.stderr
    assert "Traceback" not in done.stderr
