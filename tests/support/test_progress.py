"""Progress: a bar on a terminal, lines under make -j and in CI, nothing under make -s."""

from __future__ import annotations

from _support import progress

import os
import pty
import sys

import pytest

from conftest import SCRIPTS, Project, environment

LOOP = """
import sys, time
sys.path.insert(0, sys.argv[1])
from _support import progress
bar = progress.Progress(300, "things")
for i in range(300):
    time.sleep(0.001)
    bar.update(i + 1)
"""


def shown_on_a_terminal(**more: str) -> str:
    """The output of a loop of 0.3 s on a terminal."""
    master, worker = pty.openpty()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", LOOP, str(SCRIPTS)],
        environment(**more),
        file_actions=[(os.POSIX_SPAWN_DUP2, worker, 2)],
    )
    assert os.waitpid(pid, 0)[1] == 0
    os.write(worker, b"end")
    return os.read(master, 65536).decode().removesuffix("end")


def test_a_terminal_sees_a_bar_with_rate_and_time_left() -> None:
    text = shown_on_a_terminal(MAKEFLAGS="rR")
    assert "\r  [" in text
    assert "/300 things, " in text
    assert " s left" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("more", [{"CI": "true"}, {"MAKEFLAGS": "rR -j8 --jobserver-auth=3,4"}])
def test_ci_and_parallel_jobs_see_plain_lines(more: dict[str, str]) -> None:
    text = shown_on_a_terminal(**more)
    assert "\r " not in text
    assert "300/300 things, " in text


@pytest.mark.parametrize("flags", ["s", "rRs", "rRs -j8 --jobserver-auth=3,4", "rRs -- BS=8"])
def test_make_s_sees_nothing(flags: str) -> None:
    assert shown_on_a_terminal(MAKEFLAGS=flags) == ""


def test_names_and_values_in_makeflags_are_not_taken_for_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags in ("", "rR -- SOURCE=sample", " -- ROOT=s", "rR -j1 -- V=1", " -Iscripts"):
        monkeypatch.setenv("MAKEFLAGS", flags)
        monkeypatch.delenv("CI", raising=False)
        assert progress.display_form(True) == "bar", flags


def test_a_silent_make_prints_only_its_result(project: Project) -> None:
    (project.root / "results/null/bs16/outputs/manifest.json").unlink()
    done = project.make("-s", "bin", "infer", "BS=5")
    assert done.stdout + done.stderr == ""
    assert project.make("-s", "accuracy").stdout.startswith("Top-1")
