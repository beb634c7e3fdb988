"""Checks the statement of a result against its record and its files. Python 3.7."""

from __future__ import annotations

from _support.artifact import DAMAGED, is_file, read_record, rebuild_hint
from _support.cli import die

from pathlib import Path

from reporting._statement import KINDS, expected_statement

ENTRIES = ("inputs", "flags", "scripts", "versions")  # of a cache key; each is a map


def check_statement(page: Path) -> None:
    """Exits 1 unless the statement of the result whose text page is `page` names its files and materials.

    The caller has checked the record, which names the same materials, and all files.
    """
    if page.stem not in KINDS:
        return
    path = page.with_name(KINDS[page.stem].statement)
    if not is_file(path):
        die(path, "no such file", rebuild_hint(path))
    key = read_record(page.with_suffix(".json")).get("key")
    if not isinstance(key, dict) or not all(isinstance(key.get(name), dict) for name in ENTRIES):
        die(page.with_suffix(".json"), f"{DAMAGED} (key)", rebuild_hint(page))
    if path.read_bytes() != expected_statement(page).encode("utf-8"):
        # The result itself is built again, because the record may be what was changed.
        problem = f"does not follow from {page.with_suffix('.json').name} and the files beside it"
        die(path, problem, rebuild_hint(page))
