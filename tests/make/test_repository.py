"""What people expect of a repository: a licence, LF line ends in every clone, folders that explain themselves."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from conftest import TREE, Project, run

WORKFLOWS = sorted((TREE / ".github/workflows").iterdir())
FOLDERS = ("data", "models", "results")
DEBIAN = Path("/usr/share/common-licenses/Apache-2.0")


def test_the_licence_is_the_standard_text_and_pyproject_names_it() -> None:
    text = (TREE / "LICENSE").read_text("utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert not DEBIAN.exists() or text == DEBIAN.read_text("utf-8")
    assert '\nlicense = "Apache-2.0"\n' in (TREE / "pyproject.toml").read_text("utf-8")


@pytest.mark.skipif(not (TREE / ".git").exists() or not shutil.which("git"), reason="not a git checkout")
def test_a_clone_that_converts_line_ends_keeps_lf(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    done = run("git", "-c", "core.autocrlf=true", "clone", "-q", TREE, clone)
    assert done.returncode == 0, done.stderr
    for path in [clone / "Makefile", clone / "params.yaml", clone / ".ci/run", *clone.glob("scripts/**/*.sh")]:
        assert b"\r" not in path.read_bytes(), path
    for name in FOLDERS:
        assert [path.name for path in (clone / name).iterdir()] == ["README.md"]


@pytest.mark.parametrize("target", ["clean", "distclean"])
def test_clean_keeps_the_pages_of_folders_and_removes_what_make_built(fresh: Project, target: str) -> None:
    pages = [fresh.tree / name / "README.md" for name in FOLDERS]
    names = ("results/cpu/bs1/accuracy.txt", "results/report.html", "data/bin/image_0.bin")
    built = [fresh.tree / name for name in names]
    for path in [*pages, *built, fresh.tree / ".make/locks/data__labels.txt"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    fresh.make(target, "ROOT=.")
    assert all(path.exists() for path in pages)
    assert not any(path.exists() for path in built)
    assert [path.name for path in (fresh.tree / "results").iterdir()] == ["README.md"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.name for path in WORKFLOWS])
def test_a_workflow_may_only_read_ends_in_time_and_uses_actions_by_commit(path: Path) -> None:
    text = path.read_text("utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert 0 < job["timeout-minutes"] <= 180
    used = re.findall(r"\buses: *(.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
