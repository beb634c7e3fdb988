"""The digest of an ONNX graph in canonical form: equal for graphs that differ only in names, storage or remarks.

Not part of it: names of nodes, tensors and dimensions, the order of initializers and attributes, how a tensor is stored
(raw or typed), documentation strings, producer, metadata, IR version and inferred shapes of intermediate tensors. Part
of it: opsets; operators, attributes, edges and the order of nodes; types and shapes of inputs and outputs; the type,
shape and every bit of each tensor.
"""

from __future__ import annotations

import hashlib
import json
from itertools import count
from typing import Any, Iterable, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper


class Names:
    """The canonical names of tensors and dimensions: %0, %1 and so on, in the order of their first use."""

    def __init__(self, outer: Names | None = None) -> None:
        """`outer` are those of the graph around a subgraph, which may use its tensors."""
        self.names: dict[str, str] = dict(outer.names) if outer else {"": ""}
        self.symbols: dict[str, str] = outer.symbols if outer else {}
        self.numbers: count[int] = outer.numbers if outer else count()

    def add(self, tensors: Iterable[str]) -> list[str]:
        """Gives each tensor the next name, and returns their names."""
        self.names.update({name: f"%{next(self.numbers)}" for name in tensors if name})
        return self.of(tensors)

    def of(self, tensors: Iterable[str]) -> list[str]:
        return [self.names.get(name, name) for name in tensors]

    def symbol(self, name: str) -> str:
        """The canonical name of a symbolic dimension."""
        return self.symbols.setdefault(name, f"?{len(self.symbols)}")


def canonical_digest(model: onnx.ModelProto) -> str:
    """The sha256 of the canonical form of a model. Its tensors must not be in files of their own."""
    text = json.dumps(canonical_form(model), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_form(model: onnx.ModelProto) -> Any:
    """The canonical form of a model as JSON, with digests instead of the values of tensors."""
    functions = {f"{function.domain}:{function.name}": function_form(function) for function in model.functions}
    return {
        "opsets": opsets_of(model.opset_import),
        "functions": functions,
        "graph": graph_form(model.graph, Names()),
    }


def opsets_of(entries: Sequence[onnx.OperatorSetIdProto]) -> Any:
    return sorted([domain_of(entry), entry.version] for entry in entries)


def domain_of(part: Any) -> str:
    """The domain of a node or an opset; that of the standard has two spellings."""
    return "" if part.domain == "ai.onnx" else str(part.domain)


def function_form(function: onnx.FunctionProto) -> Any:
    names = Names()
    return {
        "opsets": opsets_of(function.opset_import),
        "inputs": names.add(function.input),
        "attributes": [list(function.attribute), [attribute_form(a, names) for a in function.attribute_proto]],
        "nodes": nodes_form(function.node, names),
        "outputs": names.of(function.output),
    }


def graph_form(graph: onnx.GraphProto, outer: Names) -> Any:
    """The canonical form of a graph. `outer` are the names of the graph around it."""
    names = Names(outer)
    tensors = {tensor.name: tensor_form(tensor) for tensor in graph.initializer}
    tensors.update({tensor.values.name: sparse_form(tensor) for tensor in graph.sparse_initializer})
    inputs = names.add([value.name for value in graph.input])
    # Initializers are named in the order of their use; those that no node of this graph uses by their values.
    used = [name for node in graph.node for name in node.input] + [value.name for value in graph.output]
    unused = sorted((name for name in tensors if name not in used), key=lambda name: json.dumps(tensors[name]))
    given = {value.name for value in graph.input}  # old graphs list initializers as inputs too
    names.add([name for name in dict.fromkeys([*used, *unused]) if name in tensors and name not in given])
    nodes = nodes_form(graph.node, names)
    return {
        "inputs": [inputs, [type_form(value.type, names) for value in graph.input]],
        "tensors": dict(zip(names.of(tensors), tensors.values())),
        "nodes": nodes,
        "outputs": [
            names.of(value.name for value in graph.output),
            [type_form(value.type, names) for value in graph.output],
        ],
    }


def nodes_form(nodes: Sequence[onnx.NodeProto], names: Names) -> Any:
    """The nodes in their order; their outputs get canonical names."""
    forms = []
    for node in nodes:
        inputs = names.of(node.input)
        attributes = sorted([attribute_form(a, names) for a in node.attribute], key=lambda form: str(form[0]))
        forms.append([domain_of(node), node.op_type, inputs, names.add(list(node.output)), attributes])
    return forms


def attribute_form(attribute: AttributeProto, names: Names) -> Any:
    kind = attribute.type
    value: Any
    if kind in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        graphs = attribute.graphs if kind == AttributeProto.GRAPHS else [attribute.g]
        value = [graph_form(graph, names) for graph in graphs]
    elif kind in (AttributeProto.TENSOR, AttributeProto.TENSORS):
        value = [tensor_form(t) for t in (attribute.tensors if kind == AttributeProto.TENSORS else [attribute.t])]
    elif kind in (AttributeProto.FLOAT, AttributeProto.FLOATS):
        floats = attribute.floats if kind == AttributeProto.FLOATS else [attribute.f]
        value = np.array(floats, "<f4").tobytes().hex()
    else:
        copy = AttributeProto()
        copy.CopyFrom(attribute)
        for field in ("name", "doc_string"):
            copy.ClearField(field)
        value = copy.SerializeToString(deterministic=True).hex()
    return [attribute.name, int(kind), value, attribute.ref_attr_name]


def tensor_form(tensor: onnx.TensorProto) -> Any:
    """[type, shape, sha256 of the values in little-endian order]."""
    if tensor.data_type == onnx.TensorProto.STRING:
        data = b"".join(len(text).to_bytes(8, "little") + text for text in tensor.string_data)
    elif tensor.raw_data:
        data = tensor.raw_data  # little-endian by the standard
    else:
        value = numpy_helper.to_array(tensor)
        data = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape)).raw_data
    return [tensor.data_type, list(tensor.dims), hashlib.sha256(data).hexdigest()]


def sparse_form(tensor: onnx.SparseTensorProto) -> Any:
    return [list(tensor.dims), tensor_form(tensor.values), tensor_form(tensor.indices)]


def type_form(kind: onnx.TypeProto, names: Names) -> Any:
    """The type of an input or output; a dimension without a size is symbolic."""
    if not kind.HasField("tensor_type"):
        return kind.SerializeToString(deterministic=True).hex()
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return [tensor.elem_type, None]
    dimensions: list[Any] = []
    for dimension in tensor.shape.dim:
        if dimension.HasField("dim_value"):
            dimensions.append(dimension.dim_value)
        else:
            dimensions.append(names.symbol(dimension.dim_param) if dimension.dim_param else "?")
    return [tensor.elem_type, dimensions]
