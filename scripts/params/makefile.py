"""What .make/inputs.mk tells make: for each command `uses.<command>`, its prerequisites beside its data, and
`flags.<command>`, its settings as flags; for each chip the same for compile, run, perf and accuracy.

A command declares the settings that it reads in one constant, SETTINGS: {flag: key of params.yaml}. One that is called
in several ways has a dict of each way: {"archive": {…}, "checkpoint": {…}} gives uses.<command>.archive and so on. A
`*` in a key stands for the names that the file has there, and gives words name=value.
"""

from __future__ import annotations

from _support.cli import die
from _support.imports import local_imports, tree_of

import ast
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List

from engines import REFERENCE, module_of
from params.chips import Chip, words_of

Settings = Dict[str, str]
PINS = "requirements.txt"
DEPTH = 3  # of scripts/engines/<engine>/<part>.py


def settings_of(command: Path) -> Dict[str, Settings]:
    """{way of calling: SETTINGS} of a command's file, which is read and not run; the usual way is ""."""
    found: Any = {}
    for node in tree_of(command).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == "SETTINGS":
                found = ast.literal_eval(node.value)
    return found if any(isinstance(value, dict) for value in found.values()) else {"": found}


def matches(key: str, params: Dict[str, str]) -> Dict[str, str]:
    """{what the stars of `key` stand for, joined by `:`: the setting's own key}; {"": key} of a key without a star."""
    if "*" not in key:
        return {"": key}
    pattern = re.compile(re.escape(key).replace(r"\*", r"([^.]+)"))
    found = {name: pattern.fullmatch(name) for name in params}
    return {":".join(match.groups()): name for name, match in found.items() if match}


def flags_of(settings: Settings, params: Dict[str, str], command: Path) -> str:
    """The settings as flags, `--opset 11 …`; exits 1 on a key that params.yaml does not have."""
    words: List[str] = []
    for flag, key in settings.items():
        if "*" in key:
            named = matches(key, params).items()
            values = [f"{name}={params[own].replace(' ', ',')}" for name, own in named]
        elif key in params:
            values = params[key].split()
        else:
            die(command, f"SETTINGS has {key}, which params.yaml has not", "name a key of params/schema.py")
        words += [f"--{flag.replace('_', '-')}", *values]
    return " ".join(words)


class Rules:
    """The variables of inputs.mk; `scripts` is the folder of the commands, `params` has every setting."""

    def __init__(self, scripts: Path, params: Dict[str, str]) -> None:
        self.scripts, self.params = scripts, params

    def copies(self, script: Path) -> List[str]:
        """Make's names of the copies of a script and of all that it imports."""
        paths = [path.relative_to(self.scripts) for path in local_imports(script, self.scripts)]
        for path in paths:
            if len(path.parts) > DEPTH:  # the Makefile does not look deeper
                die(self.scripts / path, "in a folder too deep to be seen by make", "move it up, as in other engines")
        return [f"$(state)/scripts/{path.as_posix()}" for path in paths]

    def command_lines(self) -> Iterator[str]:
        commands = [path for path in self.scripts.glob("*.py") if re.fullmatch(r"\w+", path.stem)]
        for command in sorted(commands):
            for way, settings in settings_of(command).items():
                name = ".".join(filter(None, (command.stem, way)))
                keys = [own for key in settings.values() for own in matches(key, self.params).values()]
                own_files = [f"$(state)/params/{key}" for key in dict.fromkeys(keys)]
                yield f"uses.{name} := {' '.join([*self.copies(command), *own_files, f'$(state)/{PINS}'])}"
                yield f"flags.{name} := {flags_of(settings, self.params, command)}".rstrip()

    def part_uses(self, engine: str, part: str) -> str:
        """Make's names of the copies of an engine's module and of all that it imports."""
        return " ".join(self.copies(self.scripts / f"{module_of(engine, part).replace('.', '/')}.py"))

    def chip_lines(self, chip: Chip) -> Iterator[str]:
        name, engine, limits = chip.name, chip.engine, f"--limits='{words_of(chip.limits)}'"
        yield f"engine.{name} := {engine}"
        yield f"ending.{name} := {chip.constants.ENDING}"
        yield f"int8.{name} := {'yes' if chip.int8 else ''}".rstrip()
        yield f"uses.{name}.compile := {self.part_uses(engine, 'compile')} $(state)/params/options.{name}"
        options = f"--options='{words_of(chip.options)}'"
        yield f"flags.{name}.compile := --chip {name} --engine {engine} {options} {limits}"
        yield f"uses.{name}.run := {self.part_uses(engine, 'run')}"
        yield f"flags.{name}.run := {limits}"
        yield f"uses.{name}.perf := {self.part_uses(engine, 'run' if chip.constants.IN_PROCESS else 'perf')}"
        yield f"flags.{name}.perf := {limits}"
        yield f"uses.{name}.accuracy := $(state)/params/quote.{name}"
        yield f"flags.{name}.accuracy := --published='{self.params[f'quote.{name}']}'"

    def reference_lines(self) -> Iterator[str]:
        """The reference engine's module, which no chip names."""
        yield f"uses.reference.run := {self.part_uses(REFERENCE, 'run')}"
