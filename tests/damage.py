"""Damaged inputs for property tests, and what a reader may do with them: return a value, or refuse in one line.

Inputs start from valid ones. A failure shows which edits of which input cause it.
"""

from __future__ import annotations

from _support.cli import Refusal

import contextlib
import copy
import io
import math
import signal
import sys
import time
import warnings
from typing import Any, Callable, Dict, Mapping, NamedTuple, TypeVar

from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st

Value = TypeVar("Value")

# Bytes


class Edit(NamedTuple):
    kind: str
    place: int  # modulo the length
    value: int
    length: int


WORDS = (
    b"\0",
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 8,
    b"-1",
    b"9" * 30,
    b"\n",
    b"cos\nsystem\n",
    b"\xc3(",
)


def flip(data: bytearray, at: int, edit: Edit) -> None:
    data[at : at + 1] = bytes(byte ^ 1 << edit.value % 8 for byte in data[at : at + 1])


def put(data: bytearray, at: int, edit: Edit) -> None:
    data[at : at + 1] = bytes([edit.value])


def insert(data: bytearray, at: int, edit: Edit) -> None:
    data[at:at] = bytes([edit.value]) * edit.length


def delete(data: bytearray, at: int, edit: Edit) -> None:
    del data[at : at + edit.length]


def duplicate(data: bytearray, at: int, edit: Edit) -> None:
    data[at:at] = data[at : at + edit.length]


def truncate(data: bytearray, at: int, edit: Edit) -> None:
    del data[at:]


def write_word(data: bytearray, at: int, edit: Edit) -> None:
    word = WORDS[edit.value % len(WORDS)]
    data[at : at + len(word)] = word


KINDS: dict[str, Callable[[bytearray, int, Edit], None]] = {
    function.__name__: function for function in (flip, put, insert, delete, duplicate, truncate, write_word)
}
LENGTHS = (1, 2, 4, 8, 64, 512)
MOST = 4  # edits of an input


def edits_in(data: bytes) -> list[Edit]:
    """Up to MOST edits. They are in one value of hypothesis, because each value takes longer than most readers."""
    numbers = [data[i : i + 6] for i in range(1, 6 * (data[0] % (MOST + 1)), 6)]
    return [
        Edit([*KINDS][n[0] % len(KINDS)], int.from_bytes(n[1:4], "big"), n[4], LENGTHS[n[5] % len(LENGTHS)])
        for n in numbers
    ]


EDITS = st.binary(min_size=1 + 6 * MOST, max_size=1 + 6 * MOST).map(edits_in)


class Originals(Dict[str, bytes]):
    """Valid inputs by name, from a fixture. A failure does not print them."""

    def __repr__(self) -> str:
        return "…"


class Damage(NamedTuple):
    """Edits of a valid input, or of random bytes."""

    start: str | bytes
    edits: list[Edit]

    def of(self, originals: Mapping[str, bytes]) -> bytes:
        """The damaged bytes; `originals` are the valid inputs by name."""
        data = bytearray(originals[self.start] if isinstance(self.start, str) else self.start)
        for edit in self.edits:
            KINDS[edit.kind](data, edit.place % (len(data) + 1), edit)
        return bytes(data)


def damages(*names: str) -> st.SearchStrategy[Damage]:
    """Damages of the inputs with these names, and sometimes random bytes."""
    starts = st.sampled_from([*names] * 3) | st.binary(max_size=100)
    return st.tuples(starts, EDITS).map(lambda parts: Damage(*parts))


# JSON

DEEP: Any = 0
for _ in range(200):
    DEEP = [DEEP]
HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 64, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e308, math.nan, math.inf, -math.inf),
    *("", "x", "0", "NaN", "../x", "a\nb", "\x1b[31m", "\0", "\ud800", "é", "x" * 5000),
    *([], {}, [[]], [1, "x"], {"": None}, {"sha256": 1}, DEEP),
]


class JsonEdit(NamedTuple):
    kind: str  # replace, delete, rename, repeat or swap
    place: int  # which entry, modulo their number
    other: int  # of HOSTILE, or another entry


JSON_KINDS = ("replace", "replace", "replace", "delete", "rename", "repeat", "swap")


