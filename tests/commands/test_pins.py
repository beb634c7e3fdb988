"""make pins writes exact pins with digests; make check finds known vulnerabilities of them."""

from __future__ import annotations

from _support import artifact

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import SCRIPTS, run
from wheels import write_wheel

UV = {"UV_NO_CACHE": "1", "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0", "NO_PROXY": "127.0.0.1"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: object) -> None:
        pass


class Sources(NamedTuple):
    """requirements*.in in `folder`, an index of packages at `url`/simple, and one of torch's CPU build at `url`/cpu."""

    folder: Path
    url: str


def publish(index: Path, name: str, version: str, metadata: str = "") -> str:
    """Adds a package to an index; returns its line of digests as in a page of pins."""
    folder = index / name.replace("_", "-")
    wheel = write_wheel(folder, name, version, metadata)
    digest = f"sha256:{artifact.digest(wheel)}"
    with open(folder / "index.html", "a") as page:
        page.write(f'<a href="{wheel.name.replace("+", "%2B")}#{digest.replace(":", "=")}">{wheel.name}</a>\n')
    return f"    --hash={digest}"


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    (tmp_path / "requirements.in").write_text("torch==2.13.0  # a comment\nextra\n")
    (tmp_path / "requirements-dev.in").write_text("tool==1.0\n")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Sources(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


def pin(sources: Sources, cpu_index: str = "") -> subprocess.CompletedProcess[str]:
    words = ["--folder", sources.folder, "--cpu-index", cpu_index or f"{sources.url}/cpu"]
    script = SCRIPTS / "pin_requirements.py"
    return run(sys.executable, script, *words, **UV, UV_DEFAULT_INDEX=f"{sources.url}/simple")


def test_pins_are_exact_have_all_digests_and_are_kept(sources: Sources) -> None:
    simple, page = sources.folder / "simple", sources.folder / "requirements.txt"
    cuda = "Requires-Dist: nvidia-small==1.0; sys_platform == 'linux'\n"
    plain = publish(simple, "torch", "2.13.0", f"{cuda}Requires-Dist: extra\n")
    cpu = publish(sources.folder / "cpu", "torch", "2.13.0+cpu")
    small, extra = publish(simple, "nvidia_small", "1.0"), publish(simple, "extra", "1.0")
    tool = publish(simple, "tool", "1.0", "Requires-Dist: extra\n")
    done = pin(sources)
    assert done.returncode == 0, done.stderr
    head, *lines = page.read_text().split("--only-binary :all:\n")[1].splitlines(), *page.read_text().splitlines()[:3]
    assert head == ["extra==1.0 \\", extra, "torch==2.13.0 \\", f"{plain} \\", cpu]
    assert lines[0].startswith("# Written by make pins from requirements.in.")
    assert lines[1:] == ["--require-hashes", "--only-binary :all:"]
    cuda_page = (sources.folder / "requirements-cuda.txt").read_text()
    assert cuda_page.endswith(f"nvidia-small==1.0 ; sys_platform == 'linux' \\\n{small}\n")
    dev_page = (sources.folder / "requirements-dev.txt").read_text()
    assert dev_page.endswith(f":all:\nextra==1.0 \\\n{extra}\ntool==1.0 \\\n{tool}\n")
    assert sources.url not in page.read_text() + cuda_page + dev_page

    publish(simple, "extra", "2.0")  # is not taken: 1.0 is pinned and fits
    before = page.read_text()
    done = pin(sources, "http://127.0.0.1:9/cpu")
    assert "127.0.0.1:9 cannot be reached: 1 present digests of torch's CPU build are kept" in done.stdout
    assert page.read_text() == before

    publish(simple, "torch", "2.14.0")
    (sources.folder / "requirements.in").write_text("torch==2.14.0\nextra\n")
    done = pin(sources, "http://127.0.0.1:9/cpu")
    assert done.returncode == 1
    assert "pin_requirements.py: torch 2.14.0: the digests of its CPU build are not known" in done.stderr
    assert page.read_text() == before


def test_a_package_that_no_index_has_is_one_line_and_changes_nothing(sources: Sources) -> None:
    done = pin(sources)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "check the .in files, and the index that uv's variables name" in done.stderr
    assert not (sources.folder / "requirements.txt").exists()


def test_an_index_that_cannot_be_reached_is_one_line_with_the_remedy(sources: Sources) -> None:
    done = pin(sources._replace(url="http://127.0.0.1:9"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "check the network, HTTPS_PROXY, and the index that uv's variables name" in done.stderr


# Known vulnerabilities, by a stand-in for pip-audit

KNOWN = {"name": "one", "version": "1.0", "vulns": []}
SKIPPED = {"name": "two", "skip_reason": "Dependency not found on PyPI and could not be audited: two (1.0)"}
VULNERABLE = {**KNOWN, "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1", "2.0"]}]}
UNCHECKED = "so known vulnerabilities of the pinned packages are not checked"


@pytest.mark.parametrize(
    ("dependencies", "error", "status", "text"),
    [
        ([KNOWN], "No known vulnerabilities found", 0, "pip-audit: 1 packages without a known vulnerability\n"),
        ([KNOWN, SKIPPED], "", 0, "1 packages without a known vulnerability, 1 not known\n"),
        ([VULNERABLE], "Found 1", 1, "  one 1.0: PYSEC-1, fixed in 1.1 or 2.0\n"),
        ([SKIPPED, SKIPPED], "No known vulnerabilities found", 0, f"the index has no such data, {UNCHECKED}\n"),
        (None, "Traceback\nrequests.exceptions.ConnectionError: refused", 0, f"cannot be reached, {UNCHECKED}\n"),
        (None, "ERROR: requirement x does not contain a hash", 1, "pip-audit: ERROR: requirement x does not contain"),
    ],
)
def test_known_vulnerabilities_are_an_error_and_missing_data_are_not(
    tmp_path: Path, dependencies: list[object] | None, error: str, status: int, text: str
) -> None:
    answer = "" if dependencies is None else json.dumps({"dependencies": dependencies, "fixes": []})
    lines = [f"import sys; print({answer!r}); print({error!r}, file=sys.stderr)", f"sys.exit({'PYSEC' in answer})"]
    (tmp_path / "pip_audit.py").write_text("\n".join(lines) + "\n")
    done = run(sys.executable, SCRIPTS / "check_advisories.py", tmp_path / "pins.txt", PYTHONPATH=str(tmp_path))
    assert done.returncode == status, done.stderr
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
