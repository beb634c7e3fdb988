"""Finds the modules of scripts/ that a script imports, at any depth, in its syntax tree. Runs no code. Python 3.7."""

from __future__ import annotations

from _support.cli import SCRIPTS, die

import ast
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterator, List, Tuple


def imports_of(node: Any) -> Iterator[str]:
    """Yields the dotted names that a module or another statement imports, except under `if TYPE_CHECKING`.

    In `from a import b`, b may be a module a.b or a name in a, so it yields both.
    """
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)
    typing_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    for block in ("orelse",) if typing_only else ("body", "handlers", "orelse", "finalbody"):
        statements = getattr(node, block, ())  # the body of a lambda is an expression, not a list
        for statement in statements if isinstance(statements, list) else ():
            yield from imports_of(statement)


@lru_cache(maxsize=None)
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file; exits 1 if it is not valid Python."""
    try:
        return ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        line = getattr(error, "lineno", None) or 1
        die(f"{path}:{line}", f"not valid Python: {getattr(error, 'msg', error)}", "correct that line")


@lru_cache(maxsize=None)
def names_in(path: Path) -> Tuple[str, ...]:
    """The dotted names that a file imports."""
    names = tuple(dict.fromkeys(imports_of(tree_of(path))))
    relative = [name for name in names if name.startswith(".")]
    if relative:
        die(path, f"relative import {relative[0]}", "import it by its full name, as other modules do")
    return names


@lru_cache(maxsize=None)
def files_of(name: str, scripts: Path) -> Tuple[Path, ...]:
    """The files of scripts/ that Python runs to import a dotted name: each package's __init__.py and the module."""
    parts = name.split(".")
    packages = [scripts.joinpath(*parts[: i + 1], "__init__.py") for i in range(len(parts))]
    return tuple(path for path in (*packages, scripts.joinpath(*parts).with_suffix(".py")) if path.is_file())


def has_underscore(path: Path, scripts: Path) -> bool:
    """Whether the name of a file or of its folder begins with _; such files are in no artifact's cache key."""
    parts = path.relative_to(scripts).parts
    return any(part.startswith("_") and part != "__init__.py" for part in parts)


def local_imports(script: Path, scripts: Path = SCRIPTS) -> List[Path]:
    """`script` and all files of scripts/ that it imports, at any depth, except those whose names begin with _."""
    paths = dict.fromkeys([script, *files_of(".".join(script.relative_to(scripts).parts[:-1]), scripts)])
    waiting = list(paths)
    for path in waiting:
        for file in (file for name in names_in(path) for file in files_of(name, scripts)):
            if file not in paths:
                paths[file] = None
                waiting.append(file)
    return [path for path in paths if not has_underscore(path, scripts)]
