"""Small inputs that would take gigabytes or end in a traceback are one line, and clean keeps a user's files."""

from __future__ import annotations

from _support import artifact, machine
from _support.artifact import format_record

import math
import os
import random
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from conftest import TREE, Project, run
from engines.ascend import ais_bench
from network import checkpoint
from params.read import read_params


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return line


def test_aliases_that_stand_for_more_than_memory_holds_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "params.yaml"
    lines = ["a0: &a0 {x: 1, y: 2}", *(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 40))]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit):
        read_params(path)
    assert "its aliases stand for more than 20000 values" in refusal(capsys)
    path.write_text("a: " + "[" * 50000)
    with pytest.raises(SystemExit):
        read_params(path)
    assert "nested too deeply" in refusal(capsys)


def test_a_checkpoint_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, limit = tmp_path / "large.pth", checkpoint.VALUES_LIMIT + checkpoint.HEAD_LIMIT
    torch.save({"x": torch.zeros(1)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        folder = out.namelist()[0].partition("/")[0]
        with out.open(f"{folder}/data/more", "w", force_zip64=True) as member:
            for _ in range(limit // 2**24 + 1):
                member.write(bytes(2**24))
    assert path.stat().st_size < limit / 100
    with pytest.raises(SystemExit):
        checkpoint.check(path)
    assert "too many for this network" in refusal(capsys)


def test_nested_state_of_a_callable_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laughs = b"(lp0\n" + b"".join(b"(l" + b"g%d\na" % i * 9 + b"p%d\n" % (i + 1) for i in range(40))
    path = tmp_path / "laughs.pth"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("archive/data.pkl", b"\x80\x02ctorch\nFloatStorage\n" + laughs + b"b.")
    with pytest.raises(SystemExit):
        checkpoint.check(path)
    refusal(capsys)


@pytest.mark.parametrize("text", ["100 0", "max", "٣ ²", "1" * 400 + " 100000", "-5 100000", "\0", "x y z"])
def test_an_odd_cpu_max_is_no_quota(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.max").write_text(text)
    (tmp_path / "own").write_bytes(b"0::/\xff\xfe\n1:cpu\n\0:\0:/\0\n")
    assert machine.quota(tmp_path, tmp_path / "own") in (math.inf, -5 / 100000, 10**400 // 10**5)
    (tmp_path / "memory.max").write_text(text)
    assert machine.memory(tmp_path, tmp_path / "own").total > 0


def test_a_deep_summary_of_ais_bench_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("[" * 100000)
    expected = ais_bench.Expected(*(0 for _ in ais_bench.Expected._fields))
    assert "is incomplete" in ais_bench.summary_problem(path, expected, 1)


@pytest.mark.parametrize("value", ["/", "//", ".//", ".//x", "link"])
def test_the_root_of_the_file_system_is_no_root(tmp_path: Path, value: str) -> None:
    link = tmp_path / "link"
    link.symlink_to("/")
    for goal in ("clean", "accuracy"):
        done = run("make", "-n", goal, f"ROOT={link if value == 'link' else value}", "PYTHON=false")
        assert done.returncode == 2
        assert "ROOT=" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_clean_keeps_files_of_the_user(project: Project) -> None:
    own = [
        "data/bin_backup.tar",
        "data/binding.pdf",
        "data/labels.mine.csv",
        "results/my-notes.md",
        "results/null/x.md",
        "results/null/bs16/notes.md",
        "results/null/bs16-before/accuracy.txt",
        "results/null/bs16-before/outputs/image_0_0.txt",
        "models/om/my_net.om",
        "models/om/null/own/a",
        "models/onnx/my_net.onnx",
        "models/checkpoint.pkl.tmp.bak",
        "data/cifar.tmp.1",
        "data/archive_of_my_photos.tmp.2024",
        "data/bin/mine.txt",
        "models/om/null/3d_attention_net_bs16.md",
        "models/om/null/3d_attention_net_bs16_before.null",
        "results/null/bs1/accuracy.notes.md",
        "results/null/bs1/deep/accuracy.txt",
        "results/null/bs_mine/perf.json",
        ".make/notes",
    ]
    for name in own:
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text("mine")
    (project.root / "data/archive.tar.gz.tmp.4711").write_text("of a killed run")
    project.make("clean-results")
    shown = project.make("clean").stdout
    assert all((project.root / name).read_text() == "mine" for name in own)
    assert "which make did not write" in shown
    assert [path.name for path in (project.root / "results/null/bs16").iterdir()] == ["notes.md"]
    assert [path.name for path in (project.root / "models/onnx").iterdir()] == ["my_net.onnx"]
    assert sorted(path.name for path in (project.root / "models/om").rglob("*.*")) == [
        "3d_attention_net_bs16.md",
        "3d_attention_net_bs16_before.null",
        "my_net.om",
    ]
    assert not (project.root / "data/archive.tar.gz.tmp.4711").exists()
    assert not (project.root / "data/labels.txt").exists()


def test_clean_without_root_keeps_the_users_files_in_demo(fresh: Project) -> None:
    own = fresh.tree / "demo/mystuff/thesis.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    for target in ("clean", "clean-results", "distclean"):
        assert "kept      demo/mystuff/thesis.txt, which make did not write" in fresh.make(target, "ROOT=").stdout
        assert own.read_text() == "mine"


FOREIGN = [  # files with the names of artifacts in a folder where make has not built
    "data/archive.json",
    "data/archive.tar.gz",
    "models/checkpoint.json",
    "models/checkpoint.pkl",
    "models/upstream/attention_module.py",
    "results/bench.json",
    "results/x/perf.csv",
    "results/x/bs1/perf.json",
    "results/x/bs1/perf.txt",
    "results/x/bs_mine/perf.json",
    ".make/notes",
]


def test_clean_removes_nothing_in_a_folder_where_make_has_not_built(fresh: Project) -> None:
    for name in [*FOREIGN, "../.venv/bin/python"]:
        (fresh.root / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh.root / name).write_text('{"title": "mine"}')
    os.mkfifo(fresh.root / ".make/inputs.mk")  # reading it would not end
    os.mkfifo(fresh.root / "models/upstream/attention_module.json")
    for target in ("clean", "clean-results", "distclean"):
        shown = fresh.make(target).stdout
        assert "removed" not in shown
        assert all((fresh.root / name).read_text() == '{"title": "mine"}' for name in FOREIGN)
    assert "kept      root/data/archive.tar.gz root/models/checkpoint.pkl" in shown
    assert (fresh.tree / ".venv/bin/python").exists()


@pytest.mark.parametrize("name", [".make", ".make/params", ".make/scripts", ".make/given", ".make/locks"])
@pytest.mark.parametrize("flags", [[], ["-n"]])
def test_make_writes_and_removes_nothing_behind_a_linked_state(
    project: Project, tmp_path: Path, name: str, flags: list[str]
) -> None:
    folder, own = project.root / name, tmp_path / "own"
    (own / "deep").mkdir(parents=True)
    for path in (own / "mine.txt", own / "inputs.mk", own / "deep/mine.tmp.1"):
        path.write_text("mine")
    names = sorted(own.rglob("*"))
    shutil.rmtree(folder)
    folder.symlink_to(own)
    for goal in ("accuracy", "audit"):
        done = project.make(*flags, goal, check=False)
        assert done.returncode == 2
        assert f"root/{name}: a link, behind which make would write or remove files; type: rm -f root/" in done.stderr
        assert sorted(own.rglob("*")) == names
    folder.unlink()
    project.make("accuracy")


def test_a_link_deeper_in_the_state_is_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/mine.py").write_text("mine")
    link = project.root / ".make/scripts/engines"
    shutil.rmtree(link)
    link.symlink_to(tmp_path / "own")
    for goal in ("accuracy", "audit"):
        done = project.make(goal, check=False)
        assert "sync_inputs.py: root/.make/scripts/engines: a link, behind which" in done.stderr
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["mine.py"]


def test_clean_keeps_what_is_behind_links(project: Project, tmp_path: Path) -> None:
    om, own = project.root / "models/om", tmp_path / "own"
    om.rename(own)
    om.symlink_to(own)
    names = sorted(own.rglob("*"))
    shown = project.make("clean").stdout
    assert sorted(own.rglob("*")) == names
    assert "kept      root/models/om, which make did not write" in shown
    assert om.is_symlink()


def test_clean_results_and_distclean_remove_nothing_behind_links(project: Project, tmp_path: Path) -> None:
    own = tmp_path / "own"
    results, upstream = own / "results", own / "upstream"
    for path in (results / "bs16/perf.txt", results / "bs16/perf.json", upstream / "basic_layers.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (upstream / "basic_layers.json").write_text(
        format_record({"origin": "official", "sha256": artifact.digest(upstream / "basic_layers.py")})
    )
    (project.root / "results/310").symlink_to(results)
    (project.root / "results/null/bs8").symlink_to(results / "bs16")
    (project.root / "models/upstream").symlink_to(upstream)
    names = sorted(own.rglob("*"))
    for target in ("clean-results", "distclean"):
        project.make(target)
        assert sorted(own.rglob("*")) == names


def test_distclean_keeps_a_users_file_in_place_of_an_input(project: Project) -> None:
    archive, notes = project.root / "data/archive.tar.gz", project.root / "models/checkpoint.pkl/mine/notes"
    archive.write_text("mine")
    notes.parent.parent.unlink()
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    kept = "kept      root/data/archive.tar.gz root/models/checkpoint.pkl: make has no record of that file"
    assert kept in project.make("distclean").stdout
    assert (archive.read_text(), notes.read_text()) == ("mine", "mine")


def test_a_build_removes_only_temporary_files_of_its_own(project: Project) -> None:
    own = [
        project.root / name
        for name in ("results/null/bs16/accuracy.txt.tmp.bak", "data/bin.tmp.save", ".make/notes.tmp.x", ".make/tmp.1")
    ]
    for path in own:
        path.write_text("mine")
    killed = [project.root / name for name in ("results/null/bs16/accuracy.txt.tmp.77", ".make/inputs.mk.tmp.77")]
    for path in killed:
        path.write_text("half")
    for name in ("data/bin/manifest.json", "results/null/bs16/accuracy.txt"):
        (project.root / name).unlink()
    with open(project.root / ".make/inputs.mk", "a") as stream:
        stream.write("broken\n")
    project.make("accuracy")
    assert all(path.read_text() == "mine" for path in own)
    assert not any(path.exists() for path in killed)


@pytest.mark.parametrize("name", ["models/om/null/bs16.json", "models/onnx/3d_attention_net.json"])
def test_a_pipe_in_place_of_a_record_is_not_waited_for(project: Project, name: str) -> None:
    (project.root / name).unlink()
    os.mkfifo(project.root / name)
    words = ("CHIP=null", f"PYTHON={project.python}")
    done = run("timeout", "60", "make", "accuracy", *words, cwd=project.tree, ROOT="root")
    assert done.returncode == 0, done.stderr  # nothing is stale, so no command reads the record


def test_clean_counts_only_what_is_gone_and_knows_what_a_killed_make_left(fresh: Project) -> None:
    (fresh.root / ".make/locks").mkdir(parents=True)
    (fresh.root / ".make/restarted").write_text("1\n")
    fresh.make("clean")
    assert not (fresh.root / ".make").exists()


def test_damaged_bytes_of_the_inputs_are_refused_or_read_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, path = random.Random(1), tmp_path / "params.yaml"
    data = (TREE / "params.yaml").read_bytes()
    for _ in range(30):
        changed = bytearray(data)
        for _ in range(3):
            changed[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            read_params(path)
        except SystemExit:
            refusal(capsys)


MAKEFILE = (TREE / "Makefile").read_text("utf-8").replace("\\\n", " ")
SETTINGS = re.findall("^settings := (.*)$", MAKEFILE, re.MULTILINE)[0].split()
COMMANDS = [  # each would create the file mark
    "$(shell touch mark)",
    "$$(touch mark)",
    "`touch mark`",
    "';touch mark;'",
    '";touch mark;"',
    "x;touch mark #",
    "x|touch mark",
    "x\ntouch mark\n",
    "x&touch mark&",
    ")touch mark",
]


@pytest.mark.parametrize("name", SETTINGS)
def test_no_value_of_a_variable_is_run_by_make_or_a_shell(project: Project, name: str) -> None:
    goals = {"T": ["test"], "N": ["fuzz"], "LAYERS": ["compare"]}.get(name, ["accuracy"])
    for command in COMMANDS:
        for words, more in (([f"{name}={command}"], {}), ([], {name: command})):
            done = project.make(*goals, *words, check=False, **more)
            assert not list(project.tree.rglob("mark")), (command, words)
            assert "Traceback" not in done.stderr
