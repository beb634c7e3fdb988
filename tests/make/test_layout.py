"""Rules of the layout: commands, folders by topic, short functions."""

from __future__ import annotations

from _support import imports

import ast
import re
from pathlib import Path

import pytest
import yaml

from conftest import SCRIPTS, TREE

COMMANDS = sorted(SCRIPTS.glob("*.py"))
MODULES = sorted(SCRIPTS.rglob("*.py"))
IDS = [path.relative_to(SCRIPTS).as_posix() for path in MODULES]
OUTSIDE_ENGINES = [path for path in MODULES if "engines" not in path.relative_to(SCRIPTS).parts]
ENGINES = sorted(path.parent.name for path in SCRIPTS.glob("engines/*/compile.py"))
CPU = {"cpu"}  # the name of a chip, and also a common word
CHIPS = set(yaml.load((TREE / "params.yaml").read_text("utf-8"), yaml.BaseLoader)["chips"])
MAIN_LINES, PARAMETERS, FUNCTION_LINES = 45, 6, 60


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_module_imports_a_command(path: Path) -> None:
    commands = {command.stem for command in COMMANDS}
    imported = {name.split(".")[0] for name in imports.imports_of(ast.parse(path.read_text("utf-8")))}
    assert not imported & commands


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_function_is_long_or_has_many_parameters(path: Path) -> None:
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        limit = MAIN_LINES if function.name == "main" else FUNCTION_LINES
        assert lines <= limit, f"{function.name}: {lines} lines"
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
        assert len(names) <= PARAMETERS, f"{function.name}: {len(names)} parameters"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_argparse_namespace_crosses_a_module(path: Path) -> None:
    text = path.read_text("utf-8")
    assert path.parent == SCRIPTS or "_support" in path.parts or "Namespace" not in text or path.name == "contender.py"


def test_a_command_imports_support_before_slow_modules() -> None:
    for path in COMMANDS:
        body = ast.parse(path.read_text("utf-8")).body
        first = next(n for n in body if isinstance(n, (ast.Import, ast.ImportFrom)) and n.module != "__future__")
        assert isinstance(first, ast.ImportFrom), path
        assert (first.module or "").startswith("_support"), path
        assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body), path


@pytest.mark.parametrize(
    "path", OUTSIDE_ENGINES, ids=[path.relative_to(SCRIPTS).as_posix() for path in OUTSIDE_ENGINES]
)
def test_no_code_outside_engines_contains_the_name_of_an_engine_or_chip(path: Path) -> None:
    """Allowed are names of libraries, for their versions and for the baselines of make bench."""
    for name in imports.imports_of(ast.parse(path.read_text("utf-8"))):
        assert not any(f"engines.{engine}" in name for engine in ENGINES), name
    libraries = {"onnxruntime", "openvino"} if path.parent.name == "benchmark" else set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Tuple):  # packages, whose versions are in a cache key
            libraries |= {
                item.value for item in node.elts if isinstance(item, ast.Constant) and item.value == "onnxruntime"
            }
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in {*ENGINES, *CHIPS} - libraries - CPU, f"line {node.lineno}: {node.value}"
            assert not re.search(r"\bCHIP=[a-z0-9]", node.value), f"line {node.lineno}: {node.value}"


def test_make_files_contain_no_name_of_a_chip_or_engine() -> None:
    text = (TREE / "Makefile").read_text() + "".join(
        path.read_text() for path in (SCRIPTS / "make").iterdir() if path.is_file()
    )
    words = set(re.findall(r"[\w-]+", text))
    assert not words & (CHIPS - CPU)
    assert words & set(ENGINES) <= {"ascend"}  # the vendor's prefix of chip names
    assert not re.search(r"CHIP=cpu|echo cpu", text)


def test_every_folder_has_a_docstring() -> None:
    for folder in {path.parent for path in MODULES} - {SCRIPTS, SCRIPTS / "make"}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))), folder


def test_tests_mirror_the_folders_of_scripts() -> None:
    topics = {path.name.lstrip("_") for path in SCRIPTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    folders = {path.name for path in (TREE / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert topics - {"reporting"} <= folders
    assert folders - topics <= {"commands", "fakes", "stand_ins", "golden"}
    assert not list((TREE / "tests").glob("test_*.py"))
