"""make fuzz: every property test gets N inputs, and a table shows how many were tried."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from conftest import TREE, Project

PROPERTIES = """
from hypothesis import event, given, strategies as st

from fuzzing import examples

@given(st.integers())
def test_usual(number):
    event("accepted" if number % 2 else "refused")

@given(st.integers())
@examples(50)
def test_slow(number):
    pass

@given(st.integers(0, 1 << 20))
def test_fails(number):
    assert number < 1000

def test_other():
    raise OSError
"""


def test_make_fuzz_prints_counts_failing_inputs_and_how_to_repeat_them(fresh: Project) -> None:
    tests = fresh.tree / "tests"
    tests.mkdir()
    for name in ("conftest.py", "fuzzing.py"):
        shutil.copyfile(TREE / "tests" / name, tests / name)
    shutil.copyfile(TREE / "pyproject.toml", fresh.tree / "pyproject.toml")
    (tests / "test_properties.py").write_text(PROPERTIES)
    more = {"ROOT": "", "CHIP": "", "PYTEST_XDIST_WORKER": "", "PYTEST_ADDOPTS": "--numprocesses=1"}
    done = fresh.make("fuzz", "T=tests/test_properties.py", "N=400", check=False, **more)
    assert done.returncode, done.stdout
    rows = {name: row.split() for row, name in re.findall(r"^([ \d]+)  test_properties.py::(\w+)$", done.stdout, re.M)}
    assert rows["test_slow"] == ["200"]
    inputs, accepted, refused = map(int, rows["test_usual"])
    assert inputs == accepted + refused == 400 and accepted and refused
    assert int(rows["test_fails"][0]) > 0 and "test_other" not in rows
    assert "all 3 properties" in done.stdout
    assert re.search(r"Failing test case|Falsifying example", done.stdout)
    assert "number=1000," in done.stdout and "@reproduce_failure(" in done.stdout
    seed = re.search(r"--fuzz=400 --hypothesis-seed=(\d+) tests/test_properties.py$", done.stdout, re.M)
    assert seed and f"inputs tried, seed {seed[1]}" in done.stdout
    assert not (fresh.tree / ".hypothesis/examples").exists()  # a database


def test_no_property_test_fixes_its_number_of_inputs() -> None:
    """make fuzz could not raise it: fuzzing.examples() is for properties that take long."""
    fixed = [path.name for path in Path(TREE / "tests").rglob("*.py") if "max_examples=" in path.read_text("utf-8")]
    assert sorted(fixed) == ["fuzzing.py", "test_fuzz.py"]
