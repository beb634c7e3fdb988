"""What differs between two builds: the file, and in it the tensor, node, field, line or image."""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import RECORD_DIGEST, Record

import hashlib
import json
import os
import tarfile
from itertools import zip_longest
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

import engines
from formats.outputs import decode

NOT_COMPARED = ("run", RECORD_DIGEST)  # entries of a record that may differ: date, host, timings, paths
STATEMENT = "statement.json"  # of it, only what the result was made from: the rest follows from the record
PLACES = ("data", "models", "results")
ENDINGS_NOT_COMPARED = (".log", ".lock", ".tuning.json")  # messages of programs, with times; measurements
MANIFEST = "manifest.json"  # a folder with it is one artifact


class Compared(NamedTuple):
    """An artifact of the first build, and how that of the second one differs."""

    name: str  # below ROOT
    digest: str
    difference: str  # empty if they are the same


def compare(one: Path, other: Path) -> Iterator[Compared]:
    """Compares all artifacts of two ROOTs, in the order of the data flow."""
    first, second = artifacts_of(one), artifacts_of(other)
    for name in dict.fromkeys([*first, *second]):
        if name not in second or name not in first:
            yield Compared(name, "", f"only in the {'first' if name in first else 'second'} build")
        else:
            yield Compared(name, digest_of(one / name), difference_of(one / name, other / name))


def artifacts_of(root: Path) -> list[str]:
    """The names below ROOT of its files and of its folders with a manifest."""
    names = []
    for place in PLACES:
        for folder, folders, files in os.walk(root / place):
            folders.sort()
            relative = Path(folder).relative_to(root)
            if MANIFEST in files:
                names.append(relative.as_posix())
                folders.clear()
            else:
                names += [(relative / name).as_posix() for name in sorted(files)]
    readmes = {f"{place}/README.md" for place in PLACES}  # of the repository
    # What a runtime has compiled is not compared: two exports of the same model differ.
    stored = [engines.constants_of(engine).STORED for engine in engines.names_of()]
    endings = (*ENDINGS_NOT_COMPARED, *(f".{ending}" for ending in stored if ending))
    return [name for name in names if not name.endswith(endings) and name not in readmes]


def compared_part(path: Path) -> bytes:
    """The bytes of a file that are compared: of a record, the entries that may not differ, as canonical JSON."""
    if path.suffix != ".json":
        return path.read_bytes()
    record = artifact.read_json(path)
    if path.name.endswith(STATEMENT):
        record = record.get("predicate", {}).get("buildDefinition", {})
    entries = {name: value for name, value in record.items() if name not in NOT_COMPARED}
    return json.dumps(entries, sort_keys=True, separators=(",", ":")).encode() if record else path.read_bytes()


