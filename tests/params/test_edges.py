"""The generated edges of the graph: a command depends on its imports and on the settings that it declares."""

from __future__ import annotations

from _support import imports
from _support.artifact import read_record

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import engines
from conftest import SCRIPTS, TREE, Project, environment, script
from params.makefile import Rules, flags_of, matches, settings_of
from params.schema import SCHEMA, schema_key

COMMANDS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
PARTS = sorted(
    path.relative_to(SCRIPTS).with_suffix("").as_posix()
    for part in ("compile", "run", "perf")
    for path in SCRIPTS.glob(f"engines/*/{part}.py")
)
# Runs a file of scripts/ as Python does, with --help, or imports it, and prints each file of scripts/ that was read.
HOOK = """
import runpy, sys
scripts, name = sys.argv[1:3]
sys.path.insert(0, scripts)
try:
    if "/" in name:
        __import__(name.replace("/", "."))
    else:
        sys.argv = [f"{scripts}/{name}.py", "--help"]
        runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit:
    pass
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.startswith(scripts):
        print("read:", file[len(scripts) + 1:])
"""


def names(paths: list[Path], scripts: Path = SCRIPTS) -> set[str]:
    return {path.relative_to(scripts).as_posix() for path in paths}


def imported_by_python(name: str) -> set[str]:
    command = [sys.executable, "-c", HOOK, str(SCRIPTS), name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    read = set(re.findall(r"^read: (.*)$", done.stdout, re.MULTILINE)) | {f"{name}.py"}
    return {path for path in read if not imports.has_underscore(SCRIPTS / path, SCRIPTS)}


@pytest.mark.parametrize("name", [*COMMANDS, *PARTS])
def test_the_search_finds_the_files_that_python_imports(name: str) -> None:
    imported = names(imports.local_imports(SCRIPTS / f"{name}.py"))
    assert imported_by_python(name) <= imported
    lazily = {
        path.relative_to(SCRIPTS).as_posix()
        for file in imports.local_imports(SCRIPTS / f"{name}.py")
        for line in re.findall(r"^ +((?:from|import) .*)$", file.read_text(), re.MULTILINE)
        for module in imports.imports_of(ast.parse(line))
        for lazy in imports.files_of(module, SCRIPTS)
        for path in imports.local_imports(lazy)
    }
    assert imported - imported_by_python(name) <= lazily, "found, but neither imported at once nor inside a function"


def test_the_search_understands_packages(tmp_path: Path) -> None:
    files = {
        "command.py": "from a import b\nimport c.d\nfrom c.e import thing\nif x:\n    from f import g\n",
        "a/__init__.py": "",
        "a/b.py": "import a.other\n",
        "a/other.py": "",
        "a/unused.py": "",
        "c/__init__.py": "VALUE = 1\n",
        "c/d.py": "",
        "c/e.py": "def thing():\n    try:\n        import late\n    except ImportError:\n        pass\n",
        "f.py": "g = 1\n",
        "late.py": "",
        "_hidden/x.py": "import seen\n",
        "typed.py": "",
        "seen.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import typed\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    imported = names(imports.local_imports(tmp_path / "command.py", tmp_path), tmp_path)
    reached = {"command.py", "a/__init__.py", "a/b.py", "a/other.py", "c/__init__.py", "c/d.py", "c/e.py", "f.py"}
    assert imported == {*reached, "late.py"}
    (tmp_path / "other.py").write_text("import _hidden.x\n")
    assert names(imports.local_imports(tmp_path / "other.py", tmp_path), tmp_path) == {"other.py", "seen.py"}


def test_an_edit_of_a_module_that_an_engine_imports_from_its_package_is_in_the_key() -> None:
    # An earlier search missed `from engines import …`, so that a stale result was kept.
    assert "engines/openvino/run.py" in names(imports.local_imports(SCRIPTS / "engines/openvino/compile.py"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_that_a_command_declares_is_a_key_and_an_argument(command: str) -> None:
    declared = settings_of(SCRIPTS / f"{command}.py")
    help_page = script(command, "--help").stdout if any(declared.values()) else ""
    for settings in declared.values():
        for flag, key in settings.items():
            assert key in SCHEMA or schema_key(key) or key in ("quote.*",), key
            assert f"--{flag.replace('_', '-')} " in help_page, flag


def make_files() -> str:
    """The logical lines of the make files, without comments."""
    files = [TREE / "Makefile", *(SCRIPTS / "make").glob("*.mk")]
    lines = "".join(path.read_text() for path in files).replace("\\\n", " ").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_cache_key_of_a_command_contains_its_settings(command: str) -> None:
    text = (SCRIPTS / f"{command}.py").read_text()
    if "key_of(" in text and any(settings_of(SCRIPTS / f"{command}.py").values()):
        assert "settings_of(args, SETTINGS" in text


def test_every_rule_depends_on_what_its_command_uses() -> None:
    text = make_files().replace("$(fetch)", "$(call run,FETCH,fetch)")
    rules = re.findall(r"^(\$\([^\n]*?:[^=\n][^\n]*)\n\t([^\n]*)", text, re.MULTILINE)
    stages = [(head, recipe) for head, recipe in rules if "$(call run," in recipe]
    assert len(stages) == text.count("$(call run,") - 1  # one is the definition of fetch
    for head, recipe in stages:
        command = re.findall(r"\$\(call run,\w+,(\w+)\)", recipe)[0]
        used = re.findall(rf"\$\(uses\.({command}[.\w]*)\)", head)
        assert used, f"no $(uses.{command}) in {head}"
        if any(settings_of(SCRIPTS / f"{command}.py").values()):
            assert f"$(flags.{used[0]})" in recipe, f"no $(flags.{used[0]}) in the recipe of {head}"
        for part in re.findall(r"\$\(flags\.\$\(CHIP\)\.(\w+)\)", recipe):
            assert f"$(uses.$(CHIP).{part})" in head or command == "import_input"


def test_every_command_is_called_by_a_recipe_and_only_commands_are() -> None:
    text = make_files() + (SCRIPTS / "make/preflight.sh").read_text()
    called = set(re.findall(r"scripts/(\w+)\.py", text)) | set(re.findall(r"\$\(call run,\w+,(\w+)\)", text))
    assert called == set(COMMANDS)


def test_the_key_of_an_artifact_has_every_setting_that_its_command_declares(project: Project) -> None:
    artifacts = {
        "preprocess": "data/bin/manifest.json",
        "export_onnx": "models/onnx/3d_attention_net.json",
        "optimize_onnx": "models/optimized/3d_attention_net.json",
        "infer": "results/null/bs16/outputs/manifest.json",
        "postprocess": "results/null/bs16/accuracy.json",
    }
    for command, path in artifacts.items():
        key = read_record(project.root / path)["key"]
        for flag in settings_of(SCRIPTS / f"{command}.py")[""]:
            assert flag in key["flags"], f"{flag} of {command}"
        assert f"{command}.py" in key["scripts"]


def test_flags_are_generated_from_settings(tmp_path: Path) -> None:
    params = {"a.b": "1", "list": "x y", "v.cifar10.cpu": "95.34 0.10", "v.sample.null": "1 2", "v.sample": "no"}
    settings = {"a_b": "a.b", "words": "list", "references": "v.*.*"}
    flags = "--a-b 1 --words x y --references cifar10:cpu=95.34,0.10 sample:null=1,2"
    assert flags_of(settings, params, tmp_path) == flags
    assert matches("v.*.*", params) == {"cifar10:cpu": "v.cifar10.cpu", "sample:null": "v.sample.null"}
    with pytest.raises(SystemExit):
        flags_of({"x": "no.key"}, params, tmp_path)


def test_a_command_with_several_modes_has_a_line_for_each(tmp_path: Path) -> None:
    (tmp_path / "get.py").write_text('SETTINGS: object = {"one": {"a": "x"}, "two": {}}\n')
    lines = [*Rules(tmp_path, {"x": "7"}).command_lines()]
    copies = "$(state)/scripts/get.py"
    assert lines == [
        f"uses.get.one := {copies} $(state)/params/x $(state)/requirements.txt",
        "flags.get.one := --a 7",
        f"uses.get.two := {copies} $(state)/requirements.txt",
        "flags.get.two :=",
    ]


def test_an_edit_of_an_engines_module_reruns_only_the_commands_that_use_it(project: Project) -> None:
    with open(project.tree / "scripts/engines/null/run.py", "a") as file:
        file.write("# an edit\n")
    project.make("accuracy")
    assert project.pythons() == ["sync_inputs", "infer", "postprocess"]
    with open(project.tree / "scripts/engines/null/compile.py", "a") as file:
        file.write("# an edit\n")
    project.make("accuracy")
    assert project.pythons() == ["sync_inputs", "compile_model", "infer", "postprocess"]


def test_the_reference_engine_is_an_engine() -> None:
    assert engines.REFERENCE in engines.names_of()
