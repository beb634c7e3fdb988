"""Shared fixtures: a copy of the tree with the null engine, make with a clean environment, small inputs.

The engine `null` of tests/fakes is copied into the temporary tree, and its chip is added to that params.yaml.
"""

from __future__ import annotations

from _support import locks
from _support.artifact import read_record

import contextlib
import fcntl
import importlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple
from unittest import mock

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from engines import ModelFile
from formats.bins import some_bins
from fuzzing import (  # noqa: F401  the hooks are pytest's
    pytest_addoption,
    pytest_configure,
    pytest_runtest_call,
    pytest_terminal_summary,
)
from graphs import agreement

# A background job of a shell ignores SIGINT, and so would all processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

TREE = Path(__file__).resolve().parent.parent
SCRIPTS = TREE / "scripts"
STAND_INS = TREE / "tests/stand_ins"
FAKES = TREE / "tests/fakes"

# Each worker runs on one CPU. Numerical libraries start one spinning thread per CPU, so workers that share CPUs would
# wait for each other.
worker = os.environ.get("PYTEST_XDIST_WORKER", "")
cpus = sorted(os.sched_getaffinity(0))
if worker and int(worker[2:]) < len(cpus):
    os.sched_setaffinity(0, {cpus[int(worker[2:])]})

QUICK = (
    "test_preflight.py",
    "test_layout.py",
    "test_params.py",
    "test_lint_make.py",
    "test_cann.py",
    "test_npu_smi.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than CPUs, because a tenth of the time the tests wait for clocks and other processes."""
    return len(cpus) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the tests that take milliseconds last, so that all workers end at the same time."""
    items.sort(key=lambda item: item.path.name in QUICK)


def environment(**more: str) -> dict[str, str]:
    """The environment without variables that influence make, and with `more`."""
    ignored = {
        "BS",
        "CHIP",
        "ROOT",
        "SOURCE",
        "ARCHIVE",
        "WEIGHTS",
        "ONNX",
        "OM",
        "DEVICE",
        "ATC",
        "AIS_BENCH",
        "SET_ENV",
        "PARAMS",
        "T",
        "N",
    }
    ignored |= {"PYTHON", "MIRROR", "FRESH", "LAYERS", "WHY", "V", "DEPS", "INPUTS_DIGEST", "CI"}
    clean = {
        k: v for k, v in os.environ.items() if k not in ignored and not k.startswith(("MAKE", "MFLAGS", "GNUMAKE"))
    }
    return {**clean, "PIP_NO_INDEX": "1", **more}  # tests never use a package index


def run(*command: object, cwd: Path = TREE, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=600
    )


# A command in a mount namespace of its own.
NAMESPACE = ["unshare", "--map-root-user", "--mount"]
may_mount = pytest.mark.skipif(
    run(*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt").returncode != 0, reason="mounting is not allowed here"
)


def script(name: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/<name>.py with this interpreter."""
    return run(sys.executable, SCRIPTS / f"{name}.py", *arguments, **more)


def script_here(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs scripts/<name>.py in this process, which saves the import of torch and onnx."""
    words = [str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(name).main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def model_file(path: Path) -> ModelFile:
    """A graph or a compiled model as an engine gets it."""
    return ModelFile(path, path.read_bytes())


def refused(done: subprocess.CompletedProcess[str], *words: str, status: int = 1) -> None:
    """Checks that a script failed with this status and one line on stderr, which contains `words`."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == status, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    assert re.fullmatch(r"\w+\.py: [^;]+: .+; .+", lines[0]), lines[0]
    for word in words:
        assert word in lines[0], lines[0]


def scenarios(why: list[str]) -> dict[str, Any]:
    """The scenarios of a perf.json that is not stable for the reasons `why`."""
    stability = {"drift": 0.1, "spread": 0.1, "others": None, "limits": {}, "why": why}
    figures = {"queries": 2, "images": 32, "throughput_images_per_s": 9.5, "times_ms": [1.0, 2.0]}
    check = {"answers": 32, "largest_error": 0.0, "labels_changed": 0}
    entry = {**figures, "stability": {**stability, "why": []}, "check": check}
    single = {"queue": "one batch in flight", **entry, "latency_ms": {"p50": 1.0}}
    return {"SingleStream": single, "Offline": {"queue": "queue kept full", **entry, "stability": stability}}


def damaged_scenarios() -> Iterator[dict[str, Any]]:
    """The same with a damaged entry each."""
    for name, value in [
        ("queue", 1),
        ("streams", "9" * 99),
        ("times_ms", []),
        ("times_ms", [0]),
        ("images", 0.5),
        ("stability", None),
    ]:
        yield {**scenarios([]), "Offline": {**scenarios([])["Offline"], name: value}}
    for name, value in [("why", None), ("why", [1]), ("others", "0")]:
        entry = scenarios([])["SingleStream"]
        yield {**scenarios([]), "SingleStream": {**entry, "stability": {**entry["stability"], name: value}}}


def accuracy_figures(correct: int, total: int) -> dict[str, Any]:
    """The figures of an invented accuracy.json, which agree with each other; all images are in two classes."""
    confusion = [[0] * 10 for _ in range(10)]
    confusion[0][0], confusion[3][3], confusion[3][5] = correct // 2, correct - correct // 2, total - correct
    top1 = correct / total
    interval = [max(0.0, top1 - 0.01), min(1.0, top1 + 0.01)]
    return {"top1": top1, "correct": correct, "total": total, "wilson95": interval, "confusion": confusion}


class Project:
    """A copy of the tree with the null engine and a ROOT below it. It logs the scripts that make starts."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.root = tree / "root"
        self.log = tree / "pythons.log"
        self.python = tree / "python"

    def make(self, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        # ROOT and CHIP are not on the command line, because targets that do not use them would refuse them there.
        more = {"ROOT": "root", "CHIP": "null", **self.locks, **more}
        own = [] if any(word.startswith("PYTHON=") for word in arguments) else [f"PYTHON={self.python}"]
        done = run("make", *arguments, *own, cwd=self.tree, **more)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    @property
    def locks(self) -> dict[str, str]:
        """Variables that name a folder for locks of the host and temporary files, which other tests do not share."""
        (self.tree / "tmp").mkdir(exist_ok=True)
        return {locks.VARIABLE: str(self.tree / "tmp"), "TMPDIR": str(self.tree / "tmp")}

    def pythons(self) -> list[str]:
        """The scripts that the last make started, in order."""
        return re.findall(r"^-E scripts/(\w+)\.py", self.log.read_text(), re.MULTILINE)

    def artifacts(self) -> dict[str, int]:
        """{path below ROOT: inode} of every artifact and manifest; a rebuilt artifact has another inode."""
        inodes = {}
        for name in ("data", "models", "results"):
            for path in (self.root / name).rglob("*"):
                record = path.suffix == ".json" and path.name != "manifest.json"
                if path.is_file() and not record and not re.match(r"image_\d+", path.name):
                    inodes[path.relative_to(self.root).as_posix()] = path.stat().st_ino
        return inodes

    def rebuilt(self, before: dict[str, int]) -> set[str]:
        """The paths of artifacts that were built or rebuilt since `before`."""
        return {path for path, inode in self.artifacts().items() if before.get(path) != inode}

    def set(self, key: str, value: str) -> None:
        """Changes a setting of params.yaml, such as `optimize.resize`; a new key is added to its map."""
        set_setting(self.tree / "params.yaml", key, value)

    def judge_sample(self) -> None:
        """Makes the gate of `sample` one for the number of images of the sample in tests."""
        gate = self.tree / "scripts/reporting/gate.py"
        text = gate.read_text()
        assert '"sample": 1000' in text
        gate.write_text(text.replace('"sample": 1000', f'"sample": {SMALL["sample.test_images"]}'))


def set_setting(params: Path, key: str, value: str) -> None:
    """Sets a dotted key to `value`, a YAML text; the rest of the file keeps its bytes."""
    text = params.read_text("utf-8")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    *parents, name = key.split(".")
    for parent in parents:
        node = dict((k.value, v) for k, v in node.value)[parent]
    children = {k.value: v for k, v in node.value}
    if name in children:
        start, end = children[name].start_mark.index, children[name].end_mark
        block = not isinstance(children[name], yaml.ScalarNode) and not children[name].flow_style
        gap = "\n" + " " * end.column if block else ""  # a block ends where the next key begins
        params.write_text(text[:start] + value + gap + text[end.index :], "utf-8")
    else:
        first = node.value[-1][0].start_mark
        line_end = text.index("\n", node.value[-1][1].start_mark.index) + 1
        params.write_text(f"{text[:line_end]}{' ' * first.column}{name}: {value}\n{text[line_end:]}", "utf-8")


def ascend_host(tree: Path, generation: str = "new", **more: str) -> dict[str, str]:
    """The environment of a host with an NPU and CANN, simulated by the stand-ins, which log their calls to
    `tree`/stand-ins.log. `generation` of ais_bench: old, new, or llm, a different tool with the same name."""
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


def toolkit_of(folder: Path, version: str, compiler: str = "", ops: str = "") -> Path:
    """A stand-in for CANN's toolkit of any version; returns its set_env.sh. `compiler` is the version of that
    component, `ops` that of the package of operators; both are left out by default."""
    arch = folder / f"{platform.machine()}-linux"
    arch.mkdir(parents=True)
    (folder / "bin").symlink_to(STAND_INS / "toolkit/bin")
    (arch / "devlib").symlink_to(STAND_INS / "toolkit" / arch.name / "devlib")
    shutil.copy(STAND_INS / "toolkit/set_env.sh", folder)
    (arch / "ascend_toolkit_install.info").write_text(f"package_name=Ascend-cann-toolkit\nversion={version}\n")
    if compiler:
        (folder / "compiler").mkdir()
        (folder / "compiler/version.info").write_text(f"Version={compiler}\n")
    if ops:
        (arch / "ascend_ops_install.info").write_text(f"package_name=Ascend-cann-310p-ops\nversion={ops}\n")
    return folder / "set_env.sh"


MODULES = ("attr", "google/protobuf", "yaml", "absl", "decorator", "psutil", "sympy", "scipy", "cffi", "cloudpickle")
MODULES += ("tornado", "requests", "jinja2", "ml_dtypes")


def ready_host(project: Project, generation: str = "new", numpy: str = "1.23.5", **more: str) -> dict[str, str]:
    """The environment of ascend_host with all that make doctor looks for, as packages without content: nothing can run
    in it. `numpy` is the version that is installed."""
    packages = project.tree / "packages"
    for name in (*MODULES, "numpy"):
        (packages / name).mkdir(parents=True, exist_ok=True)
        (packages / name / "__init__.py").write_text(f"__version__ = '{numpy}'")
    shutil.copytree(STAND_INS / "aclruntime", packages, dirs_exist_ok=True)
    (packages / "aclruntime.py").write_text("")
    host = ascend_host(project.tree, generation, **more)
    return {**host, "PYTHONPATH": f"{packages}:{host['PYTHONPATH']}"}


SMALL = {
    "chips.null": "engine=null",
    "chips.null2": "engine=null",
    "sample.train_images": "10",
    "sample.test_images": "40",
    "optimize.check_images": "2",
    "perf.warmup": "0.1",
    "perf.min_duration": "0.1",
    "perf.min_queries": "12",
    "cifar10.urls": "http://127.0.0.1:9/cifar-10-python.tar.gz",  # no server listens there: tests never use the network
    "upstream.urls": "http://127.0.0.1:9/upstream",
    "download.tries": "1",
    "batch_sizes": "[1, 4, 8, 16, 32, 64]",  # users edit those of the tree
    "tune": "no",  # which takes seconds for each model: see test_tuning.py
}


def new_project(tree: Path) -> Project:
    for name in ("Makefile", "params.yaml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy2(TREE / name, tree / name)
    shutil.copytree(SCRIPTS, tree / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TREE / "patches", tree / "patches")
    shutil.copytree(FAKES / "null_engine", tree / "scripts/engines/null", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(tree)
    for key, value in SMALL.items():
        project.set(key, value)
    project.python.write_text(f'#!/bin/sh\necho "$@" >> "{project.log}"\nexec "{sys.executable}" "$@"\n')
    project.python.chmod(0o755)
    return project


def copy_of(project: Project, tree: Path) -> Project:
    """A copy of a project in another tree, with the same file times."""
    assert run("cp", "-a", f"{project.tree}/.", tree).returncode == 0
    copy = Project(tree)
    copy.python.write_text(copy.python.read_text().replace(str(project.tree), str(tree)))
    return copy


def shared_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """A folder shared by all workers of this run; the first worker that needs it fills it with build(folder)."""
    base = factory.getbasetemp()
    folder = (base.parent if worker else base) / "shared" / name
    complete = folder.with_name(f"{name}.complete")
    folder.parent.mkdir(exist_ok=True)
    with open(folder.with_name(f"{name}.lock"), "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # left by a worker that failed
            folder.mkdir()
            build(folder)
            complete.touch()
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose sample ran through the pipeline at batch size 16. Read-only: tests that write use `project`."""

    def build(tree: Path) -> None:
        new_project(tree).make("accuracy", "SOURCE=sample")

    return Project(shared_once(tmp_path_factory, "built", build))


FAST = json.dumps({"ms": 2})  # the null engine's time of a batch


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with an accuracy, a comparison and a measurement at batch size 4. Read-only."""

    def build(tree: Path) -> None:
        new_project(tree).make("accuracy", "compare", "perf", "SOURCE=sample", "BS=4", NULL=FAST)

    return Project(shared_once(tmp_path_factory, "measured", build))


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    """A copy of the built project with the same file times, for one test."""
    return copy_of(built, tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A project in which nothing is built yet."""
    return new_project(tmp_path)


@pytest.fixture(autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test its own folder for the locks of CPU and devices, so that it waits for no other test."""
    monkeypatch.setenv(locks.VARIABLE, str(tmp_path_factory.mktemp("locks")))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the inputs of property tests, which use it again for each input."""
    return tmp_path_factory.mktemp("scratch")


class Inputs(NamedTuple):
    archive: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The sample's archive with 20 test images, and its checkpoint, with their records."""

    def build(folder: Path) -> None:
        sizes = ("--seed", 1, "--train-images", 10, "--test-images", 20)
        assert script("make_sample", "--archive", folder / "archive.tar.gz", *sizes).returncode == 0
        assert script("make_sample", "--checkpoint", folder / "checkpoint.pkl").returncode == 0

    folder = shared_once(tmp_path_factory, "inputs", build)
    return Inputs(folder / "archive.tar.gz", folder / "checkpoint.pkl")


@pytest.fixture(scope="session")
def bins(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of the bins of `inputs`."""

    def build(folder: Path) -> None:
        done = script("preprocess", "--archive", inputs.archive, "--bins", folder / "bin")
        assert done.returncode == 0, done.stderr

    return shared_once(tmp_path_factory, "data", build) / "bin/manifest.json"


def export(
    checkpoint: Path, bins: Path, out: Path, opset: int = 11, how: Callable[..., Any] = script, **more: str
) -> Any:
    """Runs the export; `how` is script, or script_here for this process."""
    flags = ("--check-images", 2, "--tolerance", "1e-4")
    return how(
        "export_onnx", "--checkpoint", checkpoint, "--bins", bins, "--opset", opset, *flags, "--out", out, **more
    )


@pytest.fixture(scope="session")
def onnx_file(inputs: Inputs, bins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain export of the sample's checkpoint."""

    def build(folder: Path) -> None:
        done = export(inputs.checkpoint, bins, folder / "3d_attention_net.onnx")
        assert done.returncode == 0, done.stderr

    return shared_once(tmp_path_factory, "onnx", build) / "3d_attention_net.onnx"


def small_graph(path: Path) -> Path:
    """Writes a graph of one convolution that can replace the export, for tests that do not depend on the network."""
    weight = np.random.default_rng(7).normal(size=(10, 3, 5, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
        helper.make_node("Flatten", ["means"], ["class"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 32, 32])
    logits = helper.make_tensor_value_info("class", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "small", [image], [logits], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


@pytest.fixture(scope="session")
def plain_logits(onnx_file: Path, bins: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The reference engine's logits for the 20 images of `bins`: float32 [20, 10]."""

    def build(folder: Path) -> None:
        np.save(
            folder / "logits.npy", agreement.logits_of(onnx_file.read_bytes(), some_bins(bins, read_record(bins), 20))
        )

    return np.load(shared_once(tmp_path_factory, "logits", build) / "logits.npy")


def optimize(
    onnx_file: Path, bins: Path, out: Path, resize: str, images: int = 4, how: Callable[..., Any] = script, **more: str
) -> Any:
    """Runs the optimization; `how` is script, or script_here for this process."""
    flags = ("--check-images", images, "--tolerance", "1e-4")
    return how("optimize_onnx", "--onnx", onnx_file, "--bins", bins, "--resize", resize, *flags, "--out", out, **more)


@pytest.fixture(scope="session")
def optimized(onnx_file: Path, bins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain export after all passes, with unchanged resizes."""

    def build(folder: Path) -> None:
        assert optimize(onnx_file, bins, folder / "3d_attention_net.onnx", "none").returncode == 0

    return shared_once(tmp_path_factory, "optimized", build) / "3d_attention_net.onnx"
