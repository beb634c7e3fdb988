"""The environment of CANN's tools, and what each version of CANN needs and runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from conftest import TREE, toolkit_of
from engines.ascend import _cann, _versions
from engines.ascend._cann_rows import python_remedy


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME on a host without CANN."""
    for name in ("SET_ENV", "ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize("compiler", [True, False])
def test_the_projects_venv_is_not_on_the_path_of_canns_tools(
    compiler: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take python3 from PATH. It must not be that of .venv, which a user may have activated."""
    monkeypatch.setenv("PATH", f"{TREE / '.venv/bin'}:{home}:{os.environ['PATH']}")
    folders = _cann.environment(compiler)["PATH"].split(":")
    assert str(TREE / ".venv/bin") not in folders
    assert folders[0] == str(home)


# Several installations


def test_the_newest_of_several_cann_is_used_whatever_its_folder_is_called(home: Path) -> None:
    ascend = home / "Ascend"
    toolkit_of(ascend / "ascend-toolkit", "8.0.RC3")
    assert _cann.version(_cann.environment(True), "compiler") == "8.0.RC3"
    toolkit_of(ascend / "cann-8.5.0", "8.5.0")
    toolkit_of(ascend / "cann-9.0.0", "9.0.0")
    toolkit_of(ascend / "nnrt", "9.1.0")  # without a compiler
    variables = _cann.environment(True)
    assert variables["ASCEND_HOME_PATH"] == str(ascend / "cann-9.0.0")
    others = _cann.others(variables)
    assert [text.split()[0] for text in others.split(", ")] == ["8.5.0", "8.0.RC3", "9.1.0"]
    assert str(ascend / "ascend-toolkit/set_env.sh") in others


def test_an_installation_by_pip_or_conda_is_found_by_the_python_of_path(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit_of(home / "Ascend/ascend-toolkit", "8.3.RC1")
    python = home / "env/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    toolkit_of(home / "env/Ascend/cann", "8.5.0")
    assert _cann.version(_cann.environment(True), "compiler") == "8.5.0"
    by_pip = toolkit_of(home / "env/lib/python3.11/site-packages/ascend/cann-9.1.0", "9.1.0")
    assert _cann.set_env_file() == by_pip
    (by_pip.parent / f"{_cann.ARCH}/ascend_toolkit_install.info").unlink()
    assert _cann.installations()[0].version == "9.1.0"  # from the folder's name


def test_other_names_of_one_installation_are_not_other_ones(home: Path) -> None:
    ascend = home / "Ascend"
    toolkit_of(ascend / "cann-9.1.0", "9.1.0")
    (ascend / "cann").symlink_to("cann-9.1.0")
    (ascend / "ascend-toolkit").mkdir()  # as in the images of CANN 9.1
    (ascend / "ascend-toolkit/latest").symlink_to("../cann-9.1.0")
    shutil.copy(ascend / "cann/set_env.sh", ascend / "ascend-toolkit")
    assert _cann.set_env_file() == ascend / "cann/set_env.sh"
    assert _cann.others(_cann.environment(True)) == ""


def test_a_cann_without_a_version_is_not_newer_than_its_folder_says(home: Path) -> None:
    old, new = home / "Ascend/ascend-toolkit", home / "Ascend/cann"
    for folder, version in ((old, "8.3.RC1"), (new, "x")):
        toolkit_of(folder, version)
    (new / f"{_cann.ARCH}/ascend_toolkit_install.info").unlink()
    assert _cann.set_env_file() == new / "set_env.sh"  # this folder exists from 8.5 on
    assert _cann.version(_cann.environment(True), "compiler") == "unknown"


@pytest.mark.parametrize(
    ("label", "compiler", "version"),
    [
        ("9.2.0", "9.1.0", "9.1.0"),
        ("9.1.0", "9.1.0", "9.1.0"),
        ("8.0.0", "7.6.0.1.220", "8.0.0"),  # older components have another numbering
        ("8.2.RC2", "8.2.0.2.220", "8.2.RC2"),
        ("8.5.0", "", "8.5.0"),
    ],
)
def test_the_version_of_atc_is_that_of_its_component(home: Path, label: str, compiler: str, version: str) -> None:
    toolkit_of(home / "Ascend/cann", label, compiler)
    variables = _cann.environment(True)
    assert _cann.version(variables, "compiler") == version
    assert _cann.version(variables, "runtime") == label


# {file below CANN's folder: its content}, and the version: that of CANN, never that of a component
LAYOUTS = [
    ({"runtime/version.info": "Version=7.6.0.1.220\n"}, "unknown"),
    ({"runtime/version.info": "Version=8.2.0.2.220\n", "compiler/version.info": "Version=8.2.0.2.220\n"}, "unknown"),
    ({"runtime/version.info": "Version=9.1.0\n"}, "unknown"),
    ({"compiler/version.info": "Version=7.6.T13.0.B094\n"}, "unknown"),
    ({"ARCH/ascend_toolkit_install.info": "package_name=x\nversion=8.0.0\n"}, "8.0.0"),
    ({"ARCH/ascend_toolkit_install.info": "version=7.6.0.1.220\n"}, "unknown"),
    ({"ascend_nnrt_install.info": "version=8.0.RC3\n", "runtime/version.info": "Version=7.5.0.1.129\n"}, "8.0.RC3"),
    ({"ARCH/ascend_nnrt_install.info": "version=8.5.0\n"}, "8.5.0"),
    ({"ascend_nnae_install.info": "version=7.0.0\n"}, "7.0.0"),
    ({"ARCH/ascend_nnae_install.info": "version=7.0.0\n"}, "7.0.0"),
    ({"version.cfg": "# version: 1.0\nruntime_running_version=[7.6.0.1.220:8.0.0]\n"}, "8.0.0"),
    (
        {"version.cfg": "runtime_running_version=[1.84.15.1.310:6.0.1]\ntoolkit_running_version=[x:6.3.RC2]\n"},
        "6.3.RC2",
    ),
    ({"version.cfg": "runtime_running_version=[1.83.T8.0.B128:CANN-1.83]\n"}, "unknown"),
    ({"version.cfg": "runtime_running_version=[9.9]\n", "runtime/version.info": "Version=9.9\n"}, "unknown"),
    ({}, "unknown"),
]


@pytest.mark.parametrize(("files", "version"), LAYOUTS)
def test_the_version_of_cann_is_never_that_of_a_component(home: Path, files: dict[str, str], version: str) -> None:
    folder = home / "Ascend/cann"
    for name, text in {"set_env.sh": "export ASCEND_HOME_PATH=$PWD\n", **files}.items():
        path = folder / name.replace("ARCH", _cann.ARCH)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    variables = {"ASCEND_HOME_PATH": str(folder)}
    assert _cann.label(folder) == version
    for component in ("compiler", "runtime"):
        assert _cann.version(variables, component) == version
    assert _cann.installations()[0].version == version


def test_the_version_of_cann_is_in_the_name_of_its_folder(home: Path) -> None:
    for name, version in (
        ("8.0.RC3", "8.0.RC3"),
        ("cann-9.0.0", "9.0.0"),
        ("7.6.0.1.220", "unknown"),
        ("x", "unknown"),
    ):
        (home / name / "runtime").mkdir(parents=True)
        (home / name / "runtime/version.info").write_text("Version=7.6.0.1.220\n")
        assert _cann.label(home / name) == version


# What a version needs


def test_versions_are_compared_with_their_stages() -> None:
    texts = [
        "7.0.0",
        "8.0.RC3.alpha001",
        "8.0.RC3",
        "8.0.0",
        "8.1.RC1",
        "8.5.0.alpha002",
        "8.5.0-stand-in",
        "9.0.0-beta.2",
    ]
    texts += ["9.0.0", "9.0.1", "9.1.0"]
    versions = [_versions.parse(text) or pytest.fail(text) for text in texts]
    assert sorted(versions) == versions
    assert len(set(versions)) == len(versions)
    assert _versions.parse("unknown") is None


@pytest.mark.parametrize(
    ("cann", "newest"),
    [("6.0.1", 10), ("8.1.RC1", 10), ("8.2.RC1", 11), ("8.3.RC2", 11), ("8.5.0", 13), ("9.0.1", 13), ("9.1.0", 14)],
)
def test_the_python_of_each_cann(cann: str, newest: int) -> None:
    assert python_remedy([3, 7, 5], cann) == python_remedy([3, newest, 1], cann) == ""
    number = ".".join(cann.split(".")[:2])
    for wrong in ([3, 6, 9], [3, newest + 1, 0]):
        assert python_remedy(wrong, cann) == f"CANN {number} needs Python 3.7 to 3.{newest}: put one first on PATH"


def test_nothing_is_claimed_about_the_python_of_an_unknown_cann() -> None:
    assert python_remedy([3, 10, 1], "unknown") == ""
    assert python_remedy([3, 12, 1], "unknown").startswith("if atc fails, ")
    assert python_remedy([3, 15, 0], "9.3.0") == ""
    assert "needs Python 3.7" in python_remedy([3, 6, 0], "9.3.0")


@pytest.mark.parametrize(
    ("cann", "python", "numpy", "fits", "package"),
    [
        ("7.0.0", 9, "1.26.4", True, "numpy<2"),
        ("7.0.0", 9, "2.0.0", False, "numpy<2"),
        ("8.3.RC1", 11, "2.2.6", False, "numpy<2"),
        ("8.5.0", 12, "2.2.6", False, "numpy<2"),
        ("8.5.0", 12, "1.26.4", True, "numpy<2"),
        ("8.5.0", 13, "2.2.6", True, "numpy>2.1"),
        ("8.5.0", 13, "2.1.0", False, "numpy>2.1"),
        ("8.5.0", 13, "", False, "numpy>2.1"),
        ("8.3.RC1", 13, "2.2.6", False, ""),  # there is none for this Python
        ("9.0.0", 11, "2.2.6", True, "numpy<2"),
        ("9.0.0", 13, "2.5.1", True, "numpy"),
        ("9.1.0", 14, "3.0.0", True, "numpy"),
        ("9.1.0", 9, "1.19.1", False, "numpy<2"),
        ("9.1.0", 9, "1.19.2", True, "numpy<2"),
        ("9.1.0", 9, "cannot be imported: x", False, "numpy<2"),
        ("unknown", 11, "2.2.6", False, "numpy<2"),
        ("unknown", 11, "1.26.4", True, "numpy<2"),
    ],
)
def test_the_numpy_of_each_cann_and_python(cann: str, python: int, numpy: str, fits: bool, package: str) -> None:
    need = _versions.numpy_for(cann, [3, python, 0], numpy)
    assert (need.fits, need.package) == (fits, package)


@pytest.mark.parametrize(
    ("compiled", "running", "words", "is_refused"),
    [
        ("9.1.0", "9.0.0", "compiled by CANN 9.1.0, which is newer than CANN 9.0.0", True),
        ("8.3.RC2", "8.3.RC1", "newer", True),
        ("8.5.0", "8.5.0", "", False),
        ("8.5.0", "8.5.0-stand-in", "", False),
        ("8.1.RC1", "9.0.0", "", False),  # four versions
        ("8.0.0", "9.0.0", "more than 4 versions before CANN 9.0.0", False),
        ("unknown", "8.0.0", "", False),
        ("9.1.0", "unknown", "", False),
        ("8.0.0", "7.6.0.1.220", "", False),  # versions of components
        ("7.6.0.1.220", "7.0.0", "", False),
        ("8.2.RC2", "8.2.0.2.220", "", False),
        ("8.2.0.2.220", "8.2.RC2", "", False),
        ("9.0.0", "8.5.0.1.220", "newer than CANN 8.5.0.1.220", True),
    ],
)
def test_an_om_runs_on_the_same_cann_and_on_four_newer_ones(
    compiled: str, running: str, words: str, is_refused: bool
) -> None:
    problem, is_newer = _versions.model_problem(compiled, running)
    assert words in problem
    assert (bool(problem), is_newer) == (bool(words), is_refused)
