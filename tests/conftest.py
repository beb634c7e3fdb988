"""What the tests share: a copy of the tree with a stand-in engine, a make with a clean environment, small inputs.

The stand-in engine `null` answers with an image's first ten values, at once or as the JSON in NULL says (ms a batch, an
error to add, a cache), and lives here only; it is written into the temporary copy, as is the line of its chip.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest

# A shell has a job in its background ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Machines are busy, and the tree stays clean.
hypothesis.settings.register_profile("ours", deadline=None, database=None)
hypothesis.settings.load_profile("ours")

TREE = Path(__file__).resolve().parent.parent
SCRIPTS = TREE / "scripts"
STAND_INS = TREE / "tests/stand-ins"

NULL_COMPILE = """
import zlib
ENDING = "null"
PACKAGES = ()
def compile_model(model, batch_size, out, options, limits, log):
    out.write_text(f"stand-in, batch {batch_size} {zlib.crc32(model.read_bytes())}")
    return {"precision": "stand-in"}
"""
NULL_RUN = """
import json, os, time
PACKAGES = ()
def load(model, options):
    plan, answered = json.loads(os.environ.get("NULL", "{}")), set()
    def run(images):
        answer = images.reshape(len(images), -1)[:, :10].copy() + plan.get("wrong", 0)
        known = plan.get("cache") and images.tobytes() in answered
        if plan.get("cache"):
            answered.add(images.tobytes())
        time.sleep(0 if known else plan.get("ms", 0) / 1000)
        return answer
    return run, {"runtime": "stand-in"}
"""


def environment(**more: str) -> dict[str, str]:
    """This environment without what make and its inputs would take from it."""
    ours = {"BS", "CHIP", "ROOT", "SOURCE", "ARCHIVE", "WEIGHTS", "ONNX", "OM", "DEVICE", "ATC", "AIS_BENCH", "SET_ENV"}
    ours |= {"PYTHON", "V", "DEPS", "CI"}
    clean = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith(("MAKE", "MFLAGS", "GNUMAKE"))}
    return {**clean, **more}


def run(*command: object, cwd: Path = TREE, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=600
    )


def script(name: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/<name>.py with this interpreter."""
    return run(sys.executable, SCRIPTS / f"{name}.py", *arguments, **more)


