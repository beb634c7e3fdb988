"""Which build of torch pip would install, found by asking pip. Shapes no bytes; Python 3.7, standard library only.

For Linux the plain build of Python's package index needs GPU packages that nothing here uses. The CPU build has the
same version with "+cpu" appended, which a pin without it matches as well. requirements.txt has the digests of both.
"""

from __future__ import annotations

from _support import process, web

import ast
import contextlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE = ("--timeout", "5", "--retries", "0")  # a machine that cannot reach CPU_INDEX waits this many seconds
SOURCES = ("global", "install", ":env:")  # of pip's settings, in the order of its configuration page: the last one wins


class Build(NamedTuple):
    """A build of torch: its version, where it comes from, and pip install's options for that."""

    version: str
    source: str
    options: List[str]
    warning: str = ""


def pinned_version(requirements: str) -> str:
    """The version in the line `torch==…`; empty if that line is missing or names a local version such as +cu130."""
    match = re.search(r"^torch *== *([\w.]+) *(?:[;#\\]|--hash|$)", requirements, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def pip_environment() -> Dict[str, str]:
    """This environment, in which pip prints what is parsed here, and honours SSL_CERT_FILE as downloads do."""
    environment = {**os.environ, "PIP_QUIET": "", "PIP_VERBOSE": "", "PYTHONUNBUFFERED": "1"}
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and not any(os.environ.get(name) for name in web.CA_BUNDLES[1:]):  # those that pip knows
        environment["REQUESTS_CA_BUNDLE"] = bundle
    return environment


def pip_settings(python: str) -> Dict[str, str]:
    """{option: text} of pip's configuration files and variables, as pip install sees them; empty if pip fails."""
    status, text = process.ask_program([python, "-m", "pip", "config", "list"], pip_environment(), limit=60)
    lines = [] if status else re.findall(r"^(global|install|:env:)\.([\w-]+)=(.*)$", text, re.MULTILINE)
    settings = {}
    for _, name, value in sorted(lines, key=lambda line: SOURCES.index(line[0])):
        with contextlib.suppress(ValueError, SyntaxError):
            settings.update({name: str(ast.literal_eval(value))} if ast.literal_eval(value) else {})
    return settings


def available_versions(python: str, *options: str) -> List[str]:
    """The versions of torch that pip finds for this interpreter; empty if it finds none, or fails."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "index", "versions", "torch", "--no-input", *options]
    status, text = process.ask_program(command, pip_environment(), limit=120)
    match = re.search(r"^Available versions: (.*)$", text, re.MULTILINE)
    return match[1].split(", ") if match and status == 0 else []


def versions_in_folders(settings: Dict[str, str]) -> List[str]:
    """The versions of torch in pip's folders of wheels, by their names alone, whatever Python they are for."""
    folders = [re.sub("^file://", "", word) for word in settings.get("find-links", "").split()]
    wheels = [path for folder in folders if os.path.isdir(folder) for path in Path(folder).glob("torch-*.whl")]
    return [path.name.split("-")[1] for path in wheels]


def is_reachable(index: str) -> bool:
    """Whether an index has a page of torch, asked without pip."""
    try:
        web.open_url(f"{index}/torch/", 0).close()
        return True
    except (web.RetryableError, web.PermanentError):
        return False


def is_set(settings: Dict[str, str], option: str) -> bool:
    return settings.get(option, "0").lower() not in ("0", "n", "no", "f", "false", "off")


def choose_build(pin: str, settings: Dict[str, str], versions: Callable[..., List[str]], cpu_index: str) -> Build:
    """The build of torch to install for the pinned version.

    `versions`: available_versions of an interpreter. It looks for the CPU build in what pip's own configuration names,
    then in `cpu_index`, unless pip may use no index.
    """
    cpu = f"{pin}+cpu"
    if sys.platform != "linux":
        return Build(pin, "the only build for this system", [])
    if cpu in versions("--retries", "1"):
        return Build(cpu, "offered by pip's configuration", [])
    if is_set(settings, "no-index"):
        return Build(pin, "in the build that pip's folders of wheels contain", [])
    if cpu in versions("--index-url", cpu_index, *PROBE):
        return Build(cpu, f"from {web.host(cpu_index)}", ["--extra-index-url", cpu_index])
    size = " (about 2.7 GB to download)" if platform.machine() == "x86_64" else ""
    problem = f"no CPU build of torch {pin} in pip's configuration or at {web.host(cpu_index)}"
    remedy = "to avoid it, name an index or a folder that has it by pip's own variables (docs/install.md)"
    return Build(pin, f"the plain build{size}", [], f"{problem}: the plain build is installed{size}; {remedy}")
