"""Generates the variables of .make/inputs.mk.

For each command, `uses.<command>` lists its prerequisites other than data and `flags.<command>` its settings as flags.
For each chip there are the same variables for compile, run, perf and accuracy.
A command declares the settings that it reads in one constant, SETTINGS: {flag: key of params.yaml}. A command with
several modes has a dict for each: {"archive": {…}, "checkpoint": {…}} defines uses.<command>.archive and so on.
A `*` in a key matches all names in its place; the flag's values are then words name=value.
"""

from __future__ import annotations

from _support.cli import die
from _support.imports import local_imports, tree_of

import ast
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NoReturn

import engines
from engines import REFERENCE, module_of
from network.spec import UINT8
from params.chips import Chip, words_of

Settings = Dict[str, str]
FIRST_LINE = "# sha256 "  # with the digest of all other lines
PINS = "requirements.txt"
DEPTH = 3  # of scripts/engines/<engine>/<part>.py


def settings_of(command: Path) -> Dict[str, Settings]:
    """{mode: SETTINGS} of a command's file, which is parsed and not run; a single mode is named ""."""
    settings: Any = {}
    for node in tree_of(command).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == "SETTINGS":
                settings = ast.literal_eval(node.value)
    return settings if any(isinstance(value, dict) for value in settings.values()) else {"": settings}


def matches(key: str, params: Dict[str, str]) -> Dict[str, str]:
    """{names that the stars of `key` match, joined by `:`: key of the setting}; {"": key} for a key without a star."""
    if "*" not in key:
        return {"": key}
    pattern = re.compile(re.escape(key).replace(r"\*", r"([^.]+)"))
    candidates = {name: pattern.fullmatch(name) for name in params}
    return {":".join(match.groups()): name for name, match in candidates.items() if match}


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
            die(command, f"SETTINGS has {key}, which params.yaml does not have", "use a key of params/schema.py")
        words += [f"--{flag.replace('_', '-')}", *values]
    return " ".join(words)


def with_digest(lines: List[str]) -> str:
    """The text of inputs.mk with these lines. preflight.sh makes make write a file again whose digest is not right."""
    text = "\n".join(lines) + "\n"
    return f"{FIRST_LINE}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def is_complete(path: Path) -> bool:
    """Whether the first line of inputs.mk has the digest of all other lines."""
    first, _, rest = path.read_bytes().partition(b"\n") if path.is_file() else (b"", b"", b"")
    return first == f"{FIRST_LINE}{hashlib.sha256(rest).hexdigest()}".encode()


def check_links(state: Path) -> None:
    """Exits 1 if .make, or something in it, is a symbolic link: files behind it would be written or removed.

    Only make writes there, and it makes no links, except in the folders of make bench and make reproduce.
    """
    if state.is_symlink():
        die_of_link(state)
    for folder, folders, files in os.walk(str(state)):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(folder, name)):
                die_of_link(Path(folder, name))
        folders[:] = [name for name in folders if folder != str(state) or ".tmp." not in name]


def die_of_link(path: Path) -> NoReturn:
    die(
        path, "a link, behind which make would write or remove files", f"type: rm -f {path}, then the same make command"
    )


class Rules:
    """Generates the lines of inputs.mk; `scripts` is the folder of the commands, `params` has every setting."""

    def __init__(self, scripts: Path, params: Dict[str, str]) -> None:
        self.scripts, self.params = scripts, params

    def copies(self, script: Path) -> List[str]:
        """The copies of a script and of its imports below .make, as make names them."""
        paths = [path.relative_to(self.scripts) for path in local_imports(script, self.scripts)]
        for path in paths:
            if len(path.parts) > DEPTH:  # the wildcards of the Makefile go no deeper
                die(self.scripts / path, "its folder is too deep for the Makefile", "move it up, as in other engines")
        return [f"$(state)/scripts/{path.as_posix()}" for path in paths]

    def command_lines(self) -> Iterator[str]:
        commands = [path for path in self.scripts.glob("*.py") if re.fullmatch(r"\w+", path.stem)]
        for command in sorted(commands):
            for mode, settings in settings_of(command).items():
                name = ".".join(filter(None, (command.stem, mode)))
                keys = [own for key in settings.values() for own in matches(key, self.params).values()]
                own_files = [f"$(state)/params/{key}" for key in dict.fromkeys(keys)]
                yield f"uses.{name} := {' '.join([*self.copies(command), *own_files, f'$(state)/{PINS}'])}"
                yield f"flags.{name} := {flags_of(settings, self.params, command)}".rstrip()

    def part_uses(self, engine: str, part: str) -> str:
        """The copies of an engine's module and of its imports below .make, as make names them."""
        return " ".join(self.copies(self.scripts / f"{module_of(engine, part).replace('.', '/')}.py"))

    def chip_lines(self, chip: Chip) -> Iterator[str]:
        name, engine, limits = chip.name, chip.engine, f"--limits='{words_of(chip.limits)}'"
        yield f"engine.{name} := {engine}"
        yield f"ending.{name} := {chip.constants.ENDING}"
        yield f"uint8.{name} := {'yes' if engines.input_of(chip.options) == UINT8 else ''}".rstrip()
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
        """The reference engine's module, which is not the engine of a chip here."""
        yield f"uses.reference.run := {self.part_uses(REFERENCE, 'run')}"
