"""Guarantee 3 after a power cut on a disk that kept a file's name, time and record, but not its bytes.

Each case damages one file of a built ROOT, removes what was built from it, and runs the same make command. make either
repairs the file, or names it with a command whose result is that the same make command works. The bytes are the same
as before.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from conftest import Project, copy_of, run
from make.test_interruptions import digests, orphans, remove_artifact

BINS, OUTPUTS, RESULT = "data/bin/manifest.json", "results/null/bs16/outputs/manifest.json", "results/null/bs16"
ONNX, OPTIMIZED = "models/onnx/3d_attention_net.onnx", "models/optimized/3d_attention_net.onnx"
MODEL, ACCURACY = "models/om/null/3d_attention_net_bs16.null", f"{RESULT}/accuracy.txt"
USED_BY = {  # file below ROOT: the target that reads it; none for what make reads or prints itself
    "data/archive.tar.gz": "data/labels.txt",
    "models/checkpoint.pkl": ONNX,
    BINS: OUTPUTS,
    "data/bin/image_3.bin": OUTPUTS,
    "data/labels.txt": ACCURACY,
    "data/labels.json": ACCURACY,
    ONNX: OPTIMIZED,
    "models/onnx/3d_attention_net.json": OPTIMIZED,
    OPTIMIZED: MODEL,
    "models/optimized/3d_attention_net.json": MODEL,
    MODEL: OUTPUTS,
    "models/om/null/bs16.json": OUTPUTS,
    OUTPUTS: ACCURACY,
    f"{RESULT}/outputs/image_3_0.txt": ACCURACY,
    ACCURACY: "",
    f"{RESULT}/accuracy.json": "",
    f"{RESULT}/predictions.csv": "",
    ".make/inputs.mk": "",
    ".make/params/onnx.opset": "",
    ".make/scripts/infer.py": "",
    ".make/requirements.txt": "",
    ".make/given/params": "",
    ".make/given/archive": "",
}
CUTS = ("zeros", "absent")


def cut(path: Path, how: str) -> None:
    """Takes the bytes of a file, and leaves its name and time unless it is `absent`."""
    seen = path.stat()
    path.unlink()
    if how != "absent":
        path.write_bytes(bytes(seen.st_size))
        os.utime(path, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def recover(project: Project, goal: str) -> str:
    """Runs make, and if it fails the remedy that it prints, and make again. Returns "healed" or "told"."""
    done = project.make(goal, "SOURCE=sample", check=False)
    if done.returncode == 0:
        return "healed"
    line = next((line for line in done.stderr.splitlines() if not line.startswith("make: ")), done.stderr)
    remedy = re.fullmatch(r"[\w.]+: [^;]+; type: (rm [\w./ -]+), then the same make command", line)
    own = re.fullmatch(r"[\w.]+: (root/[^:]+): [^;]+; remove it .+", line)  # of an input
    assert remedy or own, done.stderr
    command = remedy[1] if remedy else f"rm {own[1] if own else ''}"
    assert run("sh", "-c", command, cwd=project.tree).returncode == 0
    project.make(goal, "SOURCE=sample")
    return "told"


@pytest.mark.parametrize("name", USED_BY)
def test_a_file_that_a_power_cut_damaged_is_repaired_or_named_with_its_remedy(
    built: Project, tmp_path: Path, name: str
) -> None:
    expected, target = digests(built), USED_BY[name]
    for how in CUTS:
        tree = tmp_path / how
        tree.mkdir()
        project = copy_of(built, tree)
        if target:
            remove_artifact(project, target)
        cut(project.root / name, how)
        result = recover(project, f"root/{target}" if target else "accuracy")
        found = digests(project)
        assert {path: found.get(path) for path in expected} == expected, f"{name} {how}: {result}"
        assert project.make("-q", f"root/{ACCURACY}", "SOURCE=sample", check=False).returncode in (0, 1)
        if target:
            project.make("accuracy", "SOURCE=sample")
        assert digests(project) == expected
        assert orphans(project) == []
        print(f"power cut: {name} {how}: {result}")
