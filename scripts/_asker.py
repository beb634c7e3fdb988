"""Questions asked all at once, with one time for all their answers. Shapes no bytes; Python 3.7 and newer."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from multiprocessing import Pipe
from typing import Any, Callable, NamedTuple

import _tool


class Fault(NamedTuple):
    """Why a question has no answer, and what to do."""

    text: str
    fix: str
    late: bool = False


class Late(BaseException):
    """The time for an answer has passed."""


def passed(*_: object) -> None:
    raise Late


class Asker:
    """Asks questions that have `limit` s from now on for their answers, whatever they start and however it hangs."""

    def __init__(self, limit: float) -> None:
        self.limit, self.until = limit, time.monotonic() + limit
        self.late = Fault(f"no answer within {limit:g} s", "again, when the machine is less busy: make doctor", True)

    def ask(self, question: Callable[[], Any], sooner: float = 0) -> Callable[[], Any]:
        """Calls `question` in a child of this process, which ends what it has started when the time has passed, by
        `sooner` s earlier. The function returned waits for its answer, or for a Fault; call it once."""
        answer, until = self.late, self.until - sooner
        ours, theirs = Pipe(duplex=False)
        if os.fork() == 0:
            said = io.StringIO()
            try:
                _tool.bound_to_us()
                signal.signal(signal.SIGALRM, passed)
                signal.setitimer(signal.ITIMER_REAL, max(0.01, until - time.monotonic()))
                with contextlib.redirect_stderr(said):
                    answer = question()
            except SystemExit:  # of _build.die, which has said: script: subject: problem; remedy
                text, _, fix = said.getvalue().strip().partition(": ")[2].rpartition("; ")
                answer = Fault(text, fix)
            except (OSError, RuntimeError, ValueError, LookupError) as error:
                answer = Fault(f"{type(error).__name__}: {error}", "see what it names")
            finally:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    theirs.send(answer)
                finally:
                    os._exit(0)
        theirs.close()

        def wait() -> Any:
            with ours, contextlib.suppress(EOFError, OSError):  # of a child that died
                if ours.poll(max(0, until + 0.1 - time.monotonic())):
                    return ours.recv()
            return self.late

        return wait
