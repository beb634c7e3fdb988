"""Atomic files and folders, locks, records, and one-line errors."""

from __future__ import annotations

from _support import artifact, cli, imports

import ast
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from conftest import SCRIPTS, environment, refused, run
from formats import held

# Commands, and the programs of make bench: benchmark/contender.
PROGRAMS = sorted(
    path.relative_to(SCRIPTS).with_suffix("").as_posix()
    for path in SCRIPTS.rglob("*.py")
    if "Parser(__doc__)" in path.read_text()
)

# A program counts as a command by its place in scripts/.
BUILD_FILE = """
import sys, time, os; sys.path.insert(0, {scripts!r}); sys.argv[0] = {scripts!r} + "/stage.py"
from _support import artifact, cli
from pathlib import Path
with artifact.build_file(Path({out!r}), {key}) as job:
    print("building", flush=True)
    {body}
"""


def start(out: Path, body: str, key: object = None, **more: object) -> subprocess.Popen[str]:
    code = BUILD_FILE.format(scripts=str(SCRIPTS), out=str(out), key=key or {"a": 1}, body=body)
    file = out.parent / "stage.py"
    file.write_text(code)
    return subprocess.Popen(
        [sys.executable, file], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **more
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".tmp." in path.name]


def test_a_file_is_built_once_renewed_while_its_key_stays_and_rebuilt_when_it_changes(tmp_path: Path) -> None:
    out = tmp_path / "a.bin"
    assert finish(start(out, "job.path.write_text('x')")).stdout == "building\n"
    os.utime(out, (1, 1))
    assert finish(start(out, "job.path.write_text('y')")).stdout == "  unchanged\n"
    assert time.time() - out.stat().st_mtime < 60
    assert out.read_text() == "x"
    assert finish(start(out, "job.path.write_text('y')", {"a": 2})).stdout == "building\n"
    assert out.read_text() == "y"
    out.write_text("changed by hand")
    assert finish(start(out, "job.path.write_text('y')", {"a": 2})).stdout == "building\n"
    assert out.read_text() == "y"


@pytest.mark.parametrize("fault", ["raise ValueError('a bug')", "cli.die('x', 'is wrong', 'correct it')"])
def test_a_failure_leaves_nothing(tmp_path: Path, fault: str) -> None:
    out = tmp_path / "a.bin"
    assert finish(start(out, f"job.path.write_text('half'); {fault}")).returncode == 1
    assert not out.exists()
    assert not leftovers(tmp_path)


def test_a_kill_leaves_an_orphan_that_the_next_run_removes(tmp_path: Path) -> None:
    out = tmp_path / "a.bin"
    process = start(out, "job.path.write_text('half'); print('half', flush=True); time.sleep(60)")
    assert process.stdout is not None
    while process.stdout.readline() != "half\n":
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    assert leftovers(tmp_path)
    assert finish(start(out, "job.path.write_text('whole')")).returncode == 0
    assert out.read_text() == "whole"
    assert not leftovers(tmp_path)


def test_a_command_of_make_stops_if_the_state_of_root_was_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INPUTS_DIGEST", "0" * 64)
    with pytest.raises(SystemExit), artifact.locked(tmp_path / "data/labels.txt"):
        pass
    assert "ROOT's .make was removed while make ran; run the same command again" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_after_a_kill_between_file_and_record_make_runs_the_stage_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.bin"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact, "write_record", killed)
    with pytest.raises(KeyboardInterrupt), artifact.build_file(out, {"a": 1}) as job:
        job.path.write_text("new")
    assert out.stat().st_mtime_ns == artifact.UNFINISHED  # older than any prerequisite
    assert held.recorded_origin(out, False) == ""


def test_two_builds_of_one_artifact_wait_for_each_other(tmp_path: Path) -> None:
    out = tmp_path / "a.bin"
    first = start(out, "time.sleep(2); job.path.write_text('x')")
    assert first.stdout is not None
    first.stdout.readline()
    second = finish(start(out, "time.sleep(2); job.path.write_text('x')"))
    first.communicate()
    assert second.stdout == "  unchanged\n"  # it waited and then found the artifact up to date
    assert "in use by another process; waiting" in second.stderr


