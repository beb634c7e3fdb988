"""Error messages, arguments and Ctrl-C of the commands.

Commands import this module first, because it has side effects: Ctrl-C during slow imports (numpy, onnx) ends the
command without a message, an uncaught exception, such as a missing package, is printed as one line, and variables that
would change results are removed (see environment.py). It has no side effects when another program, such as pytest,
imports it. Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import PYTHONS, environment

import argparse
import atexit
import contextlib
import errno
import os
import re
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, NoReturn, Type

SCRIPTS = Path(__file__).resolve().parent.parent
SETTINGS_FILE = os.environ.get("PARAMS") or "params.yaml"  # make's PARAMS, for messages
IS_COMMAND = SCRIPTS in Path(sys.argv[0]).resolve().parents


class Refusal(SystemExit):
    """Raised by die() instead of printing a line, within refusals()."""

    def __init__(self, subject: object, problem: str, remedy: str, status: int) -> None:
        super().__init__(status)
        self.subject, self.problem, self.remedy = subject, problem, remedy


refusals_are_raised = False


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Within it die() raises Refusal and prints nothing, for callers that handle the reason."""
    global refusals_are_raised
    refusals_are_raised = True
    try:
        yield
    finally:
        refusals_are_raised = False


def die(subject: object, problem: str, remedy: str, status: int = 1) -> NoReturn:
    """Prints `script: subject: problem; remedy` on stderr and exits with `status`.

    The status is 1 for bad input or environment, 2 for a usage error. In a thread other than the main one it only
    raises SystemExit with the line, which is printed when it ends the script.
    """
    if refusals_are_raised:
        raise Refusal(subject, problem, remedy, status)
    line = f"{Path(sys.argv[0]).name}: {one_line(subject)}: {one_line(problem)}; {one_line(remedy)}"
    if threading.current_thread() is not threading.main_thread():
        raise SystemExit(line)  # Python prints the line and exits 1
    print(line + "\n", end="", file=sys.stderr)  # one write, so that lines of parallel jobs do not mix
    raise SystemExit(status)


def one_line(text: object) -> str:
    """`text` on one line, without control characters, cut after 1000 characters."""
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(str(text)[:5000].split()))
    return shown if len(shown) < 1000 else shown[:1000] + "…"


def short(name: object) -> str:
    """A name from a user's file for a message: on one line, cut after 60 characters."""
    shown = one_line(name).replace(";", ",")
    return shown if len(shown) <= 60 else shown[:60] + "…"


AGAIN = "and run the same command again"
PERMISSIONS = "check its owner and permissions (users of one ROOT need a common group and umask 002)"
REMEDIES = {  # errno: what to do
    errno.ENOSPC: f"free disk space {AGAIN}",
    errno.EDQUOT: f"free disk space or raise your quota {AGAIN}",
    errno.EFBIG: f"raise the limit on file size (ulimit -f) {AGAIN}",
    errno.EMFILE: f"raise the limit on open files (ulimit -n) {AGAIN}",
    errno.ENFILE: f"end other programs, as too many files are open, {AGAIN}",
    errno.ENOMEM: f"free some memory {AGAIN}",
    errno.EACCES: PERMISSIONS,
    errno.EPERM: PERMISSIONS,
    errno.EROFS: "set ROOT= to a writable folder",
    errno.ENAMETOOLONG: "set ROOT= to a shorter path, or use a shorter name",
    errno.EMLINK: "set ROOT= to a folder of another file system: this one allows no more links or folders there",
    errno.EBUSY: "if it is a mount point, mount the folder above it instead",
    errno.EIO: f"check the disk or the file server {AGAIN}",
    errno.ESTALE: f"check the file server {AGAIN}",
    errno.ENOENT: "check the path, or run the make target that builds it",
}
OTHER_REMEDY = "check the path and its file system"