def refused(done: subprocess.CompletedProcess[str], *words: str, status: int = 1) -> None:
    """Holds that a script failed as it must: the status, one line on stderr with these words, no traceback."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == status, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    assert re.fullmatch(r"\w+\.py: [^;]+: .+; .+", lines[0]), lines[0]
    for word in words:
        assert word in lines[0], lines[0]


class House:
    """A copy of the tree, with the stand-in engine, and a ROOT in it; counts the Pythons that make starts."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.root = tree / "house"
        self.log = tree / "pythons.log"
        self.python = tree / "python"

    def make(self, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        chosen = {"ROOT": "house", "CHIP": "null", "PYTHON": str(self.python)}
        given = {word.split("=", 1)[0] for word in arguments if "=" in word}
        (self.tree / "tmp").mkdir(exist_ok=True)
        more.setdefault("TMPDIR", str(self.tree / "tmp"))  # where the locks of devices lie: not to wait for other tests
        words = [f"{k}={v}" for k, v in chosen.items() if k not in given]
        done = run("make", *arguments, *words, cwd=self.tree, **more)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def pythons(self) -> list[str]:
        """The scripts that the last make started, in order."""
        return re.findall(r"scripts/(\w+)\.py", self.log.read_text())

    def artifacts(self) -> dict[str, int]:
        """{path below ROOT: inode} of every artifact and manifest; an artifact made anew has another inode."""
        found = {}
        for name in ("data", "models", "results"):
            for path in (self.root / name).rglob("*"):
                record = path.suffix == ".json" and path.name != "manifest.json"
                if path.is_file() and not record and not re.match(r"image_\d+", path.name):
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_ino
        return found

    def rebuilt(self, before: dict[str, int]) -> set[str]:
        """What is new or was made anew since `before`."""
        return {path for path, inode in self.artifacts().items() if before.get(path) != inode}

    def set_param(self, old: str, new: str) -> None:
        params = self.tree / "params.yaml"
        text = params.read_text()
        assert old in text, old
        params.write_text(text.replace(old, new))


def ascend_host(tree: Path, generation: str = "new", **more: str) -> dict[str, str]:
    """The environment of a host with an NPU and CANN, made of the stand-ins; they note their calls in
    `tree`/stand-ins.log. `generation` of ais_bench: old, new, or llm, another tool of its name."""
    folder = tree / "path"
    folder.mkdir(exist_ok=True)
    python = folder / "python3"
    if not python.exists():
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    package = {"old": "ais_bench_old", "new": "ais_bench_new"}.get(generation, generation)
    return {
        "PATH": f"{folder}:{STAND_INS / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{STAND_INS / 'aclruntime'}:{STAND_INS / package}",
        "SET_ENV": str(STAND_INS / "toolkit/set_env.sh"),
        "STAND_IN_LOG": str(tree / "stand-ins.log"),
        **more,
    }


def new_house(tree: Path) -> House:
    for name in ("Makefile", "params.yaml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy2(TREE / name, tree / name)
    shutil.copytree(SCRIPTS, tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TREE / "patches", tree / "patches")
    (tree / "scripts/engines/null_compile.py").write_text(NULL_COMPILE)
    (tree / "scripts/engines/null_run.py").write_text(NULL_RUN)
    house = House(tree)
    house.set_param("chips:\n", "chips:\n  null: engine=null\n  null2: engine=null\n")
    for key, small in (("train_images: 1000", 10), ("test_images: 1000", 40), ("check_images: 64", 2)):
        house.set_param(key, f"{key.split()[0]} {small}")
    for key, small in (("warmup: 2 ", "0.1"), ("min_duration: 10", "0.1"), ("min_queries: 100", "12")):
        house.set_param(key, f"{key.split()[0]} {small} ")
    house.set_param("https://", "http://127.0.0.1:9/")  # nobody listens there: no test asks the network
    house.set_param("tries: 3", "tries: 1")
    house.python.write_text(f'#!/bin/sh\necho "$@" >> "{house.log}"\nexec "{sys.executable}" "$@"\n')
    house.python.chmod(0o755)
    return house


def copy_of(house: House, tree: Path) -> House:
    """The same house in another tree, with all its times."""
    run("cp", "-a", f"{house.tree}/.", tree)
    copy = House(tree)
    copy.python.write_text(copy.python.read_text().replace(str(house.tree), str(tree)))
    return copy


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house whose sample has gone through the whole graph once, at batch size 16. Not to be changed: see `house`."""
    house = new_house(tmp_path_factory.mktemp("built"))
    house.make("accuracy", "SOURCE=sample")
    return house


@pytest.fixture
def house(built: House, tmp_path: Path) -> House:
    """A copy of the built house, with all its times, for one test."""
    return copy_of(built, tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> House:
    """A house where nothing was built yet."""
    return new_house(tmp_path)


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks of this machine's CPU and devices lie in a folder of the test's own: it waits for no other test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("locks")))


class Inputs(NamedTuple):
    archive: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The sample's archive with 20 test images, and its checkpoint, with their records."""
    folder = tmp_path_factory.mktemp("inputs")
    sizes = ("--seed", 1, "--train-images", 10, "--test-images", 20)
    assert script("sample", "--archive", folder / "archive.tar.gz", *sizes).returncode == 0
    assert script("sample", "--checkpoint", folder / "checkpoint.pkl").returncode == 0
    return Inputs(folder / "archive.tar.gz", folder / "checkpoint.pkl")


MD5 = ("--official-md5", "0" * 32)


@pytest.fixture(scope="session")
def bins(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the bins of `inputs`."""
    folder = tmp_path_factory.mktemp("data") / "bin"
    done = script("preprocess", "--archive", inputs.archive, *MD5, "--bins", folder)
    assert done.returncode == 0, done.stderr
    return folder / "manifest.json"


def export(checkpoint: Path, bins: Path, out: Path, *, opset: int = 11, **more: str) -> Any:
    flags = ("--check-images", 2, "--tolerance", "1e-4", "--official-blob", "0" * 40)
    return script(
        "export_onnx", "--checkpoint", checkpoint, "--bins", bins, "--opset", opset, *flags, "--out", out, **more
    )


@pytest.fixture(scope="session")
def onnx_file(inputs: Inputs, bins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain export of the sample's checkpoint."""
    out = tmp_path_factory.mktemp("onnx") / "3d_attention_net.onnx"
    done = export(inputs.checkpoint, bins, out)
    assert done.returncode == 0, done.stderr
    return out


def optimize(onnx_file: Path, bins: Path, out: Path, resize: str, images: int = 4, **more: str) -> Any:
    flags = ("--check-images", images, "--tolerance", "1e-4")
    return script(
        "optimize_onnx", "--onnx", onnx_file, "--bins", bins, "--resize", resize, *flags, "--out", out, **more
    )
