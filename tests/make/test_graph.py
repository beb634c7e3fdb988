"""The guarantees of the graph (docs/internals.md), each checked on a copy of the tree."""

from __future__ import annotations

from _support import artifact

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conftest import Inputs, Project, ascend_host, copy_of, environment, run, set_setting, small_graph
from formats import python2, sample

RESULT = "root/results/null/bs16/accuracy.txt"
STATE = "root/.make/inputs.mk"  # updates .make and nothing else
TOMORROW = time.time() + 86400


def up_to_date(project: Project, target: str = RESULT) -> bool:
    return project.make("-q", target, check=False).returncode == 0


def touch(*paths: Path, at: float | None = None) -> None:
    for path in paths:
        os.utime(path, (at, at) if at else None)


# Guarantee 1: contents determine what is rebuilt


def test_touching_every_source_rebuilds_nothing(project: Project) -> None:
    before = {p: (project.root / p).stat().st_mtime_ns for p in project.artifacts()}
    touch(*project.tree.glob("scripts/**/*.py"), project.tree / "params.yaml", project.tree / "Makefile")
    assert up_to_date(project)
    project.make("accuracy")
    assert {p: (project.root / p).stat().st_mtime_ns for p in project.artifacts()} == before
    assert project.pythons() == []


def test_a_fresh_clone_beside_restored_results_rebuilds_nothing(project: Project, tmp_path: Path) -> None:
    for path in ("Makefile", "params.yaml", "requirements.txt", "scripts"):
        old = project.tree / f"old-{path}"
        (project.tree / path).rename(old)
        (shutil.copytree if old.is_dir() else shutil.copyfile)(old, project.tree / path)
    touch(*project.tree.glob("scripts/**/*.py"), project.tree / "params.yaml", project.tree / "Makefile")
    before = project.artifacts()
    assert up_to_date(project)
    project.make("accuracy")
    assert project.rebuilt(before) == set()


@pytest.mark.parametrize(
    ("script", "stage"),
    [("optimize_onnx", "models/optimized/3d_attention_net.onnx"), ("preprocess", "data/bin/manifest.json")],
)
def test_an_edit_of_a_script_reruns_its_stage_and_no_later_one_if_the_bytes_stay(
    project: Project, script: str, stage: str
) -> None:
    before = project.artifacts()
    with open(project.tree / f"scripts/{script}.py", "a") as file:
        file.write("# a comment\n")
    assert not up_to_date(project)
    project.make("accuracy")
    also = {"data/labels.txt"} if script == "preprocess" else set()
    assert project.rebuilt(before) == {stage} | also
    assert up_to_date(project)


def test_an_edit_that_changes_bytes_reaches_the_result(project: Project) -> None:
    before = project.artifacts()
    project.set("optimize.resize", "exact")
    project.make("accuracy")
    assert "models/onnx/3d_attention_net.onnx" not in project.rebuilt(before)
    assert project.rebuilt(before) >= {"models/optimized/3d_attention_net.onnx", "results/null/bs16/accuracy.txt"}
    assert "exact" in (project.root / "results/null/bs16/accuracy.txt").read_text()


def test_an_edit_of_one_key_reruns_only_what_uses_it(project: Project) -> None:
    before = project.artifacts()
    project.set("infer.format", "npy")
    project.make("accuracy")
    assert project.rebuilt(before) == {
        "results/null/bs16/outputs/manifest.json",
        "results/null/bs16/accuracy.txt",
        "results/null/bs16/predictions.csv",
    }
    before = project.artifacts()
    project.set("published.accuracy.310", "95.33")
    project.make("accuracy")
    assert project.rebuilt(before) == set()


# Guarantee 2: shared work is done once


def test_another_batch_size_and_another_chip_share_the_earlier_stages(project: Project) -> None:
    before = project.artifacts()
    project.make("accuracy", "BS=7")
    assert project.rebuilt(before) == {
        "models/om/null/3d_attention_net_bs7.null",
        "results/null/bs7/outputs/manifest.json",
        "results/null/bs7/accuracy.txt",
        "results/null/bs7/predictions.csv",
    }
    before = project.artifacts()
    project.make("accuracy", "CHIP=null2")
    assert project.rebuilt(before) == {
        "models/om/null2/3d_attention_net_bs16.null",
        "results/null2/bs16/outputs/manifest.json",
        "results/null2/bs16/accuracy.txt",
        "results/null2/bs16/predictions.csv",
    }


def test_each_root_is_independent(project: Project) -> None:
    before = project.artifacts()
    project.make("bin", "SOURCE=sample", "ROOT=other/root")
    assert (project.tree / "other/root/data/bin/manifest.json").is_file()
    assert project.rebuilt(before) == set()


