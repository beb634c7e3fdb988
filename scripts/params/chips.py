"""The chips of params.yaml: each a line with its engine, whose constants say what the line may hold."""

from __future__ import annotations

from _support.artifact import digest
from _support.cli import die

from pathlib import Path
from typing import Dict, List, NamedTuple

import engines
from engines import Constants


class Chip(NamedTuple):
    name: str
    engine: str
    constants: Constants
    int8: bool  # whether it gets the quantized graph
    options: Dict[str, str]  # the engine's own: part of the compiled model's cache key
    limits: Dict[str, str]  # handed on beside them: not part of any cache key
    published: str  # the device whose published accuracy is quoted, or ""


def words_of(options: Dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


def shared_options(params: Dict[str, str], key: str) -> Dict[str, str]:
    """What a key of params.yaml says as an engine's option: by its last name, or by its own words if it is `flags`."""
    name = key.rsplit(".", 1)[1]
    if name != "flags":
        return {name: params[key]}
    return engines.options_of(" ".join(word for word in params[key].split() if "=" in word))


def chip_of(path: Path, params: Dict[str, str], key: str, folder: Path) -> Chip:
    """The chip of one line, `key`, of params.yaml at `path`; `folder` has the engines. Exits 1 if it does not fit."""
    name, text = key.split(".", 1)[1], params[key]
    options = engines.options_of(text)
    engine, published = options.pop("engine"), options.pop("published", "")
    if name == "reference":
        die(path, f"{key}: results/reference is the reference engine's folder", "give the chip another name")
    if engine not in engines.names_of(folder):
        die(path, f"{key}: no engine {engine}", f"give one of {', '.join(engines.names_of(folder))}")
    if published and f"published.accuracy.{published}" not in params:
        die(path, f"{key}: no published.accuracy.{published}", "name a device that is listed there")
    constants = engines.constants_of(engine, folder)
    for need in constants.NEEDS:
        if need not in options:
            die(path, f"{key}: no {need}=", f"add it, as other chips of engine {engine} have it")
    for option, values in constants.VALUES.items():
        if options[option] not in values:
            die(path, f"{key}: {option}={options[option]}", f"give one of {', '.join(values)}")
    for shared in (*constants.OPTIONS, *constants.LIMITS):
        if shared not in params:
            die(folder / engine / "__init__.py", f"{shared} is not a setting", "name a key of params/schema.py")
    for option in constants.VALUES.keys() - constants.NEEDS:
        die(folder / engine / "__init__.py", f"VALUES has {option}, NEEDS has not", "add it to NEEDS")
    for shared in reversed(constants.OPTIONS):
        options = {**shared_options(params, shared), **options}
    int8 = bool(constants.INT8) and constants.INT8 in text.split()
    limits = {limit: params[limit] for limit in constants.LIMITS}
    return Chip(name, engine, constants, int8, dict(sorted(options.items())), limits, published)


def chips_of(path: Path, params: Dict[str, str], folder: Path) -> List[Chip]:
    """Every chip, in the order of params.yaml."""
    return [chip_of(path, params, key, folder) for key in params if key.startswith("chips.")]


def files_of(chips: List[Chip]) -> List[str]:
    """What may be files that options name, also files that do not exist yet: their bytes decide a compiled model's."""
    return sorted({value for chip in chips for value in chip.options.values() if "." in value or "/" in value})


def derived(chips: List[Chip], params: Dict[str, str]) -> Dict[str, str]:
    """Settings that follow from a chip's line: `options.<chip>`, with the digests of the files that they name, and
    `quote.<chip>`, the published device and its Top-1."""
    found = {}
    for chip in chips:
        files = [f"{value}:{digest(Path(value))}" for value in chip.options.values() if Path(value).is_file()]
        found[f"options.{chip.name}"] = " ".join([words_of(chip.options), *files])
        published = params.get(f"published.accuracy.{chip.published}", "")
        found[f"quote.{chip.name}"] = f"{chip.published} {published}" if chip.published else ""
    return found
