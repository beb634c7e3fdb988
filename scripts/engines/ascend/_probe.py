"""Prints what a Python interpreter has installed for CANN's tools, as one line of JSON after an @.

The interpreter in question runs it. The arguments are names of modules to look for. Imports only the standard library,
and numpy if its version is not in its metadata. Python 3.7.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from importlib.machinery import ModuleSpec
from typing import Any, Dict, List


def spec(name: str) -> ModuleSpec | None:
    """The spec of a module, or None if it is not installed."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def numpy_version() -> str:
    """numpy's version, from the name of its metadata folder or by importing it; empty if it is not installed."""
    numpy = spec("numpy")
    if numpy is None:
        return ""
    folder = os.path.dirname(os.path.dirname(numpy.origin or "")) or "."
    matches = [re.match(r"numpy-(\d[\w.]*?)(-py[\d.]+)?\.(dist|egg)-info$", name) for name in os.listdir(folder)]
    versions = [match.group(1) for match in matches if match]
    try:
        return versions[0] if len(versions) == 1 else str(__import__("numpy").__version__)
    except Exception as error:  # noqa: BLE001 - a broken package may raise anything
        return f"cannot be imported: {error}"


def flags_of(package: str) -> List[str]:
    """The flags by which the generations of ais_bench differ, as far as its sources contain them."""
    words = set()
    for folder, subfolders, names in os.walk(package):
        subfolders[:] = [name for name in subfolders if folder != package or name == "infer"]
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as stream:
                    text = stream.read()
                words |= {word for word in ("divide_input", "output_dirname") if word.encode() in text}
    return sorted(words)


def main() -> None:
    # Not this folder: its ais_bench.py would be taken for the installed one.
    this_folder = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != this_folder]
    ais_bench = spec("ais_bench")
    places = list(ais_bench.submodule_search_locations or ()) if ais_bench else []
    forms = ("infer", "infer.py")
    infer = [place for place in places if any(os.path.exists(os.path.join(place, form)) for form in forms)]
    report: Dict[str, Any] = {
        "python": sys.version_info[:3],
        "numpy": numpy_version(),
        "missing": [name for name in sys.argv[1:] if not spec(name)],
        "ais_bench": "yes" if infer else "other" if ais_bench else "",
        "shadowed": bool(infer) and any(os.path.isdir(os.path.join(place, "benchmark")) for place in places),
        "flags": flags_of(infer[0]) if infer else [],
        "aclruntime": bool(spec("aclruntime")),
    }
    print("\n@" + json.dumps(report))


if __name__ == "__main__":
    main()
