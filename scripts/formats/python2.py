"""Writes the file formats of the official inputs: pickles of Python 2 and a tar.gz of batches."""

from __future__ import annotations

import io
import pickle
from gzip import GzipFile
from pathlib import Path
from tarfile import USTAR_FORMAT, TarFile, TarInfo
from typing import Any, NamedTuple, Tuple

FOLDER = "cifar-10-batches-py"


class Global(NamedTuple):
    """A class or function by name, opcode GLOBAL."""

    module: str
    name: str


class Call(NamedTuple):
    """An object: function(*arguments), and the argument of __setstate__, if any."""

    function: Global
    arguments: Tuple[Any, ...]
    state: Any = None


class Storage(NamedTuple):
    """A storage of torch, which is pickled as a persistent id."""

    kind: str
    key: bytes
    elements: int


def python2_pickle(value: Any) -> bytes:
    """A pickle of protocol 2 as Python 2 writes it, where bytes are str. Takes plain values and the types above."""

    def emit(x: Any) -> bytes:
        if x is None:
            return b"N"
        if isinstance(x, bool):
            return b"\x88" if x else b"\x89"
        if isinstance(x, int):
            if 0 <= x < 256:
                return b"K" + bytes([x])
            if -(2**31) <= x < 2**31:
                return b"J" + x.to_bytes(4, "little", signed=True)
            data = pickle.encode_long(x)
            return b"\x8a" + bytes([len(data)]) + data
        if isinstance(x, bytes):
            return (b"U" + bytes([len(x)]) if len(x) < 256 else b"T" + len(x).to_bytes(4, "little")) + x
        if isinstance(x, Global):
            return f"c{x.module}\n{x.name}\n".encode()
        if isinstance(x, Call):
            state = b"" if x.state is None else emit(x.state) + b"b"
            return emit(x.function) + emit(x.arguments) + b"R" + state
        if isinstance(x, Storage):
            return emit((b"storage", Global("torch", x.kind), x.key, b"cpu", x.elements, None)) + b"Q"
        if isinstance(x, tuple):
            return b"(" + b"".join(map(emit, x)) + b"t"
        if isinstance(x, list):
            return b"](" + b"".join(map(emit, x)) + b"e"
        if isinstance(x, dict):
            return b"}(" + b"".join(emit(k) + emit(v) for k, v in x.items()) + b"u"
        raise TypeError(type(x))

    return b"\x80\x02" + emit(value) + b"."


def write_tar(out: Path, files: dict[str, bytes]) -> None:
    """Writes {member name: bytes} as cifar-10-batches-py/… to a tar.gz without compression, times or owners."""
    with open(out, "wb") as raw, GzipFile("", "wb", 0, raw, mtime=0) as stream, TarFile("", "w", stream) as archive:
        archive.format = USTAR_FORMAT
        for name, data in files.items():
            member = TarInfo(f"{FOLDER}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
