"""The whole chain, through make, on real images and a trained checkpoint, where REAL_CIFAR names a folder of them.

The folder holds cifar-10-batches-py/, checkpoint.pkl and, in README.md, what the reference implementation answers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import TREE, run

REAL = os.environ.get("REAL_CIFAR", "")
pytestmark = pytest.mark.skipif(not REAL, reason="REAL_CIFAR names no folder of real images")
CORRECT = {"none": 1650, "exact": 1650, "nearest": 1651}
BY_CLASS = "151/180, 180/193, 150/205, 127/193, 171/217, 152/202, 179/200, 165/198, 195/214, 180/198"


def test_the_chain_gives_the_reference_counts_for_each_resize(tmp_path: Path) -> None:
    import shutil
    import sys

    for name in ("Makefile", "params.yaml", "requirements.txt", "scripts"):
        (shutil.copytree if (TREE / name).is_dir() else shutil.copy)(TREE / name, tmp_path / name)
    params = (tmp_path / "params.yaml").read_text()
    real = Path(REAL).resolve()
    changed = set()
    for resize, correct in CORRECT.items():
        (tmp_path / "params.yaml").write_text(params.replace("resize: nearest", f"resize: {resize}"))
        done = run(
            *("make", "accuracy", "BS=16", "CHIP=cpu", "ROOT=real", f"PYTHON={sys.executable}"),
            *(f"ARCHIVE={real}", f"WEIGHTS={real}/checkpoint.pkl"),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / "real/results/cpu/bs16/accuracy.json").read_text())
        assert (result["correct"], result["total"]) == (correct, 2000), resize
        assert (result["provenance"]["data_origin"], result["provenance"]["checkpoint_origin"]) == ("own", "own")
        changed.add(result["digests"]["predictions"])
        if resize != "nearest":
            by_class = ", ".join(f"{row['correct']}/{row['total']}" for row in result["classes"].values())
            assert by_class == BY_CLASS
    assert len(changed) == 2  # none and exact answer alike, nearest does not
