"""Promises 3 and 4: whatever happens, nothing is lost or half-made, and the next make ends in the same bytes.

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

from conftest import SCRIPTS, TREE, Project, environment, run

STAGES = {  # target below ROOT: the script that makes it
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
    """The sha256 of a file, which is read once as long as nobody writes to it: that would change its ctime."""
    seen = path.stat()
    key = (path, seen.st_ino, seen.st_size, seen.st_ctime_ns)
    if key not in read_before:
        read_before[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return read_before[key]


def digests(project: Project) -> dict[str, str]:
    """{path below ROOT: sha256} of all that was made, records too, and of no orphan."""
    files = [p for name in ("data", "models", "results") for p in (project.root / name).rglob("*") if p.is_file()]
    return {p.relative_to(project.root).as_posix(): digest_of(p) for p in files if ".tmp." not in p.as_posix()}


def orphans(project: Project) -> list[Path]:
    return [path for path in project.root.rglob("*.tmp.*")]


def begin(project: Project, *arguments: str, **streams: object) -> subprocess.Popen[str]:
    """make in a process group of its own."""
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


def unmake(project: Project, target: str) -> None:
    """Removes an artifact with its record, as if it had never been made."""
    path = project.root / target
    if path.name == "manifest.json":
        shutil.rmtree(path.parent, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
        artifact.record_of(path).unlink(missing_ok=True)
        lock_of(project, target).unlink(missing_ok=True)


def finish(project: Project, wanted: dict[str, str]) -> None:
    """make once more: it ends in the bytes of an undisturbed build, and make clean leaves no orphan."""
    project.make("accuracy", "SOURCE=sample")
    assert digests(project) == wanted
    assert project.make("-q", "root/results/null/bs16/accuracy.txt").returncode == 0
    project.make("clean")
    assert orphans(project) == []


def seconds_of(project: Project, target: str) -> float:
    """How long the script ran that made a target, which has the time of the script's start."""
    seen = (project.root / target).stat()
    return seen.st_ctime - seen.st_mtime


def test_kill_9_at_50_moments_across_all_stages_costs_nothing(built: Project, fresh: Project) -> None:
    wanted, draw, moments = digests(built), random.Random(), []
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
            else:  # it was faster
                took *= 0.8
                unmake(fresh, target)
            process.communicate()
            found = digests(fresh)
            assert found.items() <= wanted.items(), f"half-made: {moments[-1]}"
        fresh.make(f"root/{target}", "SOURCE=sample")
        assert digests(fresh).items() <= wanted.items(), moments
    assert len(moments) == 50
    finish(fresh, wanted)


