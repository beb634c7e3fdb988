"""The chips of params.yaml. The constants of a chip's engine define which options its line may have."""

from __future__ import annotations

from _support.artifact import digest
from _support.cli import die

from pathlib import Path
from typing import Dict, List, NamedTuple

import engines
from engines import Constants
from network.spec import FLOAT32, UINT8


class Chip(NamedTuple):
    name: str
    engine: str
    constants: Constants
    int8: bool  # whether it uses the int8 graph
    options: Dict[str, str]  # of its engine; part of the compiled model's cache key
    limits: Dict[str, str]  # settings passed to the engine that are in no cache key
    published: str  # the device whose published accuracy is quoted, or ""


def words_of(options: Dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


def shared_options(params: Dict[str, str], key: str) -> Dict[str, str]:
    """The engine options that a setting stands for: {last part of its key: value}, or its own name=value words if the
    key ends in `flags`."""
    name = key.rsplit(".", 1)[-1]
    if name != "flags":
        return {name: params[key]}
    return engines.options_of(" ".join(word for word in params[key].split() if "=" in word))


def chip_of(path: Path, params: Dict[str, str], key: str, folder: Path) -> Chip:
    """The chip of the setting `key` of params.yaml at `path`; `folder` has the engines. Exits 1 if it is invalid."""
    name, text = key.split(".", 1)[1], params[key]
    options = engines.options_of(text)
    engine, published = options.pop("engine"), options.pop("published", "")
    if name == "reference":
        die(path, f"{key}: results/reference is used for the reference engine", "give the chip another name")
    if engine not in engines.names_of(folder):
        die(path, f"{key}: unknown engine {engine}", f"use one of {', '.join(engines.names_of(folder))}")
    if published and f"published.accuracy.{published}" not in params:
        die(path, f"{key}: published.accuracy.{published} does not exist", "use a device that is listed there")
    constants = engines.constants_of(engine, folder)
    for need in constants.NEEDS:
        if need not in options:
            die(path, f"{key}: {need}= is missing", f"add it, as in other chips of engine {engine}")
    if engines.input_of(options) not in (FLOAT32, UINT8):
        die(path, f"{key}: input={options['input']}", f"use {FLOAT32} or {UINT8}")
    for shared in (*constants.OPTIONS, *constants.LIMITS):
        if shared not in params:
            die(folder / engine / "__init__.py", f"{shared} is not a setting", "use a key of params/schema.py")
    for option in constants.VALUES.keys() - {*constants.NEEDS, *constants.OPTIONS}:
        die(folder / engine / "__init__.py", f"VALUES has {option}, but NEEDS does not", "add it to NEEDS")
    for shared in reversed(constants.OPTIONS):
        options = {**shared_options(params, shared), **options}
    for option, values in constants.VALUES.items():
        if options[option] not in values:
            die(path, f"{key}: {option}={options[option]}", f"use one of {', '.join(values)}")
    int8 = bool(constants.INT8) and constants.INT8 in text.split()
    limits = {limit: params[limit] for limit in constants.LIMITS}
    return Chip(name, engine, constants, int8, dict(sorted(options.items())), limits, published)


def chips_of(path: Path, params: Dict[str, str], folder: Path) -> List[Chip]:
    """Every chip, in the order of params.yaml."""
    return [chip_of(path, params, key, folder) for key in params if key.startswith("chips.")]


def files_of(chips: List[Chip]) -> List[str]:
    """Option values that may be file names, also of files that do not exist yet; they are inputs of compiled models."""
    return sorted({value for chip in chips for value in chip.options.values() if "." in value or "/" in value})


def derived(chips: List[Chip], params: Dict[str, str]) -> Dict[str, str]:
    """Settings derived from the lines of chips.

    `options.<chip>` has the options and the digests of the files that they name; `quote.<chip>` has the published
    device and its Top-1.
    """
    settings = {}
    for chip in chips:
        files = [f"{value}:{digest(Path(value))}" for value in chip.options.values() if Path(value).is_file()]
        settings[f"options.{chip.name}"] = " ".join([words_of(chip.options), *files])
        published = params.get(f"published.accuracy.{chip.published}", "")
        settings[f"quote.{chip.name}"] = f"{chip.published} {published}" if chip.published else ""
    return settings
