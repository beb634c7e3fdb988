"""Lint of the documentation: `make check` runs it on the whole tree.

1. A link to a file or heading of the tree leads to one, also where code cites `docs/page.md#anchor`.
2. The text of pages, make files, params.yaml and scripts uses none of the phrases in UNCLEAR.
3. A Chinese page has the headings and the code blocks of its English page; comments in code may be translated.

It prints the mean length of the sentences of each English page, which is information and not checked.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Iterator
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

TEXTS = ("*.md", "docs/**/*.md", "data/README.md", "models/README.md", "results/README.md", "Makefile", "params.yaml")
CODE = (
    "scripts/**/*.py",
    "scripts/**/*.sh",
    "scripts/**/*.mk",
    "scripts/**/*.awk",
    "scripts/**/*.j2",
    "pyproject.toml",
)
CHINESE = {"README.zh-CN.md": "README.md"}  # and each page of docs/zh/, which has the name of its English page

# {a phrase as a regular expression: what to write}. They make a reader stop and translate.
UNCLEAR = {
    r"(is|are|was|were) had\b": "is available, is downloaded",
    r"\banew\b": "again",
    r"\bfor ever\b": "forever, without a limit",
    r"\btells? of\b": "contains, reports, describes",
    r"\b(lies|lie|stands|stand) (beside|besides|behind|there|in|on|under|above|below|right above|for itself)\b": "is",
    r"\bof its own\b": "its own, separate",
    r"(?<!\bthere )\b(?-i:(is|are) none)\b": "does not exist, are missing",
    r"(?<!\bthere )\b(is|are) no (such )?[a-z]": "unknown, missing, not a",
    r"\b(is|are) said\b|\bsaid (is|are)\b": "is printed",
    r"\bso many\b": "that many, the given number",
    r"\bin turns\b": "interleaved",
    r"\bfor want of\b": "because … is missing",
    r"\ba moment ago\b": "just now, the previous",
    r"\bheld against\b": "compared with",
    r"\bat hand\b": "available",
    r"\bgets? on\b": "makes progress",
    r"\bothers' load\b": "load from other processes",
    r"\bnot one of ours\b|\bof ours\b": "not made by this project",
    r"\b(the|a) house\b": "the tree, the project",
    r"\bmend(s|ing)?\b": "fix",
    r"\bcontract [0-9]|\bcontract, section": "a page of docs/ with its anchor",
    r"\b(newcomer|attacker|tired person)\b": "a reader, a user",
}


@functools.cache
def tokens_of(text: str) -> list[Token]:
    """The blocks of a page; those with text have their parts as children."""
    return MarkdownIt().enable("table").parse(text)


def headings(text: str) -> list[tuple[int, str]]:
    """(level, title without markup) of each heading of a page, in order."""
    tokens = tokens_of(text)
    pairs = [(token, after) for token, after in zip(tokens, tokens[1:]) if token.type == "heading_open"]
    return [(int(token.tag[1:]), "".join(part.content for part in after.children or ())) for token, after in pairs]


def anchors(text: str) -> set[str]:
    """The anchors of a page, by GitHub's rule for headings, and those of <a id="…">."""
    names = set(re.findall(r'<a id="([^"]+)">', text))
    for _, title in headings(text):
        base = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        name, count = base, 0
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names.add(name)
    return names


def links_of(text: str) -> set[str]:
    """The targets of the links and images of a page."""
    parts = [part for token in tokens_of(text) for part in token.children or ()]
    targets = [part.attrGet("href") or part.attrGet("src") for part in parts if part.type in ("link_open", "image")]
    html = re.findall(r'<(?:a|img) [^>]*(?:href|src)="([^"]+)"', text)
    return {unquote(str(target)) for target in [*targets, *html] if target}


def code_blocks(text: str) -> list[str]:
    """The fenced blocks of a page, without comments and without <placeholders>, which may be translated."""
    blocks = [token.content for token in tokens_of(text) if token.type == "fence"]
    return [re.sub(r"(^|[ \t]+)# .*|<[^>\n]*>|[ \t]+$", "", block, flags=re.MULTILINE) for block in blocks]


