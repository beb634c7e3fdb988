"""Damaged settings files are refused in one line, or give settings that are safe in a Makefile and in a shell."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import SCRIPTS, TREE
from damage import HOSTILE, Damage, damages, outcome
from fuzzing import examples
from params.chips import chips_of, derived
from params.makefile import FIRST_LINE, Rules, is_complete, with_digest
from params.read import read_params
from params.schema import SCHEMA, schema_key

SETTINGS = yaml.load((TREE / "params.yaml").read_bytes(), yaml.BaseLoader)  # texts: 910_9392 is no number
SMALL = yaml.safe_dump(SETTINGS, sort_keys=False).encode()
FILES = {
    "params.yaml": (TREE / "params.yaml").read_bytes(),
    "without comments": SMALL,
    "aliases": b"a: &a {x: 1}\nb: &b [*a, *a]\nc: {<<: *a, y: *b}\n" + SMALL,
    "tags": b"!!python/object/apply:os.system ['touch mark']\n" + SMALL,
    "utf-16": SMALL.decode().encode("utf-16"),
}


def check_settings(path: Path) -> None:
    """Reads a settings file, its chips, and the make variables that are generated from it."""
    params = outcome(lambda: read_params(path))
    if params is None:
        return
    for key, text in params.items():
        check = SCHEMA[schema_key(key) or ""]
        assert check(text) == text
        assert re.fullmatch(r"[\w.,:/=+~ -]+", text, re.ASCII), text
        assert re.fullmatch(r"[\w.-]+", key, re.ASCII), key
    chips = outcome(lambda: chips_of(path, params, SCRIPTS / "engines"))
    if chips is not None:
        params = {**params, **derived(chips, params)}
        rules = Rules(SCRIPTS, params)
        rules.copies = lambda script: []  # type: ignore[method-assign]  they do not depend on the settings
        lines = [line.replace("$(state)/", "") for chip in chips for line in rules.chip_lines(chip)]
        assert all(re.fullmatch(r"[\w.-]+ := ?[\w.,:/=+~' -]*", line, re.ASCII) for line in lines), lines


def test_the_valid_files_are_read(scratch: Path) -> None:
    for name in ("params.yaml", "without comments"):
        (scratch / "params.yaml").write_bytes(FILES[name])
        assert read_params(scratch / "params.yaml")["batch_sizes"] == "1 4 8 16 32 64"


@given(damages(*FILES))
@examples(25)
def test_a_damaged_settings_file_is_refused_or_safe(scratch: Path, damage: Damage) -> None:
    path = scratch / "params.yaml"
    path.write_bytes(damage.of(FILES))
    check_settings(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x: [" + "1," * 2_000_000 + "]", "4000005 bytes, more than 262144; set PARAMS= to a copy"),
        ("x: [" + "1," * 50_000 + "]", ":1: it contains more than 20000 values; write only settings"),
        ("".join(f"k{i}: 1\n" for i in range(15_000)), ":10000: it contains more than 20000 values"),
        ("[" * 100_000, ":1: nested too deeply; write only settings"),
        ("x:\n" + "".join(" " * i + "x:\n" for i in range(1, 300)), "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
    ],
    ids=["bytes", "list", "map", "brackets", "maps", "lists"],
)
def test_a_large_settings_file_is_refused_before_its_values_are_read(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    begin = time.process_time()
    with pytest.raises(SystemExit):
        read_params(path)
    assert time.process_time() - begin < 5
    line = capsys.readouterr().err
    assert words in line and line.count("\n") == 1


@pytest.mark.parametrize("name", ["-rf", "--help", "x" * 61, "x" * 1000], ids=["-rf", "--help", "61", "1000"])
@pytest.mark.parametrize("first", ["cpu", "GPU"])
def test_a_name_that_is_no_good_file_name_is_refused_with_its_line(
    tmp_path: Path, name: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of a chip, or of a device of the published figures, before the one named `first`."""
    path = tmp_path / "params.yaml"
    text = (TREE / "params.yaml").read_text()
    before, indent, after = re.split(f"(?m)^( +)(?={first}: )", text, maxsplit=1)
    path.write_text(f"{before}{indent}{name}: 1\n{indent}{after}")
    with pytest.raises(SystemExit):
        read_params(path)
    line = capsys.readouterr().err
    number = before.count("\n") + 1
    assert f"params.yaml:{number}: invalid key '{name[:20]}" in line
    assert line.count("\n") == 1 and len(line) < 500


TEXTS = (
    st.text(max_size=20)
    | st.sampled_from(
        [
            "$(shell touch mark)",
            "`touch mark`",
            ";touch mark",
            "$$(touch mark)",
            "a\nb := c",
            "engine=ascend a=$(x)",
            "#x",
            "a'b",
        ]
    )
    | st.sampled_from([str(value) for value in HOSTILE])
    | st.from_regex(r"\A[a-z0-9]+=[!-~]+\Z")
)


@given(st.sampled_from([*SETTINGS]), st.integers(0, 99), TEXTS, TEXTS)
@examples(25)
@example("chips", 0, "x", "engine=ascend soc_version=Ascend310P3 a=b c=$(x)")
def test_a_setting_with_any_text_is_refused_or_safe(
    scratch: Path, group: str, place: int, name: str, text: str
) -> None:
    """Replaces the value of a setting, and adds one with any name to its group."""
    settings = yaml.load(SMALL, yaml.BaseLoader)
    if isinstance(settings[group], dict):
        key = [*settings[group]][place % len(settings[group])]
        settings[group][key] = text
        if place % 3 == 0:
            settings[group][name] = text
    else:
        settings[group] = text
    path = scratch / "params.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=place % 2 == 0), "utf-8", "surrogatepass")
    check_settings(path)


MAKE = {"inputs.mk": with_digest(["chips := cpu", "batch_sizes := 1 16", "input.source := sample"]).encode()}


@given(damages(*MAKE))
@example(Damage(b"", []))
@example(Damage(FIRST_LINE.encode(), []))
def test_damaged_make_variables_are_not_complete(scratch: Path, damage: Damage) -> None:
    path, data = scratch / "inputs.mk", damage.of(MAKE)
    path.write_bytes(data)
    assert outcome(lambda: is_complete(path)) == (data == MAKE["inputs.mk"])
