"""The virtual environment: made when it is missing or its pins changed, and at no other time; which torch it gets."""

from __future__ import annotations

from _support import PYTHONS, VERSIONS, artifact, machine, torch_build

import functools
import http.server
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import documents
import setup_env
from conftest import SCRIPTS, TREE, Project, environment, run
from wheels import write_wheel

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null", "PIP_EXTRA_INDEX_URL": ""}
INSTALL = TREE / "docs/install.md"


@pytest.fixture
def pins(fresh: Project) -> Project:
    """A fresh project whose requirements are empty, so that pip installs nothing, without a network."""
    (fresh.tree / "requirements.txt").write_text("# nothing\n")
    return fresh


def setup(project: Project) -> subprocess.CompletedProcess[str]:
    return run("make", "setup", cwd=project.tree, **OFFLINE)


def test_it_is_made_once_and_anew_when_pins_change(pins: Project) -> None:
    done = setup(pins)
    assert done.returncode == 0, done.stderr
    mark = pins.tree / ".venv/mark"
    mark.write_text("")
    (pins.tree / "requirements.txt").touch()
    assert "SETUP" not in setup(pins).stdout
    assert mark.exists()
    assert run("make", "-q", "setup", cwd=pins.tree).returncode == 0
    (pins.tree / "requirements.txt").write_text("# still nothing\n")
    done = run("make", "-n", "accuracy", cwd=pins.tree)
    assert ".venv: missing or outdated" in done.stderr
    assert mark.exists()
    assert "SETUP" in setup(pins).stdout
    assert not mark.exists()


def test_pins_without_content_are_one_line_and_the_environment_stays(pins: Project) -> None:
    assert setup(pins).returncode == 0
    (pins.tree / "requirements.txt").write_text("")
    done = setup(pins)
    assert done.returncode == 2
    assert "requirements.txt: missing or empty; restore the one of the project" in done.stderr
    (pins.tree / "requirements.txt").write_text("\n")
    assert "requirements.txt: empty, so nothing would be installed" in setup(pins).stderr
    (pins.tree / "requirements.txt").unlink()
    assert "requirements.txt: missing or empty" in setup(pins).stderr
    assert (pins.tree / ".venv/requirements.txt").exists()


def test_an_environment_that_somebody_else_made_is_refused_and_stays(pins: Project) -> None:
    assert run(sys.executable, "-m", "venv", "--without-pip", pins.tree / ".venv").returncode == 0
    message = "setup_env.py: .venv: an environment that make did not make, which set-up would replace; move it away"
    for _ in range(2):
        assert message in setup(pins).stderr
    assert (pins.tree / ".venv/bin/python").exists()
    (pins.tree / ".venv/pip.log").write_text("")  # that of an interrupted set-up is replaced
    assert setup(pins).returncode == 0


def test_a_link_to_an_environment_with_other_packages_is_refused_and_nothing_is_removed(pins: Project) -> None:
    shared = pins.tree / "shared/.venv"
    shared.mkdir(parents=True)
    (shared / "requirements.txt").write_text("numpy==1\n")
    (shared / "bin").mkdir()
    (shared / "bin/python").symlink_to(sys.executable)
    (pins.tree / ".venv").symlink_to(shared)
    done = setup(pins)
    assert "setup_env.py: .venv: a link to an environment with other packages" in done.stderr
    assert (shared / "requirements.txt").exists()
    (shared / "requirements.txt").write_text((pins.tree / "requirements.txt").read_text())
    assert setup(pins).returncode == 0  # the same packages


def test_a_failed_installation_shows_the_error_and_starts_over(pins: Project) -> None:
    (pins.tree / "requirements.txt").write_text(f"no-such-package-here==1 --hash=sha256:{'0' * 64}\n")
    done = setup(pins)
    assert done.returncode == 2
    *shown, error, _ = done.stderr.splitlines()  # the last line is make's
    assert "No matching distribution found for no-such-package-here==1" in shown[-1]
    assert len(shown) <= 15
    begin = "setup_env.py: pip: failed with status 1, its output is in .venv/pip.log; no index that pip reached has it"
    assert error.startswith(begin)
    assert "No matching distribution" in (pins.tree / ".venv/pip.log").read_text()
    assert not (pins.tree / ".venv/requirements.txt").exists()
    (pins.tree / "requirements.txt").write_text("# nothing\n")
    assert setup(pins).returncode == 0


