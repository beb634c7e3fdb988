"""When, where and by which version of this project a result was computed. In no cache key. Python 3.7."""

from __future__ import annotations

from _support import environment, process
from _support.artifact import Record, digest
from _support.cli import SCRIPTS
from _support.machine import cpu_name

import contextlib
import os
import platform
import re
import time
from pathlib import Path

GIT_LIMIT = 5  # s
STARTED = time.time()  # when this process imported the module, at its start


def project_version(tree: Path) -> Record:
    """{version} of pyproject.toml; empty if the file is missing. (tomllib is in Python since 3.11.)"""
    try:
        text = (tree / "pyproject.toml").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    match = re.search(r'^version *= *"([^"]+)"', text, re.MULTILINE)
    return {"version": match.group(1)} if match else {}


def git_state(tree: Path) -> Record:
    """{commit, clean} of the project's folder; empty without git, or if its Makefile is not part of a commit.

    The second condition excludes a copy of this project inside another repository. `clean`: no tracked file differs
    from the commit.
    """
    # Hooks of git set GIT_DIR and others. Without optional locks, several makes at once do not disturb each other.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    git = ["git", "--no-optional-locks", "-C", str(tree)]
    status, text = process.ask_program([*git, "rev-parse", "HEAD", "HEAD:./Makefile"], environment, GIT_LIMIT)
    match = re.search("^([0-9a-f]{40}|[0-9a-f]{64})$", text, re.MULTILINE)  # lines of warnings may come first
    if status or not match:
        return {}
    status, changes = process.ask_program(
        [*git, "status", "--porcelain", "--untracked-files=no"], environment, GIT_LIMIT
    )
    is_changed = re.search("^[ MTADRCU]{2} ", changes, re.MULTILINE) is not None
    return {"commit": match.group(1), **({} if status else {"clean": not is_changed})}


def versions_of(pins: Path) -> Record:
    """{name: version} of the packages that a requirements.txt names and that are installed."""
    found: Record = {}
    with contextlib.suppress(ImportError, OSError, UnicodeDecodeError):
        from importlib import metadata  # since Python 3.8

        for name in dict.fromkeys(re.findall(r"^([\w.-]+)==", pins.read_text("utf-8"), re.MULTILINE)):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name.lower()] = metadata.version(name)
    return found


def machine_facts(tree: Path = SCRIPTS.parent) -> Record:
    """The machine and the software of this process: names of host and CPU, versions of Python and of the packages of
    requirements.txt, and what acts before a command starts (see environment.py), if there is something."""
    facts: Record = {"host_name": platform.node(), "cpu": cpu_name(), "python": platform.python_version()}
    facts["packages"] = versions_of(tree / "requirements.txt")
    at_start = environment.at_start()
    return {**facts, **({"at_start": at_start} if at_start else {})}


def run_facts(tree: Path = SCRIPTS.parent) -> Record:
    """The start and the date (UTC, ISO 8601), machine_facts(); the project's version and commit and the digest of its
    requirements.txt, if they are known."""
    started, date = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) for seconds in (STARTED, time.time()))
    pins = tree / "requirements.txt"
    requirements = {"requirements": digest(pins)} if pins.is_file() else {}
    facts = {**machine_facts(tree), **project_version(tree), **git_state(tree)}
    return {"date": date, "started": started, **facts, **requirements}
