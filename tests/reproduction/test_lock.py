"""The lock of the sample: a fresh build with the default settings has the digests of tests/golden/lock.json."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TREE, Project, run, set_setting, shared_once

LOCK = TREE / "tests/golden/lock.json"
SAME = "Sample: same data, checkpoint, graphs and predicted labels as in tests/golden/lock.json"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree in which make demo has run with the default settings; its output is in demo.log."""

    def build(tree: Path) -> None:
        for name in ("Makefile", "params.yaml", "requirements.txt", "scripts", "tests/golden"):
            copy = shutil.copytree if (TREE / name).is_dir() else shutil.copy2
            copy(TREE / name, tree / name)
        done = run("make", "demo", f"PYTHON={sys.executable}", cwd=tree, **Project(tree).locks)
        assert done.returncode == 0, done.stderr
        (tree / "demo.log").write_text(done.stdout)

    return shared_once(tmp_path_factory, "lock", build)


def copied(demo: Path, tree: Path) -> Path:
    assert run("cp", "-a", f"{demo}/.", tree).returncode == 0
    return tree


def lock_sample(tree: Path) -> subprocess.CompletedProcess[str]:
    words = ("--root", "demo", "--accuracy", "demo/results/cpu/bs16/accuracy.txt", "--lock", "tests/golden/lock.json")
    return run(sys.executable, "scripts/lock_sample.py", *words, cwd=tree)


def test_make_demo_has_the_locked_digests_and_make_lock_writes_the_same_file(demo: Path, tmp_path: Path) -> None:
    assert SAME in (demo / "demo.log").read_text().splitlines()
    tree = copied(demo, tmp_path)
    (tree / "tests/golden/lock.json").unlink()
    done = run("make", "lock", f"PYTHON={sys.executable}", cwd=tree, **Project(tree).locks)
    assert done.returncode == 0, done.stderr
    assert (tree / "tests/golden/lock.json").read_bytes() == LOCK.read_bytes()


def test_the_lock_has_an_entry_a_line_in_order() -> None:
    names = [line.split('"')[1] for line in LOCK.read_text().splitlines()[1:-1]]
    assert names == sorted(json.loads(LOCK.read_text()))
    assert not any(name.startswith("int8") or "logits" in name for name in names)  # they differ between CPUs


def test_a_difference_is_named_and_is_no_error(demo: Path, tmp_path: Path) -> None:
    tree = copied(demo, tmp_path)
    lock = tree / "tests/golden/lock.json"
    entries = json.loads(lock.read_text())
    for changed, expected in (
        ({"graph (canonical)": "0", "labels (sha256)": "0"}, "differs from {}: graph (canonical), labels (sha256)"),
        (
            {"setting seed": "7", "bins (sha256)": "0"},
            "not compared with {}, because settings differ: seed 20260601, locked 7",
        ),
    ):
        lock.write_text(json.dumps({**entries, **changed}))
        done = lock_sample(tree)
        assert (done.returncode, done.stdout) == (0, f"Sample: {expected.format('tests/golden/lock.json')}\n")
    lock.write_text("{")
    done = lock_sample(tree)
    assert done.returncode == 0
    assert "missing or damaged" in done.stdout


def test_an_edited_setting_is_named_by_make_demo(fresh: Project) -> None:
    (fresh.tree / "tests/golden").mkdir(parents=True)
    shutil.copy(LOCK, fresh.tree / "tests/golden")
    set_setting(fresh.tree / "params.yaml", "optimize.resize", "none")
    done = fresh.make("demo", ROOT="", CHIP="")
    line = next(line for line in done.stdout.splitlines() if line.startswith("Sample: "))
    assert "settings differ: resize none, locked nearest" in line
    assert done.stdout.index("Full report") < done.stdout.index(line) < done.stdout.index("Next, with the same sample")