def json_edits_in(data: bytes) -> list[JsonEdit]:
    """One to MOST edits, as edits_in()."""
    numbers = [data[i : i + 5] for i in range(1, 2 + 5 * (data[0] % MOST), 5)]
    return [
        JsonEdit(JSON_KINDS[n[0] % len(JSON_KINDS)], int.from_bytes(n[1:3], "big"), int.from_bytes(n[3:], "big"))
        for n in numbers
    ]


json_edits = st.binary(min_size=1 + 5 * MOST, max_size=1 + 5 * MOST).map(json_edits_in)


def entries_of(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every entry of a value of JSON, at any depth."""
    waiting, entries = [value], []
    while waiting:
        node = waiting.pop()
        keys: Any = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        entries += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return entries


def edited(value: Any, edits: list[JsonEdit]) -> Any:
    """A copy of a value of JSON with these edits."""
    value = copy.deepcopy(value)
    for edit in edits:
        entries = entries_of(value)
        if not entries:
            return value
        node, key = entries[edit.place % len(entries)]
        if edit.kind == "replace":
            node[key] = copy.deepcopy(HOSTILE[edit.other % len(HOSTILE)])
        elif edit.kind == "swap":
            other, other_key = entries[edit.other % len(entries)]
            node[key] = copy.deepcopy(other[other_key])
        elif edit.kind == "rename" and isinstance(node, dict):
            node[f"{key}x"] = node.pop(key)
        elif edit.kind == "repeat" and isinstance(node, list):
            node.append(copy.deepcopy(node[key]))
        else:
            del node[key]
    return value


# What a reader may do

SECONDS, MEMORY = 20, 300 << 20  # CPU time and bytes that one input may take


class Hang(BaseException):
    """A reader takes too long. No handler of exceptions in a reader catches it."""


FORBIDDEN = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
FORBIDDEN |= {"pickle.find_class", "ctypes.dlopen", "os.remove", "shutil.rmtree"}
called: list[str] | None = None  # the forbidden operations while a reader runs


def watch(name: str, arguments: Any) -> None:
    if called is not None and name in FORBIDDEN:
        called.append(f"{name} {arguments}")


sys.addaudithook(watch)


def stop(*_: object) -> None:
    raise Hang


def outcome(reader: Callable[[], Value], *refusals: type[BaseException], removes: bool = False) -> Value | None:
    """What a reader returns, or None if it refuses its input: by die() in one line, or by one of `refusals`.

    Fails if it raises something else, takes too long or too much memory, runs a program or removes a file, unless it
    `removes` one by design. Tells `make fuzz` whether the input was accepted.
    """
    global called
    out, errors, before = io.StringIO(), io.StringIO(), new_peak()
    accepted, value = False, None
    called, previous, begin = [], signal.signal(signal.SIGVTALRM, stop), time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
            warnings.catch_warnings(record=True) as warned,
        ):
            value, accepted = reader(), True
    except (SystemExit, *refusals) as error:
        check_refusal(error, errors.getvalue())
    except Hang:
        raise AssertionError(f"it takes more than {SECONDS} s") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
        operations, called = called, None
    operations = [text for text in operations if not (removes and text.startswith("os.remove "))]
    assert not operations, operations
    assert not warned, warned[0]  # a user would see it as further lines
    assert time.process_time() - begin < SECONDS
    grown = peak() - before
    assert grown < MEMORY, f"it takes {grown >> 20} MB"
    if currently_in_test_context():
        event("accepted" if accepted else "refused")
    return value


def peak() -> int:
    """The maximum resident memory of this process, in bytes."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def new_peak() -> int:
    """The same, from now on (man 5 proc, clear_refs): an earlier one would hide growth below it."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return peak()


def check_refusal(error: BaseException, printed: str) -> None:
    """Fails unless a refusal has a reason, and is one readable line with a remedy if it was printed."""
    if isinstance(error, Refusal):
        assert error.problem and error.remedy
    elif isinstance(error, SystemExit):
        line = printed.removesuffix("\n")
        assert error.code in (1, 2) and line.isprintable(), (error.code, printed)
        *_, rest = line.split(": ", 1)
        assert ": " in rest and "; " in rest and len(line) < 4000, printed
    else:
        assert str(error), repr(error)
