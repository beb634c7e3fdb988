"""Locks that all users of a host share, and file systems without locks."""

from __future__ import annotations

from _support import artifact, locks

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from conftest import SCRIPTS, Project, refused, run
from formats import held

NO_LOCKS = Path(__file__).with_name("no_locks.c")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared folder, which does not exist yet; beside it TMPDIR for the user's own folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv(locks.VARIABLE, str(tmp_path / "locks"))
    monkeypatch.setattr(locks, "warnings", [])
    return tmp_path / "locks"


@pytest.fixture
def private(shared: Path) -> Path:
    return shared.with_name("tmp") / f"residual-attention-build-{os.geteuid()}"


def is_free(path: Path) -> bool:
    """Whether another process could lock a file; flock(2) concerns open files, so this process may ask."""
    with open(path) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_one_folder_of_the_host_is_shared_whatever_tmpdir_and_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(locks.VARIABLE)
    for folder in ("/tmp/one", "/tmp/two", "/no/such"):
        monkeypatch.setenv("TMPDIR", folder)
        assert locks.shared_folder() == Path("/tmp/residual-attention-build-locks")


def test_the_folder_and_its_files_are_made_for_all_users_whatever_the_umask(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = os.umask(0o077)
    try:
        with locks.lock_cpu():
            assert not is_free(shared / "cpu")
    finally:
        os.umask(mask)
    assert is_free(shared / "cpu")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert stat.S_IMODE((shared / "cpu").stat().st_mode) == 0o666
    assert capsys.readouterr().err == ""
    assert locks.fault_of_shared_folder() == ""


def as_user(number: int, action: Callable[[], object]) -> int:
    """Runs an action as another user, without privileges, in a child process. Returns its status: 0, or an errno."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(60000)
            os.setuid(number)
            action()
            status = 0
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users can enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777 | stat.S_ISVTX)
        yield Path(folder)


@needs_root
@pytest.mark.parametrize("first", [60001, 0])
def test_users_share_the_locks_and_wait_for_each_other(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    folder = open_folder / "locks"
    monkeypatch.setenv(locks.VARIABLE, str(folder))
    monkeypatch.setattr(locks, "warnings", [])

    def take() -> None:
        with locks.lock_cpu():
            assert not locks.warnings

    def is_in_use() -> None:
        assert locks.lock_path("cpu") == folder / "cpu"
        with locks.open_lock(folder / "cpu") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    if first:
        assert as_user(first, take) == 0
    else:
        take()
    assert (folder / "cpu").stat().st_uid == first
    assert as_user(60002, take) == 0
    with locks.lock_cpu():
        assert as_user(60002, is_in_use) == errno.EAGAIN
        assert as_user(60002, lambda: os.unlink(folder / "cpu")) == errno.EPERM


def link_folder(shared: Path) -> None:
    (shared.parent / "elsewhere").mkdir()
    shared.symlink_to(shared.parent / "elsewhere")


def open_to_all(shared: Path) -> None:
    shared.mkdir()
    shared.chmod(0o777)


def link_file(shared: Path) -> None:
    shared.mkdir()
    (shared / "cpu").symlink_to("/etc/passwd")


def dangling_link(shared: Path) -> None:
    shared.mkdir()
    (shared / "cpu").symlink_to(shared.parent / "made")


def fifo_as_folder(shared: Path) -> None:
    os.mkfifo(shared)


def fifo(shared: Path) -> None:
    shared.mkdir()
    os.mkfifo(shared / "cpu")


def socket_file(shared: Path) -> None:
    shared.mkdir()
    here = os.getcwd()
    os.chdir(shared)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("cpu")
    finally:
        os.chdir(here)


def device(shared: Path) -> None:
    shared.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can make devices")
    os.mknod(shared / "cpu", 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def folder_as_file(shared: Path) -> None:
    (shared / "cpu").mkdir(parents=True)


def missing_parent(shared: Path) -> None:
    os.environ[locks.VARIABLE] = f"{shared}/no/such"


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        (Path.touch, "locks: a file, not a folder, so"),
        (fifo_as_folder, "locks: a named pipe, not a folder, so"),
        (link_folder, "locks: a symbolic link, not a folder, so"),
        (open_to_all, "locks: all users may replace its files, so"),
        (link_file, "locks/cpu: a symbolic link, not a regular file, so"),
        (dangling_link, "locks/cpu: a symbolic link, not a regular file, so"),
        (fifo, "locks/cpu: a named pipe, not a regular file, so"),
        (socket_file, "locks/cpu: a socket, not a regular file, so"),
        (device, "locks/cpu: a device, not a regular file, so"),
        (folder_as_file, "locks/cpu: a folder, not a regular file, so"),
        (missing_parent, "such: no such file or directory, so"),
    ],
    ids=lambda trick: getattr(trick, "__name__", ""),
)
def test_an_unsafe_folder_or_file_is_not_used_after_one_line(
    shared: Path, private: Path, capsys: pytest.CaptureFixture[str], trick: Callable[[Path], None], reason: str
) -> None:
    trick(shared)
    for _ in range(2):
        with locks.lock_cpu():
            assert not is_free(private / "cpu")
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning: " in line
    assert reason in line
    assert line.partition("; ")[0].endswith("so other users' runs are not waited for")
    assert f"set {locks.VARIABLE}=" in line
    assert not (shared.parent / "made").exists()
    assert locks.fault_of_shared_folder() != ""


@needs_root
def test_a_folder_that_another_user_closed_is_not_used(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (open_folder / "locks").mkdir(mode=0o700)
    (open_folder / "residual-attention-build-60001").mkdir(mode=0o777)  # made by root, as by any other user
    monkeypatch.setenv(locks.VARIABLE, str(open_folder / "locks"))
    monkeypatch.setenv("TMPDIR", str(open_folder))
    monkeypatch.setattr(locks, "warnings", [])

    def take() -> None:
        with locks.lock_cpu():
            assert len(locks.warnings) == 2
            assert "locks/cpu: permission denied, so other users' runs are not waited for" in locks.warnings[0]
            assert "60001: it belongs to another user, so other runs are not waited for" in locks.warnings[1]

    assert as_user(60001, take) == 0


@needs_root
@pytest.mark.parametrize(
    ("mode", "owner", "is_used"),
    [
        (0o1777, 60001, True),
        (0o3777, 60001, True),
        (0o755, 60001, False),
        (0o1775, 60001, False),
        (0o700, 60002, True),
        (0o755, 60002, True),
    ],
)
def test_a_folder_of_another_user_is_only_used_if_all_users_can_create_locks_in_it(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, is_used: bool
) -> None:
    folder = open_folder / "locks"
    folder.mkdir()
    os.chown(folder, owner, 60000)
    folder.chmod(mode)
    monkeypatch.setenv(locks.VARIABLE, str(folder))
    monkeypatch.setenv("TMPDIR", str(open_folder))
    monkeypatch.setattr(locks, "warnings", [])

    def take() -> None:
        with locks.lock_cpu():
            assert [
                f"locks: it belongs to another user, and its mode is {mode:o}, not 1777, so" in text
                for text in locks.warnings
            ] == [True] * (not is_used)
            assert (locks.fault_of_shared_folder() == "") == is_used
            assert locks.lock_path("cpu").parent == (folder if is_used else locks.private_folder())

    assert as_user(60002, take) == 0


def test_a_lock_that_becomes_a_named_pipe_does_not_block(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.mkdir()
    (shared / "cpu").touch()
    lstat = os.lstat

    def replaced_after(path: Path) -> os.stat_result:
        state = lstat(path)
        if Path(path) == shared / "cpu" and stat.S_ISREG(state.st_mode):
            os.unlink(path)
            os.mkfifo(path)
        return state

    monkeypatch.setattr(os, "lstat", replaced_after)
    with pytest.raises(locks.NotRegularError) as caught:
        locks.open_lock(shared / "cpu")
    assert caught.value.strerror == "a named pipe, not a regular file"


@pytest.mark.parametrize("kind", ["named pipe", "folder", "symbolic link"])
def test_a_lock_file_of_root_that_is_not_a_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / ".a.bin.lock"
    if kind == "named pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "made")
    with pytest.raises(SystemExit), artifact.locked(tmp_path / "a.bin"):
        pass
    assert f"{path}: a {kind}, not a regular file; remove it" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_without_any_place_for_locks_the_work_is_done(
    shared: Path, private: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared.touch()
    private.touch()
    with locks.lock_cpu(), locks.lock_cpu() as stream:
        assert stream.fileno() > 0
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_lock_file_that_was_removed_meanwhile_is_not_taken(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flock = locks.lock_path("cpu"), fcntl.flock

    def removed_first(stream: object, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(stream, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with locks.lock_one_of([path], "it"):
        assert not is_free(path)


# File systems without locks


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    (tmp_path / ".make").mkdir()
    for beside, words in ((False, "set ROOT= to a folder of another file system"), (True, "copy this folder to")):
        with pytest.raises(SystemExit), artifact.locked(tmp_path / "data/bin", beside):
            pass
        (line,) = capsys.readouterr().err.splitlines()
        assert ": its file system has no locks (" in line
        assert ".lock: " in line if beside else "/.make/locks/data__bin: " in line
        assert words in line
        assert "-o flock" in line
    assert os.strerror(number).lower() in locks.fault_of_locks(tmp_path)


def test_another_error_of_a_lock_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(OSError) as caught, artifact.locked(tmp_path / "a"):
        pass
    assert caught.value.filename == str(tmp_path / ".a.lock")


def test_shared_locks_on_a_file_system_without_locks_fall_back(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locks.lock_cpu():
        pass
    assert [f"{shared}/cpu: function not implemented" in line for line in capsys.readouterr().err.splitlines()] == [
        True,
        False,
    ]


@pytest.fixture(scope="session")
def no_locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that takes the locks from the files below the folder in NO_LOCKS."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("library") / "no_locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, NO_LOCKS, "-ldl"], check=True)
    return library


def test_make_and_doctor_say_that_root_has_no_locks(fresh: Project, no_locks: Path) -> None:
    more = {"LD_PRELOAD": str(no_locks), "NO_LOCKS": str(fresh.root)}
    done = fresh.make("accuracy", "SOURCE=sample", check=False, **more)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("make", "Makefile"))]
    assert "sync_inputs.py: " in line
    assert "/.make__inputs.mk: its file system has no locks (function not implemented); set ROOT=" in line
    done = run("make", "doctor", "ROOT=root", "CHIP=cpu", cwd=fresh.tree, **more)
    assert done.returncode == 2
    row = next(line for line in done.stdout.splitlines() if "locks of ROOT" in line)
    assert row.startswith("  ! locks of ROOT")
    assert "its file system has none (function not implemented)  ->  use a ROOT= of another file system" in row
    assert re.search(r"cpu cannot run here: it needs .*a ROOT with file locks  ->  see the rows above", done.stdout)


def test_doctor_shows_the_shared_folder_and_creates_nothing(fresh: Project) -> None:
    folder = fresh.tree / "of the host"
    words = ("make", "doctor", "ROOT=root")
    done = run(*words, cwd=fresh.tree, **{locks.VARIABLE: str(folder)})
    assert f"    locks of the host  {folder}, for all users\n" in done.stdout
    assert not folder.exists()
    folder.mkdir()
    (folder / "cpu").symlink_to("/etc/passwd")
    done = run(*words, cwd=fresh.tree, **{locks.VARIABLE: str(folder)})
    assert (
        f"  ! locks of the host  {folder}/cpu: a symbolic link, not a regular file  ->  repair or remove it"
        in done.stdout
    )


def test_set_up_on_a_file_system_without_locks_is_one_line(tmp_path: Path, no_locks: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    words = ("--out", tmp_path / ".venv", "--requirements", tmp_path / "requirements.txt")
    more = {"LD_PRELOAD": str(no_locks), "NO_LOCKS": str(tmp_path)}
    done = run(sys.executable, SCRIPTS / "setup_env.py", *words, cwd=tmp_path, **more)
    refused(done, f"{tmp_path}/.venv.lock", "its file system has no locks", "copy this folder to another file system")


# A ROOT of several users


@needs_root
def test_the_time_of_a_file_of_another_user_is_renewed_by_a_copy(open_folder: Path) -> None:
    os.chown(open_folder, 60001, 60000)
    open_folder.chmod(0o2775)
    path = open_folder / "a.bin"
    path.write_text("content")
    os.chown(path, 60001, 60000)
    path.chmod(0o664)

    def renew() -> None:
        os.umask(0o002)
        artifact.renew(path)

    os.utime(path, (1, 1))
    assert as_user(60002, renew) == 0
    seen = path.stat()
    assert (path.read_text(), seen.st_uid, seen.st_mtime_ns) == ("content", 60002, artifact.START_TIME)
    assert stat.S_IMODE(seen.st_mode) == 0o664
    assert [file.name for file in open_folder.iterdir()] == ["a.bin"]


@needs_root
def test_a_record_that_may_not_be_read_is_not_called_missing(open_folder: Path) -> None:
    for name, mode in (("private", 0o700), ("open", 0o755)):
        (open_folder / name).mkdir()
        (open_folder / name).chmod(mode)
        (open_folder / name / "a.json").write_text("{}")
        (open_folder / name / "a.json").chmod(0o600)
        assert as_user(60001, lambda: artifact.read_record(open_folder / name / "a.json")) == errno.EACCES  # noqa: B023
        assert as_user(60001, lambda: held.recorded_origin(open_folder / name / "a.bin", False)) in (0, errno.EACCES)  # noqa: B023
    assert artifact.read_record(open_folder / "missing/a.json") == {}


@needs_root
def test_a_folder_whose_files_may_not_be_removed_is_named_before_the_work(open_folder: Path) -> None:
    (open_folder / "outputs").mkdir()
    (open_folder / "outputs").chmod(0o755)
    open_folder.chmod(0o777)

    def build() -> None:
        with contextlib.suppress(SystemExit), artifact.build_folder(open_folder / "outputs/manifest.json", {}):
            os._exit(99)

    assert as_user(60001, build) == errno.EACCES
    assert not list(open_folder.glob("*.tmp.*"))
