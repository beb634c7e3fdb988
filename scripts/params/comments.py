"""Reads the comments of params.yaml, which describe its settings in docs/reference.md."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, NamedTuple, Tuple

import yaml


class Setting(NamedTuple):
    key: str  # dotted, `onnx.opset`
    value: str  # as written; a list as words
    comment: str  # on one line; empty if it is missing


class Block(NamedTuple):
    """A top-level key of params.yaml with its settings; a list or a map below a setting is one value."""

    name: str
    comment: str
    settings: List[Setting]


def comment_of(lines: List[str], number: int) -> str:
    """The comment of the key on line `number` (from 0): the comment lines directly above it, which begin in the same
    column, and the one beside it."""
    column = len(lines[number]) - len(lines[number].lstrip())
    above: List[str] = []
    while number > len(above) and lines[number - len(above) - 1].startswith(" " * column + "#"):
        above.insert(0, lines[number - len(above) - 1].strip().lstrip("# "))
    beside = re.search(r"\s#\s*(.*)$", lines[number])
    return " ".join([*above, *([beside[1].strip()] if beside else [])])


def scalars(node: yaml.Node) -> Iterator[str]:
    """Yields the texts of a value in order; for a map name=value."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield f"{name.value}={' '.join(scalars(value))}"
    elif isinstance(node, yaml.SequenceNode):
        yield from (item.value for item in node.value)
    else:
        yield node.value


def settings_in(lines: List[str], pairs: List[Tuple[yaml.Node, yaml.Node]], prefix: str) -> Iterator[Setting]:
    for name, value in pairs:
        yield Setting(f"{prefix}.{name.value}", " ".join(scalars(value)), comment_of(lines, name.start_mark.line))


def blocks_of(text: str) -> Dict[str, Block]:
    """{name: block} of the text of params.yaml, in its order."""
    lines = text.splitlines()
    blocks = {}
    for name, value in yaml.compose(text, Loader=yaml.SafeLoader).value:
        pairs = value.value if isinstance(value, yaml.MappingNode) else []
        settings = list(settings_in(lines, pairs, name.value))
        if not pairs:
            settings = [Setting(name.value, " ".join(scalars(value)), "")]
        blocks[name.value] = Block(name.value, comment_of(lines, name.start_mark.line), settings)
    return blocks
