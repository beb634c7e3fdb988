"""Reads params.yaml and rejects unknown, missing and mistyped keys with their line numbers."""

from __future__ import annotations

from _support.cli import die, short

import difflib
import re
from pathlib import Path
from typing import Dict, List, NoReturn, Tuple

import yaml

from params.schema import CONSTANTS, EXAMPLES, GATE_SOURCES, SCHEMA, longer_keys, schema_key, shorter_key

SAFE = re.compile(r"[\w.,:/=+~-]+( [\w.,:/=+~-]+)*", re.ASCII)


NODES_LIMIT = 20000  # of a settings file after its aliases are expanded; the one of git has fewer than 1000
DEPTH_LIMIT = 20  # levels of a settings file; the one of git has 4
SIZE_LIMIT = 256 << 10  # bytes of a settings file; the one of git has 9000
NAME = re.compile(r"\w[\w-]{0,59}", re.ASCII)  # it is in names of files, and not an option of a tool


class ExcessError(Exception):
    """A settings file has more values or levels than any real one."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


class LimitedLoader(yaml.SafeLoader):
    """Counts values and levels while it reads them, because a file of a few megabytes can take minutes."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        if self.nodes > NODES_LIMIT or self.depth > DEPTH_LIMIT:
            problem = "nested too deeply" if self.depth > DEPTH_LIMIT else f"it contains more than {NODES_LIMIT} values"
            raise ExcessError(problem, self.line + 1)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def count_nodes(node: yaml.Node | None, counts: Dict[int, int]) -> int:
    """The number of nodes below `node` after its aliases are expanded; `counts` has those of nodes seen before. A few
    lines of aliases of aliases can stand for more than memory can hold."""
    if id(node) not in counts:
        below: List[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        counts[id(node)] = 1 + sum(count_nodes(part, counts) for part in below)
    return counts[id(node)]


def leaves(path: Path, node: yaml.Node | None, prefix: str = "") -> List[Tuple[str, str, int]]:
    """(dotted key, text, line number) of every scalar below `node`; a list of scalars is one text of words."""
    if isinstance(node, yaml.ScalarNode):
        return [(prefix, node.value, node.start_mark.line + 1)]
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [(prefix, " ".join(item.value for item in node.value), node.start_mark.line + 1)]
    if not isinstance(node, yaml.MappingNode):
        where = f"{path}:{node.start_mark.line + 1}" if node else path
        die(where, f"{prefix or 'the file'} is not a map of keys", "write lines KEY: VALUE, without - before them")
    entries: List[Tuple[str, str, int]] = []
    seen = set()
    for name, value in node.value:
        where = f"{path}:{name.start_mark.line + 1}"
        if not isinstance(name, yaml.ScalarNode) or not NAME.fullmatch(name.value):
            remedy = "use letters, digits, _ and -, at most 60, and do not begin with -"
            die(where, f"invalid key {short(repr(name.value))}", remedy)
        if name.value in seen:
            die(where, f"duplicate key {name.value}", "remove one of the two")
        seen.add(name.value)
        entries += leaves(path, value, f"{prefix}.{name.value}" if prefix else name.value)
    return entries


def refuse_key(where: str, key: str, text: str, chips: List[str]) -> NoReturn:
    """Exits 1 because of a `key` with the value `text` that no key of the schema matches."""
    longer, shorter, chip = longer_keys(key), shorter_key(key), (chips or ["CHIP"])[0]
    parent, _, name = key.rpartition(".")
    if key in CONSTANTS:
        remedy = "remove this line: sizes and digests of the official files are in scripts/formats/official.py"
        die(where, f"{key}: no longer a setting", remedy)
    if key.split(".")[0] in GATE_SOURCES and schema_key(f"verify.{key}"):
        die(where, f"unknown key {key}", f"indent {key.split('.')[0]}: and its lines below verify:")
    if parent == "verify" and name not in GATE_SOURCES and name in chips:
        die(where, f"{key}: a chip without source", f"indent it below one of {', '.join(GATE_SOURCES)}")
    if longer:
        problem = f"is {text!r}, not a map" if text else "no line is indented below it"
        line = EXAMPLES.get(longer[0], f"{longer[0].split('.')[key.count('.') + 1]}: VALUE").replace("CHIP", chip)
        if longer[0].count(".") > key.count(".") + 1:  # a map of maps
            names = GATE_SOURCES if key == "verify" else ("DEVICE",)
            line = f"{names[0]}: with a line {line} indented below it"
        die(where, f"{key}: {problem}", f"write below it, indented further than it: {line}")
    if shorter:
        setting = ".".join(key.split(".")[: shorter.count(".") + 1])
        die(
            where,
            f"{setting}: has the key {key[len(setting) + 1 :]} below it, but is not a map",
            f"use {form(shorter)}",
        )
    near = difflib.get_close_matches(key, SCHEMA, 3, 0.5)
    die(where, f"unknown key {key}", f"did you mean {' or '.join(near)}?" if near else "remove it")


def form(line: str) -> str:
    """The description of the allowed values of a key of SCHEMA."""
    try:
        SCHEMA[line]("\n")  # no check accepts it
    except ValueError as allowed:
        return str(allowed)
    return "a value"


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
        if path.stat().st_size > SIZE_LIMIT:
            problem = f"{path.stat().st_size} bytes, more than {SIZE_LIMIT}"
            die(path, problem, "set PARAMS= to a copy of the params.yaml of git with your settings")
        document = yaml.compose(path.read_text("utf-8"), Loader=LimitedLoader)
        if count_nodes(document, {}) > NODES_LIMIT:
            die(
                path, f"its aliases stand for more than {NODES_LIMIT} values", "write the values instead of the aliases"
            )
        entries = leaves(path, document)
    except RecursionError:
        die(path, "an alias refers to itself, or it is nested too deeply", "write the value instead of the alias")
    except ExcessError as error:
        die(f"{path}:{error.line}", error.problem, "write only settings, as in the params.yaml of git")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(getattr(error, "problem", error)).split())
        mark = getattr(error, "problem_mark", None)
        die(f"{path}:{mark.line + 1}" if mark else path, f"not valid YAML: {problem}", "correct that line")
    params: Dict[str, str] = {}
    chips = [key.split(".", 1)[1] for key, _, _ in entries if key.startswith("chips.")]
    for key, text, line in entries:
        where = f"{path}:{line}"
        match = schema_key(key)
        text = " ".join(text.split())  # several spaces, or a line break, separate words like one space
        if match is None:
            refuse_key(where, key, text, chips)
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
