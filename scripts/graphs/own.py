"""Reads and judges a graph of the user's own, before it replaces the export.

A graph that later stages cannot use is refused here, so that nothing of it is left in ROOT. Harmless differences from
the export are adapted: data files are read in, and input, output and IR version are set as the later stages need them.
"""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import one_line, short

import hashlib
import re
from pathlib import Path
from typing import Any, Iterable, NamedTuple

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import TensorProto, helper

from graphs.agreement import relative_error
from graphs.description import description_of, nodes_of
from graphs.edit import NOT_DETERMINISTIC, free_name
from graphs.expansion import check_nodes
from graphs.external_data import LIMIT, Fault, data_files, embed, graphs_of
from graphs.session import open_session
from network.spec import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT

OLD_IR = 8  # read by every tool of CANN, docs/ascend-tools.md#atc-versions
NEW_IR = 10  # newer versions are lowered where nothing needs them
LARGEST = 64  # images; the largest batch size
MIXED = 0.05  # relative; above it an image's logits depend on the other images of its batch
EXPORT_PLAIN = "export it in float32 with ONNX's own operators, opset_version=17 or lower and dynamo=False"
KINDS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}


class OwnGraph(NamedTuple):
    """A user's graph that can replace the export."""

    content: bytes  # what to write into ROOT
    digest: str  # sha256 of the user's file, or over those of the file and its data files
    changes: list[str]  # what differs from the user's file
    description: Record  # see description.py


def parsed(path: Path) -> tuple[onnx.ModelProto, bytes]:
    """The model and the bytes of an ONNX file; raises Fault if it is not one, or has too many nodes."""
    if path.stat().st_size > LIMIT:
        raise Fault("larger than 2 GB, the limit of an ONNX file")
    data = path.read_bytes()
    if not data:
        raise Fault("an empty file")
    if data.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise Fault("not an ONNX file but one saved by torch", "export the network, or set WEIGHTS= to a state_dict")
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # noqa: BLE001  protobuf's errors have no common base class
        raise Fault(f"not an ONNX file, or incomplete ({reason_of(error)})") from None
    if not model.ir_version or not model.graph.node:
        raise Fault("not an ONNX file, or incomplete (it contains no nodes)")
    check_nodes(model)
    return model, data


def files_of(path: Path) -> list[Path]:
    """The data files of the graph at `path`; raises Fault."""
    return list(data_files(parsed(path)[0], path).values())


def read_own(path: Path) -> OwnGraph:
    """The graph at `path`, adapted and tried with ONNX Runtime; raises Fault if it cannot replace the export."""
    model, data = parsed(path)
    digest = hashlib.sha256(data).hexdigest()
    digests = embed(model, path)
    changes = [f"data of {listed(digests)} read in"] if digests else []
    if digests:
        lines = [f"{name} {value}\n" for name, value in (("", digest), *digests.items())]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    try:
        names = names_of(model)
        model = adapt(model, names, changes)
        check_operators(model)
        content = model.SerializeToString(deterministic=True) if changes else data
        onnx.checker.check_model(model)
        try_out(content, names)
        # Declared shapes of inner tensors may be of another batch size; all of them are inferred again.
        for graph in graphs_of(model):
            del graph.value_info[:]
        onnx.checker.check_model(model, full_check=True)
        return OwnGraph(content, digest, changes, description_of(model))
    except Fault:
        raise
    except Exception as error:  # noqa: BLE001  onnx and protobuf raise many kinds of errors on invalid graphs
        raise Fault(f"not a valid graph ({reason_of(error)})", "export it again") from None