def stopped(process: subprocess.Popen[str]) -> str:
    """What a stopped make says, held to be without a traceback."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in (out or "") + (err or "")
    return err or ""


@pytest.mark.parametrize("script", ["export_onnx", "optimize_onnx"])
def test_ctrl_c_is_one_line_and_costs_nothing(built: Project, project: Project, script: str) -> None:
    target = next(target for target, made_by in STAGES.items() if made_by == script)
    unmake(project, target)
    process = begin(project, f"root/{target}")
    while (
        not lock_of(project, target).exists() and process.poll() is None
    ):  # before that, amid imports, it ends in silence
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert f"{script}.py: interrupted; run the same command again to continue\n" in stopped(process)
    assert process.returncode != 0
    finish(project, digests(built))


def test_ctrl_c_amid_inference_ends_it_at_once(built: Project, project: Project) -> None:
    target = "results/null/bs16/outputs/manifest.json"
    unmake(project, target)
    process = begin(project, f"root/{target}", env=environment(NULL='{"ms": 60000}'))
    while not list(project.root.glob("results/null/bs16/outputs.tmp.*")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)  # now the engine runs, and both threads wait
    os.killpg(process.pid, signal.SIGINT)
    took = time.monotonic()
    assert "infer.py: interrupted; run the same command again to continue\n" in stopped(process)
    assert time.monotonic() - took < 20
    finish(project, digests(built))


def test_ctrl_c_between_a_file_and_its_record_does_not_cost_the_file(built: Project, project: Project) -> None:
    module = project.tree / "scripts/_support/artifact.py"
    text = module.read_text()
    slow = text.replace("            path.replace(out)\n", "            path.replace(out)\n            time.sleep(5)\n")
    assert slow != text
    module.write_text(slow)
    unmake(project, "data/archive.tar.gz")
    process = begin(project, "root/data/archive.tar.gz")
    held = project.root / "data/archive.tar.gz"
    while not held.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    stopped(process)
    assert held.exists()  # make deletes the target of an interrupted recipe, but for a precious one
    module.write_text(text)
    finish(project, digests(built))


def test_a_closed_terminal_costs_nothing(built: Project, project: Project) -> None:
    unmake(project, "models/optimized/3d_attention_net.onnx")
    unmake(project, "results/null/bs16/outputs/manifest.json")
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


def test_a_reader_that_goes_away_costs_nothing(built: Project, project: Project) -> None:
    for target in MADE:
        if target.startswith(("models/optimized", "models/om", "results")):
            unmake(project, target)
    words = ["make", "accuracy", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    done = run("bash", "-c", f"{shlex.join(words)} | head -n 1", cwd=project.tree)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    finish(project, digests(built))


# A full disk


def starved(project: Project, command: list[str], target: str) -> None:
    """Holds that a stage that cannot write says so in one line, leaves nothing and harms nothing."""
    before = digests(project)
    done = run(*command, cwd=project.tree)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert done.returncode != 0, target
    assert len(lines) == 1, done.stderr
    assert re.fullmatch(r"\w+\.py: root/\S+: (file too large|no space left on device); .+ again", lines[0]), lines[0]
    assert digests(project) == before
    assert orphans(project) == []


def test_a_limit_on_file_size_at_every_stage_is_one_line_and_costs_nothing(built: Project, project: Project) -> None:
    for target, script in reversed(MADE.items()):  # so that each has its prerequisites, and none is built in between
        size = (project.root / target).stat().st_size
        unmake(project, target)
        words = ["make", f"root/{target}", "SOURCE=sample", "ROOT=root", "CHIP=null", f"PYTHON={sys.executable}"]
        limit = size // 2048 if size > 2**20 else 0  # in KiB: halfway, or nothing at all
        starved(project, ["bash", "-c", f"ulimit -f {limit}; exec {shlex.join(words)}"], script)
    finish(project, digests(built))


NAMESPACE = ["unshare", "--map-root-user", "--mount"]
may_mount = pytest.mark.skipif(
    run(*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt").returncode != 0, reason="mounting is not allowed here"
)


@may_mount
def test_a_full_disk_at_every_stage_is_one_line_and_costs_nothing(built: Project, project: Project) -> None:
    here = Path(__file__)
    done = run(*NAMESPACE, sys.executable, here, project.tree, built.tree, PYTHONPATH=f"{SCRIPTS}:{TREE / 'tests'}")
    assert done.returncode == 0, done.stdout + done.stderr


def fill_the_disk(tree: Path, reference: Path) -> None:
    """The part of the test above that runs in a mount namespace of its own: ROOT is a small tmpfs."""
    project, wanted = Project(tree), digests(Project(reference))
    assert run("mount", "-t", "tmpfs", "-o", "size=400m", "none", project.root).returncode == 0
    run("cp", "-a", f"{reference}/root/.", project.root)
    filler = project.root / "filler"
    for target, script in reversed(MADE.items()):
        size = (project.root / target).stat().st_size
        unmake(project, target)
        with open(filler, "wb", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(bytes(1 << 16)):
                pass
        os.truncate(filler, max(0, filler.stat().st_size - size // 2 // 4096 * 4096))
        words = ["make", f"root/{target}", "SOURCE=sample", "ROOT=root", "CHIP=null", f"PYTHON={sys.executable}"]
        starved(project, words, script)
        filler.unlink()
    finish(project, wanted)


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
    wanted = digests(built)
    assert {path: digest for path, digest in digests(fresh).items() if path in wanted} == wanted
    assert orphans(fresh) == []


def test_a_lock_is_waited_for_and_dies_with_its_process(project: Project) -> None:
    target = "results/null/bs16/accuracy.txt"
    unmake(project, target)
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


# A source tree that cannot be written


@may_mount
def test_a_read_only_tree_serves_a_root_elsewhere(
    built: Project, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("elsewhere")
    run("cp", "-a", f"{project.root}/.", root)
    unmake(Project(project.tree), "results/null/bs16/accuracy.txt")
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


# Some of many files deleted


@pytest.mark.parametrize(
    ("gone", "goal"),
    [
        ("data/bin/image_7.bin", ["accuracy", "BS=5"]),
        ("results/null/bs16/outputs/image_7_0.txt", ["accuracy"]),
    ],
)
def test_a_deleted_file_is_named_by_its_next_reader_and_what_it_says_to_type_mends_it(
    built: Project, project: Project, gone: str, goal: list[str]
) -> None:
    for name in (gone, re.sub("7", "8", gone)):
        (project.root / name).unlink()
    unmake(project, "results/null/bs16/accuracy.txt")
    done = project.make(*goal, check=False)
    line = done.stderr.splitlines()[0]
    found = re.fullmatch(r"\w+\.py: root/(\S+): missing[^;]*; type: (.+), then the same make command", line)
    assert found, done.stderr
    assert found[1] == gone
    assert run("bash", "-c", found[2], cwd=project.tree).returncode == 0
    project.make(*goal)
    finish(project, digests(built) | {path: digest for path, digest in digests(project).items() if "bs5" in path})


if __name__ == "__main__":
    fill_the_disk(Path(sys.argv[1]), Path(sys.argv[2]))
