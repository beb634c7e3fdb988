"""Reads tensors that a graph stores in other files: ONNX's external data, which torch 2.9 and newer write by default.

A tensor names its file by a path relative to the folder of the graph, with an offset and a length (onnx.proto,
TensorProto.external_data). The files are read here and not by onnx, which follows no links: a downloaded graph is often
a link into a cache, with its data file beside the target.
"""

from __future__ import annotations

from _support.cli import short

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any, Iterator

import onnx
from onnx import TensorProto, helper

LIMIT = 2**31 - 1  # bytes; protobuf, and so a single .onnx file, cannot be larger


class Fault(ValueError):
    """Why a graph cannot be used, and what to do about it."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def graphs_of(model: onnx.ModelProto) -> Iterator[Any]:
    """The graph of a model, its functions, and all graphs in attributes of their nodes."""
    waiting = [model.graph, *model.functions]
    for graph in waiting:
        yield graph
        for attribute in (a for node in graph.node for a in node.attribute):
            waiting += [attribute.g] if attribute.HasField("g") else []
            waiting += attribute.graphs


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model contains: initializers and attributes, also sparse ones."""
    for graph in graphs_of(model):
        sparse = list(getattr(graph, "sparse_initializer", ()))  # functions have no initializers
        yield from getattr(graph, "initializer", ())
        for attribute in (a for node in graph.node for a in node.attribute):
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            sparse += attribute.sparse_tensors
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)


def external_tensors(model: onnx.ModelProto) -> list[TensorProto]:
    return [tensor for tensor in tensors_of(model) if tensor.data_location == TensorProto.EXTERNAL]


def entry(tensor: TensorProto, key: str) -> str:
    """An entry of a tensor's external_data; empty if it is missing. Raises Fault if it is not text."""
    value: Any = next((item.value for item in tensor.external_data if item.key == key), "")
    if not isinstance(value, str):  # protobuf returns bytes for what is not UTF-8
        raise Fault(f"the {key} of the data of {short(tensor.name)} is not text", "save the graph again")
    return value


def data_file(path: Path, location: str) -> Path:
    """The data file with this location, of the graph at `path`; raises Fault if it is missing or in another folder."""
    words, name = PurePosixPath(location), short(location)
    if not location.isprintable() or "\\" in location or words.is_absolute() or ".." in words.parts or not words.parts:
        raise Fault(f"its data file {name!r} is not in the folder of the graph", "save both in one folder")
    folders = list(dict.fromkeys([path.parent, path.resolve().parent]))  # `path` may be a link to the graph
    try:
        found = next((folder / words for folder in folders if (folder / words).exists()), None)
    except OSError as error:  # the name is too long, or a folder of it may not be read
        problem = f"its data file {name} cannot be read ({(error.strerror or '').lower()})"
        raise Fault(problem, "save the graph again, as one file") from None
    if not found:
        raise Fault(f"its data file {name} is missing", f"copy it to {path.parent}, or save the graph as one file")
    if not any(folder.resolve() in found.resolve().parents for folder in folders):
        raise Fault(f"its data file {name} is a link to another folder", "copy the file there instead of the link")
    if not found.is_file():
        raise Fault(f"its data file {name} is not a file", "save the graph again, as one file")
    return found


def data_files(model: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """{location: data file} of the graph at `path`, in the order of their locations; raises Fault as data_file."""
    locations = {entry(tensor, "location") for tensor in external_tensors(model)}
    return {location: data_file(path, location) for location in sorted(locations)}


def embed(model: onnx.ModelProto, path: Path) -> dict[str, str]:
    """Moves all external data of the graph at `path` into the model. Returns {location: sha256 of the data file}.

    Raises Fault if a file is missing or too short.
    """
    files = data_files(model, path)
    if model.ByteSize() + sum(file.stat().st_size for file in files.values()) > LIMIT:
        raise Fault("with its data it is larger than 2 GB, the limit of an ONNX file", "use a smaller graph")
    contents = {location: file.read_bytes() for location, file in files.items()}
    for tensor in external_tensors(model):
        location = entry(tensor, "location")
        content = memoryview(contents[location])
        start, end = place_of(tensor, location, len(content))
        tensor.raw_data = bytes(content[start:end])
        check_size(tensor, location)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return {location: hashlib.sha256(content).hexdigest() for location, content in contents.items()}


def place_of(tensor: TensorProto, location: str, size: int) -> tuple[int, int]:
    """Where the data of a tensor begin and end in its data file of `size` bytes; raises Fault if they are not in it."""
    name, file = short(tensor.name), short(location)
    try:
        offset = int(entry(tensor, "offset") or 0)
        length = int(entry(tensor, "length") or max(size - offset, 0))
    except ValueError:
        raise Fault(f"the place of {name} in {file} is not a number", "save the graph again") from None
    if offset < 0 or length < 0:
        raise Fault(f"the place of {name} in {file} is negative", "save the graph again")
    if offset > size:
        problem = f"{name} begins at byte {short(offset)} of its data file {file}, which has {size} bytes"
    elif offset + length > size:
        problem = f"its data file {file} has {size} bytes, {name} needs {short(offset + length)}"
    else:
        return offset, offset + length
    raise Fault(problem, "the file is incomplete or of another graph: copy it again")


def check_size(tensor: TensorProto, location: str) -> None:
    """Raises Fault unless the raw data of a tensor have the size of its shape. Types below 16 bits are not checked."""
    try:
        width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):
        raise Fault(f"{short(tensor.name)} in {short(location)} has an unknown type", "save the graph again") from None
    values = 1
    for size in tensor.dims:
        values *= size
    if width > 1 and len(tensor.raw_data) != values * width:
        problem = f"{short(tensor.name)} has {len(tensor.raw_data)} bytes in {short(location)}, its shape needs "
        problem += short(values * width)
        raise Fault(problem, "the file is of another graph: copy both again")
