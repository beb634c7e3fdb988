"""Reads pickles without running code from them: names in a pickle never become real objects. Python 3.7."""

from __future__ import annotations

import io
import mmap
import pickle
import struct
from functools import partial
from typing import Any, Callable, Dict

READS_LIMIT = 1 << 20  # reads of a pickle, one or two per instruction; the official batch needs a tenth of it
BYTES_PER_READ = 48  # a larger pickle may need more reads; numbers of numpy take 50 reads for an image's 3072 bytes
LARGE = 32 << 20  # bytes of a part that are not copied: the images of the official batches have 31 MB
ARGUMENTS_LIMIT = 16
INSTRUCTIONS = (  # of Python 2 for a dict of text, numbers, lists and one array, in protocols 0 to 2
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.LIST, pickle.NONE),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.FLOAT),
    *(pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.APPEND, pickle.APPENDS),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    pickle.GLOBAL,
)


class Placeholder:
    """Takes the place of an object: it stores its arguments and state and does nothing with them."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Instructions(Dict[int, Any]):
    """{instruction: method} of the unpickler; other instructions are rejected."""

    needed_by = "CIFAR-10 batch"

    def __missing__(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"unexpected instruction {code:#04x} for a {self.needed_by}")


class LimitedReads:
    """The bytes of a pickle with a limited number of reads: a megabyte of instructions can take gigabytes of memory."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.stream: Any = io.BytesIO(data) if isinstance(data, bytes) else data
        self.tell, self.readline = self.stream.tell, self.stream.readline
        self.size, self.left = len(data), max(READS_LIMIT, len(data) // BYTES_PER_READ)

    def spend(self, reads: int) -> None:
        """Counts work that costs as much as this number of reads."""
        self.left -= reads
        if self.left < 0:
            raise pickle.UnpicklingError("too many instructions")

    def read(self, size: int | None = -1) -> bytes:
        self.spend(1)
        data: bytes = self.stream.read(size)
        if size and len(data) < size:
            raise EOFError("it ends too early")
        return data

    def part(self, size: int) -> bytes | memoryview:
        """The next `size` bytes: a large part is not copied."""
        if size <= LARGE:
            return self.read(size)
        self.spend(1)
        begin = self.tell()
        if begin + size > self.size:
            raise EOFError("it ends too early")
        self.stream.seek(begin + size)
        return memoryview(self.data)[begin : begin + size]


class RestrictedUnpickler(pickle._Unpickler):  # the Python version: in the C version a pickle can make the memo huge
    """Reads pickles of Python 2. find_class(), which is to be overridden, returns partial(Placeholder, …) or rejects a
    name; nothing else is ever called.

    Keys of a dict must be text: the hash of a deeply nested tuple can crash Python, and numbers can be chosen so that
    their hashes collide.
    """

    dispatch = Instructions({code: pickle._Unpickler.dispatch[code] for code in b"".join(INSTRUCTIONS)})

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, source: LimitedReads) -> None:
        super().__init__(source, encoding="bytes")
        self.source = source

    def set_items(self, items: list[Any]) -> None:
        """Adds [key, value, key, value, …] to the dict at the top of the stack."""
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, (bytes, str, Placeholder)):
                raise pickle.UnpicklingError("a key is not text")
            self.stack[-1][key] = value

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def load_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    def load_binstring(self) -> None:
        (size,) = struct.unpack("<i", self.source.read(4))
        if size < 0:
            raise pickle.UnpicklingError("a text of negative length")
        self.append(self.source.part(size))

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not partial or type(arguments) is not tuple or len(arguments) > ARGUMENTS_LIMIT:
            raise pickle.UnpicklingError("unexpected call")
        self.source.spend(sum(len(x) for x in arguments if isinstance(x, (list, tuple, dict))))  # it may be copied
        self.append(function(*arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Placeholder):
            raise pickle.UnpicklingError("unexpected state")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BINSTRING[0]] = load_binstring
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
