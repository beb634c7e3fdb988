"""Counts the nodes of a graph as its readers see them: a file of a few kilobytes can stand for billions of nodes."""

from __future__ import annotations

from _support.cli import short

from typing import Any, Dict, Tuple

import onnx

from graphs.external_data import Fault

NODES_LIMIT = 100_000  # of a graph; those of large image networks have a few thousand
# ONNX Runtime reads each graph in a node (If, Loop, Scan) about twice as often as the graph that contains the node.
READS = 2

Costs = Dict[Tuple[str, str], int]


def check_nodes(model: onnx.ModelProto) -> None:
    """Raises Fault if a model has too many nodes, after its functions are inlined and with nested graphs repeated."""
    functions = {(function.domain, function.name): function for function in model.functions}
    cost_of(model.graph.node, functions, {})


def cost_of(nodes: Any, functions: dict[tuple[str, str], onnx.FunctionProto], costs: Costs) -> int:
    """How many nodes a reader visits for these ones; `costs` has those of functions counted before. Raises Fault."""
    total = len(nodes)
    check(total)
    for node in nodes:
        for attribute in node.attribute:
            graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            total += READS * sum(cost_of(graph.node, functions, costs) for graph in graphs)
        key = (node.domain, node.op_type)
        if key in functions:
            if key not in costs:
                costs[key] = NODES_LIMIT + 1  # while it is counted: then it calls itself
                costs[key] = cost_of(functions[key].node, functions, costs)
            total += costs[key]
        check(total, f" (in {short(node.op_type)})")
    return total


def check(total: int, where: str = "") -> None:
    if total > NODES_LIMIT:
        problem = f"it stands for more than {NODES_LIMIT} nodes, with its functions inlined{where}"
        raise Fault(problem, "export it with fewer nodes, functions and nested If, Loop or Scan nodes")