def test_a_folder_is_renamed_when_it_is_complete(tmp_path: Path) -> None:
    manifest = tmp_path / "bin/manifest.json"
    with artifact.build_folder(manifest, {"a": 1}) as job:
        (job.path / "one").write_text("1")
        job.record["count"] = 1
        assert not manifest.parent.exists()
    with pytest.raises(SystemExit) as stopped, artifact.build_folder(manifest, {"a": 1}):
        pass
    assert stopped.value.code == 0
    with pytest.raises(ValueError), artifact.build_folder(manifest, {"a": 2}) as job:
        (job.path / "two").write_text("2")
        raise ValueError
    assert sorted(p.name for p in manifest.parent.iterdir()) == ["manifest.json", "one"]
    (manifest.parent / "one").unlink()
    with artifact.build_folder(manifest, {"a": 1}) as job:  # a missing file is noticed
        (job.path / "one").write_text("1")
        job.record["count"] = 1
    assert (manifest.parent / "one").exists()
    assert not leftovers(tmp_path)


def test_the_time_of_an_artifact_is_never_older_than_its_prerequisites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = tmp_path / "future"
    future.write_text("")
    os.utime(future, (time.time() + 86400,) * 2)
    monkeypatch.setenv("DEPS", f"{future} {tmp_path}/absent")
    assert artifact.start_time() == future.stat().st_mtime_ns


def test_the_time_of_an_artifact_is_the_start_of_its_stage_so_that_a_later_edit_is_newer(tmp_path: Path) -> None:
    out, edited = tmp_path / "a.bin", tmp_path / "edited"
    process = start(out, "time.sleep(1); job.path.write_text('x')")
    assert process.stdout is not None
    process.stdout.readline()
    edited.write_text("while it ran")
    process.communicate()
    assert out.stat().st_mtime_ns < edited.stat().st_mtime_ns


