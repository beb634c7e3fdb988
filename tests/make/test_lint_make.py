"""The linter of make files finds each fault, and the make files of the project have none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SCRIPTS, TREE

LINT = SCRIPTS / "make/lint_make.py"
GOOD = """# A make file without faults.
bare := all
words := one two
.PHONY: $(bare)
all: $(words) ## everything
\techo $(words) $@
"""


def lint(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    path.write_text(text)
    return subprocess.run([sys.executable, LINT, path], capture_output=True, text=True)


def test_the_projects_make_files_have_no_faults() -> None:
    files = [TREE / "Makefile", *(SCRIPTS / "make").glob("*.mk")]
    done = subprocess.run([sys.executable, LINT, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_good_file_passes(tmp_path: Path) -> None:
    done = lint(tmp_path / "Makefile", GOOD)
    assert (done.returncode, done.stdout) == (0, "make files: 1 checked, no faults\n")


@pytest.mark.parametrize(
    ("added", "line", "words"),
    [
        ("long := " + "x" * 120, 7, "128 columns"),
        ("words += three ", 7, "white space at the end"),
        ("q := 1", 7, "variable q is a single letter"),
        ("a = $(if $(words),$(if $(bare),1))", 7, "variable a is a single letter"),
        ("deep = $(if $(words),$(if $(bare),1))", 7, "$(if inside $(if"),
        ("more: ## more\n\techo", 7, "target more is not .PHONY"),
        ("some = $(undefined_one)", 7, "variable undefined_one is not defined"),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path: Path, added: str, line: int, words: str) -> None:
    done = lint(tmp_path / "Makefile", f"{GOOD}{added}\n")
    assert done.returncode == 1
    assert any(text.startswith(f"{tmp_path}/Makefile:{line}: ") and words in text for text in done.stdout.splitlines())


def test_a_target_without_a_text_for_the_help_page_is_named(tmp_path: Path) -> None:
    done = lint(tmp_path / "Makefile", GOOD.replace(" ## everything", ""))
    assert "target all has no ## text" in done.stdout


def test_a_comment_above_allows_a_nested_condition_and_a_text_a_letter(tmp_path: Path) -> None:
    more = "# Why it is so.\ndeep = $(if $(words),$(if $(bare),1))\nV ?=## 1: show the commands\n"
    assert lint(tmp_path / "Makefile", GOOD + more).returncode == 0
