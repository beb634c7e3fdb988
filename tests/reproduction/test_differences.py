"""make reproduce: equal builds pass; what differs is named down to the tensor, node, field, line or image."""

from __future__ import annotations

from _support import artifact

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import TREE, Project, environment, refused, run, small_graph
from formats.sample import write_checkpoint
from network.shapes import shapes
from params.read import read_params
from reproduction.builds import CONDITIONS, Build
from reproduction.differences import compare, difference_of


def changed_graph(change: Callable[[onnx.GraphProto], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        model = onnx.load(path)
        change(model.graph)
        onnx.save(model, path)

    return edit


def flip_weight(graph: onnx.GraphProto) -> None:
    value = numpy_helper.to_array(graph.initializer[0]).copy()
    value.view(np.int32)[0, 0, 0, 0] ^= 1
    graph.initializer[0].CopyFrom(numpy_helper.from_array(value, graph.initializer[0].name))


@pytest.mark.parametrize(
    "change, expected",
    [
        (flip_weight, "initializer weight: 1 of 750 values differ"),
        (lambda graph: setattr(graph.node[1], "op_type", "GlobalMaxPool"), "node 1, GlobalAveragePool"),
        (lambda graph: graph.node.pop(), "node 2, Flatten"),
        (lambda graph: setattr(graph.initializer[0], "name", "other"), "initializer weight: only in one"),
        (lambda graph: setattr(graph, "doc_string", "today"), "doc_string of the graph"),
    ],
)
def test_a_graph_names_its_initializer_or_node(
    change: Callable[[onnx.GraphProto], object], expected: str, tmp_path: Path
) -> None:
    one, other = small_graph(tmp_path / "one.onnx"), tmp_path / "other.onnx"
    shutil.copy(one, other)
    assert difference_of(one, other) == ""
    changed_graph(change)(other)
    assert difference_of(one, other).startswith(expected)


def test_a_record_names_its_field_and_ignores_what_may_differ(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    record = {"top1": 0.5, "confusion": [[1, 2], [3, 4]], "run": {"date": "today"}}
    artifact.write_record(one, record)
    artifact.write_record(other, {**record, "run": {"date": "tomorrow"}})
    assert one.read_bytes() != other.read_bytes()
    assert difference_of(one, other) == ""
    for field, value, expected in (
        ("top1", 0.25, "field top1: 0.5 and 0.25"),
        ("top1", "0.5", "field top1: 0.5 and 0.5"),
        ("confusion", [[1, 2], [3, 5]], "field confusion[1][1]: 4 and 5"),
        ("new", 1, "field new: None and 1"),
    ):
        artifact.write_record(other, {**record, field: value})
        assert difference_of(one, other) == expected


def test_text_pages_outputs_and_bins_name_line_and_values(tmp_path: Path) -> None:
    files = {
        "labels.txt": ("1\n2\n3\n", "1\n2\n4\n", "line 3: 3 and 4"),
        "predictions.csv": ("1\n", "1\n2\n", "line 2: None and 2"),
        "image_3_0.txt": ("1 " * 10, "1 " * 9 + "1.5", "1 of 10 values differ, largest difference 0.5"),
    }
    for name, (first, second, expected) in files.items():
        for folder, text in (("one", first), ("other", second)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        assert difference_of(tmp_path / "one" / name, tmp_path / "other" / name) == expected
    for folder, value in (("one", 0.0), ("other", 2.0)):
        (tmp_path / folder / "image_7.bin").write_bytes(np.array([1, 1, value], np.float32).tobytes())
    expected = "1 of 3 values differ, largest difference 2"
    assert difference_of(tmp_path / "one/image_7.bin", tmp_path / "other/image_7.bin") == expected


def test_a_folder_names_its_first_file_that_differs(tmp_path: Path) -> None:
    for root, values in (("one", [0, 0, 0]), ("other", [0, 1, 1])):
        folder = tmp_path / root / "data/bin"
        folder.mkdir(parents=True)
        for i, value in enumerate(values):
            (folder / f"image_{i + 8}.bin").write_bytes(np.array([value], np.float32).tobytes())
        artifact.write_record(folder / "manifest.json", {"count": 3})
    rows = list(compare(tmp_path / "one", tmp_path / "other"))
    expected = "image_9.bin: 1 of 1 values differ, largest difference 1 (2 of 4 files differ)"
    assert [(row.name, row.difference) for row in rows] == [("data/bin", expected)]
    (tmp_path / "other/data/bin/image_9.bin").unlink()
    assert "image_9.bin: only in one" in next(compare(tmp_path / "one", tmp_path / "other")).difference


def test_measurements_of_the_machine_and_what_a_runtime_has_compiled_are_not_compared(tmp_path: Path) -> None:
    for root in ("one", "other"):
        folder = tmp_path / root / "models/om/cpu-f32"
        folder.mkdir(parents=True)
        for name in ("3d_attention_net_bs1.blob", "bs1.tuning.json", "bs1.log"):
            (folder / name).write_text(root)
        (folder / "bs1.json").write_text("{}")
    rows = list(compare(tmp_path / "one", tmp_path / "other"))
    assert [(row.name, row.difference) for row in rows] == [("models/om/cpu-f32/bs1.json", "")]


def test_the_builds_do_not_tune_because_a_measurement_may_choose_otherwise(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(
        re.sub("(cpu-f32: engine=openvino)", r"\1 tune=yes", (TREE / "params.yaml").read_text("utf-8")), "utf-8"
    )
    build = Build(CONDITIONS[0], tmp_path, "make", params)
    settings = read_params(build.tree / "params.yaml")
    assert settings["tune"] == "no" and "tune=no" in settings["chips.cpu-f32"]


def test_an_archive_names_its_member_and_a_checkpoint_its_tensor(tmp_path: Path) -> None:
    paths = [tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"]
    for path, data in zip(paths, (b"123", b"124")):
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("test_batch")
            member.size = 3
            archive.addfile(member, io.BytesIO(data))
    assert difference_of(*paths) == "member test_batch"
    one, other = tmp_path / "one.pkl", tmp_path / "other.pkl"
    write_checkpoint(one, shapes())
    data = bytearray(one.read_bytes())
    data[-7] ^= 1
    other.write_bytes(data)
    assert re.match(r"tensor \S+: 1 of \d+ values differ", difference_of(one, other))
    other.write_bytes(data[:1000])
    assert difference_of(one, other) == f"{len(data)} and 1000 bytes"


def test_two_builds_are_compared_and_what_differs_is_named(project: Project) -> None:
    """The engine answers other logits in the second build's time zone, and stores the path of the project."""
    engine = project.tree / "scripts/engines/null"
    text = (engine / "run.py").read_text()
    text = text.replace('plan.get("wrong", 0)', '(0.5 if os.environ["TZ"].startswith("Asia") else 0)')
    (engine / "run.py").write_text(text)
    text = (engine / "compile.py").read_text().replace("import zlib", "import os\nimport zlib")
    (engine / "compile.py").write_text(text.replace("stand-in, batch", "{os.getcwd()}"))
    words = ("--make", "make", "--root", "root", "--params", "params.yaml", "--batch-size", 16)
    chips = ("--chips", "null=null", "310P3=ascend")
    done = run(sys.executable, "scripts/reproduce.py", *words, *chips, cwd=project.tree, **project.locks)
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.findall(r"^  \w{16}  (same|different) +(\S+)$", done.stdout, re.MULTILINE)
    rows = {name: verdict for verdict, name in found}
    network = "3d_attention_net"
    same = (
        "data/bin",
        "data/archive.tar.gz",
        "data/labels.txt",
        "models/checkpoint.pkl",
        f"models/onnx/{network}.onnx",
    )
    assert all(rows[name] == "same" for name in (*same, f"models/optimized/{network}.json")), done.stdout
    image = "image_0_0.txt: 10 of 10 values differ, largest difference 0.5 (41 of 41 files differ)"
    assert image in done.stdout
    refused(done, f"models/om/null/{network}_bs16.", "artifacts differ")
    assert not list((project.root / ".make").glob("reproduce*"))


@pytest.mark.parametrize("name", ["reproduce", "bench"])
def test_sigterm_ends_it_in_one_line_and_leaves_nothing(project: Project, name: str) -> None:
    """As timeout(1) sends it: to the whole group, so it comes twice, because make passes it on."""
    command = ["make", name, f"PYTHON={project.python}", "ROOT=root"]
    more = environment(**project.locks)
    with subprocess.Popen(
        command,
        cwd=project.tree,
        env=more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        state, end = project.root / ".make", time.monotonic() + 60
        while not list(state.glob(f"{name}.tmp.*")) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode
    line = f"{name}.py: interrupted; run the same command again to continue"
    assert [text for text in errors.splitlines() if not text.startswith("make")] == [line]
    while list(state.glob(f"{name}*")) and time.monotonic() < end:  # make does not wait for its commands
        time.sleep(0.01)
    assert not list(state.glob(f"{name}*"))


def test_the_second_build_is_under_other_conditions() -> None:
    from reproduction.builds import CONDITIONS

    one, other = CONDITIONS
    assert all(a != b for a, b in zip(one, other))
    assert all(one.environment[name] != other.environment[name] for name in one.environment)
    assert not other.root.isascii() and json.dumps(other.folder) != f'"{other.folder}"'
