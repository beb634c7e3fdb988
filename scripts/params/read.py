"""Reads params.yaml with line numbers, and refuses what is unknown, missing or of the wrong type."""

from __future__ import annotations

from _support.cli import die

import difflib
import re
from pathlib import Path
from typing import Dict, List, Tuple

import yaml

from params.schema import SCHEMA, schema_key

SAFE = re.compile(r"[\w.,:/=+~-]+( [\w.,:/=+~-]+)*", re.ASCII)


def leaves(path: Path, node: yaml.Node | None, prefix: str = "") -> List[Tuple[str, str, int]]:
    """Every scalar below `node` as (dotted key, text, line number); a list of scalars is one text of words."""
    if isinstance(node, yaml.ScalarNode):
        return [(prefix, node.value, node.start_mark.line + 1)]
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [(prefix, " ".join(item.value for item in node.value), node.start_mark.line + 1)]
    if not isinstance(node, yaml.MappingNode):
        die(path, f"{prefix or 'the file'} is not a map of keys", "see the comments in it, or git checkout params.yaml")
    found: List[Tuple[str, str, int]] = []
    seen = set()
    for name, value in node.value:
        where = f"{path}:{name.start_mark.line + 1}"
        if not isinstance(name, yaml.ScalarNode) or not re.fullmatch(r"[\w-]+", name.value, re.ASCII):
            die(where, f"{name.value!r} is no name of a key", "use letters, digits, _ and -")
        if name.value in seen:
            die(where, f"{name.value} stands there twice", "keep one of the two")
        seen.add(name.value)
        found += leaves(path, value, f"{prefix}.{name.value}" if prefix else name.value)
    return found


def read_params(path: Path) -> Dict[str, str]:
    """{dotted key: checked text} of params.yaml. Texts are never read as YAML numbers: 910_9392 stays a name."""
    try:
        document = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        found = leaves(path, document)
    except RecursionError:
        die(path, "an alias in it stands for itself", "write the value out")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(getattr(error, "problem", error)).split())
        mark = getattr(error, "problem_mark", None)
        die(f"{path}:{mark.line + 1}" if mark else path, f"not YAML: {problem}", "mend that line")
    params: Dict[str, str] = {}
    for key, text, line in found:
        where = f"{path}:{line}"
        match = schema_key(key)
        if match is None:
            near = difflib.get_close_matches(key, SCHEMA, 3, 0.5)
            die(where, f"{key} is no key", f"did you mean {' or '.join(near)}?" if near else "remove it")
        try:
            params[key] = SCHEMA[match](text)
        except ValueError as wanted:
            die(where, f"{key} is {text!r}", f"give {wanted}")
        if match == "published.throughput.*.*" and not re.fullmatch("[1-9]|[1-5][0-9]|6[0-4]", key.rsplit(".", 1)[1]):
            die(where, f"{key} is of no batch size", "give one of 1 to 64")
        if not SAFE.fullmatch(text):
            die(where, f"{key}: {text!r} is empty or would be read differently by make or a shell", "use plain words")
    for line_of_schema in SCHEMA:
        if not any(schema_key(key) == line_of_schema for key in params):
            die(path, f"{line_of_schema} is missing", "add it, or git checkout params.yaml")
    return params
