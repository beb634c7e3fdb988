"""What is not in this tree, where the environment names it.

REAL_CIFAR: a folder with real images (cifar-10-batches-py/), a trained checkpoint.pkl and, in its README.md, what the
reference implementation answers. REAL_UPSTREAM: the folder model/ of upstream's commit.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from conftest import TREE, House, run

REAL = os.environ.get("REAL_CIFAR", "")
UPSTREAM = os.environ.get("REAL_UPSTREAM", "")
CORRECT = {"none": 1650, "exact": 1650, "nearest": 1651}
BY_CLASS = "151/180, 180/193, 150/205, 127/193, 171/217, 152/202, 179/200, 165/198, 195/214, 180/198"


@pytest.mark.skipif(not REAL, reason="REAL_CIFAR names no folder of real images")
def test_the_chain_gives_the_reference_counts_for_each_resize(tmp_path: Path) -> None:
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


@pytest.mark.skipif(not UPSTREAM, reason="REAL_UPSTREAM names no folder of upstream's source")
def test_upstreams_own_source_gives_our_logits(fresh: House) -> None:
    shutil.copytree(UPSTREAM, fresh.root / "models/upstream")
    if REAL:
        shutil.copy(f"{REAL}/checkpoint.pkl", fresh.root / "models/checkpoint.pkl")
    done = fresh.make("upstream")
    assert done.stdout.count("logits within ") == (2 if REAL else 1), done.stdout