def subject_of(error: OSError, trace: TracebackType | None) -> str:
    """The file of an error, or else the operation that failed: many calls, such as write and lockf, name no file. A
    temporary file is named as the one that it becomes."""
    if isinstance(error.filename, (str, bytes, os.PathLike)):
        names = [error.filename, *([error.filename2] if error.filename2 else [])]
        return " -> ".join(re.sub(r"\.tmp\.[0-9]+(?=/|$)", "", os.fsdecode(name)) for name in names)
    steps = [step for step in traceback.extract_tb(trace) if SCRIPTS in Path(step.filename).parents]
    if not steps:
        return "the last operation"
    if (steps[-1].line or "").startswith("print("):
        return "standard output"
    return f"{steps[-1].name}() of {Path(steps[-1].filename).name}"


def explain_exception(kind: Type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """sys.excepthook: one line for an error that a user can cause, a traceback for a bug."""
    script = Path(sys.argv[0]).name
    if isinstance(error, KeyboardInterrupt):
        print(f"{script}: interrupted; run the same command again to continue", file=sys.stderr)
    elif isinstance(error, BrokenPipeError):
        pass
    elif isinstance(error, ModuleNotFoundError):
        remedy = "run make setup, or set PYTHON= to an interpreter that has the packages of requirements.txt"
        remedy += " (PYTHONPATH is not used)" if os.environ.get("PYTHONPATH") else ""
        print(f"{script}: {error.name}: not installed for {sys.executable}; {remedy}", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno is not None:
        problem, remedy = (error.strerror or os.strerror(error.errno)).lower(), REMEDIES.get(error.errno, OTHER_REMEDY)
        print(f"{script}: {one_line(subject_of(error, trace))}: {one_line(problem)}; {remedy}", file=sys.stderr)
    elif isinstance(error, MemoryError) or re.search("Failed to allocate memory|bad_alloc", str(error)):
        print(f"{script}: memory: not enough is left; free some, or run fewer jobs at once", file=sys.stderr)
    elif kind.__module__.startswith("onnxruntime."):  # of a graph that passed its trial at import
        remedy = "if the graph is your own, set ONNX= to one that every image and batch size works with"
        print(f"{script}: ONNX Runtime: cannot run the graph ({one_line(error)}); {remedy}", file=sys.stderr)
    elif sys.version_info < (3, 10):
        remedy = f"set PYTHON= to {PYTHONS}, or omit it; only inference and later stages run on 3.7 and newer"
        problem = f"does not run on Python {sys.version.split()[0]} ({kind.__name__}: {one_line(error)})"
        print(f"{script}: PYTHON={sys.executable}: {problem}; {remedy}", file=sys.stderr)
    else:
        traceback.print_exception(kind, error, trace)


def write_rest() -> None:
    """Writes what is left of the output, at the very end. Without this, Python prints several lines about an error.

    A reader that has closed the pipe, such as head, is not an error: the artifact is complete.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        problem, remedy = (error.strerror or "").lower(), REMEDIES.get(error.errno or 0, OTHER_REMEDY)
        print(f"{Path(sys.argv[0]).name}: standard output: {problem}; {remedy}", file=sys.stderr, flush=True)
        os._exit(1)


def raise_on_interrupt() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt, so that a command can clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, interrupt_once)


def raise_on_termination() -> None:
    """Makes SIGTERM end a command as Ctrl-C does, for commands that start programs or have much to remove."""
    signal.signal(signal.SIGTERM, interrupt_once)


def interrupt_once(*_: object) -> None:
    """Raises KeyboardInterrupt and ignores further signals, which would interrupt the clean-up: make passes SIGTERM on
    to its commands, which may have got it already with the whole group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is interrupt_once:
            signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


class Parser(argparse.ArgumentParser):
    """Parser of a command's flags; a usage error is one line on stderr and status 2."""

    def __init__(self, doc: str | None) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        raise_on_interrupt()

    def error(self, message: str) -> NoReturn:
        die("arguments", message, f"see {self.prog} --help", status=2)


def settings_of(args: argparse.Namespace, settings: Dict[str, str]) -> Dict[str, Any]:
    """{flag: value} of a command's SETTINGS, for its cache key."""
    return {name: getattr(args, name) for name in settings}


if IS_COMMAND:
    environment.clean()
    sys.excepthook = explain_exception
    if sys.stdout:
        atexit.register(write_rest)
    for stream in filter(None, (sys.stdout, sys.stderr)):  # the terminal may not support a file name's characters
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # in a log, lines keep their order
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
