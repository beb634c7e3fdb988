"""Support code of every command: errors, artifacts, child processes, the machine. Python 3.7, standard library only.

Commands import this package first. In a command, modules of scripts/ are then loaded from their source, never from
cached bytecode: Python accepts a cache of another source of the same size and second. Other programs, such as pytest,
keep Python's own loader.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import sys
from typing import Dict

PROJECT = "residual-attention-build"  # in names shared on a host: the lock folder, the User-Agent of downloads
VERSIONS = ("3.14", "3.13", "3.12", "3.11", "3.10")  # of Python that .venv may have: requirements.txt has pins for them
PYTHONS = f"Python {VERSIONS[-1]} to {VERSIONS[0]}"

FOLDER = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # scripts/
SOURCES: Dict[str, str] = {}  # {path of a module: sha256 of its source}, as it was loaded or stated in a cache key


class SourceLoader(importlib.machinery.SourceFileLoader):
    """Loads a module from its source, and notes the digest of the source in SOURCES."""

    def path_stats(self, path: object) -> Dict[str, int]:
        """Raises OSError: then Python neither reads nor writes cached bytecode."""
        raise OSError

    def get_data(self, path: object) -> bytes:
        data = super().get_data(path)  # type: ignore[arg-type]
        sha256 = hashlib.sha256(data).hexdigest()
        if SOURCES.setdefault(os.path.realpath(str(path)), sha256) != sha256:
            from _support import cli

            cli.die(path, "changed while this command waited or ran", "run the same command again")
        return data


def finder_of(folder: str) -> importlib.machinery.FileFinder:
    """A hook of sys.path_hooks for scripts/ and its packages."""
    if os.path.realpath(folder) != FOLDER and not os.path.realpath(folder).startswith(FOLDER + os.sep):
        raise ImportError
    return importlib.machinery.FileFinder(folder, (SourceLoader, [".py"]))


if os.path.realpath(sys.argv[0]).startswith(FOLDER + os.sep):
    sys.path_hooks.insert(0, finder_of)
    sys.path_importer_cache.clear()
