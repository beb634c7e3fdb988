"""CPU, float32, ONNX Runtime: values of the intermediate tensors."""

from __future__ import annotations

from typing import Any, Sequence

import onnx
from numpy.typing import NDArray

from engines import ModelFile
from graphs.session import open_session
from network.spec import INPUT


def tensor_names(model: ModelFile) -> list[str]:
    """The names of the tensors that the nodes of a graph compute, in execution order."""
    return [name for node in onnx.load_from_string(model.data).graph.node for name in node.output if name]


def tensors(model: ModelFile, images: NDArray[Any], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Returns {name: value} of these tensors for `images`, [batch, *shape of a bin]."""
    graph = onnx.load_from_string(model.data)
    known = {value.name for value in graph.graph.output}
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return dict(zip(names, open_session(graph).run(list(names), {INPUT: images})))
