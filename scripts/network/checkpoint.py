"""Checks the tensors of a checkpoint without torch, when it is imported: names, types, shapes and values.

The export later loads it with torch (load.py). No code of the file is run: names in its pickle never become real
objects.
"""

from __future__ import annotations

from _support import cli
from _support.cli import die

import math
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from formats import restricted_pickle
from formats.restricted_pickle import LimitedReads, Placeholder
from network import recognize, stored
from network.shapes import shapes
from network.stored import Stored, tensor_of

# Bytes of all values in a zip container, unpacked: a few megabytes can unpack to gigabytes. Twice those of float64.
VALUES_LIMIT = 2 * 8 * sum(math.prod(shape) for shape in shapes().values())
HEAD_LIMIT = 16 << 20  # bytes; the pickles of the official checkpoint are smaller than 1 MB
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


def add(target: dict[str, Any], pairs: Any) -> None:
    """Adds pairs to a dict; raises UnpicklingError if a name is there already, as bytes or as text."""
    for name, value in named(pairs):
        if name in target:
            raise pickle.UnpicklingError(f"{cli.short(name)} is there twice")
        target[name] = value


class Ordered(Placeholder):
    """An OrderedDict: pickles of Python 2 pass all pairs at once, those of Python 3 add them one by one."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__()
        self.items: dict[str, Any] = {}
        add(self.items, pairs)


class Instructions(restricted_pickle.Instructions):
    needed_by = "checkpoint"


class TorchUnpickler(restricted_pickle.RestrictedUnpickler):
    """Reads the pickle of a state_dict; names outside of torch are rejected."""

    dispatch = Instructions(restricted_pickle.RestrictedUnpickler.dispatch)
    for code in (pickle.BINPERSID, pickle.BINUNICODE):
        dispatch[code[0]] = pickle._Unpickler.dispatch[code[0]]

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        add(target.items if isinstance(target, Ordered) else target, zip(items[::2], items[1::2]))

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


class Contents(NamedTuple):
    """What a checkpoint contains."""

    values: dict[str, Any]  # {name: placeholder of a tensor}; dicts and other values of a training checkpoint
    folder: str  # of a zip container; empty for a legacy one
    start: int  # of the storages in a legacy container
    keys: list[Any]  # of these storages


def read(path: Path) -> Contents:
    """The contents of a checkpoint in torch's zip or legacy container; may raise any exception.

    If it contains dicts, as a training checkpoint does, its values are returned as they are, and not checked.
    """
    data, folder = pickles_of(path)
    head, keys = LimitedReads(data), []
    if folder:
        loaded = TorchUnpickler(head).load()
    else:
        *_, loaded, keys = [TorchUnpickler(head).load() for _ in range(5)]
    if isinstance(loaded, Ordered):
        loaded = loaded.items
    if not isinstance(loaded, dict):
        kind = "single tensor" if isinstance(loaded, Placeholder) else type(loaded).__name__
        raise ValueError(f"contains a {kind}, not a state_dict")
    values: dict[str, Any] = {}
    add(values, loaded.items())
    if any(isinstance(value, (dict, Ordered)) for value in values.values()):
        values = {name: value.items if isinstance(value, Ordered) else value for name, value in values.items()}
        return Contents(values, folder, 0, [])
    tensors = [tensor for tensor in map(tensor_of, values.values()) if isinstance(tensor, Stored)]
    needed = {tensor.key: tensor.storage_bytes for tensor in tensors}
    if folder:
        with zipfile.ZipFile(path) as container:
            member_sizes = {info.filename: info.file_size for info in container.infolist()}
            if sum(member_sizes.values()) > VALUES_LIMIT + HEAD_LIMIT:
                raise ValueError(f"unpacked it has {sum(member_sizes.values())} bytes, too many for this network")
            damaged = container.testzip()
        known = {tensor.key for tensor in tensors if tensor.code}  # others are named later
        incomplete = [key for key in known if member_sizes.get(f"{folder}/data/{text(key)}") != needed[key]]
        if damaged or incomplete:
            raise ValueError(f"damaged, or the values of {len(incomplete)} storages are missing")
    else:
        expected = head.tell() + sum(8 + size for size in needed.values())
        if path.stat().st_size < expected:
            raise ValueError(f"{path.stat().st_size} bytes instead of {expected}")
    return Contents(values, folder, head.tell(), keys if isinstance(keys, list) else [])


def faults_of(path: Path, contents: Contents) -> dict[str, list[str]]:
    """{problem: names of tensors} of a checkpoint that contains tensors of this network; may raise any exception."""
    expected, faults = shapes(), {"not of this network": [n for n in contents.values if n not in shapes()]}
    shapes_and_types, plain = faults.setdefault("of another shape or type", []), {}
    for name in (name for name in contents.values if name in expected):
        tensor = tensor_of(contents.values[name])
        if not tensor:
            shapes_and_types.append(name)
        elif isinstance(tensor, str):
            faults.setdefault(tensor, []).append(name)
        elif tensor.shape != expected[name] or (tensor.type == "int64") != name.endswith(COUNTER) or not tensor.code:
            wanted = f"{'int64' if name.endswith(COUNTER) else 'float32'} {list(expected[name])}"
            shapes_and_types.append(f"{name} {tensor}, not {wanted}")
        elif not tensor.fits_storage():
            faults.setdefault("larger than their storage", []).append(name)
        else:
            plain[name] = tensor
    faults["missing"] = [name for name in expected if name not in contents.values and not name.endswith(COUNTER)]
    if not any(faults.values()):
        faults["not finite"] = stored.not_finite(path, contents.folder, contents.start, contents.keys, plain)
    return faults


def check_faults(path: Path, faults: dict[str, list[str]], remedy: str) -> None:
    """Exits 1 if there are any faults, given as {problem: names of tensors}."""
    problems = [
        f"{len(names)} tensors {fault}: {', '.join(map(cli.short, names[:5]))}{', …' if len(names) > 5 else ''}"
        for fault, names in faults.items()
        if names
    ]
    if problems:
        die(path, " · ".join(problems), remedy)


def explain(path: Path, values: dict[str, Any] | None = None) -> recognize.Advice | None:
    """What a checkpoint is and what to do, if it is a known kind of file that is not a plain state_dict.

    `values` are those of read(), if it could be read.
    """
    advice = recognize.container(path)
    if advice or values is not None:
        return advice or recognize.readable(path, values or {}, shapes(), pickles_of(path)[0])
    try:
        data = pickles_of(path)[0]
        try:
            advice = recognize.readable(path, read(path).values, shapes(), data)
        except Exception:  # noqa: BLE001  an invalid pickle can raise any exception
            advice = None
        return advice or recognize.unreadable(path, data)
    except Exception:  # noqa: BLE001
        return None


def check(path: Path, otherwise: str = "") -> None:
    """Exits 1 unless the tensors of a checkpoint are those of this network, with finite values.

    `otherwise` is put before the remedy: "remove it, or ".
    """
    try:
        contents = read(path)
    except Exception as error:  # noqa: BLE001  an invalid pickle can raise any exception
        problem, remedy = explain(path) or (f"{UNREADABLE}: {type(error).__name__}: {error}", REMEDY)
        die(path, problem, otherwise + remedy)
    advice = explain(path, contents.values)
    if advice:
        die(path, advice[0], otherwise + advice[1])
    if not any(name in shapes() for name in contents.values):
        names = [*contents.values]
        shown = f" ({', '.join(map(cli.short, names[:5]))}{', …' if len(names) > 5 else ''})" if names else ""
        die(path, f"none of its {len(names)} entries is a tensor of this network{shown}", otherwise + REMEDY)
    try:
        faults = faults_of(path, contents)
    except Exception as error:  # noqa: BLE001
        die(path, f"{UNREADABLE}: {type(error).__name__}: {error}", otherwise + REMEDY)
    check_faults(path, faults, otherwise + REMEDY)
