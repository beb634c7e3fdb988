"""Which modules of scripts/ a script imports, at any depth, by its syntax tree. Nothing is run. Python 3.7."""

from __future__ import annotations

from _support.cli import SCRIPTS

import ast
from pathlib import Path
from typing import Iterator, List


def imports_of(node: ast.AST) -> Iterator[str]:
    """The dotted names that a module imports, also inside functions, but not what is only for type checkers.

    `from a import b` may name a module a.b or something in a, so it gives both.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from imports_of(other)
        else:
            yield from imports_of(child)


def files_of(name: str, scripts: Path) -> List[Path]:
    """The files of scripts/ that Python reads to import a dotted name: those of its packages, and its own."""
    parts = name.split(".")
    packages = [scripts.joinpath(*parts[: i + 1], "__init__.py") for i in range(len(parts))]
    return [path for path in (*packages, scripts.joinpath(*parts).with_suffix(".py")) if path.is_file()]


def has_underscore(path: Path, scripts: Path) -> bool:
    """Whether a file, or a folder of it, begins with _ and so is not part of any artifact's cache key."""
    parts = path.relative_to(scripts).parts
    return any(part.startswith("_") and part != "__init__.py" for part in parts)


def local_imports(script: Path, scripts: Path = SCRIPTS) -> List[Path]:
    """`script` and all files of scripts/ that it imports, at any depth, but for those that begin with _."""
    found = [script, *(path for path in files_of(".".join(script.relative_to(scripts).parts[:-1]), scripts))]
    for path in found:
        for name in imports_of(ast.parse(path.read_text("utf-8"), str(path))):
            found += [file for file in files_of(name, scripts) if file not in found]
    return [path for path in found if not has_underscore(path, scripts)]
