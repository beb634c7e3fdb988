"""make audit: every damaged, copied or edited file is named, and nothing else."""

from __future__ import annotations

from _support import artifact

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Callable

import pytest

from conftest import SMALL, Project, copy_of, new_project, refused, run, shared_once

NETWORK = "3d_attention_net"
KINDS = [  # below ROOT; each is one kind of file
    "data/archive.tar.gz",
    "data/archive.json",
    "models/checkpoint.pkl",
    "models/checkpoint.json",
    "data/bin/image_7.bin",
    "data/bin/manifest.json",
    "data/labels.txt",
    "data/labels.json",
    "data/calibration.bin",
    "data/calibration.json",
    f"models/onnx/{NETWORK}.onnx",
    f"models/onnx/{NETWORK}.json",
    f"models/optimized/{NETWORK}.onnx",
    f"models/optimized/{NETWORK}.json",
    f"models/int8/{NETWORK}.onnx",
    f"models/int8/{NETWORK}.json",
    f"models/om/cpu-int8/{NETWORK}_bs4.onnx",
    "models/om/cpu-int8/bs4.json",
    "models/om/cpu-int8/bs4.tuning.json",
    f"models/om/cpu-int8/{NETWORK}_bs4.blob",
    "results/cpu-int8/bs4/outputs/image_7_0.txt",
    "results/cpu-int8/bs4/outputs/manifest.json",
    "results/cpu-int8/bs4/accuracy.txt",
    "results/cpu-int8/bs4/accuracy.json",
    "results/cpu-int8/bs4/predictions.csv",
    "results/cpu-int8/bs4/statement.json",
    "results/cpu-int8/bs4/perf.statement.json",
    "results/cpu-int8/bs4/perf.txt",
    "results/cpu-int8/bs4/perf.json",
    "results/cpu-int8/bs4/compare.txt",
    "results/cpu-int8/bs4/compare.json",
    "results/cpu/bs4/layers.json",
    "results/cpu-int8/perf.csv",
    "results/reference/outputs/image_7_0.bin",
    "results/reference/outputs/manifest.json",
    ".make/inputs.mk",
    ".make/params/onnx.opset",
    ".make/params/options.cpu",
    ".make/scripts/infer.py",
    ".make/requirements.txt",
]
OPTIONAL = (  # no other file says that there is one, or the next run writes it
    *("results/cpu/bs4/layers.json", "results/cpu-int8/perf.csv"),
    *("models/om/cpu-int8/bs4.tuning.json", f"models/om/cpu-int8/{NETWORK}_bs4.blob"),
)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with every kind of file. Tests put back what they change."""

    def build(tree: Path) -> None:
        project = new_project(tree)
        project.set("sample.train_images", "100")
        project.set("int8.loss", "50")
        sizes = SMALL["batch_sizes"]
        project.set("batch_sizes", "[4]")
        project.make("perf-all", "SOURCE=sample", "CHIP=cpu-int8")
        project.set("batch_sizes", sizes)
        project.make("compare", "BS=4", "CHIP=cpu-int8")
        project.make("compare", "accuracy", "LAYERS=1", "BS=4", "CHIP=cpu")
        for size in (4, 16):
            project.make("accuracy", f"BS={size}")
        project.make("accuracy", "CHIP=null2")

    shared = Project(shared_once(tmp_path_factory, "complete", build))
    return copy_of(shared, tmp_path_factory.mktemp("audit"))  # of this worker alone


def audit(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(
        project.python, "scripts/audit.py", "--root", "root", "--params", "params.yaml", *arguments, cwd=project.tree
    )


def put(path: Path, data: bytes) -> None:
    """Changes the bytes of a file and keeps its time, so that make does not notice."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_an_intact_root_passes_and_each_result_has_its_figure(complete: Project) -> None:
    done = complete.make("audit-all")
    lines = re.findall("^audited: .*$", done.stdout, re.MULTILINE)
    assert len(lines) == 5
    top1 = artifact.read_record(complete.root / "results/cpu-int8/bs4/accuracy.json")["top1"]
    expected = f"Top-1 {100 * top1:.2f}% of 40 images, accuracy, compare, perf follow from 11 files"
    assert lines[1] == f"audited: root/results/cpu-int8/bs4: {expected}"
    files = ("data/archive.tar.gz", f"models/int8/{NETWORK}.onnx", "results/reference/outputs/")
    for name in (*files, "results/cpu/bs4/layers.json", "results/cpu-int8/perf.csv"):
        assert len(re.findall(f"^  [0-9a-f]{{16}}  root/{re.escape(name)}$", done.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_of_any_kind_is_named(complete: Project, name: str) -> None:
    path = complete.root / name
    data = path.read_bytes()
    middle = len(data) // 2
    damages = {
        "a flipped bit": bytes([*data[:middle], data[middle] ^ 1, *data[middle + 1 :]]),
        "half of it": data[:middle],
        "empty": b"",
        "one more line": data + b"16,1\n",
    }
    subjects = (path, path.parent, path.with_suffix(".json"), path.parent / "manifest.json")
    shown = [str(subject.relative_to(complete.tree)) for subject in subjects]
    for damage, changed in damages.items():
        put(path, changed)
        done = audit(complete, "--chips", chip_of(name))
        put(path, data)
        refused(done)
        assert re.match(r"audit\.py: ([^:]+):", done.stderr).group(1) in shown, (damage, done.stderr)
        assert "rm " in done.stderr or "again" in done.stderr
    path.rename(f"{path}.away")
    done = audit(complete, "--chips", chip_of(name))
    Path(f"{path}.away").rename(path)
    if name not in OPTIONAL:
        refused(done)


def chip_of(name: str) -> str:
    """The chip of a result below ROOT, or one that has all kinds of other files."""
    parts = name.split("/")
    return parts[1] if parts[0] == "results" and parts[1] != "reference" else "cpu-int8"


def folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("of the user")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


REPLACED = [
    ("data/archive.json", folder),
    ("data/labels.json", folder),
    ("data/labels.txt", link_to_itself),
    (f"models/onnx/{NETWORK}.json", folder),
    (f"models/optimized/{NETWORK}.onnx", link_to_itself),
    ("models/om/null/bs4.json", folder),
    ("models/om/null/bs4.json", os.mkfifo),
    ("results/null/bs4/outputs/manifest.json", folder),
    ("results/null/bs4/outputs/image_7_0.txt", folder),
    ("results/null/bs4/accuracy.txt", link_to_itself),
    ("results/null/bs4/accuracy.json", folder),
    ("results/null/bs4/predictions.csv", link_to_itself),
    ("results/null/bs4/statement.json", folder),
    ("results/cpu/bs4/compare.json", folder),
    ("results/cpu/bs4/compare.txt", link_to_itself),
    ("results/cpu/bs4/layers.json", os.mkfifo),
    ("results/cpu-int8/perf.csv", folder),
    ("results/cpu-int8/bs4/perf.json", folder),
    ("results/cpu-int8/bs4/perf.txt", link_to_itself),
]


@pytest.fixture(scope="module")
def spare(complete: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of it that remedies change."""
    project = copy_of(complete, tmp_path_factory.mktemp("spare"))
    project.set("batch_sizes", "[4]")
    project.make("accuracy", "BS=4")  # brings .make up to date
    return project


def follow(project: Project, done: subprocess.CompletedProcess[str]) -> None:
    """Types the remedy of an audit word for word."""
    remedy = re.search(r"; type: (rm [^;]*), then (make [^,();]*?)(?: \(.*\))?$", done.stderr, re.MULTILINE)
    assert remedy, done.stderr
    assert run("sh", "-c", remedy[1], cwd=project.tree).returncode == 0
    project.make(*remedy[2].split()[1:], ROOT="", CHIP="")


@pytest.mark.parametrize("name, create", REPLACED)
def test_one_remedy_mends_what_is_in_place_of_a_file(
    spare: Project, name: str, create: Callable[[Path], object]
) -> None:
    path = spare.root / name
    path.unlink()
    create(path)
    done = audit(spare, "--chips", chip_of(name) if name.startswith("results/") else "null", "--batch-sizes", "4")
    refused(done)
    follow(spare, done)
    done = audit(spare, "--chips", chip_of(name))
    if "perf." in name and done.returncode:  # measured again, so the table has the times before
        assert "perf.csv: differs from the perf.json of its batch sizes" in done.stderr
        follow(spare, done)
        done = audit(spare, "--chips", chip_of(name))
    assert done.returncode == 0, done.stderr
    assert path.is_file()


@pytest.mark.parametrize(
    "source, target",
    [
        ("null/bs16", "null/bs4"),
        ("null2/bs16", "null/bs16"),
    ],
)
def test_a_result_copied_from_another_chip_or_batch_size_is_named(
    complete: Project, source: str, target: str, tmp_path: Path
) -> None:
    results, kept = complete.root / "results", tmp_path / "kept"
    for names in (["accuracy.txt", "accuracy.json", "predictions.csv"], ["outputs"], None):
        shutil.copytree(results / target, kept, dirs_exist_ok=True)
        for name in names or os.listdir(results / source):
            path = results / source / name
            if path.is_dir():
                shutil.copytree(path, results / target / name, dirs_exist_ok=True)
            else:
                shutil.copy2(path, results / target / name)
        chip, size = target.split("/bs")
        done = audit(complete, "--chips", chip, "--batch-sizes", size)
        shutil.rmtree(results / target)
        kept.rename(results / target)
        refused(done, f"results/{target}/", "copied from another place")


def test_one_remedy_mends_a_result_that_was_copied_with_its_model_and_outputs(
    complete: Project, tmp_path: Path
) -> None:
    project = copy_of(complete, tmp_path)
    shutil.copytree(project.root / "results/null/bs4", project.root / "results/null/bs8")
    models = project.root / "models/om/null"
    for path in [*models.glob("*bs4.*")]:
        shutil.copy2(path, path.with_name(path.name.replace("bs4.", "bs8.")))
    done = project.make("accuracy", "BS=8", check=False)
    place = "is of another batch size: it was copied from another place"
    assert f"check_pages.sh: root/results/null/bs8/accuracy.json: {place}; type: rm -f root/" in done.stderr
    assert "Top-1" not in done.stdout
    done = project.make("audit", "BS=8", check=False)
    line = "audit.py: root/models/om/null/bs8.json: is of batch size 4, not 8: it was copied from another place"
    remedy = re.search(f"^{line}; type: (rm .*), then (make [^(]*) \\(to remove", done.stderr, re.MULTILINE)
    assert remedy, done.stderr
    assert run("sh", "-c", remedy[1], cwd=project.tree).returncode == 0
    project.make(*remedy[2].split()[1:])
    assert "root/results/null/bs8: Top-1" in project.make("audit", "BS=8").stdout


def test_no_remedy_confirms_a_record_that_was_edited(complete: Project, tmp_path: Path) -> None:
    project = copy_of(complete, tmp_path)
    path = project.root / "results/null/bs4/accuracy.json"
    before = artifact.read_record(path)
    for make_first in (False, True):
        artifact.write_record(path, {**before, "run": {**before["run"], "commit": "0" * 40}})
        if make_first:  # make asks the command, which finds the result up to date
            os.utime(project.root / "results/null/bs4/outputs/manifest.json")
        else:
            done = project.make("audit", "BS=4", check=False)
            remedy = re.search(r"statement.json: does not follow from .*; type: (rm .*), then make", done.stderr)
            assert remedy, done.stderr
            assert run("sh", "-c", remedy[1], cwd=project.tree).returncode == 0
        project.make("accuracy", "BS=4")
        project.make("audit", "BS=4")
        assert artifact.read_record(path)["run"].get("commit") != "0" * 40


@pytest.mark.parametrize("name", ["predictions.csv", "outputs/image_5_0.txt", "accuracy.json", "statement.json"])
def test_a_pipe_instead_of_a_file_is_one_line(complete: Project, name: str) -> None:
    path = complete.root / "results/null/bs4" / name
    away = complete.tree / "away"
    path.rename(away)
    os.mkfifo(path)
    done = audit(complete, "--chips", "null", "--batch-sizes", "4")
    page = complete.make("accuracy", "BS=4", check=False) if name == "predictions.csv" else None
    path.unlink()
    away.rename(path)
    refused(done, f"root/results/null/bs4/{name}: ", "type: rm -f ")
    if page:
        assert "predictions.csv: differs from" in page.stderr


def test_predictions_are_those_of_their_digest(complete: Project) -> None:
    path = complete.root / "results/null/bs4/predictions.csv"
    data = path.read_bytes()
    put(path, data.replace(b"\n", b"\r\n"))
    done = audit(complete, "--chips", "null", "--batch-sizes", "4")
    put(path, data)
    refused(done, "predictions.csv: its digest differs from the one in accuracy.json")


def test_an_edited_figure_is_named_though_its_digests_were_computed_again(complete: Project) -> None:
    for name, field, value in (
        ("null/bs16/accuracy.json", "top1", 0.954),
        ("null/bs16/accuracy.json", "confusion", [[4] * 10] * 10),
        ("cpu-int8/bs4/compare.json", "mcnemar_p", 0.5),
        ("cpu-int8/bs4/perf.json", "throughput_images_per_s", 7806.96),
        ("cpu-int8/bs4/perf.json", "latency_ms", {}),
    ):
        path = complete.root / "results" / name
        data = path.read_bytes()
        artifact.write_record(path, {**json.loads(data), field: value})
        done = audit(complete)
        put(path, data)
        refused_lines = done.stderr.splitlines()
        assert done.returncode == 1
        assert f"root/results/{name}: " in refused_lines[0]
        assert re.search(rf"{field} (is not what follows from|is 0.954, but 4 of 40)|\({field}\)", refused_lines[0])
        assert refused_lines[-1].startswith("audit.py: root/results: 1 of 5 results do not hold")


def test_an_entry_that_another_file_confirms_is_compared_with_it(complete: Project) -> None:
    result = "results/cpu-int8/bs4"
    perf = json.loads((complete.root / result / "perf.json").read_bytes())
    offline = perf["scenarios"]["Offline"]
    for name, part, entry, value in (
        (f"{result}/compare.json", "reference", "precision", "float16"),
        (f"{result}/compare.json", "reference", "runtime", "another"),
        (f"{result}/compare.json", "provenance", "threads", 999),
        (f"{result}/compare.json", "", "source", "cifar10"),
        (f"{result}/compare.json", "origins", "data", "official"),
        (f"{result}/accuracy.json", "provenance", "runtime", "another"),
        (f"{result}/perf.json", "", "stable", None),
        (f"{result}/perf.json", "scenarios", "Offline", perf["scenarios"]["SingleStream"]),
        (
            f"{result}/perf.json",
            "scenarios",
            "Offline",
            {**offline, "stability": {**offline["stability"], "spread": 9.0}},
        ),
        (f"{result}/perf.json", "scenarios", "SingleStream", {**perf["scenarios"]["SingleStream"], "images": 1}),
        (
            f"{result}/perf.json",  # twice the images and the throughput
            "",
            "scenarios",
            {
                **perf["scenarios"],
                "Offline": {
                    **offline,
                    "images": 2 * offline["images"],
                    "throughput_images_per_s": 2 * offline["throughput_images_per_s"],
                },
            },
        ),
        (f"{result}/perf.json", "scenarios", "Offline", {**offline, "queue": "<script>"}),
        (f"{result}/perf.json", "device", "throughput_images_per_s", 9999.0),
        (f"{result}/outputs/manifest.json", "provenance", "resize", "exact"),
        (f"models/int8/{NETWORK}.json", "provenance", "checkpoint_origin", "official"),
        ("results/cpu/bs4/layers.json", "", "first", None),
        ("results/cpu/bs4/layers.json", "provenance", "chip", "null"),
        ("results/cpu/bs4/layers.json", "provenance", "model", "0" * 64),
    ):
        path = complete.root / name
        data = path.read_bytes()
        record = json.loads(data)
        (record[part] if part else record)[entry] = value
        artifact.write_record(path, record)
        done = audit(complete, "--chips", chip_of(name))
        put(path, data)
        refused(done, f"root/{name}: ", "type: rm -f ")


def test_a_measurement_without_labels_is_audited_and_reported(complete: Project, tmp_path: Path) -> None:
    """As after make perf in a new ROOT, which needs none."""
    project = copy_of(complete, tmp_path)
    for folder in (project.root / "results").iterdir():
        if folder.name != "cpu-int8":
            artifact.remove(folder)
    for path in (project.root / "results/cpu-int8").glob("*/[ac]*"):
        path.unlink()
    for name in ("predictions.csv", "statement.json"):
        (project.root / f"results/cpu-int8/bs4/{name}").unlink()
    for name in ("txt", "json"):
        (project.root / f"data/labels.{name}").unlink()
    assert "root/results/cpu-int8/bs4: " in project.make("audit-all").stdout
    project.make("report")
    assert "left out" not in (project.root / "results/report.md").read_text()


@pytest.mark.parametrize("line", ["flipped", "deleted", "added", "best"])
def test_each_line_of_the_table_is_checked(complete: Project, line: str) -> None:
    path = complete.root / "results/cpu-int8/perf.csv"
    data = path.read_bytes()
    head, row, _ = data.split(b"\n")
    lines = {
        "flipped": [head, row.replace(b"4,", b"4,9", 1)],
        "deleted": [head],
        "added": [head, row, row.replace(b"4,", b"8,", 1)],
        "best": [head, row.replace(b",true,", b",false,")],
    }
    put(path, b"\n".join([*lines[line], b""]))
    done = audit(complete, "--chips", "cpu-int8")
    put(path, data)
    remedy = "type: rm -f root/results/cpu-int8/perf.csv, then make perf-all CHIP=cpu-int8 ROOT=root"
    refused(done, "root/results/cpu-int8/perf.csv: differs from the perf.json of its batch sizes", remedy)


def test_the_remedy_for_an_input_of_the_sample_names_no_download(complete: Project) -> None:
    for name in ("data/archive", "models/checkpoint"):
        path = complete.root / f"{name}.json"
        path.rename(f"{path}.away")
        done = audit(complete, "--chips", "null", "--batch-sizes", "4")
        Path(f"{path}.away").rename(path)
        assert done.stderr.endswith(f"/{path.name}, then make accuracy CHIP=null BS=4 ROOT=root\n"), done.stderr


def test_the_remedy_for_a_copy_also_says_how_to_remove_it(complete: Project, tmp_path: Path) -> None:
    copy = complete.root / "results/310P3"
    shutil.copytree(complete.root / "results/null/bs4", copy / "bs4")
    done = audit(complete, "--chips", "310P3")
    shutil.rmtree(copy)
    command = "then make accuracy CHIP=310P3 BS=4 ROOT=root"
    refused(done, f"{command} (to remove the copy instead: rm -r root/results/310P3/bs4)\n".rstrip())


def test_a_record_without_its_digest_is_of_an_earlier_version_and_one_with_a_wrong_digest_is_damaged(
    complete: Project,
) -> None:
    path = complete.root / "results/null/bs4/accuracy.json"
    data = path.read_bytes()
    record = json.loads(data)
    for changed, problem in (
        (data.replace(b'"top1": ', b'"top2": '), "damaged: "),
        (data.replace(b'"', b"'", 1), "damaged: "),
        (json.dumps({name: record[name] for name in record if name != "record_sha256"}).encode(), "earlier version"),
    ):
        put(path, changed)
        done = audit(complete, "--chips", "null", "--batch-sizes", "4")
        put(path, data)
        refused(done, problem)
        assert (problem == "damaged: ") == ("earlier version" not in done.stderr)


def test_junit_names_the_file_that_is_damaged(complete: Project) -> None:
    path = complete.root / "data/labels.txt"
    data = path.read_bytes()
    put(path, data.replace(b"1", b"2"))
    words = ["--accuracy", "root/results/null/bs16/accuracy.json", "--chip", "null", "--out", "junit.xml"]
    gate = run(complete.python, "scripts/verify.py", *words, "--references", "sample:null=2,1", cwd=complete.tree)
    put(path, data)
    problem = "data/labels.txt: its digest differs from the one in its record; type: rm -f root/data/labels.txt"
    refused(gate, f"verify.py: root/{problem}")
    assert f'message="root/{problem}, then ' in (complete.tree / "junit.xml").read_text()


def test_a_result_of_another_root_is_named(complete: Project, tmp_path: Path) -> None:
    other = copy_of(complete, tmp_path)
    other.set("sample.seed", "7")
    other.make("accuracy")
    for name in ("accuracy.txt", "accuracy.json", "predictions.csv"):
        path = complete.root / "results/null/bs16" / name
        data = path.read_bytes()
        shutil.copy2(other.root / "results/null/bs16" / name, path)
        if name != "accuracy.txt":
            done = audit(complete, "--chips", "null", "--batch-sizes", "16")
            refused(done, "accuracy.json")
        (complete.root / "results/null/bs16" / f"{name}.kept").write_bytes(data)
    for name in ("accuracy.txt", "accuracy.json", "predictions.csv"):
        path = complete.root / "results/null/bs16" / name
        Path(f"{path}.kept").replace(path)


def test_a_result_that_is_missing_is_a_line(complete: Project) -> None:
    refused(audit(complete, "--chips", "null", "--batch-sizes", "64"), "no result of CHIP=null BS=64", "make accuracy")
    done = audit(complete, "--root", "empty")  # as make audit-all
    refused(done, "no result; run make accuracy first, or set ROOT=")
    assert "CHIP=" not in done.stderr
    assert "of CHIP=null BS=64" in complete.make("audit", "BS=64", check=False).stderr


# audit.py with a result that this user may not read: root may read all.
WITHOUT_PERMISSION = """
import sys
sys.path.insert(0, "scripts")
import audit
def check(root, chip, *more, check=audit.audit):
    if chip == "cpu-int8":
        raise PermissionError(13, "Permission denied", "accuracy.json")
    return check(root, chip, *more)
audit.audit = check
sys.argv = ["audit.py", "--root", "root", "--params", "params.yaml"]
audit.main()
"""


def test_a_result_that_cannot_be_read_does_not_end_the_audit_of_the_others(complete: Project) -> None:
    done = run(complete.python, "-c", WITHOUT_PERMISSION, cwd=complete.tree)
    assert done.returncode == 1
    assert done.stdout.count("audited: ") == 4, done.stderr
    first, last = done.stderr.splitlines()
    assert first.startswith("audit.py: accuracy.json: permission denied; ")
    assert last == "audit.py: root/results: 1 of 5 results do not hold; see the lines above"


def test_what_is_in_place_of_a_copy_in_the_state_is_named_like_a_changed_copy(complete: Project) -> None:
    path = complete.root / ".make/scripts/infer.py"
    data, seen = path.read_bytes(), path.stat()
    for create in (os.mkfifo, os.mkdir):
        path.unlink()
        create(path)
        done = audit(complete)
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(data)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        refused(done, "root/.make/scripts/infer.py", "differs from")


def test_audit_changes_nothing(complete: Project) -> None:
    def times() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in complete.root.rglob("*") if "locks" not in path.parts}

    complete.make("audit-all")
    before = times()
    time.sleep(0.01)
    complete.make("audit-all")
    assert times() == before


@pytest.mark.parametrize("forged", ["a figure", "another chip", "another batch size", "an output", "a page"])
def test_neither_the_gate_nor_the_report_believes_a_forged_result(
    complete: Project, tmp_path: Path, forged: str
) -> None:
    results = complete.root / "results"
    shutil.copytree(results, tmp_path / "kept")
    result = results / "null/bs16"
    if forged == "a figure":
        record = artifact.read_record(result / "accuracy.json")
        total = record["total"]
        artifact.write_record(
            result / "accuracy.json", {**record, "top1": 1.0, "correct": total, "wilson95": [0.9, 1.0]}
        )
    elif forged == "an output":
        put(result / "outputs/image_7_0.txt", b"0 0 0 9 0 0 0 0 0 0\n")
    elif forged == "a page":
        put(result / "accuracy.txt", (result / "accuracy.txt").read_bytes().replace(b"Top-1", b"Top-2"))
    else:
        shutil.rmtree(result)
        shutil.copytree(results / ("null2/bs16" if forged == "another chip" else "null/bs4"), result)
    command = ["scripts/verify.py", "--accuracy", "root/results/null/bs16/accuracy.json", "--chip", "null"]
    gate = run(
        complete.python, *command, "--references", "sample:null=2.00,1.00", "--out", "junit.xml", cwd=complete.tree
    )
    report = complete.make("report", "PARAMS=params.yaml", CHIP="")
    shutil.rmtree(results)
    shutil.copytree(tmp_path / "kept", results)
    refused(gate, "results/null/bs16")
    assert "verified" not in gate.stdout + gate.stderr
    assert 'errors="1"' in (complete.tree / "junit.xml").read_text()
    assert "null/bs16/accuracy.json is left out of the report: " in report.stdout


def test_without_outputs_nothing_is_verified(complete: Project) -> None:
    outputs = complete.root / "results/null/bs16/outputs"
    outputs.rename(complete.tree / "away")
    words = ["--accuracy", "root/results/null/bs16/accuracy.json", "--chip", "null", "--out", "junit.xml"]
    gate = run(complete.python, "scripts/verify.py", *words, "--references", "sample:null=2,1", cwd=complete.tree)
    complete.make("report", CHIP="")
    report = (complete.root / "results/report.md").read_text()
    (complete.tree / "away").rename(outputs)
    refused(gate, "its outputs are missing, so Top-1 was not computed again")
    assert 'errors="1"' in (complete.tree / "junit.xml").read_text()
    assert "Not computed again, because their outputs are not in this ROOT: null/bs16." in report


def test_the_remedy_is_the_command_that_builds_the_file_again(complete: Project) -> None:
    result = complete.root / "results/null/bs16"
    for path, goal in {
        complete.root / "data/bin/image_3.bin": "accuracy",
        result / "outputs/image_3_0.txt": "accuracy",
        result / "accuracy.txt": "accuracy",
    }.items():
        data = path.read_bytes()
        put(path, data + b" ")
        done = audit(complete, "--chips", "null", "--batch-sizes", "16")
        put(path, data)
        refused(done, "rm -f root/", f", then make {goal} CHIP=null BS=16 ROOT=root")


def test_a_result_of_which_only_some_files_are_left_is_named(complete: Project) -> None:
    folder = complete.root / "results/null/bs4"
    for names in (["accuracy.json"], ["accuracy.json", "accuracy.txt"]):
        for name in names:
            (folder / name).rename(folder / f"{name}.away")
        (complete.root / "results/null/bs²").mkdir()
        done = complete.make("audit-all", check=False)
        (complete.root / "results/null/bs²").rmdir()
        for name in names:
            (folder / f"{name}.away").rename(folder / name)
        assert "audit.py: root/results/null/bs4/accuracy.json: no such file" in done.stderr


def test_a_changed_digit_of_what_make_includes_is_written_again(complete: Project) -> None:
    inputs = complete.root / ".make/inputs.mk"
    text = inputs.read_bytes()
    put(inputs, text.replace(b"flags.verify :=", b"flags.verify := --references sample:null=1,0", 1))
    assert inputs.read_bytes() != text
    complete.make("accuracy")
    assert inputs.read_bytes() == text


def test_make_prints_no_page_that_was_changed(complete: Project) -> None:
    for target, name in (("accuracy", "accuracy.txt"), ("perf", "perf.txt"), ("compare", "compare.txt")):
        complete.make(target, "CHIP=cpu-int8", "BS=4")  # nothing is stale then
        path = complete.root / "results/cpu-int8/bs4" / name
        data = path.read_bytes()
        for changed in (data.replace(b"1", b"2"), b""):
            put(path, changed)
            done = complete.make(target, "CHIP=cpu-int8", "BS=4", check=False)
            put(path, data)
            assert done.returncode == 2
            assert "images" not in done.stdout
            assert f"check_pages.sh: root/results/cpu-int8/bs4/{name}: differs from" in done.stderr
    manifest = complete.root / "results/cpu-int8/bs4/outputs/manifest.json"
    data = manifest.read_bytes()
    for target in ("accuracy", "perf", "compare"):
        put(manifest, re.sub(rb'^ "digest": "..', b' "digest": "00', data, flags=re.MULTILINE))
        done = complete.make(target, "CHIP=cpu-int8", "BS=4", check=False)
        put(manifest, data)
        assert f"{target}.json: is of other outputs than those in root/results/cpu-int8/bs4/outputs" in done.stderr
        assert "images" not in done.stdout
    put(path := complete.root / "results/null/bs4/accuracy.txt", b"Top-1 accuracy of inference: 95.40%\n")
    assert "95.40" not in complete.make("accuracy-all", check=False).stdout
    path.unlink()
    assert "its digest is in accuracy.json" in complete.make("accuracy", "BS=4").stdout
