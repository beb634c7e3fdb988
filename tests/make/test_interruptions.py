"""Guarantees 3 and 4: after any interruption nothing is lost or incomplete; the next make gives the same bytes.

Everything runs the real graph on the sample; only the engine at its end is the stand-in of conftest.py.
"""

from __future__ import annotations

from _support import artifact

import contextlib
import hashlib
import os
import pty
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import NAMESPACE, SCRIPTS, TREE, Project, environment, may_mount, run
from reproduction.differences import compared_part

STAGES = {  # target below ROOT: its script
    ".make/inputs.mk": "sync_inputs",
    "data/archive.tar.gz": "make_sample",
    "models/checkpoint.pkl": "make_sample",
    "data/bin/manifest.json": "preprocess",
    "data/labels.txt": "preprocess",
    "models/onnx/3d_attention_net.onnx": "export_onnx",
    "models/optimized/3d_attention_net.onnx": "optimize_onnx",
    "models/om/null/3d_attention_net_bs16.null": "compile_model",
    "results/null/bs16/outputs/manifest.json": "infer",
    "results/null/bs16/accuracy.txt": "postprocess",
}
MADE = {target: script for target, script in STAGES.items() if script != "sync_inputs"}


read_before: dict[tuple[object, ...], str] = {}


def digest_of(path: Path) -> str:
    """The sha256 of a file, cached by its ctime, which changes when the file is written; of a record without date, host
    and commit."""
    seen = path.stat()
    key = (path, seen.st_ino, seen.st_size, seen.st_ctime_ns)
    if key not in read_before:
        read_before[key] = hashlib.sha256(compared_part(path)).hexdigest()
    return read_before[key]


def digests(project: Project) -> dict[str, str]:
    """{path below ROOT: sha256} of all artifacts and records, without temporary files."""
    files = [p for name in ("data", "models", "results") for p in (project.root / name).rglob("*") if p.is_file()]
    return {p.relative_to(project.root).as_posix(): digest_of(p) for p in files if ".tmp." not in p.as_posix()}


def orphans(project: Project) -> list[Path]:
    return [path for path in project.root.rglob("*.tmp.*")]


def begin(project: Project, *arguments: str, **streams: object) -> subprocess.Popen[str]:
    """Starts make in a separate process group."""
    project.log.write_text("")
    words = ["make", *arguments, "SOURCE=sample", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **streams}
    return subprocess.Popen(
        words, cwd=project.tree, text=True, start_new_session=True, **more  # type: ignore[call-overload]
    )  # fmt: skip


def wait_for(project: Project, script: str, process: subprocess.Popen[str]) -> None:
    while script not in project.pythons() and process.poll() is None:
        time.sleep(0.005)


def lock_of(project: Project, target: str) -> Path:
    return project.root / ".make/locks" / target.replace("/", "__")


