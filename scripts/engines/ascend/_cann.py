"""Finds CANN on this machine and sets up its environment (docs/ascend-tools.md#set-env).

Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import process
from _support.cli import SCRIPTS, die

import contextlib
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

from engines.ascend import _versions

DRIVER = "/usr/local/Ascend/driver"
VENV = (SCRIPTS.parent / ".venv" / "bin").resolve()
ARCH = f"{platform.machine()}-linux"
RUNTIMES = ("nnae", "nnrt")  # without a compiler
CANN = re.compile(r"cann(-.*)?")  # the folders from CANN 8.5 on; before it was ascend-toolkit


class Installation(NamedTuple):
    """A CANN on this host."""

    set_env: Path
    home: str  # its folder, without symbolic links
    version: str  # "unknown" if no file has it


def path_without_venv(value: str) -> str:
    """A list of folders as in PATH, absolute because the tools run in another folder, without the project's .venv."""
    folders = [os.path.abspath(folder) if folder else folder for folder in value.split(":")]
    return ":".join(folder for folder in folders if not folder or Path(folder).resolve() != VENV)


def usual_folders() -> Iterator[Path]:
    """The folders in which CANN may be installed, the newer kinds first."""
    homes = [Path("/usr/local/Ascend"), Path(os.path.expanduser("~/Ascend"))]  # without HOME the ~ stays
    python = shutil.which("python3", path=path_without_venv(os.environ.get("PATH", os.defpath)))
    prefixes = [Path(path).parent.parent for path in (python, os.path.realpath(python))] if python else []
    homes += [prefix / "Ascend" for prefix in prefixes]  # by conda
    for kind in ("cann", "cann-*", "ascend-toolkit", *RUNTIMES):
        yield from (path for home in homes for path in sorted(home.glob(kind)))
    local = Path(os.path.expanduser("~/.local"))
    for prefix in (*prefixes, local):  # by pip
        yield from sorted(prefix.glob("lib/python3*/*-packages/ascend/cann-*"))


def installations() -> List[Installation]:
    """The CANN installations in the usual places, the newest first; those without a compiler come last.

    An installation that has several names, as ascend-toolkit in the images of CANN 9.1, is listed once.
    """
    found: Dict[str, Installation] = {}
    for folder in usual_folders():
        if (folder / "set_env.sh").is_file():
            path = folder / "latest" if (folder / "latest").is_dir() else folder
            home = os.path.realpath(str(path))
            found.setdefault(home, Installation(folder / "set_env.sh", home, label(path)))

    def rank(one: Installation) -> Tuple[bool, Tuple[int, ...], object]:
        folder, version = one.set_env.parent.name, _versions.parse(one.version)
        least = (8, 5) if CANN.fullmatch(folder) else (0, 0)
        return folder not in RUNTIMES, max(version[0] if version else (), least), version[1] if version else ()

    return sorted(found.values(), key=rank, reverse=True)


def set_env_file() -> Path | None:
    """The set_env.sh to use: that of SET_ENV, otherwise that of the newest CANN in the usual places."""
    if os.environ.get("SET_ENV"):
        path = Path(os.environ["SET_ENV"])
        return path / "set_env.sh" if path.is_dir() else path
    return next((one.set_env for one in installations()), None)


def file_to_source(variables: Dict[str, str], compiler: bool) -> Path | None:
    """The set_env.sh that sets up CANN in an environment; None if it is set up already, or if there is no file."""
    atc = shutil.which("atc", path=path_without_venv(variables.get("PATH", os.defpath)))
    is_set_up = atc or (toolkit(variables) and not compiler)
    return set_env_file() if os.environ.get("SET_ENV") or not is_set_up else None


def others(variables: Dict[str, str]) -> str:
    """The installations beside the one that an environment names, for a message; empty if there are none."""
    used = os.path.realpath(str(toolkit(variables) or ""))
    return ", ".join(f"{one.version} ({one.set_env})" for one in installations() if one.home != used)


