"""Tests with real inputs that are not in this tree; they run if the environment names them.

REAL_CIFAR: a folder with real images (cifar-10-batches-py/), a trained checkpoint.pkl and a README.md with the results
of the reference implementation. REAL_UPSTREAM: the folder model/ of the upstream commit.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from conftest import TREE, Project, run, set_setting, shared_once

REAL = os.environ.get("REAL_CIFAR", "")
UPSTREAM = os.environ.get("REAL_UPSTREAM", "")
CORRECT = {"none": 1650, "exact": 1650, "nearest": 1651}
BILINEAR = "5cffd2010fd97336c8f94b3d1f10c4747cd84a791e64fc0c557e070cf1262a4f"
NEAREST = "69eaf970fb4b25f1d46b2a471cce8ff36a6a7a9e04c96d147fd732f5ff7ad3f6"
PREDICTIONS = {"none": BILINEAR, "exact": BILINEAR, "nearest": NEAREST}  # sha256; no image is near a tie
BY_CLASS = "151/180, 180/193, 150/205, 127/193, 171/217, 152/202, 179/200, 165/198, 195/214, 180/198"


def make_real(tree: Path, goal: str) -> None:
    """Runs make with the real inputs and ROOT=real in a copy of the tree."""
    real = Path(REAL).resolve()
    words = ("BS=16", "CHIP=cpu", "ROOT=real", f"PYTHON={sys.executable}")
    done = run("make", goal, *words, f"ARCHIVE={real}", f"WEIGHTS={real}/checkpoint.pkl", cwd=tree)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the real bins and the plain export in real/."""

    def build(tree: Path) -> None:
        for name in ("Makefile", "params.yaml", "requirements.txt", "scripts"):
            (shutil.copytree if (TREE / name).is_dir() else shutil.copy)(TREE / name, tree / name)
        set_setting(tree / "params.yaml", "optimize.check_images", "4")  # 2,000 images follow
        make_real(tree, "onnx")

    return shared_once(tmp_path_factory, "real", build)


@pytest.mark.skipif(not REAL, reason="REAL_CIFAR names no folder of real images")
@pytest.mark.parametrize("resize", CORRECT)
def test_the_chain_gives_the_reference_counts_for_each_resize(exported: Path, tmp_path: Path, resize: str) -> None:
    run("cp", "-a", f"{exported}/.", tmp_path)
    set_setting(tmp_path / "params.yaml", "optimize.resize", resize)
    make_real(tmp_path, "accuracy")
    result = json.loads((tmp_path / "real/results/cpu/bs16/accuracy.json").read_text())
    assert (result["correct"], result["total"]) == (CORRECT[resize], 2000)
    assert (result["provenance"]["data_origin"], result["provenance"]["checkpoint_origin"]) == ("own", "own")
    assert result["digests"]["predictions"] == PREDICTIONS[resize]
    if resize != "nearest":
        by_class = ", ".join(f"{row['correct']}/{row['total']}" for row in result["classes"].values())
        assert by_class == BY_CLASS


@pytest.mark.skipif(not UPSTREAM, reason="REAL_UPSTREAM does not name a folder with the upstream source")
def test_the_upstream_source_gives_our_logits(fresh: Project) -> None:
    shutil.copytree(UPSTREAM, fresh.root / "models/upstream")
    if REAL:
        shutil.copy(f"{REAL}/checkpoint.pkl", fresh.root / "models/checkpoint.pkl")
    done = fresh.make("upstream")
    assert done.stdout.count("logits within ") == (2 if REAL else 1), done.stdout