def listed(names: Iterable[str]) -> str:
    """Names from the user's file for a message: the first three, and how many more there are."""
    first, more = [short(name) for name in names][:3], len([*names]) - 3
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def reason_of(error: Exception) -> str:
    """The reason in an error of onnx or ONNX Runtime, without its codes, source lines and stack."""
    text = str(error).partition("\n==> Context")[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", one_line(text))
    text = re.sub(r"/onnxruntime_src/\S+ [^()]*\(.*?\) ", "", text)
    return f"{type(error).__name__}: {text[:200]}".replace(";", ",").removesuffix(": ")


# Input and output


class Names(NamedTuple):
    """The names of the input and the output in the user's file, as messages show them."""

    input: str
    output: str

    @property
    def export(self) -> str:
        """How to export a network with a dynamic batch size, by both exporters of torch. The old one knows the axes by
        names, which it must be given too."""
        names = f"input_names=['{self.input}'], output_names=['{self.output}']"
        axes = f"dynamic_axes={{'{self.input}': {{0: 'N'}}, '{self.output}': {{0: 'N'}}}}"
        return f"export it with dynamic_shapes=({{0: torch.export.Dim('N')}},), or with dynamo=False, {names}, {axes}"


def inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a graph; older exporters list initializers too."""
    names = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in names]


def names_of(model: onnx.ModelProto) -> Names:
    """The names of the first input and output; those of the export if there are none."""
    inputs, outputs = inputs_of(model.graph), model.graph.output
    return Names(short(inputs[0].name if inputs else INPUT), short(outputs[0].name if outputs else OUTPUT))


def shape_of(value: onnx.ValueInfoProto) -> list[int | str] | None:
    """The declared dimensions of a tensor: numbers, or names of dynamic ones (N if it has no name); None if unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return [d.dim_value if d.dim_value > 0 else d.dim_param or "N" for d in kind.shape.dim]


def text_of(value: onnx.ValueInfoProto) -> str:
    """An input or output for a message: `image float32 [N, 3, 32, 32]`."""
    kind = value.type.WhichOneof("value") or "of unknown type"
    if kind != "tensor_type":
        return f"{short(value.name)} ({kind.removesuffix('_type')})"
    element = value.type.tensor_type.elem_type
    known = KINDS.get(element) or TensorProto.DataType.Name(element).lower() if element else "of unknown type"
    shape = shape_of(value)
    return f"{short(value.name)} {known} " + ("of unknown shape" if shape is None else f"[{listed_sizes(shape)}]")


def listed_sizes(shape: list[int | str]) -> str:
    """Dimensions for a message."""
    return ", ".join([short(size) for size in shape[:8]] + ["…"] * (len(shape) > 8))


def adapt(model: onnx.ModelProto, given: Names, changes: list[str]) -> onnx.ModelProto:
    """The model with functions inlined and with the IR version, input and output of the export. Adds to `changes` what
    was changed; raises Fault if input or output do not fit. `given` are the names in the user's file."""
    if model.functions:
        model = inlined(model)
        changes.append("functions inlined")
    lower_ir(model, changes)
    graph = model.graph
    inputs = inputs_of(graph)
    if len(inputs) < len(graph.input):
        model.ir_version = max(model.ir_version, 4)
        del graph.input[:]
        graph.input.extend(inputs)
        changes.append("initializers not listed as inputs")
    if len(graph.input) != 1 or len(graph.output) != 1:
        shown = [
            ", ".join([*map(text_of, values[:5]), *["…"] * (len(values) > 5)]) or "none"
            for values in (graph.input, graph.output)
        ]
        raise Fault(f"its inputs are {shown[0]}, its outputs {shown[1]}")
    ends: Any = ((graph.input[0], INPUT, IMAGE_SHAPE), (graph.output[0], OUTPUT, (len(CLASSES),)))
    for value, _, shape in ends:
        check_fit(value, shape, graph, given)
    for (value, name, shape), old in zip(ends, given):
        if value.name != name:
            changes.append(f"{old} renamed to {name}")
            rename(model, value.name, name)
        if (shape_of(value) or ())[1:] != [*shape] or value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            first = (shape_of(value) or ["N"])[0]
            value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [first, *shape]))
            changes.append(f"shape of {name} set to [N, {', '.join(map(str, shape))}]")
    return model


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions inlined; raises Fault if onnx leaves one of them."""
    functions = {(function.domain, function.name): function for function in model.functions}
    result = onnx.inliner.inline_local_functions(model)
    for node in nodes_of(result):
        function = functions.get((node.domain, node.op_type))
        if function:
            versions = {entry.domain: entry.version for entry in model.opset_import}
            others = [
                f"{short(entry.domain) or 'ai.onnx'} {entry.version}"
                for entry in function.opset_import
                if versions.get(entry.domain, entry.version) != entry.version
            ]
            reason = f", its opset is {', '.join(others)} and the graph's another one" if others else ""
            problem = f"its function {short(function.name)} cannot be inlined{reason}"
            raise Fault(problem, "export the graph and its functions with one opset version")
    return result


def check_fit(value: onnx.ValueInfoProto, shape: tuple[int, ...], graph: onnx.GraphProto, given: Names) -> None:
    """Raises Fault unless a declared input or output is float32 [N, *shape], or can be with its dynamic dimensions."""
    declared = shape_of(value)
    text = f"its input is {text_of(graph.input[0])}, its output {text_of(graph.output[0])}"
    element = value.type.tensor_type.elem_type
    if value.type.WhichOneof("value") != "tensor_type" or element != TensorProto.FLOAT:
        is_other_float = element in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
        raise Fault(text, "convert it with float32 input and output (keep_io_types=True)" if is_other_float else "")
    if declared is None:
        return
    if len(declared) != 1 + len(shape) or any(type(d) is int and d != e for d, e in zip(declared[1:], shape)):
        raise Fault(text)
    if type(declared[0]) is int:
        raise Fault(f"{text}, with a fixed batch dimension", given.export)


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Renames a tensor in the graph and its subgraphs; another tensor with the new name gets a free one."""
    names = {old: new}
    if any(new in (*node.input, *node.output) for node in nodes_of(model)):
        names[new] = free_name(model.graph, f"{new}_")
    for graph in graphs_of(model):
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = names.get(value.name, value.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = names.get(sparse.values.name, sparse.values.name)


def lower_ir(model: onnx.ModelProto, changes: list[str]) -> None:
    """Lowers a new IR version to the one that the opsets need: ONNX Runtime refuses newer ones than its own."""
    needed = max(OLD_IR, helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True))
    if model.ir_version > max(NEW_IR, needed):
        changes.append(f"IR version {model.ir_version} lowered to {needed}")
        model.ir_version = needed


