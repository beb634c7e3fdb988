"""Writes what the pages of docs/ and the readmes repeat from the Makefile and params.yaml.

docs/reference.md is written whole: targets and variables from the Makefile's ## texts, settings from the comments of
params.yaml and the schema. In each readme the table of published throughput is replaced.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die

import re
from pathlib import Path
from typing import Iterator

from params.comments import Block, Setting, blocks_of
from params.schema import SCHEMA
from reporting import fields, tables, words

SETTINGS = {"published": "published.throughput.*.*"}
LONG = 64  # characters of a value that still fit into a column
HEAD = """\
# Reference

Every target, variable and setting, and every field of the result files. `make docs` writes this page from the `##`
texts of the [Makefile](../Makefile), the comments of [params.yaml](../params.yaml), the values that
`scripts/params/schema.py` allows, and the descriptions in `scripts/reporting/fields.py`.
"""
FILES = """\
A file that a rule builds is a target too: `make results/cpu/bs4/accuracy.txt`. `-j` is safe, and so are several makes
at once in one ROOT.
"""
VARIABLES = "Variables are set on the command line or in the environment; the command line wins.\n"
RESULTS = """\
JSON keys are joined by dots; `*` stands for any name, `[]` for each item of a list. Digests are sha256, in hexadecimal.
"""
PARAMS = """\
An edit of one setting rebuilds only what uses it. Unknown, missing and mistyped keys are refused with their line.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def grouped(makefile: str, pattern: str) -> dict[str, list[tuple[str, ...]]]:
    """{heading: matches of `pattern` on its lines} of the Makefile's ##@ headings that have any, in order."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for part in re.split(r"^##@ ", makefile, flags=re.MULTILINE)[1:]:
        matches = re.findall(pattern, part, re.MULTILINE)
        if matches:
            groups[part.partition("\n")[0]] = matches
    return groups


def target_lines(makefile: str) -> Iterator[str]:
    yield f"\n## Targets\n\n{FILES}"
    for heading, targets in grouped(makefile, r"^([a-z][a-z0-9-]*):.*## (.*)$").items():
        rows = [[f"`{name}`", cell(text)] for name, text in targets]
        yield f"\n### {heading}\n\n{table(['target', 'what it does'], rows)}"


def variable_lines(makefile: str) -> Iterator[str]:
    yield f"\n## Variables\n\n{VARIABLES}"
    for heading, variables in grouped(makefile, r"^([A-Z_]+) \?= *(.*?)## (.*)$").items():
        rows = [[f"`{name}`", value or "(empty)", cell(text)] for name, value, text in variables]
        yield f"\n### {heading}\n\n{table(['variable', 'default', 'meaning'], rows)}"


def allowed(key: str) -> str:
    """What the schema says of the values of a key, or of the keys below it."""
    for pattern, check in SCHEMA.items():
        if all(part in ("*", name) for part, name in zip(pattern.split("."), key.split("."))):
            try:
                check("\0")
            except ValueError as values:
                return str(values)
    return ""


def setting_row(setting: Setting) -> list[str]:
    # The batch sizes are not shown, because users edit them.
    is_shown = len(setting.value) <= LONG and setting.key != "batch_sizes"
    value = setting.value if is_shown else "see params.yaml"
    return [f"`{setting.key}`", cell(value), cell(allowed(setting.key)), cell(setting.comment)]


def named_row(setting: Setting) -> list[str]:
    return [f"`{setting.key}`", cell(setting.value), cell(setting.comment)]


def setting_lines(blocks: dict[str, Block]) -> Iterator[str]:
    yield f"\n## Settings of params.yaml\n\n{PARAMS}"
    for block in blocks.values():
        yield f"\n### {block.name}\n\n{cell(block.comment)}\n\n"
        if any(pattern.startswith(f"{block.name}.*") for pattern in SCHEMA):  # its names are free, its values alike
            yield f"Each value: {cell(allowed(block.settings[0].key))}.\n\n"
            yield table(["setting", "value", "meaning"], [named_row(setting) for setting in block.settings])
        else:
            yield table(["setting", "default", "allowed", "meaning"], [setting_row(item) for item in block.settings])


def field_lines() -> Iterator[str]:
    yield f"\n## Result files\n\n{RESULTS}"
    for heading, what, meanings in fields.FILES:
        rows = [[f"`{name}`", cell(text)] for name, text in meanings.items()]
        yield f"\n### {heading}\n\n{what}\n\n{table(['field', 'meaning'], rows)}"


def with_published(page: Path, figures: str) -> str:
    """The text of a readme with the table of published throughput between its marks; exits 1 if a mark is missing."""
    text = page.read_text("utf-8")
    parts = re.fullmatch(r"(.*<!-- published figures[^\n]*-->\n)(.*?)(<!-- end -->.*)", text, re.DOTALL)
    if parts is None:
        remedy = "write these two lines around the table of published throughput"
        die(page, "the marks <!-- published figures … --> and <!-- end --> are missing", remedy)
    return f"{parts[1]}{figures}\n{parts[3]}"


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--makefile", type=Path, required=True)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--readmes", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="docs/reference.md")
    parser.add_argument("--published", nargs="*", default=[], type=words.published_throughput)
    args = parser.parse_args()
    makefile = args.makefile.read_text("utf-8")
    lines = [HEAD, *target_lines(makefile), *variable_lines(makefile)]
    settings = setting_lines(blocks_of(args.params.read_text("utf-8")))
    texts = {args.out: "".join([*lines, *settings, *field_lines()])}
    throughput = words.by_names(args.published)
    sizes = sorted({int(size) for figures in throughput.values() for size in figures})
    figures = tables.published_table(throughput, sizes, "batch size")
    texts.update((page, with_published(page, figures)) for page in args.readmes)
    for page, text in texts.items():
        artifact.write_text(page, text)


if __name__ == "__main__":
    main()
