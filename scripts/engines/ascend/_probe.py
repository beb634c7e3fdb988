"""Prints what a Python interpreter has for CANN's tools, as one line of JSON after an @; run by that interpreter.

The arguments are modules to look for. Imports only the standard library, and numpy if no metadata tells its version.
Python 3.7.
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
    """numpy's version: from the name of its metadata folder, or else by importing it; empty if it is not installed."""
    numpy = spec("numpy")
    if numpy is None:
        return ""
    beside = os.path.dirname(os.path.dirname(numpy.origin or "")) or "."
    found = [re.match(r"numpy-(\d[\w.]*?)(-py[\d.]+)?\.(dist|egg)-info$", name) for name in os.listdir(beside)]
    versions = [match.group(1) for match in found if match]
    try:
        return versions[0] if len(versions) == 1 else str(__import__("numpy").__version__)
    except Exception as error:  # noqa: BLE001 - a broken package raises what it likes
        return f"cannot be imported: {error}"


def flags_of(place: str) -> List[str]:
    """Those flags in the sources of ais_bench.infer that differ between its generations."""
    words = set()
    for folder, below, names in os.walk(place):
        below[:] = [name for name in below if folder != place or name == "infer"]
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as stream:
                    text = stream.read()
                words |= {word for word in ("divide_input", "output_dirname") if word.encode() in text}
    return sorted(words)


def main() -> None:
    here = os.path.dirname(os.path.realpath(__file__))  # its modules are not the interpreter's, ais_bench.py among them
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != here]
    ais_bench = spec("ais_bench")
    places = list(ais_bench.submodule_search_locations or ()) if ais_bench else []
    forms = ("infer", "infer.py")
    infer = [place for place in places if any(os.path.exists(os.path.join(place, form)) for form in forms)]
    found: Dict[str, Any] = {
        "python": sys.version_info[:3],
        "numpy": numpy_version(),
        "missing": [name for name in sys.argv[1:] if not spec(name)],
        "ais_bench": "yes" if infer else "other" if ais_bench else "",
        "shadowed": bool(infer) and any(os.path.isdir(os.path.join(place, "benchmark")) for place in places),
        "flags": flags_of(infer[0]) if infer else [],
        "aclruntime": bool(spec("aclruntime")),
    }
    print("\n@" + json.dumps(found))


if __name__ == "__main__":
    main()
