"""Known vulnerabilities of the pinned packages, by pip-audit. `make check` runs it.

A known vulnerability is an error. Without access to the data, one line says so and the status is 0. The data are
those of Python's package index. Nothing is installed or resolved: the pins are exact.
"""

from __future__ import annotations

from _support import cli
from _support.cli import die

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

LIMIT = 600  # seconds
AUDIT = ("-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off")
# What the last line of pip-audit contains if it cannot reach its data.
NO_DATA = r"Connect|Proxy|SSL|Timeout|timed out|HTTP|RemoteDisconnected|name resolution|unreachable"
ACCEPTED: dict[str, str] = {}  # {id of an advisory: why it does not concern this project}


class Finding(NamedTuple):
    """An advisory for a pinned package."""

    package: str
    version: str
    id: str
    fixed_in: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {self.id}, fixed in {self.fixed_in or 'no release'}"


def end_unchecked(reason: str) -> NoReturn:
    print(f"pip-audit: {cli.one_line(reason)}, so known vulnerabilities of the pinned packages are not checked")
    raise SystemExit(0)


def findings_of(dependencies: list[dict[str, Any]]) -> list[Finding]:
    """The advisories in pip-audit's list of dependencies, without those of ACCEPTED."""
    return [
        Finding(one["name"], one["version"], advisory["id"], " or ".join(advisory["fix_versions"]))
        for one in dependencies
        for advisory in one.get("vulns", [])
        if not {advisory["id"], *advisory.get("aliases", [])} & {*ACCEPTED}
    ]


def audit(pages: list[Path]) -> list[dict[str, Any]]:
    """pip-audit's list of the packages in pages of requirements; ends the script if it has no data."""
    command = [sys.executable, *AUDIT, *(word for page in pages for word in ("--requirement", str(page)))]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        end_unchecked(f"no result within {LIMIT} s")
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        if re.search(NO_DATA, last):
            end_unchecked("its data cannot be reached")
        die("pip-audit", last, "see python -m pip_audit --help, or report it")
    return dependencies


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("pages", type=Path, nargs="+", help="files written by make pins")
    dependencies = audit(parser.parse_args().pages)
    known = [one for one in dependencies if "vulns" in one]
    if not known:  # an index without these data, such as a mirror, answers that it knows no package
        end_unchecked("the index has no such data")
    findings = findings_of(dependencies)
    for finding in sorted({*findings}):
        print(f"  {finding}", file=sys.stderr)
    if findings:
        remedy = "ask for newer versions in requirements*.in and run make pins (docs/internals.md)"
        die("pip-audit", f"{len({*findings})} known vulnerabilities of pinned packages", remedy)
    count, unknown = len({one["name"] for one in known}), len(dependencies) - len(known)
    print(f"pip-audit: {count} packages without a known vulnerability" + (f", {unknown} not known" if unknown else ""))


if __name__ == "__main__":
    main()
