"""What the pages of the documentation show: commands, and transcripts that tests compare with real runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator, NamedTuple

TREE = Path(__file__).resolve().parent.parent
ENGLISH = sorted([TREE / "README.md", TREE / "CONTRIBUTING.md", *(TREE / "docs").glob("*.md")])
PAGES = [*ENGLISH, TREE / "README.zh-CN.md", *sorted((TREE / "docs/zh").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Transcript(NamedTuple):
    page: str
    command: str  # without the prompt
    lines: list[str]  # of its output; … stands for lines that the page leaves out


def name_of(page: Path) -> str:
    return page.relative_to(TREE).as_posix()


def make_commands(page: Path) -> set[str]:
    """Every `make …` that a page tells its reader to type: in blocks and as inline code, without comments."""
    text = page.read_text("utf-8")
    lines = [line for kind, block in BLOCK.findall(text) if kind in ("sh", "console") for line in block.splitlines()]
    typed = [re.sub(r"\s+#.*", "", line.removeprefix("$ ")) for line in lines]
    inline = re.findall(r"`((?:[A-Z_]+=[^\s`]+ )*make(?: [^`\n]*)?)`", BLOCK.sub("", text))
    return {line for line in [*typed, *inline] if re.match(r"([A-Z_]+=\S+ )*make( |$)", line)}


def transcripts(page: Path) -> Iterator[Transcript]:
    """The commands of a page's `console` blocks, each with the output that follows it."""
    for kind, block in BLOCK.findall(page.read_text("utf-8")):
        if kind == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *lines = part.rstrip("\n").split("\n")
                yield Transcript(name_of(page), command.partition("  #")[0].strip(), lines)


def masked(line: str) -> str:
    """A line without what differs between runs and machines: figures, names of CPUs, verdicts, widths of columns."""
    line = re.sub(r"\b(host|Stable:) .*", r"\1 …", line)
    line = re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?%?", "#", line)
    return re.sub(r"\s+", " ", line).strip()


def missing_line(transcript: Transcript, output: str) -> str:
    """The first line of a transcript that a real run's output does not have after the lines before it, or ""."""
    printed = iter([masked(line) for line in output.splitlines()])
    for line in transcript.lines:
        if line.strip() not in ("…", "") and masked(line) not in printed:  # `in` goes on where the last line was
            return line
    return ""


def field_names(value: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names of all fields in a JSON value, [] for the items of a list of maps."""
    if isinstance(value, dict):
        for key, item in (value or {"*": ""}).items():
            yield from field_names(item, (*name, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from field_names(item, (*name[:-1], f"{name[-1]}[]"))
    else:
        yield name


def is_described(name: tuple[str, ...], described: set[str]) -> bool:
    """Whether a field or a map above it is described; a * stands for one name."""

    def matches(pattern: str) -> bool:
        parts = pattern.split(".")
        patterns = [re.escape(part).replace(r"\*", ".+") for part in parts]
        is_above = len(parts) == len(name) or (len(parts) < len(name) and parts[-1] == "*")
        return is_above and all(re.fullmatch(pattern, part) for pattern, part in zip(patterns, name))

    return any(map(matches, described))


def described_fields(heading: str) -> set[str]:
    """The fields that docs/reference.md describes under a heading."""
    page = (TREE / "docs/reference.md").read_text("utf-8")
    (section,) = re.findall(rf"^### {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^\| `(.+?)` \| .*[a-z]", section, re.MULTILINE))