def environment(compiler: bool, limit: float = 60) -> Dict[str, str]:
    """Returns this process's environment with CANN set up in it.

    If CANN is set up already, set_env.sh is not sourced: atc is on PATH, or (not for the `compiler`) a variable names
    CANN's folder. Otherwise, and always if SET_ENV is given, bash sources set_env.sh. The project's .venv, which a user
    may have activated, is removed from PATH, from which CANN's tools take python3. For the compiler on a host without a
    driver, the toolkit's stub of the driver's library is added to LD_LIBRARY_PATH. Exits 1 if SET_ENV does not name a
    file, or if set_env.sh does not set up CANN within `limit` s.
    """
    variables = {k: v for k, v in os.environ.items() if k not in ("DEPS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    variables.setdefault("PATH", os.defpath)
    for name in [name for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in variables]:
        variables[name] = path_without_venv(variables[name])
    file = file_to_source(variables, compiler)
    if file:
        variables = source_file(file, variables, limit, compiler)
    home = toolkit(variables)
    if compiler and home and not os.path.isdir(DRIVER):
        stubs = [home / ARCH / "devlib", home / ARCH / "devlib/linux" / platform.machine()]
        libraries = [*variables.get("LD_LIBRARY_PATH", "").split(":"), *(str(s) for s in stubs if s.is_dir())]
        variables["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    return variables


def source_file(path: Path, before: Dict[str, str], limit: float, compiler: bool) -> Dict[str, str]:
    """Returns the environment `before` as it is after bash has sourced a set_env.sh.

    Exits 1 if CANN is not set up in it then and (not for the `compiler`) the file's status is not 0. The status alone
    does not prove a failure: the file may end with a test.
    """
    if not path.is_file():
        die(f"SET_ENV={path}", "no such file", "set it to the path of CANN's set_env.sh")
    # env -0: values may have several lines. Not `set -u`: set_env.sh reads unset variables.
    script = 'file=$1; set --; source "$file" > /dev/null; printf "\\0%s\\0" $?; env -0'
    status, text = process.ask_program(
        ["bash", "--noprofile", "--norc", "-c", script, "bash", str(path.resolve())], before, limit
    )
    printed, *rest = text.split("\0")
    words, remedy = " ".join(printed.split())[-200:], "correct it, or set SET_ENV= to another set_env.sh"
    if status or len(rest) < 2:
        die(path, f"cannot be sourced (status {status}): {words or 'it ends the shell'}", remedy)
    pairs = (entry.split("=", 1) for entry in rest[1:] if "=" in entry)
    after = {name: value for name, value in pairs if name not in ("_", "SHLVL")}
    if not toolkit(after) and not shutil.which("atc", path=after.get("PATH")) and (compiler or rest[0] != "0"):
        die(path, f"does not set up CANN (status {rest[0]}): {words or 'it prints nothing'}", remedy)
    return after


def toolkit(variables: Dict[str, str]) -> Path | None:
    """The folder of CANN that an environment names, or None."""
    home = variables.get("ASCEND_TOOLKIT_HOME") or variables.get("ASCEND_HOME_PATH")
    return Path(home) if home else None


def version_in(path: Path) -> str:
    """The version in a file that CANN's installer writes; empty if the file or the line is missing."""
    with contextlib.suppress(OSError):
        line = re.search(r"^version=(\S+)", path.read_text("utf-8", "replace"), re.IGNORECASE | re.MULTILINE)
        return line.group(1) if line else ""
    return ""


def version_in_cfg(path: Path) -> str:
    """The version of CANN in a version.cfg, a line such as toolkit_running_version=[7.6.0.1.220:8.0.0]; or empty."""
    with contextlib.suppress(OSError):
        text = path.read_text("utf-8", "replace")
        found = dict(re.findall(r"^(\w+)_running_version=\[[^:\]]*:([^\]]+)\]", text, re.MULTILINE))
        versions = [found.get(name, "") for name in ("toolkit", "compiler", "runtime")]
        return next((version for version in versions if _versions.parse(version)), "")
    return ""


def label(home: Path) -> str:
    """The version of the CANN installed in `home`, from the files of its packages or from the folder's name.

    A component's version is not taken for it: 7.6.0.1.220 is a component of CANN 8.0.0.
    """
    names = [f"{ARCH}/ascend_toolkit_install.info", "ascend_nnrt_install.info", f"{ARCH}/ascend_nnrt_install.info"]
    names += ["ascend_nnae_install.info", f"{ARCH}/ascend_nnae_install.info"]
    texts = [version_in(home / name) for name in names] + [version_in_cfg(home / "version.cfg")]
    name = re.fullmatch(r"(?:cann-)?(\d+\.\d+.*)", os.path.basename(os.path.realpath(str(home))))
    texts += [name.group(1) if name else ""]
    return next((text for text in texts if _versions.parse(text) and not _versions.is_component(text)), "unknown")


def version(variables: Dict[str, str], component: str) -> str:
    """CANN's version as far as it concerns a component: "compiler" for atc, "runtime" for running.

    It may be older than the label of the whole. "unknown" if no file has that label.
    """
    home = toolkit(variables)
    if not home:
        return "unknown"
    whole, part = label(home), version_in(home / component / "version.info")
    is_comparable = whole != "unknown" and _versions.minor(part) >= _versions.COMPONENTS_LIKE_CANN
    return part if is_comparable and _versions.minor(part) != _versions.minor(whole) else whole


def ops_package(home: Path) -> str:
    """Name and version of the installed package of operators; empty if its installer left no record."""
    info = home / ARCH / "ascend_ops_install.info"
    with contextlib.suppress(OSError):
        name = re.search(r"^package_name=(\S+)", info.read_text("utf-8", "replace"), re.MULTILINE)
        return " ".join(filter(None, (name.group(1) if name else "", version_in(info)))) or "installed"
    return ""


def unsupported_characters(path: Path) -> str:
    """The characters of the real path that CANN's tools reject, quoted, for a message; empty if all are accepted.

    docs/ascend-tools.md#atc-flags and docs/ascend-tools.md#ais-bench-paths.
    """
    return " ".join(map(repr, sorted(set(re.sub(r"[\w./-]", "", str(path.resolve()), flags=re.ASCII)))))


def check_path(path: Path) -> None:
    """Exits 1 if the real path contains a character that CANN's tools reject."""
    characters = unsupported_characters(path)
    if characters:
        problem = f"its path contains {characters}, which CANN's tools reject"
        die(path.resolve(), problem, "set ROOT= to a path that has only letters, digits and . _ - /")
