"""Programs that a command starts: no signal is lost meanwhile, and the program gets the usual ones."""

from __future__ import annotations

from _support import process

import os
import signal
import sys
from pathlib import Path

import pytest

from conftest import SCRIPTS, run

MASK = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), int(signal.getsignal(signal.SIGTERM)))"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_that_comes_while_a_child_is_started_is_not_lost(number: str) -> None:
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(SCRIPTS)!r})
from _support import process

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.{number}, interrupt)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.{number}))  # at the worst moment
try:
    process.ask_program(["true"], dict(os.environ))
    print("lost")
except KeyboardInterrupt:
    print("raised")
"""
    done = run(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("raised\n", "")


def test_a_program_has_the_usual_signals(tmp_path: Path) -> None:
    expected = "set() 0"  # nothing is blocked, and the default action
    assert process.ask_program([sys.executable, "-c", MASK], dict(os.environ)) == (0, f"{expected}\n")
    program = process.Program([sys.executable, "-c", MASK], tmp_path, dict(os.environ), tmp_path / "log", 60)
    assert process.run(program) == 0
    assert process.log_text(tmp_path / "log") == f"{expected}\n"
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, [])