def test_two_at_once_make_it_once(pins: Project) -> None:
    both = [
        subprocess.Popen(
            ["make", "setup"],
            cwd=pins.tree,
            env=environment(**OFFLINE),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert "".join(out for out, _ in texts).count("SETUP") == 1


def test_an_interrupt_is_one_line(pins: Project) -> None:
    command = [sys.executable, SCRIPTS / "setup_env.py", "--out", ".venv", "--requirements", "requirements.txt"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=pins.tree, env=environment(**OFFLINE), text=True, **pipes)
    assert process.stdout is not None
    assert "SETUP" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert error == "setup_env.py: interrupted; run the same command again to continue\n"


def test_what_a_killed_installation_left_running_is_waited_for(pins: Project) -> None:
    command = [sys.executable, SCRIPTS / "setup_env.py", "--out", ".venv", "--requirements", "requirements.txt"]
    process = subprocess.Popen(command, cwd=pins.tree, env=environment(**OFFLINE), stdout=subprocess.DEVNULL)
    left: list[str] = []
    while not left and process.poll() is None:  # venv starts ensurepip, which starts pip
        left = run("pgrep", "-f", f"{pins.tree}/.venv/bin/python").stdout.split()
    for pid in left:
        os.kill(int(pid), signal.SIGSTOP)
    process.kill()
    process.wait()
    following = subprocess.Popen(["make", "setup"], cwd=pins.tree, env=environment(**OFFLINE), stdout=subprocess.PIPE)
    assert select.select([following.stdout], [], [], 2)[0] == []  # it has not begun
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert following.communicate(timeout=60)[0].count(b"SETUP") == 1
    assert following.returncode == 0


def test_an_interpreter_without_the_packages_is_one_line(pins: Project, tmp_path: Path) -> None:
    setup(pins)
    done = run("make", "accuracy", "SOURCE=sample", "ROOT=root", "PYTHON=.venv/bin/python", cwd=pins.tree)
    assert done.returncode == 2
    assert "sync_inputs.py: " in done.stderr
    assert "not installed for" in done.stderr
    assert "Traceback" not in done.stderr


# Versions of Python


def pins_of(page: str, version: str, machine: str) -> dict[str, str]:
    """{name: ==version} of the packages that a page of requirements pins for a version of Python on Linux."""
    place = {"python_version": version, "python_full_version": f"{version}.0", "platform_machine": machine}
    place |= {"sys_platform": "linux"}
    lines = [line.partition("#")[0].rstrip(" \\") for line in page.splitlines() if re.match(r"\w", line)]
    requirements = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[\w.]+", str(one.specifier)) for one in requirements)  # exact and without a +
    pins = [
        (canonicalize_name(one.name), str(one.specifier))
        for one in requirements
        if not one.marker or one.marker.evaluate(place)
    ]
    assert len(pins) == len(dict(pins))
    return dict(pins)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_of_python_has_one_pin_of_each_package(version: str, machine: str) -> None:
    def pins(name: str) -> dict[str, str]:
        return pins_of((TREE / name).read_text("utf-8"), version, machine)

    for name in ("requirements", "requirements-dev"):
        assert len(pins(f"{name}.txt")) > len(pins(f"{name}.in")) > 5
        assert pins(f"{name}.txt").items() >= pins(f"{name}.in").items()  # make pins was run after the last edit
    both = pins("requirements.txt").keys() & pins("requirements-dev.txt").keys()
    assert all(pins("requirements.txt")[name] == pins("requirements-dev.txt")[name] for name in both)
    assert not pins("requirements-cuda.txt").keys() & pins("requirements.txt").keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-cuda.txt"])
def test_each_pin_has_digests_and_no_page_names_an_index(name: str) -> None:
    page = (TREE / name).read_text("utf-8")
    head, *pins = re.split(r"^(?=\w)", page, flags=re.MULTILINE)
    assert head.splitlines()[1:] == ["--require-hashes", "--only-binary :all:"]
    assert all(re.fullmatch(r"[^\n]+(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n", pin) for pin in pins)
    assert "://" not in page


def test_the_supported_versions_are_the_same_everywhere() -> None:
    first, last = VERSIONS[-1], VERSIONS[0]
    after = f"3.{int(last.partition('.')[2]) + 1}"
    assert f'requires-python = ">={first},<{after}"\n' in (TREE / "pyproject.toml").read_text("utf-8")
    matrix = re.search(r"python: \[(.*)\]", (TREE / ".github/workflows/ci.yml").read_text("utf-8"))
    assert matrix
    assert re.findall(r"[\d.]+", matrix[1]) == list(reversed(VERSIONS))
    assert f"for {PYTHONS}." in (TREE / "requirements.txt").read_text("utf-8")
    for page in ("README.md", "docs/install.md", "docs/ascend.md"):
        assert PYTHONS in (TREE / page).read_text("utf-8"), page
    for page in ("README.zh-CN.md", "docs/zh/install.md", "docs/zh/ascend.md"):
        assert PYTHONS.replace(" to ", " 至 ") in (TREE / page).read_text("utf-8"), page


def python_named(folder: Path, name: str, version: str) -> None:
    """A program that says it is an interpreter of this version."""
    (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
    (folder / name).chmod(0o755)


def test_the_newest_supported_python_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("3.9", "3.10", "3.14", "3.15"):
        python_named(tmp_path, f"python{version}", version)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.15"))
    assert machine.supported_python() == str(tmp_path / "python3.14")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.10"))
    assert machine.supported_python() == str(tmp_path / "python3.10")


@pytest.mark.parametrize("version", ["3.9.18", "3.15.0"])
def test_an_unsupported_python_alone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    python_named(tmp_path, "python3", version.rpartition(".")[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    monkeypatch.setattr(sys, "version", f"{version} (main)")
    with pytest.raises(SystemExit):
        setup_env.base_python()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"python3: it is {version}, and no Python 3.10 to 3.14 with the module venv is on PATH; install one" in line


# Which build of torch it gets: from an index of this test, with wheels of some bytes


BUILDS = {"simple": "", "cpu": "+cpu"}  # of torch, by the index that has them


class Index(NamedTuple):
    """An index at `url`/simple with the plain torch and another package, and one at `url`/cpu with the CPU build."""

    folder: Path
    url: str
    requests: list[str]  # paths that were asked for


def pin_of(*wheels: Path) -> str:
    """A line of requirements with the digests of wheels of one version."""
    name, version = wheels[0].name.split("-")[:2]
    return " ".join([f"{name}=={version}", *(f"--hash=sha256:{artifact.digest(wheel)}" for wheel in wheels)]) + "\n"


@pytest.fixture
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder, requests = tmp_path_factory.mktemp("index"), []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:
            requests.append(self.path)

    write_wheel(folder / "simple/torch", "torch", "2.13.0")
    write_wheel(folder / "simple/extra", "extra", "1.0")
    write_wheel(folder / "simple/gpu", "gpu", "1.0")
    write_wheel(folder / "cpu/torch", "torch", "2.13.0+cpu")
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Index(folder, f"http://127.0.0.1:{server.server_address[1]}", requests)
        server.shutdown()


def write_pins(index: Index) -> None:
    """Pins two packages of the index, and one that the plain torch needs."""
    torch = [index.folder / f"{place}/torch/torch-2.13.0{local}-py3-none-any.whl" for place, local in BUILDS.items()]
    extra, gpu = (index.folder / f"simple/{name}/{name}-1.0-py3-none-any.whl" for name in ("extra", "gpu"))
    (index.folder / "requirements.txt").write_text(f"{pin_of(*torch)}{pin_of(extra)}")
    (index.folder / "requirements-cuda.txt").write_text(pin_of(gpu))


def install(index: Index, cpu_index: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in the index's folder, with the pins of write_pins unless there are others."""
    if not (index.folder / "requirements.txt").exists():
        write_pins(index)
    settings = {**OFFLINE, "PIP_NO_INDEX": "", "PIP_INDEX_URL": f"{index.url}/simple", "PIP_NO_CACHE_DIR": "1"}
    settings |= {"PIP_RETRIES": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    words = ["--out", ".venv", "--requirements", "requirements.txt", "--cpu-index", cpu_index or f"{index.url}/cpu"]
    return run(sys.executable, SCRIPTS / "setup_env.py", *words, cwd=index.folder, **{**settings, **more})


def messages(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it printed on stderr, without the progress lines of a slow machine."""
    return [line for line in done.stderr.splitlines() if not re.fullmatch(r"  .*, \d+ s", line)]


def test_the_page_names_the_pinned_torch_and_the_index_that_is_asked() -> None:
    page = INSTALL.read_text("utf-8")
    pin = torch_build.pinned_version((TREE / "requirements.txt").read_text("utf-8"))
    assert f"   echo 'torch==={pin}+cpu' > torch.txt\n" in page
    assert f" --constraint torch.txt \\\n     --extra-index-url {torch_build.CPU_INDEX}\n" in page
    assert f" torch {pin}+cpu, from " in page


def torch_of(index: Index) -> str:
    """The version of torch in the environment that was made."""
    (path,) = index.folder.glob(".venv/lib/python*/site-packages/torch-*.dist-info")
    return path.name[len("torch-") : -len(".dist-info")]


def test_the_cpu_build_comes_from_the_cpu_index_and_pips_output_is_only_in_the_log(index: Index) -> None:
    done = install(index)
    assert (done.returncode, messages(done)) == (0, [])
    assert torch_of(index) == "2.13.0+cpu"
    first, torch, last = done.stdout.splitlines()
    assert first == "  SETUP     .venv from requirements.txt"
    assert re.fullmatch(r" +torch 2\.13\.0\+cpu, from 127\.0\.0\.1:\d+", torch)
    assert re.fullmatch(r" +2 packages installed in \d+ s", last)
    page = next(text for kind, text in documents.BLOCK.findall(INSTALL.read_text("utf-8")) if kind == "text")
    shown = [documents.masked(line).replace("download.pytorch.org", "#:#") for line in page.splitlines()]
    assert shown == [documents.masked(line) for line in done.stdout.splitlines()]
    assert "Successfully installed" in (index.folder / ".venv/pip.log").read_text()
    assert (index.folder / ".venv/requirements.txt").read_text() == (index.folder / "requirements.txt").read_text()


def test_a_cpu_build_that_pips_configuration_offers_is_taken_and_no_other_index_is_asked(index: Index) -> None:
    shutil.copytree(index.folder / "cpu/torch", index.folder / "wheels")
    write_wheel(index.folder / "wheels", "torch", "2.13.0+cu130")  # which pip would prefer
    done = install(index, PIP_FIND_LINKS=str(index.folder / "wheels"), MAKEFLAGS="s")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert torch_of(index) == "2.13.0+cpu"
    assert not [path for path in index.requests if path.startswith("/cpu")]


def test_the_plain_build_is_installed_after_one_line_where_no_index_offers_the_cpu_build(index: Index) -> None:
    done = install(index, "http://127.0.0.1:9/cpu")
    assert done.returncode == 0
    assert torch_of(index) == "2.13.0"
    assert [*index.folder.glob(".venv/lib/python*/site-packages/gpu-1.0.dist-info")]
    (line,) = messages(done)
    assert line.startswith(
        "setup_env.py: warning: no CPU build of torch 2.13.0 in pip's configuration or at 127.0.0.1:9"
    )
    assert ("2.7 GB" in line) == (os.uname().machine == "x86_64")
    assert "docs/install.md" in line


def chosen_build(index: Index, monkeypatch: pytest.MonkeyPatch, **more: str) -> torch_build.Build:
    """What this interpreter's pip would install."""
    for name, value in environment(
        **{**OFFLINE, "PIP_NO_INDEX": "", "PIP_INDEX_URL": f"{index.url}/simple", **more}
    ).items():
        monkeypatch.setenv(name, value)
    settings = torch_build.pip_settings(sys.executable)
    versions = functools.partial(torch_build.available_versions, sys.executable)
    return torch_build.choose_build("2.13.0", settings, versions, f"{index.url}/cpu")


def test_without_an_index_only_the_folders_of_wheels_are_asked(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(index.folder / "wheels", "torch", "2.13.0")
    build = chosen_build(index, monkeypatch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index.folder / "wheels"))
    assert (build.version, build.options, build.warning) == ("2.13.0", [], "")
    assert index.requests == []
    write_wheel(index.folder / "wheels", "torch", "2.13.0+cpu")
    build = chosen_build(index, monkeypatch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index.folder / "wheels"))
    assert (build.version, build.options) == ("2.13.0+cpu", [])


def test_a_build_of_torch_that_is_not_pinned_is_refused_though_a_constraint_names_it(index: Index) -> None:
    write_wheel(index.folder / "wheels", "torch", "2.13.0+cu130")
    constraints = index.folder / "constraints.txt"
    constraints.write_text("Torch == 2.13.0+cu130\n")
    done = install(index, PIP_FIND_LINKS=str(index.folder / "wheels"), PIP_CONSTRAINT=str(constraints))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("see which constraints pip has: python3 -m pip config list")


# Only pinned files are installed


def foreign_file(index: Index, kind: str) -> dict[str, str]:
    """Puts a file that is not pinned beside, or in place of, the one of the package `extra`; returns pip's settings."""
    place = index.folder / "simple/extra"
    if kind == "other bytes":
        write_wheel(place, "extra", "1.0", comment="changed")
    elif kind == "local version":
        write_wheel(place, "extra", "1.0+evil")
    elif kind == "sdist":
        shutil.rmtree(place)
        place.mkdir()
        with tarfile.open(place / "extra-1.0.tar.gz", "w:gz") as archive:
            setup = index.folder / "setup.py"
            setup.write_text("open('executed', 'w')\n")
            archive.add(setup, "extra-1.0/setup.py")
    else:
        write_wheel(index.folder / "wheels", "extra", "1.0+evil")
        return {"PIP_FIND_LINKS": str(index.folder / "wheels")}
    return {}


@pytest.mark.parametrize("kind", ["other bytes", "local version", "local version in a folder", "sdist"])
def test_a_file_that_is_not_pinned_is_never_installed(index: Index, kind: str) -> None:
    write_pins(index)
    done = install(index, **foreign_file(index, kind))
    assert done.returncode == 1, done.stdout
    problem = done.stderr.splitlines()[-1]
    assert ("no index that pip reached has it" if kind == "sdist" else "that is not a pinned one") in problem
    assert not [*index.folder.glob(".venv/lib/python*/site-packages/extra-*")]
    assert not (index.folder / ".venv/requirements.txt").exists()
    assert not [*index.folder.rglob("executed")]


def test_a_pin_without_a_digest_is_refused(index: Index) -> None:
    write_pins(index)
    pins = index.folder / "requirements.txt"
    pins.write_text(re.sub(r"(extra==1\.0).*", r"\1", pins.read_text()))
    done = install(index)
    assert done.returncode == 1
    assert "the pins contain no digest for it: run make pins" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "pin"),
    [
        ("torch==2.13.0  # why", "2.13.0"),
        ("torch == 2.13.0; x", "2.13.0"),
        ("torch==2.13.0 \\\n    --hash=sha256:0", "2.13.0"),
        ("torch==2.13.0+cu130", ""),
        ("torchaudio==1", ""),
    ],
)
def test_the_pin_is_read_from_the_requirements(line: str, pin: str) -> None:
    assert torch_build.pinned_version(f"numpy==1\n{line}\n") == pin


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "free some space"),
        ("The virtual environment was not created successfully because ensurepip is not available.", "python3-venv"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate", "SSL_CERT_FILE"),
        ("ProxyError('Cannot connect to proxy.', NewConnectionError('<", "HTTPS_PROXY"),
        (
            "NewConnectionError('<>: Failed to establish a new connection: [Errno -2] Name or service",
            "check the network",
        ),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "check the network"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "a file that is not a pinned one",
        ),
        ("ERROR: Hashes are required in --require-hashes mode, but they are missing", "make pins"),
        ("ERROR: ResolutionImpossible: for help visit", "pip config list"),
        ("ERROR: Could not find a version that satisfies torch==2 (from versions: none)", "the network and the proxy"),
        ("ERROR: No matching distribution found for torch==2.13.0", "name another index or a folder of wheels"),
        ("ERROR: something new", "see the lines above"),
    ],
)
def test_the_remedy_fits_the_failure(capsys: pytest.CaptureFixture[str], output: str, remedy: str) -> None:
    lines = "\n".join(f"line {number}" for number in range(40))
    with pytest.raises(SystemExit):
        setup_env.fail("pip", 1, f"{lines}\n{output}\n", ".venv/pip.log")
    *shown, error = capsys.readouterr().err.splitlines()
    assert len(shown) == 15
    assert shown[-1].strip() == output
    assert remedy in error.rpartition("; ")[2]


def test_no_password_or_token_of_an_index_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        setup_env.fail(
            "pip", 1, "Looking in indexes: https://user:secret@host/simple\nLooking in links: http://h/x?t=secret\n"
        )
    shown = capsys.readouterr().err
    assert "https://…@host/simple" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("output", "stage"),
    [
        ("Looking in indexes: https://host/simple\n", "starting pip"),
        (
            "Collecting torch==2.13.0\n  Downloading https://h/torch-2.13.0%2Bcpu-cp311.whl (180.2 MB)\n",
            "1: torch (180.2 MB)",
        ),
        (
            "Processing /w/numpy-2.2.6-cp311.whl\nCollecting openvino-telemetry==2025.2.0 (from -r",
            "2: openvino-telemetry",
        ),
        ("Collecting a\nInstalling collected packages: a, b-c, d\n", "installing 3 packages"),
    ],
)
def test_the_progress_line_names_the_package(output: str, stage: str) -> None:
    assert setup_env.stage_of(output).endswith(stage)
