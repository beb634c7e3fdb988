"""Says what a checkpoint file is if it is not a plain state_dict, and how to make one of it, without torch.

No code of the file is run: the instructions of its pickle are only listed. Python 3.7.
"""

from __future__ import annotations

from _support.cli import short

import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, Collection, Dict, Iterator, List, NamedTuple, Tuple

from formats.restricted_pickle import LimitedReads

Advice = Tuple[str, str]  # what the file is, and what to do
# torch's container before 1.6 begins with this pickle; protocols 4 and 5 have a frame
LEGACY = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
# What torch.load reads with weights_only, its default since torch 2.6.
SAFE = re.compile(
    r"collections\.OrderedDict|torch(\._utils|\.storage|\.serialization|\._tensor)?\.\w+|torch\.nn\.parameter\.Parameter"
)
NEWEST_SAFE = 3  # the newest pickle protocol of a file that weights_only reads
LISTED = 1 << 20  # bytes of a plain pickle that are looked at
HEADS = {  # {first bytes of a file: what it is}
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file of Keras",
    b"\x93NUMPY": "an array of numpy",
}
# Instructions before the class of the outermost object; in the legacy container the class is in a tuple.
BEFORE_CLASS = (
    "PROTO",
    "FRAME",
    "GLOBAL",
    "STACK_GLOBAL",
    "MEMOIZE",
    "SHORT_BINUNICODE",
    "MARK",
    "BINUNICODE",
    "BINPUT",
)
# Usual keys of the weights in a training checkpoint, for one that contains more than tensors, numbers and text.
KEYS = ("state_dict", "model_state_dict", "model", "net", "module", "network", "weights", "params", "ema")
PREFIXES_LIMIT, PARTS_LIMIT = 20, 20  # prefixes that are tried, and parts of a name that are looked at
WRAPPERS = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}  # {prefix that it adds: name}


def saved(expression: str) -> str:
    return f"save its weights alone: torch.save({expression}, 'plain.pth')"


def protocol_of(data: bytes) -> int:
    return data[1] if data[:1] == b"\x80" and len(data) > 1 else 0


def is_safe(data: bytes) -> bool:
    """Whether torch.load reads the pickles of a file with weights_only, its default since torch 2.6."""
    return protocol_of(data) <= NEWEST_SAFE and all(map(SAFE.fullmatch, listing(data).names))


def loaded(path: Path, is_safe: bool) -> str:
    return f"torch.load({str(path)!r}, map_location='cpu'{'' if is_safe else ', weights_only=False'})"


def advised(expression: str, is_safe: bool) -> str:
    """The remedy of a file that is to be loaded and saved again."""
    return saved(expression) if is_safe else f"if you trust the file, {saved(expression)}"


