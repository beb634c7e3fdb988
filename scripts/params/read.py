"""Reads params.yaml and rejects unknown, missing and mistyped keys with their line numbers."""

from __future__ import annotations

from _support.cli import die

import difflib
import re
from pathlib import Path
from typing import Dict, List, Tuple

import yaml

from params.schema import GATE_SOURCES, SCHEMA, schema_key

SAFE = re.compile(r"[\w.,:/=+~-]+( [\w.,:/=+~-]+)*", re.ASCII)


def leaves(path: Path, node: yaml.Node | None, prefix: str = "") -> List[Tuple[str, str, int]]:
    """(dotted key, text, line number) of every scalar below `node`; a list of scalars is one text of words."""
    if isinstance(node, yaml.ScalarNode):
        return [(prefix, node.value, node.start_mark.line + 1)]
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [(prefix, " ".join(item.value for item in node.value), node.start_mark.line + 1)]
    if not isinstance(node, yaml.MappingNode):
        die(path, f"{prefix or 'the file'} is not a map of keys", "see the comments of params.yaml")
    entries: List[Tuple[str, str, int]] = []
    seen = set()
    for name, value in node.value:
        where = f"{path}:{name.start_mark.line + 1}"
        if not isinstance(name, yaml.ScalarNode) or not re.fullmatch(r"[\w-]+", name.value, re.ASCII):
            die(where, f"invalid key {name.value!r}", "use letters, digits, _ and -")
        if name.value in seen:
            die(where, f"duplicate key {name.value}", "remove one of the two")
        seen.add(name.value)
        entries += leaves(path, value, f"{prefix}.{name.value}" if prefix else name.value)
    return entries


def check_gate(where: str, key: str, chips: List[str]) -> None:
    """Exits 1 if a key of `verify` names an unknown source or chip."""
    _, source, chip = key.split(".")
    for kind, name, names in (("source", source, list(GATE_SOURCES)), ("chip", chip, chips)):
        if name not in names:
            near = difflib.get_close_matches(name, names, 3, 0.5)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(names)}"
            die(where, f"{key}: unknown {kind} {name}", remedy)


def read_params(path: Path) -> Dict[str, str]:
    """{dotted key: checked text} of params.yaml. Values stay texts: as a YAML number 910_9392 would become 9109392."""
    try:
        document = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        entries = leaves(path, document)
    except RecursionError:
        die(path, "an alias refers to itself", "write the value instead of the alias")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(getattr(error, "problem", error)).split())
        mark = getattr(error, "problem_mark", None)
        die(f"{path}:{mark.line + 1}" if mark else path, f"not valid YAML: {problem}", "correct that line")
    params: Dict[str, str] = {}
    chips = [key.split(".", 1)[1] for key, _, _ in entries if key.startswith("chips.")]
    for key, text, line in entries:
        where = f"{path}:{line}"
        match = schema_key(key)
        if match is None:
            near = difflib.get_close_matches(key, SCHEMA, 3, 0.5)
            die(where, f"unknown key {key}", f"did you mean {' or '.join(near)}?" if near else "remove it")
        try:
            params[key] = SCHEMA[match](text)
        except ValueError as allowed:
            die(where, f"{key} is {text!r}", f"use {allowed}")
        if match == "published.throughput.*.*" and not re.fullmatch("[1-9]|[1-5][0-9]|6[0-4]", key.rsplit(".", 1)[1]):
            die(where, f"{key}: invalid batch size", "use one from 1 to 64")
        if match == "verify.*.*" and chips:  # without chips: see below
            check_gate(where, key, chips)
        if not SAFE.fullmatch(text):
            die(where, f"{key}: {text!r} is empty, or has characters special to make or a shell", "use plain words")
    for line_of_schema in SCHEMA:
        if not any(schema_key(key) == line_of_schema for key in params):
            die(path, f"{line_of_schema} is missing", "add it, as in the params.yaml of git")
    return params