def broken_links(tree: Path, file: Path) -> Iterator[str]:
    """Links of a page, and citations docs/page.md#anchor in another file, that lead nowhere in the tree."""
    text = file.read_text("utf-8")
    is_page = file.suffix == ".md"
    links = links_of(text) if is_page else set(re.findall(r"\bdocs/[\w./-]+\.md(?:#[\w-]+)?", text))
    for link in sorted(links):
        path, _, anchor = link.partition("#")
        target = ((file.parent if is_page else tree) / path).resolve() if path else file
        if re.match(r"[a-z]+:", link):  # of another host
            continue
        if not target.exists() or not target.is_relative_to(tree.resolve()):
            yield f"{file.relative_to(tree)}: {link}: no such file"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text("utf-8"))):
            yield f"{file.relative_to(tree)}: {link}: no such heading"


def unclear(name: str, text: str) -> Iterator[str]:
    """Phrases of UNCLEAR in a text, with what to write."""
    for number, line in enumerate(text.splitlines(), 1):
        for phrase, better in UNCLEAR.items():
            match = re.search(phrase, line, re.IGNORECASE)
            if match:
                yield f"{name}:{number}: {match[0]!r}: write {better}"


def differences(chinese: Path, english: Path) -> Iterator[str]:
    """Where a Chinese page has other headings or code blocks than its English page."""
    if not english.exists():
        yield f"{chinese}: has no English page {english}"
        return
    texts = [chinese.read_text("utf-8"), english.read_text("utf-8")]
    levels = [[level for level, _ in headings(text)] for text in texts]
    if levels[0] != levels[1]:
        yield f"{chinese}: {len(levels[0])} headings, {english} has {len(levels[1])}, or other levels"
    blocks = [code_blocks(text) for text in texts]
    if len(blocks[0]) != len(blocks[1]):
        yield f"{chinese}: {len(blocks[0])} code blocks, {english} has {len(blocks[1])}"
    for number, (one, other) in enumerate(zip(*blocks), 1):
        if one != other:
            yield f"{chinese}: code block {number} is not that of {english}"


def sentence_length(text: str) -> float:
    """The mean number of words in the sentences of a page's paragraphs and list items."""
    tokens = tokens_of(text)
    prose = [after.content for token, after in zip(tokens, tokens[1:]) if token.type == "paragraph_open"]
    sentences = [part.split() for paragraph in prose for part in re.split(r"[.!?:](?:\s+|$)", paragraph)]
    counts = [len(words) for words in sentences if len(words) > 1]
    return sum(counts) / max(len(counts), 1)


def main() -> None:
    tree = Path.cwd()
    pages = sorted({path for pattern in TEXTS for path in tree.glob(pattern)})
    code = sorted({path for pattern in CODE for path in tree.glob(pattern)} - {Path(__file__).resolve()})
    faults: list[str] = []
    tests = set(tree.glob("tests/**/*.py")) - set(tree.glob("tests/make/test_lint_docs.py"))  # which has broken links
    for path in [*pages, *code, *sorted(tests)]:
        faults += broken_links(tree, path)
    for path in [*pages, *code]:
        faults += unclear(path.relative_to(tree).as_posix(), path.read_text("utf-8"))
    pairs = {Path(name): Path(other) for name, other in CHINESE.items()}
    pairs.update({path.relative_to(tree): Path("docs", path.name) for path in tree.glob("docs/zh/*.md")})
    for chinese, english in pairs.items():
        faults += differences(chinese, english)
    for path in pages:
        if "zh" not in path.relative_to(tree).as_posix() and path.suffix == ".md":
            print(f"  {path.relative_to(tree)}: {sentence_length(path.read_text('utf-8')):.0f} words a sentence")
    print("".join(f"{fault}\n" for fault in faults), end="", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
