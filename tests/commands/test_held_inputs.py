"""Inputs that ROOT holds: a file that is no longer what its record says is refused, and never becomes "own"."""

from __future__ import annotations

from _support.artifact import read_record, record_of

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest
from test_fetch import pin_inputs

from conftest import Inputs, Project, run, script, script_here
from formats import cifar10, held, official, python2, sample
from reporting.provenance import source_line, source_of

ARCHIVE = "root/data/archive.tar.gz"


def flip(path: Path) -> None:
    """Changes one bit of a file, as a disk may do; its time stays."""
    times, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def fetched(built: Project, fresh: Project) -> Project:
    """A project whose archive and checkpoint count as the official ones."""
    for path in held.PATHS.values():
        (fresh.root / path).parent.mkdir(parents=True)
        shutil.copyfile(built.root / path, fresh.root / path)
    pin_inputs(fresh)
    assert "found there, the official file" in fresh.make("bin").stdout
    assert fresh.make("-B", "root/models/checkpoint.pkl").returncode == 0
    return fresh


@pytest.mark.parametrize("name", ["archive", "checkpoint"])
def test_a_fetched_file_that_rots_is_refused_and_the_remedy_mends_it(fetched: Project, name: str) -> None:
    path, goal = fetched.root / held.PATHS[name], {"archive": "bin", "checkpoint": "root/models/checkpoint.pkl"}[name]
    intact = path.read_bytes()
    flip(path)
    for arguments in (["-B", goal], ["-B", goal]):  # it stays refused
        done = fetched.make(*arguments, check=False)
        assert done.returncode == 2
        assert f"root/{held.PATHS[name]}: no longer the file that was fetched; type: rm -f " in done.stderr
        assert read_record(record_of(path))["origin"] == "official"
    words = re.search(r"type: (rm -f \S+ \S+), then", done.stderr)
    assert words
    assert run(*words[1].split(), cwd=fetched.tree).returncode == 0
    path.write_bytes(intact)  # without a network: copied there by hand
    fetched.make("-B", goal)
    assert read_record(record_of(path))["origin"] == "official"


@pytest.mark.parametrize("name", ["archive", "checkpoint"])
def test_a_stage_does_not_read_a_file_that_rots(fetched: Project, name: str, tmp_path: Path) -> None:
    path = fetched.root / held.PATHS[name]
    flip(path)
    words = {
        "archive": ("preprocess", "--archive", path, "--bins", tmp_path / "other/bin"),
        "checkpoint": ("export_onnx", "--checkpoint", path, "--bins", fetched.root / "data/bin/manifest.json")
        + ("--opset", 11, "--check-images", 2, "--tolerance", 1, "--out", tmp_path / "other/a.onnx"),
    }[name]
    done = script(*map(str, words))
    assert done.returncode == 1
    assert "no longer the file that was fetched" in done.stderr
    assert not (tmp_path / "other").exists()


def test_a_damaged_record_beside_the_official_file_heals_and_beside_another_one_is_an_error(fetched: Project) -> None:
    archive = fetched.root / "data/archive.tar.gz"
    record = record_of(archive)
    record.write_bytes(record.read_bytes()[:-20])
    fetched.make("-B", "bin")
    assert read_record(record)["origin"] == "official"
    flip(archive)
    record.write_bytes(b"")
    done = fetched.make("-B", "bin", check=False)
    assert "root/data/archive.json: the record is damaged; type: rm -f " in done.stderr
    record.unlink()  # then somebody has put the file there, which is said on stderr, also with -s
    python2.write_tar(archive, sample.archive_files(5, 10, 40))
    done = fetched.make("-s", "bin")
    assert f"{ARCHIVE}: found there, not the official file: used as your own" in done.stderr
    assert read_record(fetched.root / "data/bin/manifest.json")["provenance"]["data_origin"] == "own"


@pytest.mark.parametrize("state", ["kept", "removed"])
def test_a_lost_record_of_the_sample_heals(project: Project, state: str) -> None:
    before = {path: (project.root / path).read_bytes() for path in held.PATHS.values()}
    for path in held.PATHS.values():
        record_of(project.root / path).unlink()
    if state == "removed":
        shutil.rmtree(project.root / ".make")
    project.make("accuracy")
    for path, data in before.items():
        assert (project.root / path).read_bytes() == data
        assert read_record(record_of(project.root / path))["origin"] == "sample"
    assert "Source: built-in sample" in (project.root / "results/null/bs16/accuracy.txt").read_text()


@pytest.mark.parametrize("record", ["lost", "damaged"])
def test_another_file_in_place_of_the_sample_is_refused(project: Project, record: str) -> None:
    archive = project.root / "data/archive.tar.gz"
    python2.write_tar(archive, sample.archive_files(5, 10, 40))
    record_of(archive).write_bytes(b"")
    if record == "lost":
        record_of(archive).unlink()
    done = project.make("-B", "bin", check=False)
    assert (
        f"{ARCHIVE}: not the file that was generated, and its record is missing or damaged; type: rm -f " in done.stderr
    )
    archive.unlink()
    project.make("bin")
    assert read_record(record_of(archive))["origin"] == "sample"


def test_a_sample_that_rots_is_made_again_or_refused(project: Project, tmp_path: Path) -> None:
    archive = project.root / "data/archive.tar.gz"
    intact = archive.read_bytes()
    flip(archive)
    done = script("preprocess", "--archive", archive, "--bins", tmp_path / "other/bin")
    assert "no longer the file that was generated; type: rm -f " in done.stderr
    project.make("-B", "bin")
    assert archive.read_bytes() == intact


def test_a_user_s_file_replaces_one_that_rots(fetched: Project, tmp_path: Path) -> None:
    archive = fetched.root / "data/archive.tar.gz"
    shutil.copyfile(archive, tmp_path / "copy.tar.gz")
    flip(archive)
    fetched.make("bin", f"ARCHIVE={tmp_path / 'copy.tar.gz'}")
    assert archive.read_bytes() == (tmp_path / "copy.tar.gz").read_bytes()
    assert read_record(fetched.root / "data/bin/manifest.json")["provenance"]["data_origin"] == "official"


def test_own_training_images_beside_the_official_test_batch_are_named(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "archive.tar.gz"
    shutil.copyfile(inputs.archive, archive)
    for number, origin in ((5, "own"), (6, "official")):
        for name in ["test_batch", *cifar10.BATCHES[: number - 1]]:
            md5 = hashlib.md5(cifar10.read_member(archive, name)).hexdigest()
            monkeypatch.setitem(official.BATCHES_MD5, name, md5)
        out = tmp_path / f"{number}.bin"
        assert script_here("make_calibration", "--archive", archive, "--images", 10, "--out", out).returncode == 0
        assert read_record(record_of(out))["provenance"] == {"calibration_origin": origin}
    provenance = {"data_origin": "official", "checkpoint_origin": "official", "calibration_origin": "own"}
    assert source_of(provenance) == "own"
    assert source_line(provenance) == "Source: official data, official checkpoint, own training images for int8"
    assert source_of({**provenance, "calibration_origin": "official"}) == "cifar10"