def digest_of(path: Path) -> str:
    """The sha256 of what is compared; of a folder, that of the lines `<sha256>  <name>` of its files."""
    if not path.is_dir():
        return hashlib.sha256(compared_part(path)).hexdigest()
    lines = [f"{digest_of(path / name)}  {name}\n" for name in sorted(os.listdir(path))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def difference_of(one: Path, other: Path) -> str:
    """How two files or folders differ, in one line; empty if they are the same."""
    if one.is_dir():
        return folder_difference(one, other)
    if compared_part(one) == compared_part(other):
        return ""
    explain = EXPLANATIONS.get(one.suffix, byte_difference)
    try:
        return cli.one_line(explain(one, other) or byte_difference(one, other))
    except (Exception, SystemExit):  # noqa: BLE001  a damaged file may raise anything
        return byte_difference(one, other)


def folder_difference(one: Path, other: Path) -> str:
    """The first file that differs, and how many do."""
    names = sorted({*os.listdir(one), *os.listdir(other)}, key=lambda name: (name == MANIFEST, len(name), name))
    different = []
    for name in names:
        if not (one / name).is_file() or not (other / name).is_file():
            different.append((name, "only in one of the builds"))
        elif compared_part(one / name) != compared_part(other / name):
            different.append((name, ""))
    if not different:
        return ""
    name, problem = different[0]
    problem = problem or difference_of(one / name, other / name)
    return f"{name}: {problem} ({len(different)} of {len(names)} files differ)"


def byte_difference(one: Path, other: Path) -> str:
    """The first byte that differs."""
    first, second = one.read_bytes(), other.read_bytes()
    if len(first) != len(second):
        return f"{len(first)} and {len(second)} bytes"
    place = next((i for i, (a, b) in enumerate(zip(first, second)) if a != b), 0)
    return f"byte {place} of {len(first)}"


def line_difference(one: Path, other: Path) -> str:
    """The first line that differs; of an output, the largest difference of its values."""
    first, second = (path.read_text("utf-8").splitlines() for path in (one, other))
    if one.name.startswith("image_"):
        return value_difference(*(decode(path, path.read_bytes(), one.suffix[1:]) for path in (one, other)))
    pairs = enumerate(zip_longest(first, second), 1)
    number, (a, b) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f"line {number}: {cli.short(a)} and {cli.short(b)}"


def value_difference(one: NDArray[Any], other: NDArray[Any]) -> str:
    """How many values of two arrays differ, and how much."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}"
    unequal = int((one.view(np.uint8).reshape(one.size, -1) != other.view(np.uint8).reshape(one.size, -1)).any(1).sum())
    largest = np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0)
    return f"{unequal} of {one.size} values differ, largest difference {largest:.3g}"


def binary_difference(one: Path, other: Path) -> str:
    """The difference of two bins, or of two outputs in the format bin, both float32."""
    return value_difference(*(np.frombuffer(path.read_bytes(), np.float32) for path in (one, other)))


def npy_difference(one: Path, other: Path) -> str:
    return value_difference(*(np.load(path, allow_pickle=False) for path in (one, other)))


def field_difference(one: Path, other: Path) -> str:
    """The first field of a record that differs."""

    def fields(first: Any, second: Any, name: str) -> Iterator[str]:
        if isinstance(first, dict) and isinstance(second, dict):
            for key in dict.fromkeys([*first, *second]):
                yield from fields(first.get(key), second.get(key), f"{name}.{key}" if name else str(key))
        elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
            for i, (a, b) in enumerate(zip(first, second)):
                yield from fields(a, b, f"{name}[{i}]")
        elif first != second or type(first) is not type(second):
            yield f"field {name}: {cli.short(first)} and {cli.short(second)}"

    records: list[Record] = [artifact.read_json(path) for path in (one, other)]
    first, second = ({k: v for k, v in record.items() if k not in NOT_COMPARED} for record in records)
    return next(fields(first, second, ""), "")


def graph_difference(one: Path, other: Path) -> str:
    """The first initializer or node of a graph that differs, or else the first other field."""
    first, second = onnx.load(one), onnx.load(other)
    tensors = [{tensor.name: tensor for tensor in model.graph.initializer} for model in (first, second)]
    for name in dict.fromkeys([*tensors[0], *tensors[1]]):
        a, b = (of_model.get(name) for of_model in tensors)
        if a is None or b is None:
            return f"initializer {cli.short(name)}: only in one of the builds"
        if a != b:
            difference = value_difference(numpy_helper.to_array(a), numpy_helper.to_array(b))
            return f"initializer {cli.short(name)}: {difference}"
    for number, (node, other_node) in enumerate(zip_longest(first.graph.node, second.graph.node)):
        if node != other_node:
            known = node or other_node
            return f"node {number}, {cli.short(known.op_type)} {cli.short(known.name)}"
    parts: dict[str, tuple[Any, Any]] = {"graph": (first.graph, second.graph), "model": (first, second)}
    for part, (message, other_message) in parts.items():
        for field in message.DESCRIPTOR.fields:
            if field.name != "graph" and getattr(message, field.name) != getattr(other_message, field.name):
                return f"{field.name} of the {part}"
    return "order of initializers, or the encoding"


def archive_difference(one: Path, other: Path) -> str:
    """The first member of a tar.gz that differs."""
    with tarfile.open(one) as first, tarfile.open(other) as second:
        for a, b in zip_longest(first, second):
            if a is None or b is None or a.get_info() != b.get_info():
                return f"member {cli.short((a or b).name)}: name, size, owner, mode or time"
            if a.isfile() and (first.extractfile(a) or first).read() != (second.extractfile(b) or second).read():  # type: ignore[union-attr]
                return f"member {cli.short(a.name)}"
    return "only the compression"


def checkpoint_difference(one: Path, other: Path) -> str:
    """The first tensor of a checkpoint that differs."""
    from network.load import load_checkpoint  # here, because torch takes seconds

    first, second = (load_checkpoint(path).state_dict() for path in (one, other))
    for name, tensor in first.items():
        if tensor.numpy().tobytes() != second[name].numpy().tobytes():
            return f"tensor {name}: {value_difference(tensor.numpy(), second[name].numpy())}"
    return "only the container"


EXPLANATIONS = {
    ".json": field_difference,
    ".onnx": graph_difference,
    ".bin": binary_difference,
    ".npy": npy_difference,
    ".txt": line_difference,
    ".csv": line_difference,
    ".gz": archive_difference,
    ".pkl": checkpoint_difference,
}
