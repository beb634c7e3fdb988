"""What CANN's interpreter has, as one line of JSON after an @; run by that interpreter, Python 3.7 and newer.

Imports nothing of others, but a numpy whose version is not written beside it. The arguments are modules to look for.
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
    """Of the module `name`, or None where it is not to be had."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None


def numpy_version() -> str:
    """By the name of what pip wrote beside numpy, else by importing it; empty where there is none."""
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


def words_of(place: str) -> List[str]:
    """The flags, of those that tell ais_bench's generations apart, that the sources of ais_bench.infer name."""
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
    ais_bench = spec("ais_bench")
    places = list(ais_bench.submodule_search_locations or ()) if ais_bench else []
    forms = ("infer", "infer.py")
    infer = [place for place in places if any(os.path.exists(os.path.join(place, form)) for form in forms)]
    found: Dict[str, Any] = {
        "python": sys.version_info[:3],
        "numpy": numpy_version(),
        "missing": [name for name in sys.argv[1:] if not spec(name)],
        "ais_bench": "yes" if infer else "other" if ais_bench else "",
        "both": bool(infer) and any(os.path.isdir(os.path.join(place, "benchmark")) for place in places),
        "words": words_of(infer[0]) if infer else [],
        "aclruntime": bool(spec("aclruntime")),
    }
    print("\n@" + json.dumps(found))


if __name__ == "__main__":
    main()
