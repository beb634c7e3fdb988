"""Reads the pickle of a CIFAR-10 batch: a dict with images and labels, as Python 2 or Python 3 writes it.

Nothing of numpy is called on behalf of a pickle. What it says of an array is checked first, and then read here.
"""

from __future__ import annotations

import pickle
import re
import struct
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from formats import restricted_pickle
from formats.restricted_pickle import Placeholder
from network.spec import CLASSES, IMAGE_SHAPE, IMAGE_VALUES

PYTHON3 = (  # instructions of Python 3, besides those of Python 2; buffers outside of the pickle are not among them
    *(pickle.BINUNICODE, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.MEMOIZE),
    *(pickle.STACK_GLOBAL, pickle.SHORT_BINUNICODE),
)
NAMES = {("numpy", "ndarray"), ("numpy", "dtype")}
for core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    NAMES |= {
        (f"{core}.multiarray", "_reconstruct"),
        (f"{core}.multiarray", "scalar"),
        (f"{core}.numeric", "_frombuffer"),
    }
# Python 3 writes bytes so in protocols 0 to 2: bytes that are not empty, and b"" in two spellings.
NAMES |= {("_codecs", "encode"), ("__builtin__", "bytes"), ("builtins", "bytes")}
# Plain values in entries that are ignored.
NAMES |= {
    (module, name) for module in ("__builtin__", "builtins") for name in ("set", "frozenset", "complex", "bytearray")
}
# Keys of dicts in entries that are ignored. They are dropped: numbers can be chosen so that their hashes collide.
PLAIN_KEYS = (int, float, bool, type(None))
LONG_TEXT = 1 << 16  # characters; longer text can only be bytes in disguise, as written for _codecs.encode
BELOW_256 = bytes(range(0xC4))  # the bytes of UTF-8 that occur in characters below 256
KEY_LIMIT = 100  # characters of a key
INTEGERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")
LAYOUT = f"uint8 images of {IMAGE_VALUES} bytes"


