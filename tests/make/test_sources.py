"""A change of params.yaml, requirements.txt or a script is noticed by its contents, whatever its time."""

from __future__ import annotations

from _support.artifact import read_record

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from conftest import Project, copy_of, environment, new_project, run
from formats import python2, sample

RESULT = "results/null/bs16/accuracy.txt"
TOMORROW = time.time() + 86400


def set_times(folder: Path, at: float) -> None:
    """Sets the time of every file below `folder`, as if they were written then."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (at, at))


def edit_keeping_a_copy(path: Path, edit: str, by: str) -> Path:
    """Edits the file `path`; returns a copy of the original with its time."""
    kept = path.with_name(f"{path.name}.kept")
    shutil.copy2(path, kept)
    text = path.read_text()
    assert edit in text
    path.write_text(text.replace(edit, by))
    return kept


@pytest.mark.parametrize("way", ["mv", "cp -p", "touch -r"])
def test_params_restored_with_their_old_time_are_noticed(project: Project, way: str) -> None:
    params, outputs = project.tree / "params.yaml", project.root / "results/null/bs16/outputs"
    kept = edit_keeping_a_copy(params, "format: txt", "format: bin")  # of the same size
    if way == "touch -r":
        run("touch", "-r", kept, params)
    project.make("accuracy")
    assert (outputs / "image_0_0.bin").exists()
    if way == "touch -r":
        params.write_bytes(kept.read_bytes())
        run("touch", "-r", kept, params)
    else:
        run(*way.split(), kept, params)
    project.make("accuracy")
    assert (outputs / "image_0_0.txt").exists()
    project.make("accuracy")
    assert project.pythons() == []


def test_clones_with_different_settings_over_one_root_use_their_own(project: Project, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = new_project(tmp_path / "other")
    other.set("infer.format", "bin")
    for clone, form in ((other, "bin"), (project, "txt")) * 2:
        clone.make("infer", ROOT=str(project.root))
        assert read_record(project.root / "results/null/bs16/outputs/manifest.json")["format"] == form


def test_a_script_restored_with_its_old_time_is_noticed(project: Project) -> None:
    script, image = project.tree / "scripts/preprocess.py", project.root / "data/bin/image_0.bin"
    first = image.read_bytes()
    kept = edit_keeping_a_copy(script, "np.float32(255)", "np.float32(510)")
    project.make("bin")
    assert image.read_bytes() != first
    kept.rename(script)
    project.make("bin")
    assert image.read_bytes() == first


def test_pins_restored_with_their_old_time_are_noticed(project: Project) -> None:
    pins = project.tree / "requirements.txt"
    kept = edit_keeping_a_copy(pins, "numpy==", "numpy ==")
    project.make("bin")
    copy_of_pins = project.root / ".make/requirements.txt"
    assert "numpy ==" in copy_of_pins.read_text()
    kept.rename(pins)
    project.make("bin")
    assert copy_of_pins.read_bytes() == pins.read_bytes()


def make_interpreter(project: Project) -> None:
    """The interpreter of .venv, without which make refuses it."""
    folder = project.tree / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)


def test_the_environment_is_rebuilt_for_pins_restored_with_their_old_time(fresh: Project) -> None:
    stamp = fresh.tree / ".venv/requirements.txt"
    make_interpreter(fresh)
    shutil.copy2(fresh.tree / "requirements.txt", stamp)
    assert run("make", "-q", "setup", cwd=fresh.tree).returncode == 0
    kept = edit_keeping_a_copy(fresh.tree / "requirements.txt", "numpy==", "numpy ==")
    assert run("make", "-q", "setup", cwd=fresh.tree).returncode == 1
    shutil.copyfile(fresh.tree / "requirements.txt", stamp)  # as at the end of an installation
    kept.rename(fresh.tree / "requirements.txt")
    assert run("make", "-q", "setup", cwd=fresh.tree).returncode == 1


@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_pins_that_begin_like_those_of_the_environment_are_noticed(fresh: Project, change: str) -> None:
    pins, stamp = fresh.tree / "requirements.txt", fresh.tree / ".venv/requirements.txt"
    make_interpreter(fresh)
    stamp.write_bytes(pins.read_bytes() if change == "longer" else pins.read_bytes() + b"# more\n")
    if change == "longer":
        pins.write_bytes(pins.read_bytes() + b"# more\n")
    assert run("make", "-q", "setup", cwd=fresh.tree).returncode == 1
    shutil.copyfile(pins, stamp)
    assert run("make", "-q", "setup", cwd=fresh.tree).returncode == 0


def test_an_edit_of_params_that_had_a_time_in_the_future_is_noticed(project: Project) -> None:
    params = project.tree / "params.yaml"
    project.set("infer.format", "npy")
    os.utime(params, (TOMORROW, TOMORROW))
    project.make("accuracy")
    project.set("optimize.resize", "exact")  # now the clock is right
    project.make("accuracy")
    assert "resize exact" in (project.root / RESULT).read_text()


@pytest.mark.parametrize("what", ["a setting", "a script"])
def test_an_edit_after_a_build_while_the_clock_was_ahead_is_noticed(project: Project, what: str) -> None:
    set_times(project.root, TOMORROW)
    if what == "a setting":
        project.set("optimize.resize", "exact")
    else:
        passes = project.tree / "scripts/graphs/passes.py"
        text = passes.read_text()
        assert '("sum_masks", sum_masks)' in text
        passes.write_text(text.replace('("sum_masks", sum_masks)', '("sum_masks", lambda model: None)'))
    first = (project.root / "models/optimized/3d_attention_net.onnx").read_bytes()
    project.make("accuracy")
    assert (project.root / "models/optimized/3d_attention_net.onnx").read_bytes() != first
    record = read_record(project.root / "models/om/null/bs16.json")
    optimized = read_record(project.root / "models/optimized/3d_attention_net.json")
    assert record["provenance"]["optimized"] == optimized["sha256"]
    project.make("accuracy")
    assert project.pythons() == []


def test_an_own_archive_is_imported_after_a_build_while_the_clock_was_ahead(project: Project, tmp_path: Path) -> None:
    own_archive = tmp_path / "given.tar.gz"
    python2.write_tar(own_archive, sample.archive_files(5, 10, 20))
    set_times(project.root, TOMORROW)
    project.make("accuracy", f"ARCHIVE={own_archive}")
    assert read_record(project.root / "data/bin/manifest.json")["count"] == 20
    assert "of 20 images" in (project.root / RESULT).read_text()


def test_an_own_graph_is_used_after_a_build_while_the_clock_was_ahead(project: Project, tmp_path: Path) -> None:
    graph = onnx.load(project.root / "models/onnx/3d_attention_net.onnx")
    weight = next(tensor for tensor in graph.graph.initializer if list(tensor.dims) == [10])
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1, weight.name))
    onnx.save(graph, tmp_path / "own.onnx")
    set_times(project.root, TOMORROW)
    project.make("accuracy", f"ONNX={tmp_path / 'own.onnx'}")
    optimized = read_record(project.root / "models/optimized/3d_attention_net.json")
    assert (
        optimized["key"]["inputs"]["onnx"] == read_record(project.root / "models/onnx/3d_attention_net.json")["sha256"]
    )
    assert "own .onnx" in (project.root / RESULT).read_text()


def test_another_checkout_with_the_same_root_is_noticed(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = copy_of(project, tmp_path_factory.mktemp("other"))
    other.set("optimize.resize", "exact")
    os.utime(other.tree / "params.yaml", (1, 1))  # older than everything in ROOT
    page = project.root / RESULT
    for checkout, resize in ((other, "exact"), (project, "nearest"), (other, "exact")):
        checkout.make("accuracy", f"ROOT={project.root}")
        assert f"resize {resize}" in page.read_text()
    other.make("accuracy", f"ROOT={project.root}")
    assert other.pythons() == []


def test_a_setting_that_is_edited_and_restored_before_the_next_make_rebuilds_nothing(project: Project) -> None:
    before = project.artifacts()
    kept = edit_keeping_a_copy(project.tree / "params.yaml", "resize: nearest", "resize: exact")
    kept.rename(project.tree / "params.yaml")
    project.make("accuracy")
    assert project.pythons() == []
    assert project.rebuilt(before) == set()


def test_a_change_of_a_file_that_an_option_names_is_noticed_whatever_its_time(project: Project) -> None:
    config = project.tree / "fusion.cfg"
    config.write_text("one")
    project.set("atc.flags", "fusion_switch_file=fusion.cfg")
    project.make("root/.make/inputs.mk")
    options = project.root / ".make/params/options.310P3"
    first = options.read_text()
    config.write_text("two")
    os.utime(config, (1, 1))
    assert "compile_model" in project.make("-n", "om", "CHIP=310P3").stdout
    project.make("root/.make/inputs.mk")
    assert options.read_text() != first


def test_why_names_the_reason_why_each_target_is_stale(project: Project) -> None:
    project.set("optimize.resize", "exact")
    shown = project.make("accuracy", "WHY=1").stdout
    assert ".make: changed: params/optimize.resize" in shown
    assert "checked because of: params/optimize.resize\n" in shown
    assert "built because of: setting resize nearest -> exact\n" in shown
    assert "built because of: input onnx" in shown  # the compiled model
    assert "because of" not in project.make("accuracy", "WHY=1").stdout


def test_why_explains_imports_and_missing_files_too(project: Project, tmp_path: Path) -> None:
    own_archive = tmp_path / "given.tar.gz"
    python2.write_tar(own_archive, sample.archive_files(5, 10, 20))
    assert "because of: given" in project.make("bin", f"ARCHIVE={own_archive}", "WHY=1").stdout
    python2.write_tar(own_archive, sample.archive_files(6, 10, 20))
    assert "built because of: given\n" in project.make("bin", f"ARCHIVE={own_archive}", "WHY=1").stdout
    (project.root / "data/labels.txt").unlink()
    assert "built because of: no such file" in project.make("bin", "WHY=1").stdout


def test_an_edit_while_another_make_builds_is_not_lost(project: Project) -> None:
    """A make that read the old settings starts a stage after another make has written the new ones to .make."""
    run_module = project.tree / "scripts/engines/null/compile.py"
    with open(run_module, "a") as file:
        file.write("import time\n\ntime.sleep(4)\n")
    project.make("root/.make/inputs.mk")
    words = ["make", "accuracy", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    slow = subprocess.Popen(words, cwd=project.tree, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert slow.stdout is not None
    while b"COMPILE" not in slow.stdout.readline():
        pass
    project.set("infer.format", "npy")
    project.make("root/.make/inputs.mk")
    slow.communicate()  # its inference still writes txt
    project.make("accuracy")
    assert (project.root / "results/null/bs16/outputs/image_0_0.npy").exists()
    project.make("accuracy")
    assert project.pythons() == []


@pytest.mark.parametrize("name", ["my#x.py", "my;x.py", "it's.py", "my(1).py"])
def test_a_script_name_that_make_cannot_handle_is_one_line_until_it_is_removed(project: Project, name: str) -> None:
    stray = project.tree / "scripts" / name
    stray.write_text("raise SystemExit('run')\n")
    done = project.make("accuracy", check=False)
    assert f"scripts/{name}: a file name that make cannot handle" in done.stderr
    assert "Traceback" not in done.stderr
    stray.unlink()
    project.make("accuracy")
    project.make("accuracy")
    assert project.pythons() == []


def test_temporary_files_of_editors_do_not_stop_make(project: Project) -> None:
    (project.tree / "scripts/infer copy.py").write_text("raise SystemExit('run')\n")
    (project.tree / "scripts/.#infer.py").symlink_to("somebody@somewhere")
    (project.tree / "scripts/._infer.py").write_bytes(b"\x00\x05\x16\x07\xff")
    project.make("accuracy")
    project.make("accuracy")
    assert project.pythons() == []
    (project.tree / "scripts/scratch.py").write_bytes(b"x = '\xfc\x00'\n")
    assert "scripts/scratch.py:1: not valid Python: " in project.make("accuracy", check=False).stderr


def test_imports_that_make_cannot_follow_are_rejected(project: Project) -> None:
    engine = project.tree / "scripts/engines/null"
    with open(engine / "run.py", "a") as file:
        file.write("from .extra import thing\n")
    assert "relative import .extra" in project.make("accuracy", check=False).stderr
    (engine / "sub").mkdir()
    (engine / "sub/deep.py").write_text("")
    text = (engine / "run.py").read_text()
    (engine / "run.py").write_text(text.replace("from .extra import thing", "import engines.null.sub.deep"))
    assert "its folder is too deep for the Makefile" in project.make("accuracy", check=False).stderr


def test_a_new_file_that_an_option_names_is_noticed(project: Project) -> None:
    project.set("chips.null2", "engine=null conf=my.conf")
    project.make("om", "CHIP=null2")
    options = project.root / ".make/params/options.null2"
    first = options.read_text()
    (project.tree / "my.conf").write_text("one")
    project.make("om", "CHIP=null2")
    assert project.pythons() == ["sync_inputs", "compile_model"]
    assert options.read_text() != first
    project.set("chips.null2", "engine=null conf=params.yaml")  # a file that is watched already
    project.make("om", "CHIP=null2")
    project.make("om", "CHIP=null2")
    assert project.pythons() == []


@pytest.mark.parametrize("line", ["PYTHON=$(shell touch mark)", "ATC=$(shell touch mark)", "V=$(shell touch mark)"])
def test_no_value_is_run_by_make(fresh: Project, line: str) -> None:
    name, value = line.split("=", 1)
    for words, more in (([line], {}), ([], {name: value})):
        for goal in ("help", "bin"):
            done = run("make", goal, *words, cwd=fresh.tree, **more)
            assert f"{name}: contains a $" in done.stderr
            assert not (fresh.tree / "mark").exists()
