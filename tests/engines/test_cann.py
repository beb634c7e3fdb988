"""The environment of CANN's tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import TREE
from engines.ascend import _cann


@pytest.mark.parametrize("compiler", [True, False])
def test_the_projects_venv_is_not_on_the_path_of_canns_tools(
    compiler: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take python3 from PATH. It must not be that of .venv, which a user may have activated."""
    monkeypatch.setenv("PATH", f"{TREE / '.venv/bin'}:{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(_cann, "set_env_files", lambda: [])
    folders = _cann.environment(compiler)["PATH"].split(":")
    assert str(TREE / ".venv/bin") not in folders
    assert folders[0] == str(tmp_path)
