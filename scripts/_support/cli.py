"""What every command needs from its first line: one line for what a user can cause, arguments, Ctrl-C.

Commands import this module before all else, because it has side effects: from here on Ctrl-C amid slow imports (numpy,
onnx) ends the command in silence, and an exception that nobody catches, a package that is not installed among them, is
one line. None of this happens where another program, such as pytest, imports it. Python 3.7, standard library only.
"""

from __future__ import annotations

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
    """Prints `script: subject: problem; remedy` on stderr and exits with `status` (1: wrong matter, 2: wrong call).

    In another thread than the main one it only raises: whoever ends the script with it prints it, and nothing else.
    """
    line = f"{Path(sys.argv[0]).name}: {one_line(subject)}: {one_line(problem)}; {one_line(remedy)}"
    if threading.current_thread() is not threading.main_thread():
        raise SystemExit(line)  # which Python prints, and exits 1
    print(line, file=sys.stderr)
    raise SystemExit(status)


def one_line(text: object) -> str:
    """`text` on one line, without control characters, and not without end."""
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return shown if len(shown) < 1000 else shown[:1000] + "…"


def explain_exception(kind: Type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook for what nobody caught: one line for what a user can cause, a traceback only for our own mistakes."""
    script = Path(sys.argv[0]).name
    if isinstance(error, KeyboardInterrupt):
        print(f"{script}: interrupted; run the same command again to go on", file=sys.stderr)
    elif isinstance(error, BrokenPipeError):
        pass
    elif isinstance(error, ModuleNotFoundError):
        remedy = "run make setup, or give PYTHON= an interpreter that has what requirements.txt lists"
        print(f"{script}: {error.name}: not installed for {sys.executable}; {remedy}", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno is not None:
        remedy = {
            errno.ENOSPC: "free some space and run the same command again",
            errno.EDQUOT: "free some space and run the same command again",
            errno.EFBIG: "raise the limit on file size (ulimit -f) and run the same command again",
            errno.EACCES: "check who owns it and its permissions",
            errno.EROFS: "give a ROOT= that can be written",
            errno.ENOENT: "check the path, or run make with the stage that makes it",
        }.get(error.errno, "check the path")
        print(f"{script}: {error.filename}: {(error.strerror or '').lower()}; {remedy}", file=sys.stderr)
    elif sys.version_info < (3, 10):
        remedy = "give PYTHON= 3.10 to 3.12, or leave it out; inference and what follows it run on 3.7 and newer"
        problem = f"does not run on Python {sys.version.split()[0]} ({kind.__name__}: {one_line(error)})"
        print(f"{script}: PYTHON={sys.executable}: {problem}; {remedy}", file=sys.stderr)
    else:
        traceback.print_exception(kind, error, trace)


def raise_on_interrupt() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, so that a script can clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, interrupt_once)


def interrupt_once(*_: object) -> None:
    """A second Ctrl-C would interrupt the explanation of the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


class Parser(argparse.ArgumentParser):
    """Arguments as flags; a wrong call is one line on stderr and status 2."""

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
    for stream in filter(None, (sys.stdout, sys.stderr)):  # file names may contain what the terminal cannot show
        stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
