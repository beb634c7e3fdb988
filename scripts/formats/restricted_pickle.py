"""Reads the pickles of CIFAR-10 without running code from them: names in a pickle never become real objects."""

from __future__ import annotations

import io
import pickle
from typing import Any, Callable, Dict

READS_LIMIT = 1 << 20  # reads of a pickle, one or two per instruction; the official batch needs a tenth of it
INSTRUCTIONS = (  # of Python 2 for a dict of text, numbers, lists and one array, in protocols 0 to 2
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.LIST, pickle.NONE),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.APPEND, pickle.APPENDS),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.REDUCE, pickle.BUILD),
)


class Placeholder:
    """Takes the place of an object of numpy: it stores its arguments and state and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Instructions(Dict[int, Any]):
    """{instruction: method} of the unpickler; other instructions are rejected."""

    needed_by = "CIFAR-10 batch"

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"unexpected instruction {code:#04x} for a {self.needed_by}")


class LimitedReads(io.BytesIO):
    """The bytes of a pickle with a limited number of reads: a megabyte of instructions can take gigabytes of memory."""

    left = READS_LIMIT

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError("too many instructions")
        return super().read(size)


class CifarUnpickler(pickle._Unpickler):  # the Python version: in the C version a pickle can make the memo huge
    """Reads the Python 2 pickles of CIFAR-10.

    Three names become Placeholder, others are rejected. Keys of a dict must be text: the hash of a deeply nested tuple
    can crash Python, and numbers can be chosen so that their hashes collide.
    """

    names = {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}
    dispatch = Instructions({code: pickle._Unpickler.dispatch[code] for code in b"".join(INSTRUCTIONS)})

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, bytes):
                raise pickle.UnpicklingError("a key is not text")
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
            raise pickle.UnpicklingError(f"unexpected name {module}.{name} for a CIFAR-10 batch")
        return Placeholder
