"""This run beside the reference engine's: flips, McNemar's exact test, logits; the first tensor that is off."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from conftest import Project, ascend_host
from reporting import agreement


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_exact_binomial_test(fixed: int, broken: int) -> None:
    expected = stats.binomtest(fixed, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    assert agreement.mcnemar(fixed, broken) == pytest.approx(expected)


def test_mcnemar_of_ten_thousand_flips_does_not_overflow() -> None:
    assert agreement.mcnemar(5100, 4900) == pytest.approx(stats.binomtest(5100, 10000, 0.5).pvalue)


def planted() -> tuple[Any, Any, Any]:
    """(logits, reference logits, labels) of 500 images: 7 fixed, 4 broken, 2 changed but still wrong."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 500)
    reference = rng.normal(size=(500, 10))
    reference[np.arange(500), labels] += 20
    here = reference.copy()
    wrong, other = (labels + 1) % 10, (labels + 2) % 10
    for i in range(7):
        reference[i, wrong[i]] += 40
    for i in range(7, 11):
        here[i, wrong[i]] += 40
    for i in range(11, 13):
        reference[i, wrong[i]] += 40
        here[i, other[i]] += 40
    return here, reference, labels


def test_changed_predictions_are_counted_as_fixed_broken_or_other() -> None:
    record = agreement.compare_logits(*planted())
    assert (record["mended"], record["broken"], record["other"]) == (7, 4, 2)
    assert record["agreement"] == pytest.approx(1 - 13 / 500)
    assert (record["top1"], record["reference_top1"]) == pytest.approx((494 / 500, 491 / 500))
    assert record["mcnemar_p"] == pytest.approx(stats.binomtest(7, 11, 0.5).pvalue)
    assert [flip["image"] for flip in record["flips"]] == list(range(13))
    assert all(flip["here"] == flip["label"] for flip in record["flips"][:7])
    assert all(flip["reference"] == flip["label"] for flip in record["flips"][7:11])


def test_logit_errors_are_those_of_scipy_and_numpy() -> None:
    from scipy.spatial.distance import cosine

    rng = np.random.default_rng(4)
    reference = rng.normal(size=(50, 10))
    here = reference + rng.normal(size=(50, 10)) / 100
    here[31, 4] += 3
    errors = agreement.logit_errors(here, reference)
    expected = [1 - cosine(a, b) for a, b in zip(here, reference)]
    assert (errors["cosine_mean"], errors["cosine_min"]) == pytest.approx((np.mean(expected), min(expected)))
    assert errors["largest_error"] == pytest.approx(np.abs(here - reference).max())
    assert errors["largest_error_image"] == 31
    assert errors["mean_error"] == pytest.approx(np.abs(here - reference).mean())
    assert errors["relative_error"] == pytest.approx(np.abs(here - reference).max() / np.abs(reference).max())


# By make


def test_make_compare_shows_the_error_of_nearest_and_names_the_resize(project: Project) -> None:
    done = project.make("compare", "CHIP=cpu", "BS=5", "LAYERS=1")
    record = json.loads((project.root / "results/cpu/bs5/compare.json").read_text())
    assert record["images"] == 40
    assert record["logits"]["largest_error"] > 0.01  # nearest is no bilinear
    assert (project.root / "results/reference/outputs/manifest.json").is_file()
    assert "Agreement with the reference engine: " in done.stdout
    layers = json.loads((project.root / "results/cpu/bs5/layers.json").read_text())
    assert "Resize" in layers["first"]
    assert f"First tensor above 0.001: {layers['first']}" in done.stdout
    before = [error for name, error in layers["errors"].items() if name != layers["first"]]
    assert max(before[: list(layers["errors"]).index(layers["first"])]) < 1e-5


def test_an_exact_graph_agrees_in_every_tensor(project: Project) -> None:
    project.set("optimize.resize", "exact")
    done = project.make("compare", "CHIP=cpu", "BS=5", "LAYERS=1")
    assert "tensors are within 0.001" in done.stdout
    record = json.loads((project.root / "results/cpu/bs5/compare.json").read_text())
    assert record["flips"] == []
    assert record["mcnemar_p"] == 1
    assert record["logits"]["relative_error"] < 1e-5


def test_the_reference_runs_once_for_all_chips_and_sizes_and_a_noop_starts_no_python(project: Project) -> None:
    project.make("compare", "BS=4")
    before = project.artifacts()
    project.make("compare", "BS=8", "CHIP=null2")
    assert not any("reference" in path for path in project.rebuilt(before))
    project.make("compare", "BS=4")
    assert project.pythons() == []


def test_an_edit_of_the_reference_engine_runs_it_again(project: Project) -> None:
    project.make("compare")
    module = project.tree / "scripts/engines/onnxruntime/run.py"
    source = module.read_text()
    assert source.count("{INPUT: part})[0]") == 1
    module.write_text(source.replace("{INPUT: part})[0]", "{INPUT: part})[0] * 2"))
    before = project.artifacts()
    project.make("compare")
    assert {"results/reference/outputs/manifest.json", "results/null/bs16/compare.txt"} <= project.rebuilt(before)


def test_the_same_images_of_another_origin_are_stated_on_every_page(project: Project, tmp_path: Path) -> None:
    project.make("compare", "perf")
    with gzip.open(project.root / "data/archive.tar.gz") as packed, gzip.open(tmp_path / "own.tar.gz", "wb", 1) as own:
        own.write(packed.read())
    project.make("compare", "perf", f"ARCHIVE={tmp_path / 'own.tar.gz'}")
    for name in ("compare.txt", "perf.txt"):
        assert "Source: own data" in (project.root / "results/null/bs16" / name).read_text(), name


def test_wrong_outputs_are_listed_image_by_image(project: Project) -> None:
    done = project.make("compare")  # the outputs of the stand-in engine are wrong
    record = json.loads((project.root / "results/null/bs16/compare.json").read_text())
    assert record["agreement"] < 0.5
    assert record["broken"] > 10
    text = (project.root / "results/null/bs16/compare.txt").read_text()
    assert text.count(" broken\n") == record["broken"]
    assert f"{record['broken']} broken" in done.stdout


def test_an_engine_without_intermediate_outputs_is_an_error_before_anything_runs(project: Project) -> None:
    done = project.make("compare", "LAYERS=1", "BS=2", "CHIP=310P3", check=False, **ascend_host(project.tree))
    assert done.returncode == 2
    assert "LAYERS=1: the engine of chip 310P3 cannot output intermediate tensors; use CHIP=cpu" in done.stderr
    assert project.pythons() == []


def test_no_chip_may_be_called_reference(project: Project) -> None:
    project.set("chips.reference", "engine=null")
    done = project.make("bin", check=False)
    assert "results/reference is used for the reference engine" in done.stderr
