"""Runs other programs with a log and a time limit, and ends all their processes. Python 3.7."""

from __future__ import annotations

from _support import cli

import contextlib
import ctypes
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

# Escape sequences of a terminal, and a character that the next one overstrikes, as a pager prints bold text.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\^-~])|[^\n]\x08")
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
TIMED_OUT = 124  # the status of a program that exceeded its time limit, as with timeout(1)


def command_from_env(variable: str, default: str) -> List[str]:
    """The words of the command in an environment variable, or else of `default`, split as a shell does.

    The command may run in another folder, so words that name an existing file become absolute paths. The first word
    stays as it is if it has no slash, because it is looked up in PATH.
    """
    try:
        first, *rest = shlex.split(os.environ.get(variable, "")) or shlex.split(default)
        first, *rest = ["env", first, *rest] if re.match(r"\w+=", first) else [first, *rest]
    except ValueError as error:
        cli.die(f"{variable}={os.environ[variable]}", f"{error}".lower(), "write the command as in a shell")
    rest = [os.path.abspath(word) if os.path.isfile(word) else word for word in rest]
    return [os.path.abspath(first) if "/" in first else first, *rest]


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back until the end of the block, which starts a child that calls prepare_child().

    While Python forks, it ignores what a handler raises: the signal would be lost, and this process would go on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_child() -> None:
    """Set-up of a child process: ignores SIGINT, which the parent reports, and dies with the parent (Linux only)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG, prctl(2)


@contextlib.contextmanager
def kill_group_at_exit(group: int) -> Iterator[None]:
    """Kills a process group at the end of the block, or when this process ends for any reason, even by kill -9.

    `group` is the process id of a child that was started with start_new_session=True.
    """
    # The guard's read ends when this process closes the pipe or dies; then it kills the group. PR_SET_PDEATHSIG would
    # only kill the direct child.
    guard = ["sh", "-c", 'read _; kill -s KILL -- "-$1" 2> /dev/null', "guard", str(group)]
    with subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True):
        yield


class Program(NamedTuple):
    """A program to run; the log gets its stdout and stderr."""

    command: Sequence[str]
    cwd: Path
    environment: Dict[str, str]
    log: Path
    limit: int  # s


def run(program: Program, locks: Sequence[IO[str]] = (), tick: Callable[[float], None] = lambda seconds: None) -> int:
    """Runs a program and returns its exit status as a shell reports it (137: killed by SIGKILL).

    Its files are not readable for others (umask 027). After the time limit it is killed and the status is 124, as with
    timeout(1). Processes that it leaves behind are killed, also if this process is killed. The program inherits the
    files of the `locks` and so keeps them locked. `tick` is called every second. Exits 1 if the program cannot be run.
    """
    command, cwd = program.command, program.cwd

    def prepare() -> None:
        prepare_child()
        os.umask(0o027)

    with open(program.log, "wb") as stream:
        stream.write(f"# in {cwd}: {' '.join(map(shlex.quote, command))}\n".encode("utf-8", "surrogateescape"))
        stream.flush()
        try:
            with interrupts_held():
                process = subprocess.Popen(
                    list(command),
                    cwd=str(cwd),
                    env=program.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=prepare,
                    pass_fds=[lock.fileno() for lock in locks],
                )
        except OSError as error:
            problem = f"cannot be run ({(error.strerror or '').lower()})"
            cli.die(command[0], problem, "run make doctor with the same CHIP=, which lists what is missing")
        with kill_group_at_exit(process.pid):
            begin = time.monotonic()
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(1)
                    return status if status >= 0 else 128 - status
                seconds = time.monotonic() - begin
                if seconds > program.limit:
                    return TIMED_OUT
                tick(seconds)


def log_text(log: Path) -> str:
    """A program's output in its log, without the first line, which run() wrote, and without colours.

    The \\r of progress bars become \\n.
    """
    return without_escapes(log.read_bytes().decode("utf-8", "replace").replace("\r", "\n").partition("\n")[2])


def without_escapes(text: str) -> str:
    """The text without colours and other escape sequences of a terminal, and without overstrikes of a pager."""
    return ESCAPES.sub("", text).replace("\b", "")


def ask_program(command: Sequence[str], environment: Dict[str, str], limit: float = 10) -> Tuple[int, str]:
    """(status, stdout and stderr) of a program that is expected to end within `limit` s.

    The status is TIMED_OUT if it takes longer; the text then ends with a line that says so. It is 127 if the program
    cannot be run.
    """
    try:
        with interrupts_held():
            process = subprocess.Popen(
                list(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=prepare_child,
            )
    except OSError as error:
        return 127, f"{command[0]}: {(error.strerror or '').lower()}"
    with process:  # closes the pipe, even if a grandchild holds its other end
        try:
            data, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as late:
            data = late.output or b""
            if process.poll() is None:
                text = data.decode("utf-8", "replace")
                return TIMED_OUT, f"{text}\n" * bool(text) + f"no answer within {limit:g} s"
            # It ended, but a process that it left behind keeps the pipe open.
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, data.decode("utf-8", "replace")
