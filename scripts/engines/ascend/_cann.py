"""Where CANN is on this machine, and its environment (contract, section 1.1). Python 3.7, standard library only."""

from __future__ import annotations

from _support import process
from _support.cli import SCRIPTS, die

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Dict, List

TREES = ("ascend-toolkit", "cann", "nnae", "nnrt")  # up to 8.3, from 8.5, and the runtimes without a compiler
DRIVER = "/usr/local/Ascend/driver"
OURS = (SCRIPTS.parent / ".venv" / "bin").resolve()


def set_env_files() -> List[Path]:
    """The set_env.sh files, the one to use first: that of SET_ENV, or else all that exist in the usual places."""
    if os.environ.get("SET_ENV"):
        given = Path(os.environ["SET_ENV"])
        return [given / "set_env.sh" if given.is_dir() else given]
    homes = ("/usr/local/Ascend", os.path.expanduser("~/Ascend"))  # without HOME the ~ stays, and is not found
    usual = [Path(home, tree, "set_env.sh") for home in homes for tree in TREES]
    return [path for path in usual if os.path.isfile(str(path))]


def environment(compiler: bool, limit: float = 60) -> Dict[str, str]:
    """This process's environment with CANN's added.

    It is used as it is if CANN is set up in it: atc is on PATH, or (not for the `compiler`) a variable names CANN's
    folder. Otherwise, and always if SET_ENV is given, bash sources set_env.sh. The project's .venv, which a user may
    have activated, is removed from PATH: CANN's tools take python3 from there and need numpy < 2. For the compiler on a
    host without a driver the toolkit's stub of the driver's library is added. Exits 1 if SET_ENV names no file, or if
    set_env.sh sets up no CANN or takes more than `limit` s.
    """
    found = {k: v for k, v in os.environ.items() if k not in ("DEPS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    found.setdefault("PATH", os.defpath)
    for name in [name for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in found]:
        folders = [os.path.abspath(d) if d else d for d in found[name].split(":")]  # the tools run in another folder
        found[name] = ":".join(d for d in folders if not d or Path(d).resolve() != OURS)
    files = set_env_files()
    there = shutil.which("atc", path=found["PATH"]) or (toolkit(found) and not compiler)
    if os.environ.get("SET_ENV") or (files and not there):
        found = sourced(files[0], found, limit, compiler)
    home = toolkit(found)
    if compiler and home and not os.path.isdir(DRIVER):
        arch = platform.machine()
        stubs = [home / f"{arch}-linux/devlib", home / f"{arch}-linux/devlib/linux/{arch}"]
        libraries = [*found.get("LD_LIBRARY_PATH", "").split(":"), *(str(stub) for stub in stubs if stub.is_dir())]
        found["LD_LIBRARY_PATH"] = ":".join(filter(None, libraries))
    return found


def sourced(path: Path, before: Dict[str, str], limit: float, compiler: bool) -> Dict[str, str]:
    """The environment `before` after bash has sourced a set_env.sh. Exits 1 if it contains no CANN then and (not for
    the `compiler`) the file has failed too. The status alone proves no failure: the file may end with a test."""
    if not path.is_file():
        die(f"SET_ENV={path}", "no such file", "name CANN's set_env.sh")
    # env -0: values may have several lines. Not `set -u`: set_env.sh reads unset variables.
    script = 'file=$1; set --; source "$file" > /dev/null; printf "\\0%s\\0" $?; env -0'
    status, text = process.ask_program(
        ["bash", "--noprofile", "--norc", "-c", script, "bash", str(path.resolve())], before, limit
    )
    said, *rest = text.split("\0")
    words, remedy = " ".join(said.split())[-200:], "mend it, or give SET_ENV= another"
    if status or len(rest) < 2:
        die(path, f"cannot be sourced (status {status}): {words or 'it ends the shell'}", remedy)
    pairs = (entry.split("=", 1) for entry in rest[1:] if "=" in entry)
    found = {name: value for name, value in pairs if name not in ("_", "SHLVL")}
    if not toolkit(found) and not shutil.which("atc", path=found.get("PATH")) and (compiler or rest[0] != "0"):
        die(path, f"sets up no CANN (status {rest[0]}): {words or 'it says nothing'}", remedy)
    return found


def toolkit(found: Dict[str, str]) -> Path | None:
    """The folder of CANN that an environment names, or None."""
    home = found.get("ASCEND_TOOLKIT_HOME") or found.get("ASCEND_HOME_PATH")
    return Path(home) if home else None


def version(found: Dict[str, str]) -> str:
    """CANN's version, from the file that its installer writes; "unknown" if there is none."""
    home = toolkit(found)
    names = [f"{platform.machine()}-linux/ascend_toolkit_install.info", "ascend_nnrt_install.info"]
    names += [f"{platform.machine()}-linux/ascend_nnrt_install.info", "ascend_nnae_install.info"]
    for path in [home / name for name in (*names, "compiler/version.info", "runtime/version.info")] if home else []:
        if path.is_file():
            line = re.search(r"^version=(\S+)", path.read_text("utf-8", "replace"), re.IGNORECASE | re.MULTILINE)
            if line:
                return line.group(1)
    return "unknown"


def odd(path: Path) -> str:
    """The characters of the real path that CANN's tools refuse (contract 1.4 and 2.10), as shown; empty if none."""
    return " ".join(map(repr, sorted(set(re.sub(r"[\w./-]", "", str(path.resolve()), flags=re.ASCII)))))


def must_be_plain(path: Path) -> None:
    """Exits 1 if the real path contains a character that CANN's tools refuse."""
    if odd(path):
        problem = f"its path holds {odd(path)}, which CANN's tools refuse"
        die(path.resolve(), problem, "give a ROOT= whose whole path is of letters, digits and . _ - / alone")
