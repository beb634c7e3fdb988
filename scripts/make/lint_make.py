"""Lints make files. `make check` runs it on the Makefile and scripts/make/*.mk.

1. A line has at most 120 columns and no white space at its end.
2. A variable name is a word, not a single letter, except for a setting with a ## text.
3. A line with a $(if …) inside another one has a comment above.
4. Each target that people type is .PHONY and has a ## text.
5. A used variable is defined in these files, built into make, or generated (a dotted name).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Iterator

WIDTH = 120
OWN = {
    "MAKE",
    "MAKEFLAGS",
    "MAKECMDGOALS",
    "MAKE_COMMAND",
    "MAKE_VERSION",
    "MAKE_RESTARTS",
    "MAKEFILES",
    "MAKEFILE_LIST",
}
FUNCTIONS = (
    *("subst", "patsubst", "strip", "findstring", "filter", "filter-out", "sort", "word", "words", "firstword"),
    *("lastword", "dir", "notdir", "suffix", "basename", "addsuffix", "addprefix", "wildcard", "if", "or", "and"),
    *("foreach", "call", "eval", "origin", "shell", "error", "warning", "info", "value"),
)


def joined(text: str) -> Iterator[tuple[int, str, bool]]:
    """(line number, logical line, whether a comment is directly above) of a make file."""
    above, start, line = False, 0, ""
    for number, part in enumerate(text.splitlines(), 1):
        start = start or number
        line += part
        if part.endswith("\\"):
            line = line[:-1]
            continue
        yield start, line, above
        above = line.startswith("#") or (above and bool(line.strip()) and not line.startswith("\t"))
        start, line = 0, ""


def defined(text: str) -> set[str]:
    """The variables that a make file sets, including loop variables of $(foreach)."""
    names = set(re.findall(r"^(?:override |export |define )*([\w.-]+) *(?::=|\?=|\+=|=|$)", text, re.MULTILINE))
    return names | set(re.findall(r"\$\(foreach (\w+),", text))


def words_of(names: str, text: str) -> set[str]:
    """The words of a list such as `$(bare) FORCE`, with simple variables of the file expanded."""
    words: set[str] = set()
    for word in names.split():
        variable = re.fullmatch(r"\$\(([\w-]+)\)", word)
        value = variable and re.search(rf"^{variable[1]} := (.*)$", text, re.MULTILINE)
        words |= words_of(value[1], text) if value else {word}
    return words


def faults_of(name: str, text: str, known: set[str]) -> Iterator[str]:
    """Yields the faults of a make file as `file:line: problem`; `known` are the variables of all make files."""
    for number, part in enumerate(text.splitlines(), 1):
        if len(part) > WIDTH:
            yield f"{name}:{number}: {len(part)} columns, more than {WIDTH}"
        if part != part.rstrip():
            yield f"{name}:{number}: white space at the end of the line"
    phony = words_of(" ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)), text)
    for number, line, commented in joined(text):
        if line.startswith("#"):
            continue
        variable = re.match(r"(?:override )?(\w) *[:?+]?=", line)
        if variable and "##" not in line:
            yield f"{name}:{number}: variable {variable[1]} is a single letter"
        if re.search(r"\$\(if [^()]*(?:\([^()]*\)[^()]*)*\$\(if ", line) and not commented and line[0] != "\t":
            yield f"{name}:{number}: $(if inside $(if without a comment above"
        target = re.match(r"([a-z][a-z-]*):(?!=)", line)
        if target and "##" not in line and f"\n{target[1]}: ##" not in text:
            yield f"{name}:{number}: target {target[1]} has no ## text"
        if target and target[1] not in phony:
            yield f"{name}:{number}: target {target[1]} is not .PHONY"
        for used in re.findall(r"\$\(([A-Za-z_][\w-]*)\)", line):
            if used not in known and used not in OWN and used not in FUNCTIONS:
                yield f"{name}:{number}: variable {used} is not defined"


def main() -> None:
    texts = {name: Path(name).read_text("utf-8") for name in sys.argv[1:]}
    known = {name for text in texts.values() for name in defined(text)}
    faults = [fault for name, text in texts.items() for fault in faults_of(name, text, known)]
    print("\n".join(faults) if faults else f"make files: {len(texts)} checked, no faults")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