def test_two_builds_of_one_folder_wait_for_each_other(tmp_path: Path) -> None:
    manifest = tmp_path / "bin/manifest.json"
    body = "time.sleep(2); (job.path / 'one').write_text('1'); job.record['count'] = 1"
    code = BUILD_FILE.format(scripts=str(SCRIPTS), out=str(manifest), key={"a": 1}, body=body)
    (tmp_path / "stage.py").write_text(code.replace("build_file", "build_folder"))
    command = [sys.executable, tmp_path / "stage.py"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate(timeout=60)[0] for process in both) == ["  unchanged\n", "building\n"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "a.bin"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    refused(finish(start(out, "job.path.write_bytes(b'x' * 10000)", preexec_fn=limit)), "file too large", str(out))
    assert not out.exists()
    assert not leftovers(tmp_path)


def fill(manifest: Path, key: object, text: str) -> None:
    with artifact.build_folder(manifest, {"a": key}) as job:
        (job.path / "one").write_text(text)
        job.record["count"] = 1


def in_a_layer(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes `folder` one of a container's image: overlayfs cannot rename it, until it is made anew."""
    rename = Path.rename

    def of_overlayfs(self: Path, target: Path) -> Path:
        if self == folder and (not (folder / "one").exists() or (folder / "one").read_text() == "old"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", of_overlayfs)


def test_a_folder_that_overlayfs_cannot_rename_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "bin/manifest.json"
    fill(manifest, 1, "old")
    in_a_layer(monkeypatch, manifest.parent)
    fill(manifest, 2, "new")
    assert (manifest.parent / "one").read_text() == "new"
    fill(manifest, 3, "newer")
    assert (manifest.parent / "one").read_text() == "newer"
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("step", ["manifest", "one", "folder", "rename"])
def test_a_kill_while_such_a_folder_is_replaced_leaves_it_absent_and_the_next_run_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    manifest = tmp_path / "bin/manifest.json"
    fill(manifest, 1, "old")
    in_a_layer(monkeypatch, manifest.parent)
    remove, rename = artifact.remove, Path.rename

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def interrupted_remove(path: Path) -> None:
        if path == manifest and step == "manifest":
            killed()
        if path == manifest.parent and step in ("one", "folder"):
            (path / "one").unlink()
            killed() if step == "one" else remove(path)
            killed()
        remove(path)

    with monkeypatch.context() as patched:
        patched.setattr(artifact, "remove", interrupted_remove)
        if step == "rename":
            patched.setattr(
                Path, "rename", lambda self, target: killed() if ".tmp." in self.name else rename(self, target)
            )
        with pytest.raises(KeyboardInterrupt):
            fill(manifest, 2, "new")
    assert not manifest.exists() or (manifest.parent / "one").read_text() == "old"
    fill(manifest, 2, "new")
    assert (manifest.parent / "one").read_text() == "new"
    assert json.loads(manifest.read_text())["key"] == {"a": 2}
    assert not leftovers(tmp_path)


def raising(number: int, *names: str) -> str:
    return f"raise OSError({number}, os.strerror({number}), {', None, '.join(map(repr, names)) or None})"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import no_such_package", "no_such_package: not installed"),
        ("open('/proc/no/such')", "/proc/no/such: no such file"),
        ("raise KeyboardInterrupt", "interrupted"),
        ("raise MemoryError", "memory: not enough is left; free some"),
        ("raise RuntimeError('Failed to allocate memory for 9 bytes')", "memory: not enough is left; free some"),
        (raising(errno.ENOSPC, "big.bin"), "big.bin: no space left on device; free disk space"),
        (raising(errno.EDQUOT, "big.bin"), "big.bin: disk quota exceeded; free disk space or raise your quota"),
        (raising(errno.EMLINK, "a"), "a: too many links; set ROOT= to a folder of another file system"),
        (raising(errno.ENAMETOOLONG, "a"), "a: file name too long; set ROOT= to a shorter path"),
        (raising(errno.EROFS, "a"), "a: read-only file system; set ROOT= to a writable folder"),
        (raising(errno.EACCES, "a"), "a: permission denied; check its owner and permissions"),
        (raising(errno.EPERM, "a"), "a: operation not permitted; check its owner and permissions"),
        (raising(errno.EMFILE, "a"), "a: too many open files; raise the limit on open files (ulimit -n)"),
        (raising(errno.EBUSY, "a"), "a: device or resource busy; if it is a mount point, mount the folder above"),
        (raising(errno.EROFS, "a.tmp.77/b"), "a/b: read-only file system; set ROOT= to a writable folder"),
        (raising(errno.EXDEV, "a", "b"), "a -> b: invalid cross-device link; check the path and its file system"),
        (raising(errno.EIO), "a.bin: input/output error; check the disk"),
        ("os.ftruncate(0, 1)", "a.bin: invalid argument; check the path"),
        ("raise OSError(5, None)", "a.bin: input/output error; "),
        ("Path('x' * 300).touch()", "xxx: file name too long; "),
    ],
)
def test_an_error_that_a_user_can_cause_is_one_line(tmp_path: Path, body: str, words: str) -> None:
    done = finish(start(tmp_path / "a.bin", body))
    assert done.returncode != 0
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_in_a_log_output_and_errors_keep_their_order(tmp_path: Path) -> None:
    body = "print('first'); print('second', file=sys.stderr); print('third')"
    with open(tmp_path / "log", "w+") as log:
        code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); sys.argv[0] = {str(SCRIPTS / 'x.py')!r}"
        code += f"; from _support import cli; {body}"
        subprocess.run([sys.executable, "-c", code], stdout=log, stderr=log, check=True)
    assert (tmp_path / "log").read_text().split() == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("line", "words"), [("fcntl.lockf(stream)", "locked() of artifact.py"), ("print(text)", "standard output")]
)
def test_an_error_without_a_file_names_the_operation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    module = str(SCRIPTS / "_support/artifact.py")
    steps = [traceback.FrameSummary(module, 1, "locked", lookup_line=False, line=line)]
    monkeypatch.setattr(traceback, "extract_tb", lambda trace: steps)
    error = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    cli.explain_exception(OSError, error, None)
    assert f": {words}: function not implemented; check the path and its file system\n" in capsys.readouterr().err


# Ascend hosts often have an older Python


def test_every_script_has_the_syntax_of_python_3_7() -> None:
    for path in SCRIPTS.rglob("*.py"):
        ast.parse(path.read_text("utf-8"), str(path), feature_version=(3, 7))


