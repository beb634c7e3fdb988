"""Checks the copies of settings and scripts in ROOT/.make, from which make decides what is stale. Python 3.7."""

from __future__ import annotations

from _support.cli import SCRIPTS, die

from pathlib import Path
from typing import Dict

from params.chips import chips_of, derived
from params.makefile import PINS, check_links, is_complete
from params.read import read_params


def expected_copies(params_file: Path) -> Dict[str, bytes | None]:
    """What sync_inputs.py writes for the present settings and scripts: {name below .make: bytes}."""
    params = read_params(params_file)
    params.update(derived(chips_of(params_file, params, SCRIPTS / "engines"), params))
    copies: Dict[str, bytes | None] = {f"params/{key}": text.encode() + b"\n" for key, text in params.items()}
    copies[PINS] = (SCRIPTS.parent / PINS).read_bytes()
    return copies


def expected_scripts(state: Path) -> Dict[str, bytes | None]:
    """What must be in place of each copy in .make/scripts: {name below .make: bytes, or None without such a script}.

    A folder counts if it is in place of a script. Others stay when a version has no such folder any more.
    """
    copies: Dict[str, bytes | None] = {}
    for path in (state / "scripts").rglob("*"):
        name = path.relative_to(state).as_posix()
        source = SCRIPTS.parent / name
        if source.is_file() or not path.is_dir():
            copies[name] = source.read_bytes() if source.is_file() else None
    return copies


def check_state(root: Path, params_file: Path) -> None:
    """Exits 1 if something in ROOT/.make differs from what the present settings and scripts give.

    make brings the folder up to date before this command runs, so a difference is damage.
    """
    state = root / ".make"
    check_links(state)
    expected = expected_copies(params_file)
    expected.update(expected_scripts(state))
    for name, data in expected.items():
        path = state / name
        if not path.is_file() or path.read_bytes() != data:
            die(path, "differs from the setting or script of which it is a copy", f"type: rm -r {state}")
    if not is_complete(state / "inputs.mk"):
        die(state / "inputs.mk", "damaged: it has not the digest in its last line", f"type: rm -r {state}")