class BatchError(ValueError):
    """Why a pickle is not a batch, and what to do about it, if that is known."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


class BatchUnpickler(restricted_pickle.RestrictedUnpickler):
    """Reads the pickle of a batch. The names of numpy and of bytes become placeholders, others are rejected."""

    dispatch = restricted_pickle.Instructions(restricted_pickle.RestrictedUnpickler.dispatch)
    dispatch.update({code: pickle._Unpickler.dispatch[code] for code in b"".join(PYTHON3)})

    def load_frame(self) -> None:
        """A frame only tells how much to read at once, and is ignored: reads within it are counted like others."""
        (size,) = struct.unpack("<Q", self.source.read(8))
        if size > self.source.size - self.source.tell():
            raise EOFError("it ends too early")

    def load_binbytes(self) -> None:
        self.append(self.source.part(*struct.unpack("<I", self.source.read(4))))

    def load_binbytes8(self) -> None:
        self.append(self.source.part(*struct.unpack("<Q", self.source.read(8))))

    def load_bytearray8(self) -> None:
        self.append(self.source.part(*struct.unpack("<Q", self.source.read(8))))

    def load_unicode(self) -> None:
        raw = self.source.readline()[:-1]
        if len(raw) > LONG_TEXT and re.search(rb"\\u(?!00)|\\U", raw):
            raise pickle.UnpicklingError("unexpected long text")
        self.append(str(raw, "raw-unicode-escape"))

    def load_long_text(self) -> None:
        self.append_text(*struct.unpack("<I", self.source.read(4)))

    def load_long_text8(self) -> None:
        self.append_text(*struct.unpack("<Q", self.source.read(8)))

    def append_text(self, size: int) -> None:
        """Reads UTF-8. A single other character in long text would take four bytes for each character."""
        raw = self.source.read(min(size, self.source.size + 1))
        if len(raw) > LONG_TEXT and raw.translate(None, BELOW_256):
            raise pickle.UnpicklingError("unexpected long text")
        self.append(str(raw, "utf-8", "surrogatepass"))

    dispatch[pickle.BINBYTES[0]] = load_binbytes
    dispatch[pickle.BINBYTES8[0]] = load_binbytes8
    dispatch[pickle.FRAME[0]] = load_frame
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.UNICODE[0]] = load_unicode
    dispatch[pickle.BINUNICODE[0]] = load_long_text
    dispatch[pickle.BINUNICODE8[0]] = load_long_text8

    def set_items(self, items: list[Any]) -> None:
        """Adds [key, value, …] to the dict at the top of the stack. A dict with other keys than text, such as names of
        labels by number, can only be in an entry that is ignored: they are dropped."""
        for key, value in zip(items[::2], items[1::2]):
            if type(key) in PLAIN_KEYS and isinstance(self.stack[-1], dict):
                self.source.spend(1)
            else:
                super().set_items([key, value])

    def load_empty_set(self) -> None:
        self.append(Placeholder("set"))

    def load_additems(self) -> None:
        self.pop_mark()
        if not isinstance(self.stack[-1], Placeholder):
            raise pickle.UnpicklingError("unexpected items")

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(Placeholder("frozenset"))

    dispatch[pickle.EMPTY_SET[0]] = load_empty_set
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def find_class(self, module: str, name: str) -> Any:
        return placeholder_of(module, name)


def ordered(*pairs: object) -> Any:
    """An OrderedDict, to which Python 3 adds the pairs one by one; Python 2 passes all at once, which are not read."""
    return Placeholder("OrderedDict", *pairs) if pairs else {}


def placeholder_of(module: str, name: str) -> Any:
    """What stands for a name in a pickle: a callable that makes placeholders; raises UnpicklingError for others."""
    if (module, name) == ("collections", "OrderedDict"):
        return partial(ordered)
    if (module, name) not in NAMES:
        raise pickle.UnpicklingError(f"unexpected name {module[:100]}.{name[:100]} for a CIFAR-10 batch")
    return partial(Placeholder, name)


# Arrays


class Array(NamedTuple):
    """A pickled array or number of numpy."""

    type: str  # such as u1 for uint8
    order: str  # of the bytes: < > = |
    shape: tuple[int, ...]
    is_fortran: bool
    content: Any  # bytes, or a placeholder of them

    def __str__(self) -> str:
        known = re.fullmatch("[iuf][1248]", self.type) and np.dtype(self.type).name
        return f"{known or 'of another type'} [{', '.join(map(str, self.shape))}]"

    def values(self) -> NDArray[Any] | None:
        """The values of integers; None for other types, or if the bytes do not fit the shape."""
        if self.type not in INTEGERS:
            return None
        kind, size = np.dtype(self.order + self.type), int(self.type[1])
        for length in self.shape:
            size *= length
        content = bytes_of(self.content, size)
        if content is None:
            return None
        return np.frombuffer(content, kind).reshape(self.shape, order="F" if self.is_fortran else "C")


def text_of(value: object) -> str:
    """Text, which Python 2 writes as bytes; empty if it is something else."""
    return value.decode("latin1") if isinstance(value, bytes) else value if isinstance(value, str) else ""


def bytes_of(value: object, size: int) -> bytes | memoryview | None:
    """The bytes of a value, or None if they are not `size` bytes."""
    if isinstance(value, (bytes, memoryview)):
        return value if len(value) == size else None
    if not isinstance(value, Placeholder):
        return None
    if value.arguments == ("bytes",):
        return b"" if size == 0 else None
    if len(value.arguments) != 3 or value.arguments[0] != "encode" or value.arguments[2] != "latin1":
        return None
    text = value.arguments[1]
    try:
        return text.encode("latin1") if isinstance(text, str) and len(text) == size else None
    except UnicodeEncodeError:
        return None


def array_of(value: object) -> Array | None:
    """The array or number that a placeholder stands for; None if there is none, or if the parts do not fit."""
    if not isinstance(value, Placeholder):
        return None
    shape: Any = ()
    is_fortran: Any = False
    try:
        name, *arguments = value.arguments
        if name == "_reconstruct":
            state: Any = value.state
            _, shape, dtype, is_fortran, content = state
        elif name == "_frombuffer":
            content, dtype, shape, order, *_ = arguments
            is_fortran = order in ("F", b"F")
        elif name == "scalar":
            dtype, content = arguments
        else:
            return None
        (kind, code, *_), (_, byte_order, *_) = dtype.arguments, dtype.state
    except (AttributeError, TypeError, ValueError):
        return None
    known = kind == "dtype" and type(is_fortran) is bool and text_of(byte_order) in ("|", "<", ">", "=")
    sizes = type(shape) is tuple and len(shape) < 9 and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    return Array(text_of(code), text_of(byte_order), shape, is_fortran, content) if known and sizes else None


# Images and labels


def key_of(key: object) -> str:
    """The text of a key: text or bytes, also as Python 3 writes bytes in protocols 0 to 2."""
    if isinstance(key, Placeholder) and len(key.arguments) == 3 and key.arguments[0] == "encode":
        key = key.arguments[1]
    return text_of(key)[:KEY_LIMIT]


def images_of(data: object) -> NDArray[Any]:
    """uint8 [n, *IMAGE_SHAPE] from the pickled array [n, IMAGE_VALUES]; raises BatchError."""
    array = array_of(data)
    if not array:
        raise BatchError(f"its data are not {LAYOUT}")
    values = array.values() if array.type == "u1" and array.shape[1:] == (IMAGE_VALUES,) else None
    if values is None or not len(values):
        channels_last = (*IMAGE_SHAPE[1:], IMAGE_SHAPE[0])
        step = "" if array.shape[1:] == IMAGE_SHAPE else ".transpose(0, 3, 1, 2)"
        is_known = array.type == "u1" and array.shape[1:] in (IMAGE_SHAPE, channels_last)
        raise BatchError(
            f"its data are {array}, not {LAYOUT}", f"save data{step}.reshape(len(data), -1)" if is_known else ""
        )
    return values.reshape(-1, *IMAGE_SHAPE)


def label_of(i: int, value: object) -> int:
    """Label i, an int or an integer of numpy; raises BatchError if it is not a class."""
    array = array_of(value)
    label: Any = value
    if array and array.shape == ():
        content = array.values()
        label = content if content is None else content.item()
    if type(label) is not int or not 0 <= label < len(CLASSES):
        shown = label if type(label) is int and abs(label) < 1000 else f"of type {type(label).__name__}"
        raise BatchError(f"image {i} has label {shown}, not one from 0 to {len(CLASSES) - 1}")
    return label


def labels_of(labels: object, count: int) -> list[int]:
    """`count` labels from a list of numbers or an array; raises BatchError."""
    array = array_of(labels)
    if array and len(array.shape) == 1:
        content = array.values()
        if content is None:
            raise BatchError(f"its labels are {array}, not integers")
        labels = content.tolist()
    elif array:
        raise BatchError(f"its labels are {array}, not a list or an array of one dimension")
    if not isinstance(labels, (list, tuple)) or len(labels) != count:
        raise BatchError(f"the number of labels differs from the {count} images")
    return [label_of(i, label) for i, label in enumerate(labels)]


def images_and_labels(batch: object) -> tuple[NDArray[Any], list[int]]:
    """(images uint8 [n, *IMAGE_SHAPE], n labels) of an unpickled batch; raises BatchError."""
    if not isinstance(batch, dict):
        name = batch.arguments[0] if isinstance(batch, Placeholder) else type(batch).__name__
        raise BatchError(f"not a CIFAR-10 batch but a {name}")
    entries = {key_of(key): value for key, value in batch.items()}
    if len(entries) < len(batch):
        raise BatchError("two of its keys are the same, or are not text")
    for key in ("data", "labels"):
        if key not in entries:
            shown = ", ".join(sorted(entries)[:10]) or "nothing"
            raise BatchError(f"not a CIFAR-10 batch: it contains {shown}, but not {key}")
    images = images_of(entries["data"])
    return images, labels_of(entries["labels"], len(images))
