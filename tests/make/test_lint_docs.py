"""The lint of the documentation: each rule finds its fault, and the project's own pages have none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SCRIPTS, TREE

LINT = SCRIPTS / "make/lint_docs.py"
PAGE = """\
# A page

See [the guide](docs/guide.md#second-part-of-2) and [below](#usage).

## Usage

```sh
make demo  # a comment
```
"""
GUIDE = "# Guide\n\n## Second part, of `2`\n\nOne sentence. Another sentence here.\n"


def lint(tree: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """Runs the lint on a small tree; `changed` has other texts of its files."""
    texts = {"README.md": PAGE, "README.zh-CN.md": PAGE.replace("# a comment", "# 注释"), "docs/guide.md": GUIDE}
    texts.update(
        {"docs/zh/guide.md": GUIDE, "scripts/stage.py": "# See docs/guide.md#guide.\n", "params.yaml": "a: 1\n"}
    )
    for name, text in {**texts, **changed}.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return subprocess.run([sys.executable, LINT], cwd=tree, capture_output=True, text=True)


def test_the_projects_pages_have_no_faults() -> None:
    done = subprocess.run([sys.executable, LINT], cwd=TREE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_links_in_code_and_encoded_anchors_are_no_faults(tmp_path: Path) -> None:
    page = PAGE + "`[a](gone.md)`\n\n## 中文 ##\n\n[b](#%E4%B8%AD%E6%96%87)\n"
    done = lint(tmp_path, **{"README.md": page, "README.zh-CN.md": page})
    assert (done.returncode, done.stderr) == (0, "")


def test_good_pages_pass_and_the_length_of_their_sentences_is_printed(tmp_path: Path) -> None:
    done = lint(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "docs/guide.md: 2 words a sentence" in done.stdout


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("README.md", PAGE.replace("guide.md", "gone.md"), "README.md: docs/gone.md#second-part-of-2: no such file"),
        ("README.md", PAGE.replace("#usage", "#use"), "README.md: #use: no such heading"),
        ("scripts/stage.py", "# docs/guide.md#gone\n", "scripts/stage.py: docs/guide.md#gone: no such heading"),
        ("README.md", PAGE + '[a](gone.md "title")\n', "README.md: gone.md: no such file"),
        ("README.md", PAGE + "[a][b]\n\n[b]: gone.md\n", "README.md: gone.md: no such file"),
        ("README.md", PAGE + "[a](../outside.md)\n", "README.md: ../outside.md: no such file"),
        ("README.md", PAGE + "[a](docs#x)\n", "README.md: docs#x: no such heading"),
        ("scripts/stage.py", "# Built Anew\n", "scripts/stage.py:1: 'Anew'"),
        ("docs/zh/other.md", "# Other\n", "docs/zh/other.md: has no English page docs/other.md"),
        ("docs/zh/guide.md", GUIDE + "1. a\n\n   ```sh\n   make\n   ```\n", "docs/zh/guide.md: 1 code blocks"),
        ("tests/test_a.py", "# docs/gone.md\n", "tests/test_a.py: docs/gone.md: no such file"),
        ("scripts/stage.py", "# where it is had\n", "scripts/stage.py:1: 'is had'"),
        ("params.yaml", "a: 1  # built anew\n", "params.yaml:1: 'anew'"),
        ("docs/guide.md", GUIDE + "\nOne. It lies beside the model.\n", "docs/guide.md:7: 'lies beside'"),
        ("docs/zh/guide.md", GUIDE + "\n## More\n", "docs/zh/guide.md: 3 headings, docs/guide.md has 2"),
        ("README.zh-CN.md", PAGE.replace("demo", "help"), "README.zh-CN.md: code block 1 is not that of README.md"),
        ("README.zh-CN.md", PAGE.replace("```", ""), "README.zh-CN.md: 0 code blocks, README.md has 1"),
    ],
)
def test_each_fault_is_named_with_its_place(tmp_path: Path, name: str, text: str, fault: str) -> None:
    done = lint(tmp_path, **{name: text})
    assert done.returncode == 1
    assert any(line.startswith(fault) for line in done.stderr.splitlines()), done.stderr