def test_the_same_bytes_from_another_path_rebuild_nothing_and_other_bytes_do(project: Project, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first.tar.gz", "second.tar.gz", "third.tar.gz"))

    python2.write_tar(first, sample.archive_files(5, 10, 20))
    shutil.copyfile(first, second)
    python2.write_tar(third, sample.archive_files(6, 10, 20))
    touch(third, at=1)  # older than everything, and still imported
    project.make("bin", f"ARCHIVE={first}")
    before = project.artifacts()
    assert up_to_date(project, "root/data/bin/manifest.json")
    assert project.make("-q", "root/data/bin/manifest.json", f"ARCHIVE={second}", check=False).returncode == 0
    project.make("bin", f"ARCHIVE={second}")
    assert project.rebuilt(before) == set()
    project.make("bin", f"ARCHIVE={third}")
    assert "data/bin/manifest.json" in project.rebuilt(before)
    before = project.artifacts()
    project.make("bin")
    assert project.rebuilt(before) == set()  # without ARCHIVE, the file in ROOT is kept


# Guarantees 3 to 5: complete or absent, safe under -j, a no-op takes no time


def test_a_failing_stage_keeps_the_earlier_artifact_and_leaves_nothing_incomplete(project: Project) -> None:
    before = project.artifacts()
    run_module = project.tree / "scripts/engines/null/run.py"
    run_module.write_text(run_module.read_text().replace(".copy()", ".copy() * float('nan')"))
    done = project.make("accuracy", check=False)
    assert done.returncode == 2
    assert "not finite" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.artifacts() == before
    assert not list(project.root.rglob("*.tmp.*"))


def test_orphans_of_a_killed_run_are_removed_by_the_next(project: Project) -> None:
    orphan = project.root / "results/null/bs16/outputs.tmp.12345"
    orphan.mkdir()
    (orphan / "image_0_0.txt").write_text("half")
    (project.root / RESULT.removeprefix("root/")).unlink()
    (project.root / "results/null/bs16/outputs/manifest.json").unlink()
    project.make("accuracy")
    assert not orphan.exists()
    assert up_to_date(project)


def test_a_deleted_intermediate_file_is_rebuilt(project: Project) -> None:
    (project.root / "models/optimized/3d_attention_net.onnx").unlink()
    assert not up_to_date(project)
    project.make("accuracy")
    assert up_to_date(project)


def test_j8_builds_each_artifact_once(project: Project) -> None:
    project.make("-j8", "accuracy-all")
    pythons = project.pythons()
    assert sorted(pythons) == sorted(["compile_model", "infer", "postprocess"] * 5)  # bs16 was built before


def test_j8_and_two_makes_at_once_build_each_artifact_once(fresh: Project) -> None:
    fresh.log.write_text("")
    words = ["make", "-j8", "accuracy-all", "SOURCE=sample", "ROOT=root", "CHIP=null", f"PYTHON={fresh.python}"]
    both = [
        subprocess.Popen(
            words, cwd=fresh.tree, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    out = texts[0][0] + texts[1][0]
    assert out.count("this is the built-in sample") == 2  # archive and checkpoint
    assert out.count("  opset 11; ") == 1
    assert out.count("  resize nearest: ") == 1
    err = texts[0][1] + texts[1][1]
    assert err.count("40/40 images") == 6
    assert up_to_date(fresh)


def test_changed_pins_rerun_the_stages_that_use_them(project: Project) -> None:
    with open(project.tree / "requirements.txt", "a") as file:
        file.write("# another pin\n")
    project.make("accuracy")
    assert {"export_onnx", "optimize_onnx", "compile_model", "infer"} <= set(project.pythons())
    record = artifact.read_record(project.root / "models/onnx/3d_attention_net.json")
    assert set(record["key"]["versions"]) == {"torch", "onnx", "onnxruntime"}


def test_an_edit_while_a_stage_runs_is_not_lost(project: Project) -> None:
    run_module = project.tree / "scripts/engines/null/run.py"
    with open(run_module, "a") as file:
        file.write("time.sleep(3)\n")
    words = ["make", "accuracy", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    slow = subprocess.Popen(words, cwd=project.tree, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert slow.stdout is not None
    while b"INFER" not in slow.stdout.readline():
        pass
    project.set("infer.format", "npy")
    project.make(STATE)
    slow.communicate()
    assert not up_to_date(project)
    project.make("accuracy")
    assert (project.root / "results/null/bs16/outputs/image_0_0.npy").exists()


def test_a_users_input_is_imported_even_after_a_dry_run(project: Project, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"
    python2.write_tar(first, sample.archive_files(5, 10, 20))
    python2.write_tar(second, sample.archive_files(6, 10, 20))
    project.make("bin", f"ARCHIVE={first}")
    project.make("-n", "bin", f"ARCHIVE={second}")
    project.make("bin")  # without ARCHIVE, the file in ROOT is kept
    assert (project.root / "data/archive.tar.gz").read_bytes() == first.read_bytes()
    project.make("bin", f"ARCHIVE={second}")
    assert (project.root / "data/archive.tar.gz").read_bytes() == second.read_bytes()
    project.make("accuracy", f"ARCHIVE={second}")
    project.make("accuracy", f"ARCHIVE={second}")
    assert project.pythons() == []  # a no-op, although ARCHIVE is set


def test_a_wrong_path_does_not_replace_the_file_in_root(project: Project, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("neither an archive nor a checkpoint")
    before = project.artifacts()
    for name in ("ARCHIVE", "WEIGHTS"):
        done = project.make("accuracy", f"{name}={wrong}", check=False)
        assert done.returncode == 2
        assert f"import_input.py: {wrong}" in done.stderr
    assert project.artifacts() == before
    project.make("accuracy")
    assert project.rebuilt(before) == set()


def test_a_checkpoint_of_another_network_does_not_replace_the_one_in_root(project: Project) -> None:
    import torch

    wrong = project.tree / "wrong.pkl"
    torch.save({"conv1.0.weight": torch.zeros(1)}, wrong)
    before = project.artifacts()
    done = project.make("accuracy", f"WEIGHTS={wrong}", check=False)
    assert f"import_input.py: {wrong}: " in done.stderr
    assert "1 tensors of another shape or type" in done.stderr
    assert project.artifacts() == before
    project.make("accuracy")
    assert project.rebuilt(before) == set()


def test_an_empty_inputs_mk_after_a_power_cut_is_rebuilt(project: Project) -> None:
    (project.root / ".make/inputs.mk").write_text("")
    before = project.artifacts()
    assert "Top-1" in project.make("accuracy").stdout
    assert project.rebuilt(before) == set()
    project.make("accuracy")
    assert project.pythons() == []


def test_own_files_copied_over_the_sample_are_not_labelled_as_the_sample(project: Project) -> None:
    with open(project.root / "data/archive.tar.gz", "ab") as file:
        file.write(b"\0" * 512)
    done = project.make("accuracy", check=False)
    archive = "root/data/archive.tar.gz"
    message = f"{archive}: no longer the file that was generated; type: rm -f {archive} root/data/archive.json, then"
    assert message in done.stderr
    (project.root / "data/archive.json").unlink()
    done = project.make("accuracy", check=False)
    assert f"{archive}: not the file that was generated, and its record is missing or damaged; type: rm" in done.stderr
    given = project.tree / "given.tar.gz"
    (project.root / "data/archive.tar.gz").rename(given)
    project.make("accuracy", f"ARCHIVE={given}")
    assert re.search(r"data_origin +own", (project.root / "results/null/bs16/accuracy.txt").read_text())


def test_flags_in_makeflags_on_the_command_line_are_refused(fresh: Project) -> None:
    for flag in ("-i", "-t"):
        assert "MAKEFLAGS: unknown variable" in fresh.make("verify", f"MAKEFLAGS={flag}", check=False).stderr


MAKEFILES = """\
override MAKECMDGOALS := help
.IGNORE:
"""


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (["MAKECMDGOALS=help"], {}, "MAKECMDGOALS: unknown variable; "),
        (["MAKECMDGOALS=help", ".VARIABLES="], {}, "MAKECMDGOALS .VARIABLES: unknown variable; "),
        (["MAKE="], {}, "MAKE: unknown variable; "),
        (["MAKE_RESTARTS=1"], {}, "MAKE_RESTARTS: unknown variable; "),
        (["VPATH=other"], {}, "VPATH: unknown variable; "),
        (["SHELL=/bin/true"], {}, "preflight.sh: no output; "),
        (
            [],
            {"MAKECMDGOALS": "help"},
            "MAKECMDGOALS: changes what make does (in your environment); unset MAKECMDGOALS",
        ),
        ([], {"MAKEFILES": "first.mk"}, "MAKECMDGOALS MAKEFILES: changes what make does (in your environment); unset"),
        (["-e"], {"verify": "true"}, "make -e: replaces variables of the Makefile"),
        ([], {"MAKEFLAGS": "e", "python": "true"}, "make -e: replaces variables of the Makefile"),
        (["--eval=.IGNORE:"], {}, "make --eval: changes the rules; run make without --eval"),
        (["--eval=override MAKEFLAGS :="], {}, "MAKEFLAGS: changes what make does"),
        ([], {"GNUMAKEFLAGS": "--eval=.IGNORE:"}, "make --eval: changes the rules; run make without --eval"),
    ],
)
def test_what_hides_goals_or_changes_rules_is_refused_in_one_line(
    fresh: Project, arguments: list[str], more: dict[str, str], message: str
) -> None:
    (fresh.tree / "first.mk").write_text(MAKEFILES)
    junit = fresh.root / "results/junit.xml"
    junit.parent.mkdir(parents=True)
    junit.write_text("green")
    done = fresh.make("verify", *arguments, check=False, **more)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert junit.read_text() != "green" or "SHELL=/bin/true" in arguments


def test_variables_of_make_in_the_environment_change_nothing(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = copy_of(project, tmp_path_factory.mktemp("other"))
    page = other.root / RESULT.removeprefix("root/")
    shutil.rmtree(project.root / "results")
    project.make("accuracy", "ATC=x --eval=y", VPATH=str(other.tree))
    assert (project.root / RESULT.removeprefix("root/")).read_bytes() == page.read_bytes()
    assert "scripts/export_onnx.py" in project.make("demo", "-n", MAKE="true").stdout


@pytest.mark.parametrize("word", ["MAKE_RESTARTS", "-n", "-o"])
def test_no_variable_or_flag_keeps_the_settings_of_an_earlier_make(project: Project, word: str) -> None:
    project.judge_sample()
    project.set("verify.sample.null", "1.01 1.01")
    project.make("verify")
    strict = shutil.copy(project.tree / "params.yaml", project.tree / "strict.yaml")
    set_setting(strict, "verify.sample.null", "99.9 0.0")
    flags = {"-o": ["-o", "root/.make/inputs.mk"], "-n": ["-n"]}.get(word, [])
    more = {} if word == "-o" else {"MAKE_RESTARTS": "1"}
    done = project.make("verify", "PARAMS=strict.yaml", *flags, check=False, **more)
    if word == "-n":
        assert done.returncode == 0
        assert "99.9" in done.stdout
        assert not list((project.tree / "tmp").glob("make-state-*/restarted"))
        return
    assert done.returncode == 2
    assert 'failures="0" errors="0"' not in (project.root / "results/junit.xml").read_text()
    if word == "-o":
        assert "root/.make/inputs.mk: not updated; run make without -o" in done.stderr
        done = project.make("accuracy", *flags, f"ARCHIVE={project.root / 'data/archive.tar.gz'}", check=False)
        assert "root/.make/inputs.mk: not updated" in done.stderr
    else:
        assert "is below 99.90" in done.stderr


@pytest.mark.parametrize("flags", [[], ["-n"]])
def test_an_inputs_mk_of_others_is_not_read_after_a_restart_either(project: Project, flags: list[str]) -> None:
    (project.root / ".make/inputs.mk").write_text("x := $(shell touch mark)\n")
    project.make("accuracy", *flags, MAKE_RESTARTS="1")
    assert not (project.tree / "mark").exists()
    assert "sync_inputs" in project.pythons()


def test_a_pipe_in_make_is_replaced_and_a_folder_is_refused(fresh: Project) -> None:
    state = fresh.root / ".make"
    (state / "given").mkdir(parents=True)
    for name in ("inputs.mk", "restarted", "given/params", "given/archive.stat", "given/archive.data"):
        os.mkfifo(state / name)
    dry = ["timeout", "60", "make", "-n", "bin", "SOURCE=sample", f"PYTHON={fresh.python}"]
    assert run(*dry, cwd=fresh.tree, ROOT="root").returncode == 0
    assert (state / "inputs.mk").is_fifo()
    done = run("timeout", "60", "make", STATE, "SOURCE=sample", f"PYTHON={fresh.python}", cwd=fresh.tree, ROOT="root")
    assert done.returncode == 0, done.stderr
    assert not [path for path in state.rglob("*") if path.is_fifo()]
    (state / "inputs.mk").unlink()
    (state / "inputs.mk").mkdir()
    done = fresh.make("bin", check=False)
    assert "root/.make/inputs.mk: a folder, where make writes a file; type: rm -r root/.make/inputs.mk" in done.stderr


def test_settings_that_change_before_the_restart_end_make_in_one_line(project: Project) -> None:
    sync = project.tree / "scripts/sync_inputs.py"
    text = sync.read_text()
    end = '\n    with open("params.yaml", "a") as file:\n        file.write("# changed\\n")\n'
    assert text.endswith("    main()\n")
    sync.write_text(text[:-1] + end)
    done = project.make("accuracy", check=False)
    assert done.returncode == 2
    assert "params.yaml: settings or scripts changed while make read them; run the same command again" in done.stderr
    assert project.pythons() == ["sync_inputs"]


def test_a_damaged_note_of_the_last_import_is_not_taken_for_any_input(project: Project, tmp_path: Path) -> None:
    archive = f"ARCHIVE={shutil.copyfile(project.root / 'data/archive.tar.gz', tmp_path / 'own.tar.gz')}"
    for _ in range(2):
        project.make("bin", archive)
    assert project.pythons() == []
    (project.root / ".make/given/archive.stat").write_text("%\n")
    project.make("bin", archive)
    assert "sync_inputs" in project.pythons()


def test_an_earlier_source_is_not_kept_in_a_root_without_inputs(fresh: Project) -> None:
    fresh.make(STATE, "SOURCE=sample")
    done = fresh.make("bin", check=False)
    assert "root/data/archive.tar.gz: not downloaded" in done.stderr


def test_a_noop_starts_no_python_and_still_prints_top1(project: Project) -> None:
    done = project.make("accuracy")
    assert project.pythons() == []
    assert done.stdout.startswith("Top-1 accuracy of inference: ")


def test_a_params_file_from_the_future_neither_loops_nor_rebuilds(project: Project) -> None:
    before = project.artifacts()
    touch(project.tree / "params.yaml", at=TOMORROW)
    project.make("accuracy")
    assert project.pythons() == []
    assert project.rebuilt(before) == set()


def test_after_a_clock_jump_back_stages_are_checked_once_and_nothing_is_rebuilt(project: Project) -> None:
    before = project.artifacts()
    touch(*(p for p in (project.root / ".make").rglob("*") if p.is_file()), at=TOMORROW)
    project.make("accuracy")
    assert project.pythons() != []
    project.make("accuracy")
    assert project.pythons() == []
    assert project.rebuilt(before) == set()


def test_after_the_loss_of_the_make_folder_nothing_is_rebuilt(project: Project) -> None:
    before = project.artifacts()
    shutil.rmtree(project.root / ".make")
    project.make("accuracy")
    assert project.rebuilt(before) == set()
    assert up_to_date(project)


# Guarantee 7: variants are in the path


def test_results_of_chips_and_batch_sizes_exist_side_by_side(project: Project) -> None:
    first = (project.root / "results/null/bs16/accuracy.txt").read_bytes()
    project.make("accuracy", "BS=3")
    project.make("accuracy", "BS=3", "CHIP=null2")
    assert (project.root / "results/null/bs16/accuracy.txt").read_bytes() == first
    for path in ("results/null/bs3", "results/null2/bs3"):
        assert (project.root / path / "accuracy.json").is_file()


# Invalid goals and variables


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["acuracy"], ["acuracy: unknown target", "make help"]),
        (["accuracy", "BS=0"], ["BS=0", "1 to 64"]),
        (["accuracy", "BS=65"], ["BS=65", "1 to 64"]),
        (["accuracy", "BS=x"], ["BS=x", "1 to 64"]),
        (["accuracy", "BS=%"], ["BS=%", "1 to 64"]),
        (["accuracy", "BS=1 2"], ["BS=1 2", "1 to 64"]),
        (["accuracy", "BS="], ["BS=", "1 to 64"]),
        (["accuracy", "CHIP=CPU"], ["CHIP=CPU", "near: cpu "]),
        (["accuracy", "CHIP=bf16"], ["CHIP=bf16", "near: cpu-bf16 cpu-bf16-uint8; all: "]),
        (["bench", "ROOT=typo"], ["bench: ROOT=typo contains no inputs", "omit ROOT"]),
        (["accuracy", "CHIP=310P"], ["CHIP=310P", "near: 310P1 310P3 310P3-uint8;"]),
        (["accuracy", "CHIP=Ascend310P3"], ["CHIP=Ascend310P3", "near: 310P3 310P3-uint8;"]),
        (["accuracy", "CHIP=310p3"], ["CHIP=310p3", "near: 310P3 310P3-uint8;"]),
        (["accuracy", "CHIP=Ascend 910B"], ["CHIP=Ascend 910B", "near: 910B 910B1 910B2 910B3 910B4 910B4-1;"]),
        (["root/results/cpu/bs4/accuracy.txt", "CHIP=310"], ["cpu: a file of another chip than CHIP=310"]),
        (["accuracy", "DEVICE=0\n1"], ["DEVICE=0?1", "not a device number"]),
        (["accuracy", "DEVICE=0 1"], ["DEVICE=0 1", "as 0,1"]),
        (["accuracy", "DEVICE=npu0"], ["DEVICE=npu0", "as 0,1"]),
        (["accuracy", "DEVICE=0,"], ["DEVICE=0,", "as 0,1"]),
        (["accuracy", "ONNX=/no/such"], ["ONNX=/no/such: no such file"]),
        (["compare", "LAYERS=yes"], ["LAYERS=yes: not a switch"]),
        (["accuracy", "OM=/no/such"], ["OM=/no/such: no such file"]),
        (["accuracy", "CHIP=nul"], ["CHIP=nul", "near: null null2;"]),
        (["accuracy", "CHIP=it's"], ["CHIP=it's", "near: none;", "cpu"]),
        (["accuracy", "SOURCE=imagenet"], ["SOURCE=imagenet", "cifar10 or sample"]),
        (["accuracy", "ROOT=a b"], ["ROOT=a b", "letters"]),
        (["accuracy", "ROOT=a:b"], ["ROOT=a:b", "letters"]),
        (["accuracy", "ROOT=a`touch mark`"], ["ROOT=a`touch mark`", "letters"]),
        (["accuracy", "ROOT=a$$(touch mark)"], ["ROOT=a$(touch mark)", "letters"]),
        (["accuracy", "ROOT=-x"], ["ROOT=-x", "begin with -"]),
        (["accuracy", "SOURCE=sample ;touch mark;"], ["SOURCE=sample ;touch mark;", "cifar10 or sample"]),
        (["accuracy", "bs=4"], ["bs: unknown variable", "make help"]),
        (["accuracy", "PYTHON=/no/python"], ["PYTHON=/no/python: no such program"]),
        (["accuracy", "ARCHIVE=/no/such"], ["ARCHIVE=/no/such: no such file or folder"]),
        (["accuracy", "WEIGHTS=/no/such"], ["WEIGHTS=/no/such: no such file or folder"]),
        (["clean", "accuracy"], ["clean accuracy", "alone"]),
        (["accuracy", "MIRROR=127.0.0.1:80"], ["MIRROR: not an http or https URL", "use http://host/folder"]),
        (
            ["accuracy", "MIRROR=http://user:secret@host/"],
            ["MIRROR: not an http or https URL, or one with a password or a query"],
        ),
    ],
)
def test_a_wrong_goal_or_value_is_rejected_in_one_line_before_anything_is_installed(
    fresh: Project, arguments: list[str], words: list[str]
) -> None:
    before = sorted(fresh.tree.rglob("*"))
    chosen = [] if any(word.startswith("ROOT=") for word in arguments) else ["ROOT=root"]
    done = run("make", *arguments, *chosen, cwd=fresh.tree)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], lines[0]
    assert sorted(fresh.tree.rglob("*")) == before


@pytest.mark.parametrize("flag", ["-n", "-q"])
def test_dry_runs_of_a_fresh_clone_install_nothing_and_say_so(fresh: Project, flag: str) -> None:
    done = run("make", flag, "accuracy", "SOURCE=sample", "ROOT=root", cwd=fresh.tree)
    assert done.returncode == 2
    assert "run make setup first" in done.stderr
    assert not (fresh.tree / ".venv").exists()
    assert not fresh.root.exists()


def test_an_old_make_is_rejected() -> None:
    done = run("make", ".FEATURES=x", "help")
    assert done.returncode == 2
    assert "GNU Make 4.0 or newer is required" in done.stderr


def test_a_fresh_root_under_dry_run_warns_of_nothing(fresh: Project) -> None:
    done = fresh.make("--warn-undefined-variables", "-n", "accuracy", "SOURCE=sample")
    assert "undefined variable" not in done.stderr


def test_params_without_chips_are_named(fresh: Project) -> None:
    params = fresh.tree / "params.yaml"
    params.write_text(params.read_text().replace("chips:", "chip:"))
    assert "params.yaml: contains no block chips:" in fresh.make("accuracy", check=False).stderr


def test_help_needs_nothing_and_shows_targets_and_present_values(fresh: Project) -> None:
    done = run("make", "BS=8", cwd=fresh.tree, PATH="/usr/bin:/bin")
    assert done.returncode == 0
    assert "accuracy-all" in done.stdout
    assert re.search(r"BS +8 ", done.stdout)
    assert re.search(r"CHIP +\(empty\) ", done.stdout)
    assert not (fresh.tree / ".make").exists()


def test_a_root_that_cannot_be_written_is_one_line(fresh: Project) -> None:
    done = fresh.make("bin", "ROOT=/proc/nowhere", "SOURCE=sample", check=False)
    assert done.returncode == 2
    assert "sync_inputs.py: ROOT=/proc/nowhere: cannot be created" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_inputs_the_message_says_how_to_get_them(fresh: Project) -> None:
    done = fresh.make("accuracy", check=False)
    assert done.returncode == 2
    for word in ("root/models/checkpoint.pkl: not downloaded", "by hand", "WEIGHTS=", "MIRROR=", "make d"):
        assert word in done.stderr
    done = fresh.make("accuracy", "ARCHIVE=/no/such/file", check=False)
    assert "ARCHIVE=/no/such/file: no such file" in done.stderr


def test_a_root_of_the_sample_is_not_mixed_with_cifar10(project: Project) -> None:
    before = project.artifacts()
    done = project.make("accuracy", "SOURCE=cifar10", check=False)
    assert done.returncode == 2
    assert "contains inputs of the sample" in done.stderr
    project.make("accuracy")  # without SOURCE, that of the inputs in ROOT
    assert project.rebuilt(before) == set()


def test_paths_of_users_may_hold_spaces_and_quotes(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    shutil.copyfile(project.root / "data/archive.tar.gz", folder / "the archive.tar.gz")
    before = project.artifacts()
    project.make("bin", f"ARCHIVE={folder}/the archive.tar.gz")
    assert project.rebuilt(before) == {"data/archive.tar.gz", "data/bin/manifest.json", "data/labels.txt"}
    output = project.root / "results/null/bs16/outputs/image_0_0.txt"
    inode = output.stat().st_ino
    project.make("accuracy")  # the same images, so inference does not run again, but they are now labelled own data
    assert output.stat().st_ino == inode
    assert re.search(r"data_origin +own", (project.root / "results/null/bs16/accuracy.txt").read_text())


INPUT_FILES = {"data/archive.tar.gz", "data/archive.json", "models/checkpoint.pkl", "models/checkpoint.json"}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_clean_keeps_inputs_and_the_next_make_ends_in_the_same_result(project: Project) -> None:
    first = (project.root / "results/null/bs16/accuracy.txt").read_bytes()
    shown = project.make("clean").stdout
    assert files_in(project.root) == INPUT_FILES
    for folder in ("data", "models", "results", ".make"):
        assert f"removed   root/{folder}: " in shown
    assert "did not write" not in shown
    kept = "kept      root/data/archive.tar.gz root/models/checkpoint.pkl; make distclean ROOT=root removes them"
    assert kept in shown
    project.make("accuracy")
    assert (project.root / "results/null/bs16/accuracy.txt").read_bytes() == first


def test_clean_keeps_measurements_which_stay_valid_and_clean_results_removes_them(project: Project) -> None:
    project.make("perf")
    measured = project.root / "results/null/bs16/perf.json"
    before = measured.read_bytes()
    shown = project.make("clean").stdout
    own = {f"results/null/bs16/perf.{kind}" for kind in ("json", "txt", "statement.json")}
    assert files_in(project.root) == INPUT_FILES | own
    assert "measurements in root/results (3 files); make clean-results ROOT=root removes them" in shown
    project.make("perf")
    assert measured.read_bytes() == before
    project.make("clean-results")
    assert not files_in(project.root / "results")
    assert (project.root / "models/om/null").is_dir()
    project.make("perf")
    project.make("clean")
    project.make("clean-results")  # make does not know any more that it has built here
    assert files_in(project.root) == INPUT_FILES
    project.make("distclean")
    assert files_in(project.root) == set()


def test_clean_without_root_cleans_the_demo_and_keeps_its_measurements(fresh: Project) -> None:
    demo = fresh.tree / "demo"
    (demo / ".make/locks").mkdir(parents=True)
    (demo / "results/cpu/bs16").mkdir(parents=True)
    for name in ("models/onnx", "data/bin"):
        (demo / name).mkdir(parents=True)
    artifact.write_record(demo / "results/bench.json", {"figures": []})
    (demo / "data/archive.tar.gz").write_text("generated")
    sha256 = artifact.digest(demo / "data/archive.tar.gz")
    artifact.write_record(demo / "data/archive.json", {"key": {}, "origin": "sample", "sha256": sha256})
    (demo / "results/cpu/bs16/accuracy.txt").write_text("x")
    shown = fresh.make("clean", "ROOT=").stdout
    assert files_in(demo) == {"results/bench.json", "data/archive.tar.gz", "data/archive.json"}
    assert "make clean-results ROOT=demo removes them" in shown
    fresh.make("clean-results", "ROOT=demo")
    fresh.make("clean", "ROOT=")
    assert not demo.exists()


def test_make_warns_of_no_undefined_variables(project: Project) -> None:
    for target in ("help", "accuracy", "accuracy-all", "verify", "om-all", "clean"):
        done = project.make("--warn-undefined-variables", "-n", target)
        assert "undefined variable" not in done.stderr, done.stderr


def test_files_copied_by_hand_are_kept_and_never_overwritten_by_the_sample(fresh: Project, inputs: Inputs) -> None:
    (fresh.root / "data").mkdir(parents=True)
    archive = fresh.root / "data/archive.tar.gz"
    shutil.copyfile(inputs.archive, archive)
    first = archive.read_bytes()
    assert "contains other inputs than the sample's" in fresh.make("bin", "SOURCE=sample", check=False).stderr
    fresh.make("bin")
    assert archive.read_bytes() == first


def test_the_sample_replaces_an_own_file_that_was_removed(project: Project, inputs: Inputs) -> None:
    sample = (project.root / "data/archive.tar.gz").read_bytes()
    project.make("bin", f"ARCHIVE={inputs.archive}")
    assert (project.root / "data/archive.tar.gz").read_bytes() != sample
    (project.root / "data/archive.tar.gz").unlink()
    project.make("bin")  # a download would fail here
    assert (project.root / "data/archive.tar.gz").read_bytes() == sample
    project.make("bin")
    assert project.pythons() == []


WITHOUT_TORCH = """
import importlib.abc, importlib.metadata, sys

MISSING = ("torch", "onnx", "onnxruntime")

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def version(name, real=importlib.metadata.version):
    if name in MISSING:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

sys.meta_path.insert(0, Finder())
importlib.metadata.version = version
"""


def test_clean_touches_no_folder_where_nothing_was_built(fresh: Project) -> None:
    (fresh.root / "results").mkdir(parents=True)
    (fresh.root / "results/mine.txt").write_text("mine")
    fresh.make("clean")
    fresh.make("distclean")
    assert (fresh.root / "results/mine.txt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["", ".make", "results/cpu/bs1"])
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_clean_of_the_root_of_another_user_is_refused(fresh: Project, closed: str, mode: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, open(fresh.tree / "scripts/make/clean.sh") as script:
        os.chmod(folder, 0o755)
        root = Path(folder, "root")
        for name in (".make/locks", "results/cpu/bs1"):
            (root / name).mkdir(parents=True)
        for path in (root, *root.rglob("*")):
            path.chmod(0o777)
        (root / closed).chmod(mode)
        command = ["sh", "-s", "clean", str(root), "network"]
        done = subprocess.run(command, stdin=script, capture_output=True, text=True, user=60001, extra_groups=[])
        assert (root / ".make/locks").is_dir()
    subject = str(root / closed) if closed else f"{root}/"
    remedy = f"permission denied; use the account that built ROOT={root}/"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"clean.sh: {subject}: {remedy}\n"


def test_spaces_around_a_value_are_removed_and_a_file_determines_its_chip(project: Project) -> None:
    assert "--chip null2" in project.make("-n", "om", "CHIP= null2 ", "BS= 4 ").stdout
    assert "--chip null2" in project.make("-n", "root/results/null2/bs4/accuracy.txt", "CHIP=").stdout


def test_another_option_of_a_chip_reruns_inference_though_the_compiled_bytes_stay(project: Project) -> None:
    project.make("accuracy", "CHIP=null2")
    project.set("chips.null2", "engine=null factor=2")
    project.make("accuracy", "CHIP=null2", NULL='{"wrong": 1}')  # like an option, this changes the logits
    record = artifact.read_record(project.root / "results/null2/bs16/outputs/manifest.json")
    assert record["provenance"]["options"] == record["key"]["inputs"]["options"] == "factor=2"
    first = (project.root / "results/null/bs16/outputs/image_0_0.txt").read_bytes()
    assert (project.root / "results/null2/bs16/outputs/image_0_0.txt").read_bytes() != first


@pytest.mark.parametrize("flag", ["-n", "-q", "-nk"])
def test_dry_runs_write_nothing_and_show_what_would_be_built(project: Project, flag: str) -> None:
    def times() -> dict[Path, int]:
        """Modification times, except of the log and the TMPDIR of this test."""
        shown = [path for path in project.tree.iterdir() if path.name not in ("pythons.log", "tmp")]
        return {path: path.lstat().st_mtime_ns for top in shown for path in (top, *top.rglob("*"))}

    project.set("infer.format", "bin")
    before = times()
    done = project.make(flag, "accuracy", check=False)
    assert done.returncode == (1 if flag == "-q" else 0)
    if flag != "-q":
        assert re.findall(r"scripts/(\w+)\.py", done.stdout) == ["infer", "postprocess"]
    project.make(flag, "accuracy", "ROOT=none", "SOURCE=sample", check=False)
    assert times() == before
    deadline = time.monotonic() + 10
    while any((project.tree / "tmp").glob("make-state-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any((project.tree / "tmp").glob("make-state-*"))


def test_dry_runs_do_not_store_the_chip_that_npu_smi_shows(project: Project) -> None:
    host = ascend_host(project.tree)
    project.make("-n", "om", "CHIP=", **host)
    assert not [*(project.root / ".make").glob("chip-*")]


# Settings files


def test_two_roots_of_one_clone_keep_different_settings(project: Project) -> None:
    other = project.tree / "exact.yaml"
    shutil.copyfile(project.tree / "params.yaml", other)
    set_setting(other, "infer.format", "bin")
    shutil.copytree(project.root, project.tree / "two", copy_function=shutil.copy2)
    project.make("accuracy", "ROOT=two", "PARAMS=exact.yaml")
    assert project.pythons() == ["sync_inputs", "infer", "postprocess"]
    for root in ("two", "root"):  # each remembers its file: nothing is built, and no Python starts
        project.make("accuracy", f"ROOT={root}")
        assert project.pythons() == []
    assert (project.tree / "two/results/null/bs16/outputs/image_0_0.bin").exists()
    assert (project.root / "results/null/bs16/outputs/image_0_0.txt").exists()
    set_setting(other, "infer.format", "npy")
    project.make("accuracy", "ROOT=root")
    assert project.pythons() == []
    project.make("accuracy", "ROOT=two")
    assert project.pythons() == ["sync_inputs", "infer", "postprocess"]
    project.make("accuracy", "ROOT=two", "PARAMS=params.yaml")
    assert (project.tree / "two/results/null/bs16/outputs/image_0_0.txt").exists()
    project.make("bin", "ROOT=two", "PARAMS=exact.yaml")
    assert "set PARAMS=exact.yaml again" in project.make("clean", "ROOT=two").stdout
    other.unlink()
    assert "PARAMS=" not in project.make("clean").stdout
    assert "no folder typo/" in project.make("clean", "ROOT=typo").stdout


def test_a_fault_in_another_settings_file_is_named_with_that_file(project: Project) -> None:
    other = project.tree / "other.yaml"
    other.write_text((project.tree / "params.yaml").read_text().replace("  opset: 11 ", "  opset: 99 "))
    done = project.make("accuracy", "PARAMS=other.yaml", check=False)
    assert re.search(r"sync_inputs.py: other.yaml:\d+: onnx.opset is '99'", done.stderr)
    set_setting(other, "onnx.opset", "11")
    set_setting(other, "verify.sample.null", "100 0.10")
    project.judge_sample()
    project.make("accuracy", "PARAMS=other.yaml", NULL='{"wrong": 1}')
    done = project.make("verify", check=False)
    assert "below 100.00% - 0.10%, the reference of sample on null" in done.stderr
    assert "what has changed in other.yaml" in done.stderr


# The user's files are imported by every stage


def test_a_checkpoint_that_a_stage_does_not_read_is_imported_all_the_same(fresh: Project, inputs: Inputs) -> None:
    fresh.make("bin", f"ARCHIVE={inputs.archive}", f"WEIGHTS={inputs.checkpoint}")
    assert (fresh.root / "models/checkpoint.pkl").read_bytes() == inputs.checkpoint.read_bytes()
    graph = small_graph(fresh.tree / "small.onnx")
    fresh.make("root/data/labels.txt", f"ONNX={graph}")
    assert (fresh.root / "models/onnx/3d_attention_net.onnx").exists()
    fresh.make("bin", f"WEIGHTS={inputs.checkpoint}", f"ONNX={graph}")
    assert fresh.pythons() == []


def test_a_root_whose_times_were_lost_needs_no_torch_and_no_onnx(project: Project) -> None:
    block = project.tree / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text(WITHOUT_TORCH)
    assert run(sys.executable, "-c", "import torch", PYTHONPATH=str(block)).returncode == 1
    text = project.python.read_text()
    project.python.write_text(text.replace("\nexec", "\nshift\nexec"))  # without -E, which ignores PYTHONPATH
    for i, path in enumerate(sorted(project.root.rglob("*"))):  # results older than what they are made of
        touch(path, at=time.time() - i)
    before = project.artifacts()
    project.make("accuracy", PYTHONPATH=str(block))
    assert {"export_onnx", "optimize_onnx", "compile_model"} <= set(project.pythons())
    assert project.rebuilt(before) == set()
    project.set("onnx.check_images", "3")
    done = project.make("accuracy", PYTHONPATH=str(block), check=False)
    assert "export_onnx.py: torch: not installed" in done.stderr


def test_make_test_runs_the_given_test(fresh: Project) -> None:
    (fresh.tree / "one.py").write_text("def test_one():\n    pass\n\ndef test_two():\n    raise OSError\n")
    done = fresh.make("test", "ROOT=", "T=one.py::test_one")
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["accuracy", "ROOT=a$b"], "ROOT: contains a $, which make would expand; write $$ for one"),
        (["bin", "ARCHIVE=/tmp/a$b.tar.gz"], "ARCHIVE: contains a $"),
        (["accuracy", "DEVICE=$(shell touch mark)"], "DEVICE: contains a $"),
        (["other/results/cpu/bs4/accuracy.txt"], "not a file that make builds below ROOT="),
    ],
)
def test_values_that_make_would_expand_or_not_find_are_rejected(fresh: Project, words: list[str], message: str) -> None:
    done = fresh.make(*words, check=False)
    assert message in done.stderr
    assert not (fresh.tree / "mark").exists()
    assert not fresh.root.exists()


@pytest.mark.parametrize(
    "file",
    [
        "results/null/bs4/accurracy.txt",
        "results/null/bs4/accuracy.json",
        "results/null/bs400/accuracy.txt",
        "results/nul/bs4/accuracy.txt",
        "results/report.html",
        "models/om/null/x.null",
        "data/foo",
    ],
)
def test_a_file_that_no_rule_builds_is_not_a_target_with_nothing_to_do(project: Project, file: str) -> None:
    (project.root / file).parent.mkdir(parents=True, exist_ok=True)
    (project.root / file).write_text("")
    for flags in ([], ["-n"]):
        done = project.make(*flags, f"root/{file}", check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
        assert f"root/{file}: not a file that make builds by itself; use " in done.stderr
    assert project.make("root/results/null/bs4/accuracy.txt").returncode == 0


def test_a_path_may_have_a_dollar_sign_written_as_two(project: Project, tmp_path: Path) -> None:
    own_archive = tmp_path / "a$b.tar.gz"
    shutil.copyfile(project.root / "data/archive.tar.gz", own_archive)
    project.make("bin", f"ARCHIVE={tmp_path}/a$$b.tar.gz")
    assert (project.root / "data/archive.tar.gz").read_bytes() == own_archive.read_bytes()


def test_an_engine_that_is_not_python_is_one_line(project: Project) -> None:
    with open(project.tree / "scripts/engines/null/run.py", "a") as file:
        file.write("def broken(:\n")
    done = project.make("accuracy", check=False)
    assert re.search(
        r"sync_inputs.py: scripts/engines/null/run.py:\d+: not valid Python: .*; correct that line", done.stderr
    )
    assert "Traceback" not in done.stderr