def test_a_stage_that_needs_a_newer_python_says_so_in_one_line() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); sys.argv[0] = {str(SCRIPTS / 'stage.py')!r}\n"
        "from _support import artifact; sys.version_info = (3, 7); sys.no_such_thing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "AttributeError" in done.stderr
    assert "set PYTHON= to Python 3.10 to 3.14" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_of_every_program_imports_no_heavy_package_and_only_the_export_imports_torch(name: str) -> None:
    program = ("-m", name.replace("/", ".")) if "/" in name else (SCRIPTS / f"{name}.py",)
    done = run(sys.executable, "-X", "importtime", *program, "--help", PYTHONPATH=str(SCRIPTS))
    assert done.returncode == 0
    assert "usage:" in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "_support" in imported  # the output was parsed
    heavy = {"torch", "onnxruntime", "openvino"}
    heavy |= {"onnx"} if name not in ("optimize_onnx", "quantize_onnx", "lock_sample", "reproduce") else set()
    assert not imported & heavy


def test_only_the_export_and_programs_that_run_torch_import_it() -> None:
    # the upstream source and the baselines of make bench
    others = {"check_upstream", "benchmark/contender", "benchmark/guide_baseline"}
    explains = {"reproduce"}  # which tensors of two checkpoints differ
    network = SCRIPTS / "network/model.py"
    to_torch = {name for name in PROGRAMS if network in imports.local_imports(SCRIPTS / f"{name}.py")}
    assert {"export_onnx"} <= to_torch <= {"export_onnx", *others, *explains}
    direct = {
        path.relative_to(SCRIPTS).with_suffix("").as_posix()
        for path in SCRIPTS.rglob("*.py")
        if re.search(r"^ *(import|from) torch", path.read_text(), re.M)
    }
    assert direct == {"export_onnx", "network/model", "network/load", *others}


def test_the_remedy_for_a_file_of_the_user_names_its_variable(tmp_path: Path) -> None:
    graph, record = tmp_path / "net.onnx", tmp_path / "net.json"
    plain = f"type: rm -f {graph}, then the same make command"
    assert artifact.rebuild_hint(graph) == plain
    artifact.write_record(record, {"origin": "given"})
    assert artifact.rebuild_hint(graph) == f"{plain} (add ONNX= and your file)"  # else make would export a checkpoint


@pytest.mark.parametrize("name", ["models/om/a-b/bs8.json", "results/a-b/bs8/outputs/manifest.json"])
def test_a_record_of_another_chip_or_batch_size_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "results/x/bs2" / name  # ROOT itself may be in such a folder
    path.parent.mkdir(parents=True)
    (path.parent / "model.om").write_bytes(b"model")
    made = path if path.name == "manifest.json" else path.parent / "model.om"
    record = {"sha256": artifact.digest(path.parent / "model.om"), "digest": "0", "count": 1}
    for chip, size, problem in (
        ("a-b", 8, ""),
        ("a", 8, "is of chip a, not a-b: it was copied from another place"),
        ("a-b", 16, "is of batch size 16, not 8: it was copied from another place"),
    ):
        found = artifact.record_problem(made, path, {**record, "provenance": {"chip": chip, "batch_size": size}})
        assert found == ((path, problem) if problem else None)


def test_two_processes_may_remove_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "part"
    path.touch()

    def removed_by_another(self: Path, **_: object) -> bool:
        os.remove(path)
        return True

    monkeypatch.setattr(Path, "exists", removed_by_another)
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    artifact.remove(path)
    artifact.remove(path)
    assert not os.path.exists(path)


def test_every_flipped_bit_of_a_record_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    artifact.write_record(path, {"key": {"b": 1e-05, "a": [True, None, "é\n"]}, "provenance": {"x": 3}})
    record, data = artifact.read_record(path), path.read_bytes()
    assert record["key"]["b"] == 1e-05
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytes([*data[:position], data[position] ^ 1 << bit, *data[position + 1 :]])
            path.write_bytes(flipped)
            found = artifact.read_record(path)
            assert not found or artifact.RECORD_DIGEST not in found  # a record of an earlier version has no digest


def test_a_record_of_an_earlier_version_is_accepted_and_gets_its_digest_when_it_is_renewed(tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    finish(start(out, "job.path.write_text('x')"))
    path = artifact.record_of(out)
    record = artifact.read_record(path)
    earlier = {name: value for name, value in record.items() if name != artifact.RECORD_DIGEST}
    path.write_text(json.dumps(earlier, indent=1) + "\n")
    assert artifact.read_record(path) == earlier
    assert finish(start(out, "")).stdout == "  unchanged\n"
    assert artifact.read_record(path) == record
