"""README.md and README.zh-CN.md say what the Makefile and params.yaml say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from conftest import TREE, run
from engines.ascend import _doctor
from params.schema import SCHEMA
from reporting import tables

READMES = [(TREE / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md")]
PARAMS: dict[str, Any] = yaml.load((TREE / "params.yaml").read_text("utf-8"), yaml.BaseLoader)


@pytest.mark.parametrize("readme", READMES, ids=["en", "zh"])
def test_a_readme_quotes_the_published_figures_of_params(readme: str) -> None:
    table = tables.published_table(PARAMS["published"]["throughput"], map(int, PARAMS["batch_sizes"]))
    assert table.partition("\n")[2] in readme  # its head is each readme's own
    for figure in PARAMS["published"]["accuracy"].values():
        assert figure in readme


@pytest.mark.parametrize("readme", READMES, ids=["en", "zh"])
def test_a_readme_names_every_target_variable_and_key_and_no_other_target(readme: str) -> None:
    page = run("make", "help").stdout
    targets = set(re.findall(r"^  ([a-z][a-z-]*) ", page, re.MULTILINE))
    variables = set(re.findall(r"^  ([A-Z_]+) ", page, re.MULTILINE))
    assert len(targets) > 10
    for name in targets | variables:
        assert f"`{name}`" in readme, name
    for key in SCHEMA:
        assert f"`{key.split('.*')[0]}`" in readme, key
    for name in re.findall(r"`make ([a-z][a-z-]*)[ `]", readme):
        assert name in targets, name


def test_the_readme_installs_what_the_doctor_looks_for() -> None:
    installed = set(" ".join(re.findall(r"^python3 -m pip install (.*)", READMES[0], re.MULTILINE)).split())
    assert {*_doctor.MODULES.values(), *_doctor.ADVISED.values(), "'numpy<2'"} <= installed


def test_the_two_readmes_hold_the_same_commands_and_tables() -> None:
    code = [re.findall(r"^```\n.*?^```", text, re.MULTILINE | re.DOTALL) for text in READMES]
    assert len(code[0]) == len(code[1])
    commands = [
        [re.sub(r"\s+#.*|<.*?>", "", line) for block in blocks for line in block.splitlines()] for blocks in code
    ]
    assert commands[0] == commands[1]
    assert READMES[0].count("\n|") == READMES[1].count("\n|")
    assert READMES[0].count("\n## ") == READMES[1].count("\n## ")
