"""Reads the pickles of CIFAR-10 without running anything: no name in them becomes a real object."""

from __future__ import annotations

import io
import pickle
from typing import Any, Callable, Dict

READS_LIMIT = 1 << 20  # of a batch, one or two an instruction; the official one has a tenth of it
INSTRUCTIONS = (  # what Python 2 writes for a dict of text, numbers, lists and one array, by protocol 2, 1 or 0
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.LIST, pickle.NONE),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.APPEND, pickle.APPENDS),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
)


class Placeholder:
    """What each name of numpy becomes: it keeps its arguments and its state and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Instructions(Dict[int, Any]):
    """What the unpickler does for each instruction; one that is not there is refused."""

    needed_by = "CIFAR-10 batch"

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"it has the instruction {code:#04x}, which no {self.needed_by} needs")


class LimitedReads(io.BytesIO):
    """The bytes of a pickle, for so many reads and no more: a megabyte of instructions can take gigabytes."""

    left = READS_LIMIT

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError("it has too many instructions")
        return super().read(size)


class CifarUnpickler(pickle._Unpickler):  # the one in Python: a pickle cannot make its memo take all memory
    """Reads the Python 2 pickles of CIFAR-10. No name gets it a real object: three become Placeholder, others are refused.
    A key is text: the hash of a deep tuple crashes, and those of numbers can be made to collide."""

    names = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
    dispatch = Instructions({code: pickle._Unpickler.dispatch[code] for code in b"".join(INSTRUCTIONS)})

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, bytes):
                raise pickle.UnpicklingError("it has a key that is no text")
            self.stack[-1][key] = value

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")
        return Placeholder
