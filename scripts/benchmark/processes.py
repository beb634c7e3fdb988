"""Starts and times programs; they are killed when the bench ends. The last line of their log explains a failure."""

from __future__ import annotations

from _support import cli, process

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence


class Unavailable(Exception):
    """A contender cannot run, or a step failed; the text is the reason, in one line."""


class Program(NamedTuple):
    """A command and its environment."""

    command: Sequence[str]
    environment: dict[str, str] | None = None  # None: that of this process


class Usage(NamedTuple):
    """The time and memory of a finished program."""

    seconds: float  # wall clock, from start to exit
    # Maximum resident memory of one process: the program, or a child that it waited for. Linux counts the memory that
    # this process had when it started the program as well, so the figure is never below that.
    peak_mib: float


def module(name: str, *words: object) -> Program:
    """A module of scripts/, for example benchmark.contender, as a program that runs with this interpreter."""
    environment = {**python_environment(), "PYTHONPATH": str(cli.SCRIPTS)}
    return Program([sys.executable, "-m", name, *map(str, words)], environment)


def python_environment() -> dict[str, str]:
    """The environment of this process without Python's own variables, which make's python -E does not read either."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@contextlib.contextmanager
def started(program: Program, log: Path, pipes: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Runs a program until the end of the block, or until this process ends for any reason; its group is then killed.

    stderr is appended to `log`, and stdout too, unless `pipes` requests pipes for stdin and stdout.
    """
    with open(log, "ab") as stream, process.interrupts_held():
        child = subprocess.Popen(
            list(program.command),
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else stream,
            stderr=stream,
            env=program.environment,
            text=True,
            start_new_session=True,
            preexec_fn=process.prepare_child,
        )
    try:
        with process.kill_group_at_exit(child.pid):
            yield child
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.__exit__(None, None, None)  # closes the pipes and waits


def run_timed(program: Program, log: Path) -> Usage:
    """Runs a program to its end; raises Unavailable with its last line of output if its exit status is not 0."""
    begin, size = time.perf_counter(), log.stat().st_size if log.exists() else 0
    with started(program, log) as child:
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise Unavailable(last_line(log, size) or f"{program.command[0]} exited with status {child.returncode}")
    return Usage(seconds, usage.ru_maxrss / 1024)


def plain_seconds(program: Program) -> float:
    """The wall clock time of a program of some milliseconds. started() would add as many: the fork of this process and
    the start of the guard. Raises Unavailable if its exit status is not 0."""
    begin = time.perf_counter()
    done = subprocess.run(
        list(program.command), env=program.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise Unavailable(f"{program.command[0]} exited with status {done.returncode}")
    return seconds


def last_line(log: Path, size: int = 0) -> str:
    """The last line of `log` after its first `size` bytes, without messages of make itself."""
    lines = log.read_bytes()[size:].decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return next((cli.one_line(line) for line in reversed(lines) if line.strip() and not re.match(r"make\b", line)), "")
