"""Tries a user's graph in a child process, in which it may crash, run without end or take all memory."""

from __future__ import annotations

from _support.machine import threads
from _support.process import interrupts_held, prepare_child

import contextlib
import multiprocessing
import re
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Callable, Iterator

from graphs.external_data import Fault

LIMIT = 120.0  # s; a usual network takes some seconds, a large one on a single slow core a minute
NOTICE = 5.0  # s until a line says that the trial runs
# Bytes that a trial may take for tensors. VGG-16 with images enlarged to 224 x 224, the largest usual network, takes
# 2.5 GB for the 64 images of the trial.
TENSORS = 4 << 30
COPIES = 12  # of the file, in onnx and in ONNX Runtime
STACK = 32 << 20  # bytes of a thread: 8 MB for its stack, and its buffers
NO_MEMORY = re.compile("Failed to allocate memory|bad_alloc|[Cc]annot allocate memory|Resource temporarily unavailable")


def memory_for(file_bytes: int) -> int:
    """How many bytes the trial of a graph may take whose files have `file_bytes`."""
    return TENSORS + memory_to_read(file_bytes) + STACK * threads()


def memory_to_read(file_bytes: int) -> int:
    """How many bytes it may take to read the files of a graph. An empty node has 2 bytes there, and 150 in memory."""
    return COPIES * (file_bytes + (16 << 20))


@contextlib.contextmanager
def limited_memory(allowed: int) -> Iterator[None]:
    """Within it this process may take `allowed` bytes more than it has. Linux only: RLIMIT_DATA counts all private
    memory since Linux 4.7. A limit that the user has set is kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status")
    used = re.search(r"^VmData:\s*(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    if used and soft == hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, ((int(used[1]) << 10) + allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised for, says that no memory is left."""
    while error:
        if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
            return True
        error = error.__context__
    return False


def answer(sender: Connection, action: Callable[[], Any], memory: int) -> None:
    """Sends (whether it succeeded, the result or the exception) of an action that may take `memory` bytes."""
    prepare_child()
    try:
        with limited_memory(memory):
            reply = (True, action())
    except Exception as error:  # noqa: BLE001  the parent raises it
        problem = f"its trial with a few random images needs more than {memory / 2**30:.1f} GB of memory"
        fault = Fault(problem, "check the sizes in its nodes, or use a smaller graph")
        reply = (False, fault if is_out_of_memory(error) else error)
    sender.send(reply)


def run(action: Callable[[], Any], memory: int) -> Any:
    """The result of `action` in a child process, which is killed after LIMIT s or when this process ends.

    Raises what the action raises, or Fault if it takes longer, takes more than `memory` bytes or crashes. A line of
    die() is printed by the child.
    """
    context = multiprocessing.get_context("fork")  # the modules are loaded already, and no thread has been started
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=answer, args=(sender, action, memory))
    with interrupts_held():
        child.start()
    sender.close()
    try:
        if not receiver.poll(min(NOTICE, LIMIT)):
            print(f"  the graph is tried with a few random images, for {LIMIT:g} s at most")
        if not receiver.poll(max(LIMIT - NOTICE, 0)):
            problem = f"its trial with a few random images takes longer than {LIMIT:g} s"
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
