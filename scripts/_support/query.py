"""Queries to other programs, which run in parallel and share one deadline. Python 3.7, standard library only."""

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
    """Why a query has no answer, and what to do."""

    text: str
    fix: str
    late: bool = False  # the deadline passed; another run may get an answer


class DeadlinePassed(BaseException):
    """The deadline of a query has passed. Not an Exception, so that queries do not catch it."""


def raise_deadline_passed(*_: object) -> None:
    raise DeadlinePassed


class BackgroundQueries:
    """Runs queries in child processes; all answers must arrive within `limit` s after this object is created."""

    def __init__(self, limit: float) -> None:
        self.limit, self.until = limit, time.monotonic() + limit
        self.late = Fault(f"no answer within {limit:g} s", "run make doctor again when the machine is less busy", True)

    def ask(self, question: Callable[[], Answer], sooner: float = 0) -> Callable[[], Union[Answer, Fault]]:
        """Calls `question` in a child process, which ends the programs it started when the deadline passes.

        The deadline is `sooner` s before the common one, for a query inside another query. Returns a function that
        waits for the answer or a Fault and may be called several times.
        """
        until = self.until - sooner
        receiver, sender = Pipe(duplex=False)
        if os.fork() == 0:
            try:
                sender.send(self.answer(question, until))
            finally:
                os._exit(0)
        sender.close()
        answers: List[Any] = []

        def wait() -> Union[Answer, Fault]:
            if not answers:
                answers.append(self.late)
                with receiver, contextlib.suppress(EOFError, OSError):  # the child may have died
                    if receiver.poll(max(0, until + 0.1 - time.monotonic())):
                        answers[0] = receiver.recv()
            answer: Union[Answer, Fault] = answers[0]
            return answer

        return wait

    def answer(self, question: Callable[[], Answer], until: float) -> Union[Answer, Fault]:
        """Runs in the child: returns the answer, or why it is missing."""
        stderr = io.StringIO()
        try:
            process.prepare_child()
            signal.signal(signal.SIGALRM, raise_deadline_passed)
            signal.setitimer(signal.ITIMER_REAL, max(0.01, until - time.monotonic()))
            with contextlib.redirect_stderr(stderr):
                return question()
        except DeadlinePassed:
            return self.late
        except SystemExit:  # cli.die has printed `script: subject: problem; remedy`
            text, _, fix = stderr.getvalue().strip().partition(": ")[2].rpartition("; ")
            return Fault(text, fix)
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            return Fault(f"{type(error).__name__}: {error}", "check the file or program that it names")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
