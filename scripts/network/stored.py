"""Reads the tensors of an unpickled checkpoint, their types, shapes and values, without torch."""

from __future__ import annotations

import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import IO, Any, Iterator, NamedTuple

import numpy as np
from numpy.typing import NDArray

from formats.restricted_pickle import Placeholder


class Type(NamedTuple):
    """The type of a storage of torch, and the type in which its bytes are read."""

    name: str
    code: str


TYPES = {
    "DoubleStorage": Type("float64", "f8"),
    "FloatStorage": Type("float32", "f4"),
    "HalfStorage": Type("float16", "f2"),
    "BFloat16Storage": Type("bfloat16", "u2"),
    "LongStorage": Type("int64", "i8"),
}
BYTE_ORDERS = {b"little": "<", b"big": ">"}
STORAGE_LIMIT = 1 << 30  # bytes; the largest of this network has a few megabytes
LAYOUTS = {  # {function that makes a tensor: what kind of tensor}; the checkpoint contains plain ones
    "_rebuild_qtensor": "quantized",
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "without values (on the meta device)",
}


class Stored(NamedTuple):
    """A plain tensor: a part of a storage."""

    type: str  # of torch, such as float32; another one as the name of its storage
    key: str | bytes  # of the storage
    elements: int  # of the storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_part_of_view: bool  # of torch 0.4 and older: the storage is a part of another one

    def __str__(self) -> str:
        return f"{self.type} {list(self.shape)}"

    @property
    def code(self) -> str:
        """The type in which the values are read; empty for another type."""
        return next((kind.code for kind in TYPES.values() if kind.name == self.type), "")

    @property
    def storage_bytes(self) -> int:
        return self.elements * int(self.code[1]) if self.code else 0

    def fits_storage(self) -> bool:
        """Whether all of its elements are in the storage."""
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        return 0 in self.shape or self.offset + last < self.elements


def is_size(value: object) -> bool:
    return type(value) is tuple and all(type(n) is int and 0 <= n < 1 << 40 for n in value)


def tensor_of(value: object) -> Stored | str:
    """The plain tensor that a placeholder stands for, or the kind of another tensor; empty if it is not a tensor.

    Raises an exception if its parts do not fit.
    """
    while True:
        if not isinstance(value, Placeholder) or not value.arguments:
            return ""
        name: Any = value.arguments[0]
        arguments: Any = value.arguments[1:]
        if name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            value = arguments[0]
        elif name == "_rebuild_from_type_v2":  # a tensor with further attributes, or of a subclass
            function, kind, inner, *_ = arguments
            if kind.args not in (("Tensor",), ("Parameter",)):
                return "of a subclass of Tensor"
            value = Placeholder(*function.args, *inner)
        else:
            break
    if name in LAYOUTS:
        return LAYOUTS[name]
    if not str(name).startswith("_rebuild_tensor"):
        return "" if not str(name).startswith("_rebuild") else "of a kind that is not plain"
    storage, offset, shape, strides, *_ = arguments
    _, kind, key, _, count, *view = storage.arguments
    if not isinstance(key, (str, bytes)) or type(count) is not int:  # hashing a deeply nested tuple can crash Python
        raise pickle.UnpicklingError("the key of a storage is not text, or its size is not a number")
    if not isinstance(kind, partial) or not is_size((offset, count)) or not (is_size(shape) and is_size(strides)):
        raise pickle.UnpicklingError("the shape of a tensor is not numbers")
    (kind_name,) = kind.args
    known = TYPES.get(kind_name) if isinstance(kind_name, str) else None
    return Stored(
        known.name if known else str(kind_name), key, count, offset, shape, strides, any(v is not None for v in view)
    )


def legacy_storages(stream: IO[bytes], keys: list[Any], tensors: list[Stored]) -> Iterator[tuple[Any, bytes]]:
    """Yields (key, bytes) of the storages of a legacy container, which follow its pickles in the order of `keys`."""
    by_key = {tensor.key: tensor for tensor in tensors}
    for key in keys:
        tensor = by_key.get(key)
        if not tensor:
            return
        if int.from_bytes(stream.read(8), "little") != tensor.elements and not tensor.is_part_of_view:
            raise ValueError("a storage does not have the size that its tensor names")
        yield key, stream.read(tensor.storage_bytes)


def values_of(tensor: Stored, content: bytes, order: str) -> NDArray[Any]:
    """The values of a tensor, from the bytes of its storage; bfloat16 as float32."""
    flat = np.frombuffer(content, order + tensor.code, tensor.elements)
    if tensor.type == "bfloat16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    step = flat.itemsize
    strides = tuple(stride * step for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)


def is_finite(tensor: Stored, content: bytes, order: str) -> bool:
    """Whether all values of a tensor are finite in float32, in which the network computes."""
    if tensor.type == "int64" or 0 in tensor.shape:
        return True
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values_of(tensor, content, order).astype(np.float32)).all())


def not_finite(path: Path, folder: str, start: int, keys: list[Any], tensors: dict[str, Stored]) -> list[str]:
    """The names of the tensors with values that are not finite.

    `folder` is that of the zip container, or empty for a legacy one, whose storages follow from byte `start` on.
    """
    by_key: dict[Any, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.storage_bytes > STORAGE_LIMIT:
            raise ValueError(f"a storage has {tensor.storage_bytes} bytes")
        if not tensor.is_part_of_view:
            by_key.setdefault(tensor.key, []).append(name)
    faults: set[str] = set()

    def judge(key: Any, content: bytes, order: str) -> None:
        faults.update(name for name in by_key.get(key, []) if not is_finite(tensors[name], content, order))

    if folder:
        with zipfile.ZipFile(path) as container:
            has_order = f"{folder}/byteorder" in container.namelist()
            order = BYTE_ORDERS[container.read(f"{folder}/byteorder") if has_order else b"little"]
            for key, names in by_key.items():
                text = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
                with container.open(f"{folder}/data/{text}") as file:
                    judge(key, file.read(max(tensors[name].storage_bytes for name in names)), order)
    else:
        known = {tensor.key for tensor in tensors.values()}
        if not all(isinstance(key, (str, bytes)) for key in keys) or {*keys} != known:
            raise ValueError("its list of storages is not that of its tensors")  # torch would leave others as they are
        with open(path, "rb") as stream:
            stream.seek(start)
            for key, content in legacy_storages(stream, keys, [*tensors.values()]):
                judge(key, content, "<")
    return [name for name in tensors if name in faults]
