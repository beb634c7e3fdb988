"""A chip of engine ascend with input=uint8: AIPP's settings for atc, and uint8 bins for ais_bench."""

from __future__ import annotations

from _support.artifact import read_record

from pathlib import Path

import pytest
from test_ascend import calls, make, refused

from conftest import Project, copy_of
from engines.ascend.compile import aipp_settings


@pytest.fixture
def small(built: Project, tmp_path: Path) -> Project:
    return copy_of(built, tmp_path)


@pytest.mark.parametrize("generation", ["old", "new"])
def test_atc_gets_aipp_and_the_labels_are_those_of_float32_bins(small: Project, generation: str) -> None:
    folders = []
    for chip in ("310P3", "310P3-uint8"):
        make(small, "accuracy", CHIP=chip, BS="4", STAND_IN_AIS=generation)
        folders.append(small.root / f"results/{chip}/bs4")
    labels = [
        [line.split(",")[:3] for line in (folder / "predictions.csv").read_text().splitlines()] for folder in folders
    ]
    assert labels[0] == labels[1]
    assert (folders[0] / "outputs/image_3_0.txt").read_text() != (folders[1] / "outputs/image_3_0.txt").read_text()
    flags = [call["argv"] for call in calls(small, "atc") if "argv" in call]
    assert ["--insert_op_conf=aipp.cfg" in each for each in flags] == [False, True]
    make(small, "perf", "audit", CHIP="310P3-uint8", BS="4", STAND_IN_AIS=generation)


def test_aipp_divides_each_channel_by_255() -> None:
    lines = [line.strip() for line in aipp_settings().splitlines()]
    assert lines[:2] == ["aipp_op {", "aipp_mode: static"]
    assert "input_format: RGB888_U8" in lines
    assert [line for line in lines if line.startswith("var_reci")] == [
        f"var_reci_chn_{channel}: 0.003921568627451" for channel in range(3)
    ]


def test_a_float32_bin_is_refused_before_ais_bench_takes_it_for_four_images(small: Project) -> None:
    make(small, "bin", "om", CHIP="310P3-uint8", BS="4")
    (small.root / "data/bin-uint8/image_3.bin").write_bytes((small.root / "data/bin/image_3.bin").read_bytes())
    done = make(small, "infer", check=False, CHIP="310P3-uint8", BS="4")
    refused(done, "data/bin-uint8/image_3.bin: 12288 bytes, not 3072")
    assert not [call for call in calls(small, "ais_bench") if "--model" in call.get("argv", ())]


def test_uint8_and_an_own_aipp_file_exclude_each_other(small: Project) -> None:
    (small.tree / "own.cfg").write_text(aipp_settings())
    small.set("chips.310P3-uint8", "engine=ascend soc_version=Ascend310P3 input=uint8 insert_op_conf=own.cfg")
    done = make(small, "om", check=False, CHIP="310P3-uint8", BS="4")
    refused(done, "input=uint8", "insert_op_conf")


def test_an_own_model_of_a_uint8_chip_gets_uint8_bins(small: Project, tmp_path: Path) -> None:
    make(small, "accuracy", CHIP="310P3-uint8", BS="4")
    page = small.root / "results/310P3-uint8/bs4/predictions.csv"
    model, expected = tmp_path / "own.om", page.read_bytes()
    model.write_bytes((small.root / "models/om/310P3-uint8/3d_attention_net_bs4.om").read_bytes())
    make(small, "accuracy", CHIP="310P3-uint8", BS="4", OM=str(model))
    assert page.read_bytes() == expected
    record = read_record(small.root / "models/om/310P3-uint8/bs4.json")
    assert record["origin"] == "given" and "input=uint8" in record["provenance"]["options"]
