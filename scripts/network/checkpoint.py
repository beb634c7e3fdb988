"""Checks the names and shapes of a checkpoint's tensors without torch, when the checkpoint is imported.

The export later loads it with torch (load.py) and also checks types and values. No code of the file is run: names in
its pickle never become real objects.
"""

from __future__ import annotations

from _support import cli
from _support.cli import die

import math
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Iterator

from formats import restricted_pickle
from formats.restricted_pickle import LimitedReads, Placeholder
from network import recognize
from network.shapes import shapes

# Bytes of all values in a zip container, unpacked: a few megabytes can unpack to gigabytes. Twice those of float64.
VALUES_LIMIT = 2 * 8 * sum(math.prod(shape) for shape in shapes().values())
HEAD_LIMIT = 16 << 20  # bytes; the pickles of the official checkpoint are smaller than 1 MB
SIZES = {"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8}
COUNTER = "num_batches_tracked"  # the end of the names of tensors that may be missing: torch 0.3 did not have them
NEEDED = sum(not name.endswith(COUNTER) for name in shapes())
UNREADABLE = "not a checkpoint that can be loaded"
REMEDY = f"set WEIGHTS= to a plain state_dict of this network ({len(shapes())} tensors, of which {NEEDED} are needed)"


def text(key: str | bytes) -> str:
    """A key as text; Python 2 wrote bytes."""
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key


def named(pairs: Any = ()) -> Iterator[tuple[str, Any]]:
    """Yields (name, value) of each pair; raises UnpicklingError if a key is not text."""
    for key, value in pairs:
        if not isinstance(key, (str, bytes)):
            raise pickle.UnpicklingError("a key is not text")
        yield text(key), value


class Ordered(Placeholder):
    """An OrderedDict: pickles of Python 2 pass all pairs at once, those of Python 3 add them one by one."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__()
        self.items = dict(named(pairs))


class Instructions(restricted_pickle.Instructions):
    needed_by = "checkpoint"


class TorchUnpickler(restricted_pickle.RestrictedUnpickler):
    """Reads the pickle of a state_dict; names outside of torch are rejected."""

    dispatch = Instructions(restricted_pickle.RestrictedUnpickler.dispatch)
    for code in (pickle.BINPERSID, pickle.BINUNICODE):
        dispatch[code[0]] = pickle._Unpickler.dispatch[code[0]]

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Ordered) else target).update(named(zip(items[::2], items[1::2])))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return partial(Ordered)
        if module.split(".")[0] != "torch":
            raise pickle.UnpicklingError(f"unexpected name {module[:100]}.{name[:100]}")
        return partial(Placeholder, name)

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) > restricted_pickle.ARGUMENTS_LIMIT:
            raise pickle.UnpicklingError("unexpected storage")
        return Placeholder(*pid)


def shape_of(value: Any) -> Any:
    """The shape of a pickled tensor; None if it was saved in another way, which only torch can read; "" if it is not a
    tensor."""
    if not isinstance(value, Placeholder) or isinstance(value, Ordered):
        return ""
    name, *arguments = value.arguments
    if name == "_rebuild_parameter":
        return shape_of(arguments[0])
    return arguments[2] if name in ("_rebuild_tensor", "_rebuild_tensor_v2") else None


def storages(tensor: Any) -> Iterator[tuple[Any, int]]:
    """Yields (key, bytes) of the storage of a tensor, if its kind is known."""
    name, *arguments = (tensor.arguments if isinstance(tensor, Placeholder) else ()) or ("",)
    if name == "_rebuild_parameter":
        yield from storages(arguments[0])
    elif str(name).startswith("_rebuild_tensor"):
        storage: Any = arguments[0]
        _, kind, key, _, count, *_ = storage.arguments
        if (
            not isinstance(key, (str, bytes)) or type(count) is not int
        ):  # hashing a deeply nested tuple can crash Python
            raise pickle.UnpicklingError("the key of a storage is not text, or its size is not a number")
        if kind.args not in [(name,) for name in SIZES]:
            raise ValueError(f"unexpected storage type {cli.one_line(kind.args)[:50]}")
        yield key, count * SIZES[kind.args[0]]


def pickles_of(path: Path) -> tuple[bytes, str]:
    """The pickles of a checkpoint, and the folder of a zip container ("" for a legacy one); may raise any exception."""
    with open(path, "rb") as stream:
        data = stream.read(HEAD_LIMIT)
    if not data.startswith(b"PK"):
        return data, ""
    with zipfile.ZipFile(path) as container:
        (name,) = (name for name in container.namelist() if name.split("/")[1:] == ["data.pkl"])
        with container.open(name) as file:
            return file.read(HEAD_LIMIT), name.partition("/")[0]


def read(path: Path) -> dict[str, Any]:
    """{name: placeholder of a tensor} of a checkpoint in torch's zip or legacy container; may raise any exception.

    If it contains dicts, as a training checkpoint does, its values are returned as they are, and not checked.
    """
    data, folder = pickles_of(path)
    head = LimitedReads(data)
    if folder:
        loaded = TorchUnpickler(head).load()
    else:
        *_, loaded, _ = [TorchUnpickler(head).load() for _ in range(5)]
    if isinstance(loaded, Ordered):
        loaded = loaded.items
    if not isinstance(loaded, dict):
        kind = "single tensor" if isinstance(loaded, Placeholder) else type(loaded).__name__
        raise ValueError(f"contains a {kind}, not a state_dict")
    tensors = dict(named(loaded.items()))
    if any(isinstance(value, (dict, Ordered)) for value in tensors.values()):
        return {name: value.items if isinstance(value, Ordered) else value for name, value in tensors.items()}
    needed = dict(s for t in tensors.values() for s in storages(t))
    if folder:
        with zipfile.ZipFile(path) as container:
            member_sizes = {info.filename: info.file_size for info in container.infolist()}
            if sum(member_sizes.values()) > VALUES_LIMIT + HEAD_LIMIT:
                raise ValueError(f"unpacked it has {sum(member_sizes.values())} bytes, too many for this network")
            damaged = container.testzip()
        incomplete = [k for k, size in needed.items() if member_sizes.get(f"{folder}/data/{text(k)}", -1) < size]
        if damaged or incomplete:
            raise ValueError(f"damaged, or the values of {len(incomplete)} storages are missing")
    else:
        expected = head.tell() + sum(8 + size for size in needed.values())
        if path.stat().st_size < expected:
            raise ValueError(f"{path.stat().st_size} bytes instead of {expected}")
    return tensors


def check_faults(path: Path, faults: dict[str, list[str]], remedy: str) -> None:
    """Exits 1 if there are any faults, given as {problem: names of tensors}."""
    problems = [
        f"{len(names)} tensors {fault}: {', '.join(map(cli.short, names[:5]))}{', …' if len(names) > 5 else ''}"
        for fault, names in faults.items()
        if names
    ]
    if problems:
        die(path, " · ".join(problems), remedy)


def explain(path: Path, contents: dict[str, Any] | None = None) -> recognize.Advice | None:
    """What a checkpoint is and what to do, if it is a known kind of file that is not a plain state_dict.

    `contents` is the result of read(), if it could be read.
    """
    advice = recognize.container(path)
    if advice or contents is not None:
        return advice or recognize.readable(path, contents or {}, shapes())
    try:
        return recognize.readable(path, read(path), shapes())
    except Exception:  # noqa: BLE001  an invalid pickle can raise any exception
        pass
    try:
        return recognize.unreadable(path, pickles_of(path)[0])
    except Exception:  # noqa: BLE001
        return None


def check(path: Path, otherwise: str = "") -> None:
    """Exits 1 unless the names and shapes of a checkpoint's tensors are those of this network.

    `otherwise` is put before the remedy: "remove it, or ".
    """
    expected = shapes()
    try:
        contents = read(path)
        actual = {name: shape_of(value) for name, value in contents.items()}
    except Exception as error:  # noqa: BLE001  an invalid pickle can raise any exception
        problem, remedy = explain(path) or (f"{UNREADABLE}: {type(error).__name__}: {error}", REMEDY)
        die(path, problem, otherwise + remedy)
    advice = explain(path, contents)
    if advice:
        die(path, advice[0], otherwise + advice[1])
    if not any(name in expected for name in actual):
        shown = f" ({', '.join(map(cli.short, [*actual][:5]))}{', …' if len(actual) > 5 else ''})" if actual else ""
        problem = f"none of its {len(actual)} entries is a tensor of this network{shown}"
        die(path, problem, otherwise + REMEDY)
    faults = {
        "not of this network": [name for name in actual if name not in expected],
        "of another shape or type": [n for n, s in actual.items() if n in expected and s not in (None, expected[n])],
        "missing": [name for name in expected if name not in actual and not name.endswith(COUNTER)],
    }
    check_faults(path, faults, otherwise + REMEDY)
