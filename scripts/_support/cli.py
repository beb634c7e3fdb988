"""Error messages, arguments and Ctrl-C of the commands.

Commands import this module first, because it has side effects: Ctrl-C during slow imports (numpy, onnx) ends the
command without a message, and an uncaught exception, such as a missing package, is printed as one line. It has no side
effects when another program, such as pytest, imports it. Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import PYTHONS

import argparse
import errno
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, NoReturn, Type

SCRIPTS = Path(__file__).resolve().parent.parent
IS_COMMAND = SCRIPTS in Path(sys.argv[0]).resolve().parents


def die(subject: object, problem: str, remedy: str, status: int = 1) -> NoReturn:
    """Prints `script: subject: problem; remedy` on stderr and exits with `status`.

    The status is 1 for bad input or environment, 2 for a usage error. In a thread other than the main one it only
    raises SystemExit with the line, which is printed when it ends the script.
    """
    line = f"{Path(sys.argv[0]).name}: {one_line(subject)}: {one_line(problem)}; {one_line(remedy)}"
    if threading.current_thread() is not threading.main_thread():
        raise SystemExit(line)  # Python prints the line and exits 1
    print(line + "\n", end="", file=sys.stderr)  # one write, so that lines of parallel jobs do not mix
    raise SystemExit(status)


def one_line(text: object) -> str:
    """`text` on one line, without control characters, cut after 1000 characters."""
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return shown if len(shown) < 1000 else shown[:1000] + "…"


def explain_exception(kind: Type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """sys.excepthook: one line for an error that a user can cause, a traceback for a bug."""
    script = Path(sys.argv[0]).name
    if isinstance(error, KeyboardInterrupt):
        print(f"{script}: interrupted; run the same command again to continue", file=sys.stderr)
    elif isinstance(error, BrokenPipeError):
        pass
    elif isinstance(error, ModuleNotFoundError):
        remedy = "run make setup, or set PYTHON= to an interpreter that has the packages of requirements.txt"
        print(f"{script}: {error.name}: not installed for {sys.executable}; {remedy}", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno is not None:
        remedy = {
            errno.ENOSPC: "free disk space and run the same command again",
            errno.EDQUOT: "free disk space and run the same command again",
            errno.EFBIG: "raise the limit on file size (ulimit -f) and run the same command again",
            errno.EACCES: "check its owner and permissions",
            errno.EROFS: "set ROOT= to a writable folder",
            errno.ENOENT: "check the path, or run the make target that builds it",
        }.get(error.errno, "check the path")
        print(f"{script}: {error.filename}: {(error.strerror or '').lower()}; {remedy}", file=sys.stderr)
    elif sys.version_info < (3, 10):
        remedy = f"set PYTHON= to {PYTHONS}, or omit it; only inference and later stages run on 3.7 and newer"
        problem = f"does not run on Python {sys.version.split()[0]} ({kind.__name__}: {one_line(error)})"
        print(f"{script}: PYTHON={sys.executable}: {problem}; {remedy}", file=sys.stderr)
    else:
        traceback.print_exception(kind, error, trace)


def raise_on_interrupt() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt, so that a command can clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, interrupt_once)


def interrupt_once(*_: object) -> None:
    """Raises KeyboardInterrupt and ignores further Ctrl-C, which would interrupt the clean-up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    sys.excepthook = explain_exception
    for stream in filter(None, (sys.stdout, sys.stderr)):  # the terminal may not support a file name's characters
        stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
