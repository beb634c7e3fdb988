"""Tries a user's graph in a child process, which a graph may crash, or in which it may run without end."""

from __future__ import annotations

from _support.process import prepare_child

import multiprocessing
import signal
from multiprocessing.connection import Connection
from typing import Any, Callable

from graphs.external_data import Fault


def answer(sender: Connection, action: Callable[[], Any]) -> None:
    """Sends (whether it succeeded, the result or the exception) of an action."""
    prepare_child()
    try:
        reply = (True, action())
    except Exception as error:  # noqa: BLE001  the parent raises it
        reply = (False, error)
    sender.send(reply)


def run(action: Callable[[], Any], limit: float) -> Any:
    """The result of `action` in a child process, which is killed after `limit` s or when this process ends.

    Raises what the action raises, or Fault if it takes longer or crashes. A line of die() is printed by the child.
    """
    context = multiprocessing.get_context("fork")  # the modules are loaded already, and no thread has been started
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(sender, action))
    child.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            problem = f"its trial with a few random images takes longer than {limit:g} s"
            raise Fault(problem, "check the number of iterations of its Loop nodes, or use a smaller graph")
        succeeded, result = receiver.recv()
    except EOFError:
        child.join()
        if child.exitcode and child.exitcode > 0:
            raise SystemExit(child.exitcode) from None
        name = signal.Signals(-(child.exitcode or 0)).name if child.exitcode else "no answer"
        problem = f"its trial with a few random images was killed ({name}), mostly because it needs too much memory"
        raise Fault(problem, "free memory, or export a smaller graph with ONNX's own operators") from None
    finally:
        child.kill()
        child.join()
        receiver.close()
    if succeeded:
        return result
    raise result
