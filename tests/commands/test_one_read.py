"""What a command states in its cache key is what it reads, also if it has waited for a lock meanwhile."""

from __future__ import annotations

from _support import artifact

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import Project, copy_of, environment, refused, script

CHANGED = "changed while this command waited or ran; run the same command again"
DIGEST = "digest differs"


class Case(NamedTuple):
    """A command, and one of its inputs that changes while it waits. The flags without --out are words of `words`."""

    command: str
    changed: str  # below ROOT
    words: str  # flags; {} stands for ROOT
    out: str
    message: str = CHANGED


BINS, ONNX, OM = (
    "data/bin/manifest.json",
    "models/onnx/3d_attention_net.onnx",
    "models/om/null/3d_attention_net_bs16.null",
)
OUTPUTS, OPTIMIZED = "results/null/bs16/outputs", "models/optimized/3d_attention_net.onnx"
INFER = f"--model {{}}/{OM} --record {{}}/models/om/null/bs16.json --bins {{}}/{BINS}"
LABELS = "--labels {}/data/labels.txt"
CHECK = "--check-images 2 --tolerance 1e-4"
EXPORT = f"--checkpoint {{}}/models/checkpoint.pkl --bins {{}}/{BINS} --opset 11 {CHECK}"
OPTIMIZE = f"--onnx {{}}/{ONNX} --bins {{}}/{BINS} --resize none {CHECK}"
COMPILE = f"--onnx {{}}/{OPTIMIZED} --chip x --batch-size 2"
MEASURE = f"{INFER} --outputs {{}}/{OUTPUTS}/manifest.json --warmup 0.1 --min-duration 0.1 --min-queries 3"
MEASURE += " --tolerance 1e-3 --drift 1 --spread 9 --others 1"
COMPARE = f"--outputs {{}}/{OUTPUTS}/manifest.json --reference {{}}/{OUTPUTS}/manifest.json {LABELS}"
JUDGE = f"--outputs {{}}/{OUTPUTS}/manifest.json {LABELS} --model-record {{}}/models/om/null/bs16.json"
OUTPUT = f"{OUTPUTS}/image_7_0.txt"
PREPROCESS = "--archive {}/data/archive.tar.gz"
CASES = [
    Case("preprocess", "data/archive.tar.gz", PREPROCESS, "--bins {}/other/bin"),
    Case("preprocess", "data/archive.tar.gz", PREPROCESS, "--labels {}/other/labels.txt"),
    Case(
        "make_calibration",
        "data/archive.tar.gz",
        "--archive {}/data/archive.tar.gz --images 10",
        "--out {}/other/c.bin",
    ),
    Case("export_onnx", "models/checkpoint.pkl", EXPORT, "--out {}/other/e.onnx"),
    Case("export_onnx", "data/bin/image_39.bin", EXPORT, "--out {}/other/e.onnx", DIGEST),
    Case("optimize_onnx", ONNX, OPTIMIZE, "--out {}/other/o.onnx"),
    Case("optimize_onnx", "data/bin/image_7.bin", OPTIMIZE, "--out {}/other/o.onnx", DIGEST),
    Case(
        "quantize_onnx",
        OPTIMIZED,
        f"--onnx {{}}/{OPTIMIZED} --calibration {{}}/data/c.bin --loss 9",
        "--out {}/other/q.onnx",
    ),
    Case(
        "quantize_onnx",
        "data/c.bin",
        f"--onnx {{}}/{OPTIMIZED} --calibration {{}}/data/c.bin --loss 9",
        "--out {}/other/q.onnx",
    ),
    Case("compile_model", OPTIMIZED, f"{COMPILE} --engine onnxruntime", "--out {}/other/m.onnx"),
    Case(
        "compile_model", OPTIMIZED, f"{COMPILE} --engine null --unquantized {{}}/{OPTIMIZED}", "--out {}/other/m.null"
    ),
    Case("infer", OM, f"{INFER} --format txt", "--out {}/other/outputs/manifest.json"),
    Case("infer", "data/bin/image_7.bin", f"{INFER} --format txt", "--out {}/other/outputs/manifest.json", DIGEST),
    Case("infer_reference", ONNX, f"--onnx {{}}/{ONNX} --bins {{}}/{BINS}", "--out {}/other/outputs/manifest.json"),
    Case("measure", OM, MEASURE, "--out {}/other/perf.txt"),
    Case("measure", OUTPUT, MEASURE, "--out {}/other/perf.txt", DIGEST),
    Case("measure", "data/bin/image_7.bin", MEASURE, "--out {}/other/perf.txt", DIGEST),
    Case("compare", "data/labels.txt", COMPARE, "--out {}/other/compare.txt"),
    Case("compare", OUTPUT, COMPARE, "--out {}/other/compare.txt", DIGEST),
    Case("postprocess", "data/labels.txt", JUDGE, "--out {}/other/accuracy.txt"),
    Case("postprocess", OUTPUT, JUDGE, "--out {}/other/accuracy.txt", DIGEST),
    Case(
        "import_input", "own.pkl", "--what weights --given {}/own.pkl --note {}/.make/given/w", "--out {}/other/w.pkl"
    ),
]


def change(path: Path) -> None:
    """Replaces a file by another one that the command could use too: the last digit or byte differs."""
    data = bytearray(path.read_bytes())
    place = -3 if path.suffix == ".txt" else -1
    data[place] = ord("1") if data[place] == ord("0") else ord("0")
    path.with_name("another").write_bytes(data)
    path.with_name("another").replace(path)


@pytest.fixture(scope="module")
def shared(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the built project for all cases: each of them restores what it changes."""
    project = copy_of(built, tmp_path_factory.mktemp("one-read"))
    root = project.root
    flags = ("--archive", root / "data/archive.tar.gz", "--images", 10, "--out", root / "data/c.bin")
    assert script("make_calibration", *flags).returncode == 0
    (root / "own.pkl").write_bytes((root / "models/checkpoint.pkl").read_bytes())
    return project


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.command}-{Path(case.changed).name}-{i}" for i, case in enumerate(CASES)]
)
def test_an_input_that_changes_while_a_command_waits_is_noticed(shared: Project, case: Case) -> None:
    root, changed = shared.root, shared.root / case.changed
    before = changed.read_bytes()
    words = f"{case.words} {case.out}".format(*[root] * 9).split()
    out = Path(words[-1])
    command = [sys.executable, str(shared.tree / f"scripts/{case.command}.py"), *words]
    try:
        with artifact.locked(out.parent if out.name == "manifest.json" else out):
            done = subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment(**shared.locks))
            waiting(done)
            change(changed)
        out_text, err_text = done.communicate(timeout=120)
    finally:
        changed.write_bytes(before)
    lines = [
        line
        for line in err_text.splitlines()
        if "waiting" not in line and " images, " not in line and "queries" not in line
    ]
    refused(subprocess.CompletedProcess(command, done.returncode, out_text, "\n".join(lines)), case.message)
    assert not out.exists()


def waiting(done: subprocess.Popen[str]) -> None:
    """Waits until the process prints that it waits for a lock."""
    assert done.stderr
    for line in done.stderr:
        if "waiting" in line:
            return
    raise AssertionError("it did not wait")
