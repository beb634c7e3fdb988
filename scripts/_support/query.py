"""Questions to other programs, asked all at once, with one deadline for all answers. Python 3.7, standard library."""

from __future__ import annotations

from _support import process

import contextlib
import io
import os
import signal
import time
from multiprocessing import Pipe
from typing import Any, Callable, List, NamedTuple, TypeVar, Union

Answer = TypeVar("Answer")


class Fault(NamedTuple):
    """Why a question has no answer, and what to do."""

    text: str
    fix: str
    late: bool = False  # there was no answer before the deadline: one may come later


class Late(BaseException):
    """The deadline of a question has passed. Not an Exception, so that no question catches it."""


def raise_late(*_: object) -> None:
    raise Late


class BackgroundQueries:
    """Asks questions whose answers must come within `limit` s from now, whatever the questions start or wait for."""

    def __init__(self, limit: float) -> None:
        self.limit, self.until = limit, time.monotonic() + limit
        self.late = Fault(f"no answer within {limit:g} s", "again, when the machine is less busy: make doctor", True)

    def ask(self, question: Callable[[], Answer], sooner: float = 0) -> Callable[[], Union[Answer, Fault]]:
        """Calls `question` in a child process, which ends the programs it has started when the deadline passes.

        The deadline is `sooner` s before the common one, for a question inside another question. Returns a function
        that waits for the answer, or for a Fault; it may be called several times.
        """
        until = self.until - sooner
        ours, theirs = Pipe(duplex=False)
        if os.fork() == 0:
            try:
                theirs.send(self.answer(question, until))
            finally:
                os._exit(0)
        theirs.close()
        answers: List[Any] = []

        def wait() -> Union[Answer, Fault]:
            if not answers:
                answers.append(self.late)
                with ours, contextlib.suppress(EOFError, OSError):  # the child may have died
                    if ours.poll(max(0, until + 0.1 - time.monotonic())):
                        answers[0] = ours.recv()
            found: Union[Answer, Fault] = answers[0]
            return found

        return wait

    def answer(self, question: Callable[[], Answer], until: float) -> Union[Answer, Fault]:
        """In the child: the answer, or the reason that it is missing."""
        stderr = io.StringIO()
        try:
            process.prepare_child()
            signal.signal(signal.SIGALRM, raise_late)
            signal.setitimer(signal.ITIMER_REAL, max(0.01, until - time.monotonic()))
            with contextlib.redirect_stderr(stderr):
                return question()
        except Late:
            return self.late
        except SystemExit:  # of cli.die, which has printed `script: subject: problem; remedy`
            text, _, fix = stderr.getvalue().strip().partition(": ")[2].rpartition("; ")
            return Fault(text, fix)
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            return Fault(f"{type(error).__name__}: {error}", "see what it names")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
