"""Finds CANN on this machine and sets up its environment (docs/ascend-tools.md#set-env).

Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import process
from _support.cli import SCRIPTS, die

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Dict, List

FOLDERS = ("ascend-toolkit", "cann", "nnae", "nnrt")  # CANN up to 8.3, from 8.5, and two runtimes without a compiler
DRIVER = "/usr/local/Ascend/driver"
VENV = (SCRIPTS.parent / ".venv" / "bin").resolve()


def set_env_files() -> List[Path]:
    """The set_env.sh files, the one to use first: that of SET_ENV, otherwise all in the usual places."""
    if os.environ.get("SET_ENV"):
        path = Path(os.environ["SET_ENV"])
        return [path / "set_env.sh" if path.is_dir() else path]
    homes = ("/usr/local/Ascend", os.path.expanduser("~/Ascend"))  # without HOME the ~ stays, and no file matches
    usual = [Path(home, folder, "set_env.sh") for home in homes for folder in FOLDERS]
    return [path for path in usual if os.path.isfile(str(path))]


def environment(compiler: bool, limit: float = 60) -> Dict[str, str]:
    """Returns this process's environment with CANN set up in it.

    If CANN is set up already, set_env.sh is not sourced: atc is on PATH, or (not for the `compiler`) a variable names
    CANN's folder. Otherwise, and always if SET_ENV is given, bash sources set_env.sh. The project's .venv, which a user
    may have activated, is removed from PATH: CANN's tools take python3 from there and need numpy < 2. For the compiler
    on a host without a driver, the toolkit's stub of the driver's library is added to LD_LIBRARY_PATH. Exits 1 if
    SET_ENV does not name a file, or if set_env.sh does not set up CANN within `limit` s.
    """
    variables = {k: v for k, v in os.environ.items() if k not in ("DEPS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    variables.setdefault("PATH", os.defpath)
    for name in [name for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in variables]:
        folders = [
            os.path.abspath(d) if d else d for d in variables[name].split(":")
        ]  # the tools run in another folder
        variables[name] = ":".join(d for d in folders if not d or Path(d).resolve() != VENV)
    files = set_env_files()
    is_set_up = shutil.which("atc", path=variables["PATH"]) or (toolkit(variables) and not compiler)
    if os.environ.get("SET_ENV") or (files and not is_set_up):
        variables = source_file(files[0], variables, limit, compiler)
    home = toolkit(variables)
    if compiler and home and not os.path.isdir(DRIVER):
        arch = platform.machine()
        stubs = [home / f"{arch}-linux/devlib", home / f"{arch}-linux/devlib/linux/{arch}"]
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


def version(variables: Dict[str, str]) -> str:
    """CANN's version, from the file that its installer writes; "unknown" if that file is missing."""
    home = toolkit(variables)
    names = [f"{platform.machine()}-linux/ascend_toolkit_install.info", "ascend_nnrt_install.info"]
    names += [f"{platform.machine()}-linux/ascend_nnrt_install.info", "ascend_nnae_install.info"]
    for path in [home / name for name in (*names, "compiler/version.info", "runtime/version.info")] if home else []:
        if path.is_file():
            line = re.search(r"^version=(\S+)", path.read_text("utf-8", "replace"), re.IGNORECASE | re.MULTILINE)
            if line:
                return line.group(1)
    return "unknown"


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
