"""Names and shapes of a checkpoint's tensors, without torch: is the file one of this network?

For what is imported; the export loads it with torch (load.py) and looks at its types and values too. Nothing in the
file is run: as with a batch of CIFAR-10, no name gets it a real object.
"""

from __future__ import annotations

from _support import cli
from _support.cli import die

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Iterator

from formats import restricted_pickle
from formats.restricted_pickle import LimitedReads, Placeholder
from network.shapes import shapes

HEAD_LIMIT = 16 << 20  # bytes; the pickles of the official checkpoint have less than 1 MB
SIZES = {"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8}
REMEDY = "give WEIGHTS= a bare state_dict of this network (940 tensors, no wrapper, no prefix)"


def text(key: str | bytes) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key


def named(pairs: Any = ()) -> Iterator[tuple[str, Any]]:
    """(name, value) of each pair; bytes are the text of Python 2."""
    for key, value in pairs:
        if not isinstance(key, (str, bytes)):
            raise pickle.UnpicklingError("it has a key that is no text")
        yield text(key), value


class Ordered(Placeholder):
    """An OrderedDict: Python 2 made it of pairs, Python 3 adds them one by one."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__()
        self.items = dict(named(pairs))


class Instructions(restricted_pickle.Instructions):
    needed_by = "checkpoint"


class TorchUnpickler(restricted_pickle.CifarUnpickler):
    """Reads what torch pickles of a state_dict; what is not torch's is refused."""

    dispatch = Instructions(restricted_pickle.CifarUnpickler.dispatch)
    for code in (pickle.BINPERSID, pickle.BINUNICODE):
        dispatch[code[0]] = pickle._Unpickler.dispatch[code[0]]

    def set_items(self, items: list[Any]) -> None:
        held = self.stack[-1]
        (held.items if isinstance(held, Ordered) else held).update(named(zip(items[::2], items[1::2])))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return Ordered
        if module.split(".")[0] != "torch":
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return partial(Placeholder, name)

    def persistent_load(self, pid: Any) -> Any:
        return Placeholder(*pid)


def shape_of(value: Any) -> Any:
    """A tensor's shape; None of one that was saved in another way, which is left to torch; "" of what is none."""
    if not isinstance(value, Placeholder) or isinstance(value, Ordered):
        return ""
    name, *arguments = value.arguments
    if name == "_rebuild_parameter":
        return shape_of(arguments[0])
    return arguments[2] if name in ("_rebuild_tensor", "_rebuild_tensor_v2") else None


def storages(tensor: Any) -> Iterator[tuple[Any, int]]:
    """(key, bytes) of the storage of a tensor, if it is of a known kind."""
    name, *arguments = (tensor.arguments if isinstance(tensor, Placeholder) else ()) or ("",)
    if name == "_rebuild_parameter":
        yield from storages(arguments[0])
    elif str(name).startswith("_rebuild_tensor"):
        storage: Any = arguments[0]
        _, kind, key, _, count, *_ = storage.arguments
        if not isinstance(key, (str, bytes)) or type(count) is not int:  # the hash of a deep tuple crashes
            raise pickle.UnpicklingError("a storage's name is no text, or its size no number")
        if kind.args not in [(name,) for name in SIZES]:
            raise ValueError(f"a storage of it is a {cli.one_line(kind.args)[:50]}")
        yield key, count * SIZES[kind.args[0]]


def read(path: Path) -> dict[str, Any]:
    """{name: tensor, inert} of a checkpoint in either of torch's containers; raises errors of every kind."""
    with open(path, "rb") as stream:
        head = LimitedReads(stream.read(HEAD_LIMIT))
    packed = head.getbuffer()[:2].tobytes() == b"PK"
    if packed:
        with zipfile.ZipFile(path) as container:
            (name,) = (name for name in container.namelist() if name.split("/")[1:] == ["data.pkl"])
            with container.open(name) as file:
                loaded = TorchUnpickler(LimitedReads(file.read(HEAD_LIMIT)), encoding="bytes").load()
            folder = name.partition("/")[0]
            packed_sizes = {info.filename: info.file_size for info in container.infolist()}
            damaged = container.testzip()
    else:
        *_, loaded, _ = [TorchUnpickler(head, encoding="bytes").load() for _ in range(5)]
    if isinstance(loaded, Ordered):
        loaded = loaded.items
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, not a state_dict")
    tensors = dict(named(loaded.items()))
    needed = dict(s for t in tensors.values() for s in storages(t))
    if packed:
        lacking = [k for k, size in needed.items() if packed_sizes.get(f"{folder}/data/{text(k)}", -1) < size]
        if damaged or lacking:
            raise ValueError(f"damaged, or without the values of {len(lacking)} storages")
    else:
        wanted = head.tell() + sum(8 + size for size in needed.values())
        if path.stat().st_size < wanted:
            raise ValueError(f"it has {path.stat().st_size} bytes of {wanted}")
    return tensors


def check_faults(path: Path, faults: dict[str, list[str]], remedy: str) -> None:
    """Exits 1 if there are any faults: {what is wrong: the tensors that it is wrong with}."""
    problems = [
        f"{len(names)} tensors {fault}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        for fault, names in faults.items()
        if names
    ]
    if problems:
        die(path, " · ".join(problems), remedy)


def check(path: Path) -> None:
    """Exits 1 unless the names of a checkpoint's tensors, and their shapes, are those of this network."""
    try:
        found = {name: shape_of(value) for name, value in read(path).items()}
    except Exception as error:  # noqa: BLE001  a pickle of strange bytes can raise anything
        die(path, f"not a checkpoint that may be loaded: {type(error).__name__}: {error}", REMEDY)
    wanted = shapes()
    faults = {
        "not of this network": [name for name in found if name not in wanted],
        "of another shape or type": [n for n, s in found.items() if n in wanted and s not in (None, wanted[n])],
        "missing": [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")],
    }
    check_faults(path, faults, REMEDY)
