"""Counts the nodes of a graph as its readers see them: a file of a few kilobytes can stand for billions of nodes."""

from __future__ import annotations

from _support.cli import short

from typing import Any, Dict, List, Tuple

import onnx

from graphs.external_data import Fault

# Nodes and initializers of a graph; large image networks have a few thousand. ONNX Runtime takes about 10 s to remove
# as many unused initializers, and its time grows with the square of their number.
NODES_LIMIT = 50_000
# ONNX Runtime reads each graph in a node (If, Loop, Scan) about twice as often as the graph that contains the node.
READS = 2
DEPTH_LIMIT = 100  # of functions that call functions, and of graphs in graphs
FEWER = "export it with fewer nodes, functions and nested If, Loop or Scan nodes"

Key = Tuple[str, str]  # the domain and the name of a function
Functions = Dict[Key, List[onnx.FunctionProto]]  # several functions of one name are overloads, or an error


def key_of(domain: str, name: str) -> Key:
    return "" if domain == "ai.onnx" else domain, name  # two names of one domain


def check_nodes(model: onnx.ModelProto) -> None:
    """Raises Fault if a model has too many nodes and initializers, with functions inlined and inner graphs repeated."""
    functions: Functions = {}
    for function in model.functions:
        functions.setdefault(key_of(function.domain, function.name), []).append(function)
    cost_of(model.graph, functions, {}, 0)


def cost_of(graph: Any, functions: Functions, costs: Dict[Key, int], depth: int) -> int:
    """How many nodes and initializers a reader visits for a graph or a function, which is `depth` levels below the
    model's graph; `costs` has those of functions counted before. Raises Fault."""
    if depth > DEPTH_LIMIT:
        raise Fault(f"its functions and graphs are nested more than {DEPTH_LIMIT} levels deep", FEWER)
    total = len(graph.node) + len(getattr(graph, "initializer", ()))  # functions have no initializers
    check(total)
    for node in graph.node:
        for attribute in node.attribute:
            inner = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            total += READS * sum(cost_of(part, functions, costs, depth + 1) for part in inner)
        key = key_of(node.domain, node.op_type)
        if key in functions:
            if key not in costs:
                costs[key] = NODES_LIMIT + 1  # while it is counted: then it calls itself
                costs[key] = max(cost_of(f, functions, costs, depth + 1) for f in functions[key])
            total += costs[key]
        check(total, f" (in {short(node.op_type)})")
    return total


def check(total: int, where: str = "") -> None:
    if total > NODES_LIMIT:
        problem = f"it stands for more than {NODES_LIMIT} nodes and initializers, with its functions inlined{where}"
        raise Fault(problem, FEWER)
