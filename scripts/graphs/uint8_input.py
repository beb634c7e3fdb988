"""Lets a graph take uint8 images instead of float32 ones, with the same logits bit by bit."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from formats.bins import TABLE
from graphs.edit import add_initializer, free_name, set_nodes
from network.spec import PIXEL_SHAPE


def read_instead(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Makes all nodes read the tensor `new` instead of `old`, also those in graphs of nodes (If, Loop, Scan)."""
    for node in graph.node:
        node.input[:] = [new if tensor == old else tensor for tensor in node.input]
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                read_instead(inner, old, new)


def take_pixels(model: onnx.ModelProto) -> None:
    """Replaces the input, float32 [N, *IMAGE_SHAPE], by uint8 [N, *PIXEL_SHAPE] of the same name.

    Each pixel is looked up in TABLE. A division would not be exact, because OpenVINO multiplies by 1/255 instead.
    """
    graph = model.graph
    image = graph.input[0]
    batch, name = image.type.tensor_type.shape.dim[0], image.name
    names = {part: free_name(graph, f"{name}_{part}") for part in ("channels_first", "index", "values")}
    read_instead(graph, name, names["values"])
    nodes = [
        helper.make_node("Transpose", [name], [names["channels_first"]], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [names["channels_first"]], [names["index"]], to=TensorProto.INT32),
        helper.make_node("Gather", [add_initializer(graph, f"{name}_table", TABLE), names["index"]], [names["values"]]),
    ]
    set_nodes(graph, [*nodes, *graph.node])
    size = batch.dim_value or batch.dim_param or None
    graph.input[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, [size, *PIXEL_SHAPE]))