def remove_artifact(project: Project, target: str) -> None:
    """Removes an artifact and its record."""
    path = project.root / target
    if path.name == "manifest.json":
        shutil.rmtree(path.parent, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        artifact.record_of(path).unlink(missing_ok=True)
        lock_of(project, target).unlink(missing_ok=True)


def finish(project: Project, expected: dict[str, str]) -> None:
    """Runs make again: it gives the bytes of an uninterrupted build, and make clean leaves no temporary files."""
    project.make("accuracy", "SOURCE=sample")
    assert digests(project) == expected
    assert project.make("-q", "root/results/null/bs16/accuracy.txt").returncode == 0
    project.make("clean")
    assert orphans(project) == []


def seconds_of(project: Project, target: str) -> float:
    """Seconds that the script of a target ran; the target has the time of the script's start."""
    seen = (project.root / target).stat()
    return seen.st_ctime - seen.st_mtime


def test_kill_9_at_50_moments_in_all_stages_loses_nothing(built: Project, fresh: Project) -> None:
    expected, draw, moments = digests(built), random.Random(), []
    for target, script in STAGES.items():
        took, kills = seconds_of(built, target), 0
        while kills < 5:
            process = begin(fresh, f"root/{target}")
            wait_for(fresh, script, process)
            moment = draw.random() * took
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                moments.append(f"{script} {moment:.3f}")
            else:  # it ended before the kill
                took *= 0.8
                remove_artifact(fresh, target)
            process.communicate()
            match = digests(fresh)
            assert match.items() <= expected.items(), f"half-made: {moments[-1]}"
        fresh.make(f"root/{target}", "SOURCE=sample")
        assert digests(fresh).items() <= expected.items(), moments
    assert len(moments) == 50
    finish(fresh, expected)


def stop_output(process: subprocess.Popen[str]) -> str:
    """The stderr of a stopped make, checked to be without a traceback."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in (out or "") + (err or "")
    return err or ""


@pytest.mark.parametrize("script", ["export_onnx", "optimize_onnx"])
def test_ctrl_c_is_one_line_and_loses_nothing(built: Project, project: Project, script: str) -> None:
    target = next(target for target, made_by in STAGES.items() if made_by == script)
    remove_artifact(project, target)
    process = begin(project, f"root/{target}")
    while (
        not lock_of(project, target).exists() and process.poll() is None
    ):  # during the imports before it, it ends without a message
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert f"{script}.py: interrupted; run the same command again to continue\n" in stop_output(process)
    assert process.returncode != 0
    finish(project, digests(built))


def test_ctrl_c_during_inference_ends_it_at_once(built: Project, project: Project) -> None:
    target = "results/null/bs16/outputs/manifest.json"
    remove_artifact(project, target)
    process = begin(project, f"root/{target}", env=environment(NULL='{"ms": 60000}'))
    while not list(project.root.glob("results/null/bs16/outputs.tmp.*")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)  # now the engine runs, and both threads wait
    os.killpg(process.pid, signal.SIGINT)
    took = time.monotonic()
    assert "infer.py: interrupted; run the same command again to continue\n" in stop_output(process)
    assert time.monotonic() - took < 20
    finish(project, digests(built))


def test_ctrl_c_between_a_file_and_its_record_keeps_the_file(built: Project, project: Project) -> None:
    module = project.tree / "scripts/_support/artifact.py"
    text = module.read_text()
    slow = text.replace("            path.replace(out)\n", "            path.replace(out)\n            time.sleep(5)\n")
    assert slow != text
    module.write_text(slow)
    remove_artifact(project, "data/archive.tar.gz")
    process = begin(project, "root/data/archive.tar.gz")
    archive = project.root / "data/archive.tar.gz"
    while not archive.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    stop_output(process)
    assert archive.exists()  # make deletes the target of an interrupted recipe unless it is precious
    module.write_text(text)
    finish(project, digests(built))


def test_a_closed_terminal_loses_nothing(built: Project, project: Project) -> None:
    remove_artifact(project, "models/optimized/3d_attention_net.onnx")
    remove_artifact(project, "results/null/bs16/outputs/manifest.json")
    process, terminal = pty.fork()
    if process == 0:
        project.log.write_text("")
        os.chdir(project.tree)
        words = ["make", "accuracy", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
        os.execvpe("make", words, environment())
    while "optimize_onnx" not in project.pythons():
        time.sleep(0.01)
    time.sleep(0.3)
    os.close(terminal)  # the kernel hangs up
    os.waitpid(process, 0)
    finish(project, digests(built))


def test_a_closed_pipe_loses_nothing(built: Project, project: Project) -> None:
    for target in MADE:
        if target.startswith(("models/optimized", "models/om", "results")):
            remove_artifact(project, target)
    words = ["make", "accuracy", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    done = run("bash", "-c", f"{shlex.join(words)} | head -n 1", cwd=project.tree)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    finish(project, digests(built))


# A full disk


def test_a_full_disk_below_the_output_is_one_line() -> None:
    command = shlex.join([sys.executable, "-E", str(SCRIPTS / "find_chip.py"), "--chips", "cpu"])
    done = run("sh", "-c", f"{command} > /dev/full", PATH="/usr/bin:/bin")
    message = "find_chip.py: standard output: no space left on device; free disk space and run the same command again"
    assert done.stderr.splitlines()[-1] == message
    assert done.returncode == 1


def check_full_disk(project: Project, command: list[str], target: str) -> None:
    """Checks that a stage that cannot write prints one line, leaves no files and changes no others."""
    before = digests(project)
    done = run(*command, cwd=project.tree)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert done.returncode != 0, target
    assert len(lines) == 1, done.stderr
    assert re.fullmatch(r"\w+\.py: root/\S+: (file too large|no space left on device); .+ again", lines[0]), lines[0]
    assert digests(project) == before
    assert orphans(project) == []


def test_a_limit_on_file_size_at_every_stage_is_one_line_and_loses_nothing(built: Project, project: Project) -> None:
    for target, script in reversed(MADE.items()):  # so that each has its prerequisites, and none is built in between
        size = (project.root / target).stat().st_size
        remove_artifact(project, target)
        words = ["make", f"root/{target}", "SOURCE=sample", "ROOT=root", "CHIP=null", f"PYTHON={sys.executable}"]
        limit = size // 2048 if size > 2**20 else 0  # KiB: half of the file, or nothing
        check_full_disk(project, ["bash", "-c", f"ulimit -f {limit}; exec {shlex.join(words)}"], script)
    finish(project, digests(built))


@may_mount
def test_a_full_disk_at_every_stage_is_one_line_and_loses_nothing(built: Project, project: Project) -> None:
    here = Path(__file__)
    done = run(*NAMESPACE, sys.executable, here, project.tree, built.tree, PYTHONPATH=f"{SCRIPTS}:{TREE / 'tests'}")
    assert done.returncode == 0, done.stdout + done.stderr


def fill_the_disk(tree: Path, reference: Path) -> None:
    """The part of the test above that runs in a separate mount namespace, where ROOT is a small tmpfs."""
    project, expected = Project(tree), digests(Project(reference))
    assert run("mount", "-t", "tmpfs", "-o", "size=400m", "none", project.root).returncode == 0
    run("cp", "-a", f"{reference}/root/.", project.root)
    filler = project.root / "filler"
    for target, script in reversed(MADE.items()):
        size = (project.root / target).stat().st_size
        remove_artifact(project, target)
        with open(filler, "wb", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(bytes(1 << 16)):
                pass
        os.truncate(filler, max(0, filler.stat().st_size - size // 2 // 4096 * 4096))
        words = ["make", f"root/{target}", "SOURCE=sample", "ROOT=root", "CHIP=null", f"PYTHON={sys.executable}"]
        check_full_disk(project, words, script)
        filler.unlink()
    finish(project, expected)


# Several makes at once


@pytest.mark.parametrize(
    "goals",
    [
        [["accuracy"], ["accuracy"]],
        [["accuracy"], ["-j8", "accuracy", "om"], ["bin", "accuracy"], ["-j2", "infer", "onnx"]],
        [["accuracy", "BS=16"], ["accuracy", "BS=4"], ["-j4", "om-all"], ["bin"]],
    ],
    ids=["two", "four", "four of different goals"],
)
def test_makes_at_once_in_one_root_build_each_artifact_once(
    built: Project, fresh: Project, goals: list[list[str]]
) -> None:
    all_of_them = [begin(fresh, *words) for words in goals]
    texts = [process.communicate(timeout=300) for process in all_of_them]
    assert [process.returncode for process in all_of_them] == [0] * len(goals), texts
    out, err = ("".join(text[i] for text in texts) for i in (0, 1))
    assert out.count("this is the built-in sample") == 2  # archive and checkpoint
    assert out.count("  opset 11; ") == 1
    assert out.count("  resize nearest: ") == 1
    assert err.count("40/40 images") == (2 if ["accuracy", "BS=4"] in goals else 1)
    assert "Traceback" not in err
    expected = digests(built)
    assert {path: digest for path, digest in digests(fresh).items() if path in expected} == expected
    assert orphans(fresh) == []


def test_a_process_waits_for_a_lock_which_is_released_when_its_owner_dies(project: Project) -> None:
    target = "results/null/bs16/accuracy.txt"
    remove_artifact(project, target)
    lock = lock_of(project, target)
    code = "import fcntl, sys, time; fcntl.lockf(sys.stdin, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    with open(lock, "a+") as stream:
        holder = subprocess.Popen([sys.executable, "-c", code], stdin=stream, stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    process = begin(project, "accuracy")
    assert process.stderr
    assert "in use by another process; waiting" in process.stderr.readline()
    assert process.poll() is None
    holder.kill()
    holder.wait()
    process.communicate(timeout=60)
    assert process.returncode == 0


# A source tree that is not writable


@may_mount
def test_a_read_only_tree_builds_in_a_root_elsewhere(
    built: Project, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("elsewhere")
    run("cp", "-a", f"{project.root}/.", root)
    remove_artifact(Project(project.tree), "results/null/bs16/accuracy.txt")
    (root / "results/null/bs16/accuracy.txt").unlink()
    tree = shlex.quote(str(project.tree))
    words = f"make accuracy CHIP=null ROOT={root} PYTHON={sys.executable}"
    mount = f"mount --bind {tree} {tree} && mount -o remount,ro,bind {tree} && cd {tree} && ! touch x"
    done = run(*NAMESPACE, "bash", "-c", f"{mount} && {words}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Top-1 accuracy" in done.stdout
    done = run(*NAMESPACE, "bash", "-c", f"{mount} && make accuracy CHIP=null ROOT={root}")
    assert "setup_env.py: .venv: " in done.stderr
    assert "PYTHON=" in done.stderr


# A ROOT that comes with a container's image


LAYERS = """set -e
cd "$1"
mount -t tmpfs none layers
mkdir layers/upper layers/work
mount -t overlay overlay -o lowerdir="$2",upperdir=layers/upper,workdir=layers/work,userxattr root
"""


def may_mount_layers(project: Project, lower: Path) -> bool:
    return run(*NAMESPACE, "bash", "-c", LAYERS, "bash", project.tree, lower).returncode == 0


def test_folders_of_an_image_are_replaced_also_after_a_kill(built: Project, fresh: Project) -> None:
    for name in ("root", "layers"):
        (fresh.tree / name).mkdir()
    if not may_mount_layers(fresh, built.root):
        pytest.skip("mounting an overlay is not allowed here")
    fresh.set("infer.format", "npy")  # builds the folder of the outputs again
    words = f"make accuracy ROOT=root CHIP=null PYTHON={sys.executable}"
    outputs = "root/results/null/bs16/outputs"
    script = f"""{LAYERS}
    if {sys.executable} -c "import os; os.rename('{outputs}', '{outputs}.x')" 2> error; then exit 9; fi
    grep -q cross-device error
    (setsid {words} > /dev/null 2>&1 & echo $! > pid; wait) &
    while [ -e {outputs}/image_0_0.txt ]; do sleep 0.001; done  # the present folder is being removed
    kill -KILL -- -$(cat pid)
    {words}
    {words}
    [ $(ls {outputs}/*.npy | wc -l) = 40 ] && [ $(ls {outputs} | wc -l) = 41 ]
    ! ls -d root/*/*.tmp.* root/results/*/*/*.tmp.*
    """
    done = run(*NAMESPACE, "bash", "-c", script, "bash", fresh.tree, built.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("Top-1 accuracy") == 2


# Deleted files of a folder


@pytest.mark.parametrize(
    ("gone", "goal"),
    [
        ("data/bin/image_7.bin", ["accuracy", "BS=5"]),
        ("results/null/bs16/outputs/image_7_0.txt", ["accuracy"]),
    ],
)
def test_a_deleted_file_is_named_by_its_next_reader_and_the_remedy_restores_it(
    built: Project, project: Project, gone: str, goal: list[str]
) -> None:
    for name in (gone, re.sub("7", "8", gone)):
        (project.root / name).unlink()
    remove_artifact(project, "results/null/bs16/accuracy.txt")
    done = project.make(*goal, check=False)
    line = done.stderr.splitlines()[0]
    match = re.fullmatch(r"\w+\.py: root/(\S+): missing[^;]*; type: (.+), then the same make command", line)
    assert match, done.stderr
    assert match[1] == gone
    assert run("bash", "-c", match[2], cwd=project.tree).returncode == 0
    project.make(*goal)
    finish(project, digests(built) | {path: digest for path, digest in digests(project).items() if "bs5" in path})


if __name__ == "__main__":
    fill_the_disk(Path(sys.argv[1]), Path(sys.argv[2]))