# Operators and values


def check_operators(model: onnx.ModelProto) -> None:
    """Raises Fault if a result of the graph would differ from run to run."""
    random = sorted({node.op_type for node in nodes_of(model)} & NOT_DETERMINISTIC)
    if random:
        raise Fault(f"it contains random operators ({', '.join(random)})", "export it in evaluation mode")


def trial_images() -> NDArray[Any]:
    """Images for the trial, float32 [n, *IMAGE_SHAPE]: random ones, then some with pixels of exactly 0 and 1."""
    images = np.random.default_rng(0).random((LARGEST, *IMAGE_SHAPE), np.float32)
    half = len(images) // 2
    images[half:] = np.rint(images[half:])
    images[-2], images[-1] = 0, 1
    return images


def logits_of(session: Any, images: NDArray[Any], given: Names, kind: str = "") -> NDArray[Any]:
    """The logits of a batch; raises Fault if it cannot be run or if their shape is wrong. `kind` names the pixels, if
    the same batch size works with others."""
    size = len(images)
    try:
        (logits,) = session.run([OUTPUT], {INPUT: images})
    except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no common base class
        if kind:
            problem = f"ONNX Runtime cannot run it for {kind} ({reason_of(error)})"
            raise Fault(problem, "check the nodes that depend on the values of the image") from None
        problem = f"ONNX Runtime cannot run it for a batch of {size} ({reason_of(error)})"
        raise Fault(problem, f"if a batch size is fixed inside it, {given.export}") from None
    expected = [size, len(CLASSES)]
    if not isinstance(logits, np.ndarray) or list(logits.shape) != expected:
        shown = list(logits.shape) if isinstance(logits, np.ndarray) else f"a {type(logits).__name__}"
        problem = f"for a batch of {size} its output {given.output} is {shown}, not {expected}"
        has_classes = expected[1:] == list(getattr(logits, "shape", ()))[1:]
        raise Fault(problem, f"if a batch size is fixed inside it, {given.export}" if has_classes else "")
    return logits


def try_out(content: bytes, given: Names) -> None:
    """Runs a graph in several batch sizes. Raises Fault unless the logits have the right shape and are finite, and do
    not depend on the batch or on the run."""
    try:
        session = open_session(content)
    except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no common base class
        raise Fault(f"ONNX Runtime cannot load it ({reason_of(error)})", EXPORT_PLAIN) from None
    images = trial_images()
    first = logits_of(session, images[:3], given)
    single = logits_of(session, images[2:3], given)  # not the first image: its logits may depend on its position
    if not (np.isfinite(first).all() and np.isfinite(single).all()):
        raise Fault("its logits for random images are not finite", "check its weights")
    again = logits_of(session, images[:3], given)
    if relative_error(again, first) > 1e-4:
        raise Fault("the same images give other logits in a second run", "export it in evaluation mode")
    if relative_error(single, first[2:]) > MIXED:
        problem = "the logits of an image depend on the other images of its batch"
        raise Fault(problem, "export it in evaluation mode")
    for pixels, kind in ((0, "black pixels (0)"), (1, "white pixels (1)")):
        logits = logits_of(session, np.full((1, *IMAGE_SHAPE), pixels, np.float32), given, kind)
        if not np.isfinite(logits).all():
            remedy = "check its nodes for a division by the image or its logarithm"
            raise Fault(f"its logits for {kind} are not finite", remedy)
    if not np.isfinite(logits_of(session, images, given)).all():
        problem = "its logits for images of black, white and random pixels are not finite"
        raise Fault(problem, "check its nodes for a division by zero")
