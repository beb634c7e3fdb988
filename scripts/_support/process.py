"""Other people's programs: run with a log, a time limit, and nothing left behind. Shapes no bytes; Python 3.7."""

from __future__ import annotations

from _support import PROJECT, cli

import contextlib
import ctypes
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Callable, ContextManager, Dict, Iterator, List, NamedTuple, Sequence, Tuple


def command_from_env(variable: str, default: str) -> List[str]:
    """The command that the environment variable holds, split as a shell splits words, or `default` split so.

    It may run in another folder, so words that name a file are made absolute, but for a first one to be found on PATH.
    """
    try:
        first, *rest = shlex.split(os.environ.get(variable, "")) or shlex.split(default)
        first, *rest = ["env", first, *rest] if re.match(r"\w+=", first) else [first, *rest]
    except ValueError as error:
        cli.die(f"{variable}={os.environ[variable]}", f"{error}".lower(), "give a command as you would type it")
    rest = [os.path.abspath(word) if os.path.isfile(word) else word for word in rest]
    return [os.path.abspath(first) if "/" in first else first, *rest]


def prepare_child() -> None:
    """In a child: leaves Ctrl-C to its parent, which explains it, and dies with it, where the kernel sees to that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of prctl(2)


@contextlib.contextmanager
def kill_group_at_exit(group: int) -> Iterator[None]:
    """Kills a process group at the end of the block, or as soon as this process ends for any reason, kill -9 included.

    `group` is the process id of a child that was started with start_new_session=True.
    """
    # The guard reads until we close the pipe or die, then kills the group: the kernel would only kill our child.
    guard = ["sh", "-c", 'read _; kill -s KILL -- "-$1" 2> /dev/null', "guard", str(group)]
    with subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True):
        yield


class Program(NamedTuple):
    """A program to run, with both its streams in a log."""

    command: Sequence[str]
    cwd: Path
    environment: Dict[str, str]
    log: Path
    limit: int  # s


def run(program: Program, held: Sequence[IO[str]] = (), tick: Callable[[float], None] = lambda seconds: None) -> int:
    """Runs a program; returns its status, as a shell tells it (137: killed).

    Its files are private to user and group. After its limit it is killed, and 124 returned as timeout(1) does. Whatever
    it has left running at its end is killed, and all of it if this process ends before, however that comes. It inherits
    the `held` locks. `tick` is called every second. Exits 1 if there is no such program.
    """
    command, cwd = program.command, program.cwd

    def prepared() -> None:
        prepare_child()
        os.umask(0o027)

    with open(program.log, "wb") as stream:
        stream.write(f"# in {cwd}: {' '.join(map(shlex.quote, command))}\n".encode("utf-8", "surrogateescape"))
        stream.flush()
        try:
            process = subprocess.Popen(
                list(command),
                cwd=str(cwd),
                env=program.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=prepared,
                pass_fds=[lock.fileno() for lock in held],
            )
        except OSError as error:
            problem = f"cannot be run ({(error.strerror or '').lower()})"
            cli.die(command[0], problem, "make doctor tells what is there and what to do")
        with kill_group_at_exit(process.pid):
            begin = time.monotonic()
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(1)
                    return status if status >= 0 else 128 - status
                seconds = time.monotonic() - begin
                if seconds > program.limit:
                    return 124
                tick(seconds)


def log_text(log: Path) -> str:
    """What a log holds below its first line, our own; a bar's \\r count as line ends."""
    return log.read_bytes().decode("utf-8", "replace").replace("\r", "\n").partition("\n")[2]


def ask_program(command: Sequence[str], environment: Dict[str, str], limit: float = 10) -> Tuple[int, str]:
    """(status, both streams) of a short question to a program: 124 if it takes longer, 127 if it cannot be run."""
    try:
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
    with process:  # which closes the pipe, whoever holds its other end
        try:
            data, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as late:
            if process.poll() is None:
                return 124, f"no answer within {limit:g} s"
            data = late.output or b""  # what it has left running holds the pipe
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, data.decode("utf-8", "replace")


def lock_path(name: str) -> Path:
    """The file of a lock that all of this user's runs on this host share, whatever their ROOT."""
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))  # not tempfile's, which writes to it: a lock needs no byte
    folder = (temporary if temporary.is_dir() else Path("/tmp")) / f"{PROJECT}-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / name


@contextlib.contextmanager
def lock_one_of(places: Sequence[Path], what: str, shared: bool = False) -> Iterator[IO[str]]:
    """Holds the lock of one of the files `places`, waiting for the first that gets free; `what` says so to the user.

    A `shared` one several may hold, but nobody beside it that has it alone. By flock(2), which children inherit with
    the open file: see run().
    """
    told = False
    while True:
        for place in places:
            stream = open(place, "a")  # noqa: SIM115 - closed below
            try:
                fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                continue
            with stream:
                yield stream
            return
        if not told:
            print(f"  {what} in use; waiting", file=sys.stderr)
            told = True
        time.sleep(0.2)


def lock_cpu(shared: bool = False) -> ContextManager[IO[str]]:
    """Holds this machine's CPU: alone to measure, `shared` to work while nobody measures."""
    return lock_one_of([lock_path("cpu")], "this machine's CPU", shared)