def container(path: Path) -> Advice | None:
    """Recognizes a file that torch.save did not write; None if it did."""
    with open(path, "rb") as stream:
        head = stream.read(32)
    if head.startswith(b"PK"):
        return archive(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "a safetensors file", saved(f"safetensors.torch.load_file({str(path)!r})")
    if path.suffix == ".onnx":
        return "an ONNX file, not a checkpoint", "set ONNX= to it instead of WEIGHTS="
    for start, kind in HEADS.items():
        if head.startswith(start):
            return f"{kind}, not a file saved by torch", "set WEIGHTS= to a checkpoint file such as model_92_sgd.pkl"
    if re.match(rb"\x80[\x02-\x05]", head) and not LEGACY.match(head):
        with open(path, "rb") as stream:
            names = listing(stream.read(LISTED)).names
        others = [name for name in names if name.split(".")[0] not in ("torch", "collections", "numpy")]
        if others:
            remedy = "save a state_dict by torch.save, which contains tensors only"
            return f"a plain pickle, not a file saved by torch, with the unexpected name {short(others[0])}", remedy
        command = saved(f"pickle.load(open({str(path)!r}, 'rb'))")  # runs what the pickle contains
        return "a plain pickle, not a file saved by torch", f"if you trust the file, {command}"
    if not head:
        return "an empty file", "set WEIGHTS= to a checkpoint file such as model_92_sgd.pkl"
    if not LEGACY.match(head):
        return "not a file saved by torch", "set WEIGHTS= to a checkpoint file such as model_92_sgd.pkl"
    return None


def archive(path: Path) -> Advice | None:
    """The same for a zip archive."""
    try:
        with zipfile.ZipFile(path) as container:
            names = container.namelist()
    except Exception:  # noqa: BLE001  a damaged archive can raise many kinds of errors
        return None
    if any(re.search(r"(^|/)(constants\.pkl|code/)", name) for name in names):
        expression = f"torch.jit.load({str(path)!r}, map_location='cpu').state_dict()"
        return "a TorchScript archive (torch.jit.save)", saved(expression)
    if any(re.search(r"(^|/)(serialized_exported_program\.json|archive_format)$", name) for name in names):
        return "an exported program (torch.export.save)", saved(f"torch.export.load({str(path)!r}).state_dict")
    if not any(name.endswith("/data.pkl") for name in names):
        return "a zip archive that torch.save did not write", "unpack it, and set WEIGHTS= to the checkpoint in it"
    return None


class Listing(NamedTuple):
    """What a pickle contains, in order."""

    first: str  # the class of the outermost object; empty for a dict or a list
    names: List[str]  # of all classes and functions
    texts: List[str]


def listing(data: bytes) -> Listing:
    """Lists the names and texts of the first pickles in `data`, as far as they are valid."""
    stream, first = LimitedReads(data), ""
    names: List[str] = []
    texts: List[str] = []
    for _ in range(5 if LEGACY.match(data) else 1):
        start = len(names)
        opened = 0  # instructions that open something else than the class of an object
        for operator, value, _ in instructions(stream):
            if operator in ("GLOBAL", "STACK_GLOBAL"):
                names.append(value.replace(" ", ".") if value else ".".join(texts[-2:]))
                if len(names) == start + 1 and opened == 0:
                    first = names[-1]
            elif isinstance(value, str):
                texts.append(value)
            opened += operator not in BEFORE_CLASS
    return Listing(first, names, texts)


def instructions(stream: Any) -> Iterator[Tuple[str, Any, Any]]:
    """The instructions of one pickle; ends at an invalid one."""
    try:
        for operator, value, position in pickletools.genops(stream):
            yield operator.name, value, position
    except Exception:  # noqa: BLE001  an invalid pickle can raise any exception
        return


def unreadable(path: Path, data: bytes) -> Advice | None:
    """Recognizes a pickle that the check at import rejects: of an NPU, a whole module, a training checkpoint."""
    found = listing(data)
    npu = next((name for name in found.names if name.startswith("torch_npu.")), "")
    if npu:
        problem = f"saved on an NPU, it asks for {short(npu)}"
        expression = f"{{k: v.cpu() for k, v in torch.load({str(path)!r}).items()}}"
        return problem, f"save it again on the NPU's host: torch.save({expression}, 'cpu.pth')"
    if found.first and found.first != "collections.OrderedDict":
        inner = {"DataParallel": ".module", "OptimizedModule": "._orig_mod"}.get(found.first.rpartition(".")[2], "")
        if "nn" in found.first or any(name.startswith("torch.nn.") for name in found.names):
            return f"a whole pickled module ({short(found.first)})", saved(f"model{inner}.state_dict()")
    module = next((name for name in found.names if re.match(r"torch\.nn\.(modules|parallel)\.", name)), "")
    if module:
        return f"it contains a whole pickled module ({short(module)})", saved("model.state_dict()")
    key = next((text for text in found.texts if text in KEYS), "")
    if key and any(text.endswith(".weight") for text in found.texts):
        safe = is_safe(data)
        return f"a training checkpoint with weights at {key!r}", advised(f"{loaded(path, safe)}[{key!r}]", safe)
    if protocol_of(data) > NEWEST_SAFE:
        problem = f"saved with pickle protocol {protocol_of(data)}, which is not read"
        remedy = (
            f"if you trust the file, save it again with the default one: torch.save({loaded(path, False)}, 'plain.pth')"
        )
        return problem, remedy
    return None


def prefix_of(names: Collection[str], expected: Collection[str]) -> str:
    """What most names of this network have before them in `names`; empty if there is no such prefix."""
    tried = set()
    for name in names:
        parts = name.split(".")[:PARTS_LIMIT]
        for i in range(1, len(parts)):
            prefix = ".".join(parts[:i]) + "."
            if name[len(prefix) :] in expected and prefix not in tried:
                if sum(prefix + other in names for other in expected) * 2 > len(expected):
                    return prefix
                tried.add(prefix)
                if len(tried) > PREFIXES_LIMIT:
                    return ""
    return ""


def readable(path: Path, contents: Dict[str, Any], expected: Collection[str], data: bytes) -> Advice | None:
    """Recognizes a training checkpoint, or a prefix of the names, in the contents of a checkpoint with the pickles
    `data`."""
    inner = {key: value for key, value in contents.items() if isinstance(value, dict) and value}
    safe = is_safe(data)
    expression, problem = loaded(path, safe), ""
    if inner and not any(name in expected for name in contents):
        key = max(inner, key=lambda name: len(inner[name]))
        problem, expression = f"a training checkpoint with weights at {key!r}", f"{expression}[{key!r}]"
        contents = inner[key]
    prefix = prefix_of(contents, expected)
    if prefix:
        others = [name for name in contents if not name.startswith(prefix)]
        wrappers = {"module.": "swa_utils.AveragedModel"} if "n_averaged" in others else WRAPPERS
        by = next((f" (by {name})" for start, name in wrappers.items() if start in prefix), "")
        problem += f"{', where' if problem else ''} {'its' if others else 'all'} names begin with {prefix!r}{by}"
        condition = f" if k.startswith({prefix!r})" if others else ""
        expression = f"{{k[{len(prefix)}:]: v for k, v in {expression}.items(){condition}}}"
    return (problem.strip(), advised(expression, safe)) if problem else None
