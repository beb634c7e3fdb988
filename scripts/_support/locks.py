"""Locks: errors of file systems without them, and the locks that all users of a host share. Python 3.7.

The shared locks (CPU, NPUs, slots of atc) are files in one folder of the host, whatever ROOT, user and TMPDIR. If that
folder cannot be used, a line says so and the locks are those of one user.
"""

from __future__ import annotations

from _support import PROJECT, cli

import contextlib
import errno
import fcntl
import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, ContextManager, Iterator, List, Sequence

VARIABLE = "RESIDUAL_ATTENTION_LOCKS"  # names another shared folder, for containers and jobs with a private /tmp
MODE = 0o1777  # of the shared folder, as of /tmp: all users may create files, and only remove their own
NOWHERE = Path(os.devnull)  # the path of a lock for which there is no place
# Lustre without -o flock, NFS without lockd, and file systems that have no locks at all
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
REMEDY = f"repair or remove it, or set {VARIABLE}= to a folder of mode 1777 (docs/install.md)"
MOUNT_OPTION = "ask for one mounted with locks (Lustre: -o flock, NFS: a running lockd)"


def lock_exclusively(stream: IO[str], path: Path, what: object, remedy: str) -> None:
    """Takes the POSIX record lock of `stream`, the open lock file `path` of `what`; waits, after a line, until it is
    free. Exits 1 with `remedy` if the file system has no locks."""
    try:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            print(f"{Path(sys.argv[0]).name}: {what}: in use by another process; waiting", file=sys.stderr)
            fcntl.lockf(stream, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            problem = f"its file system has no locks ({(error.strerror or '').lower()})"
            cli.die(path, problem, f"{remedy}, or {MOUNT_OPTION}")
        error.filename = error.filename or str(path)
        raise


def shared_folder() -> Path:
    """The folder of the locks that all users of this host share."""
    return Path(os.environ.get(VARIABLE) or f"/tmp/{PROJECT}-locks")


def private_folder() -> Path:
    """The folder of the same locks if they can only be those of this user."""
    temporary = Path(os.environ.get("TMPDIR", "/tmp"))  # tempfile.gettempdir() would need free space
    return (temporary if temporary.is_dir() else Path("/tmp")) / f"{PROJECT}-{os.geteuid()}"


def kind_of(mode: int) -> str:
    """What a file is, from its st_mode."""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link"}
    kinds.update({stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"})
    return kinds.get(stat.S_IFMT(mode), "a device")


class NotRegularError(OSError):
    """A lock file that is not a regular file."""

    def __init__(self, mode: int, path: Path) -> None:
        super().__init__(errno.EINVAL, f"{kind_of(mode)}, not a regular file", str(path))


def open_regular(path: Path, flags: int) -> IO[str]:
    """Opens a regular file for locking; raises OSError for links and special files, which are not opened."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(mode, path)
    # If the file is replaced just now, O_NONBLOCK keeps a named pipe from blocking.
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        raise NotRegularError(mode, path)
    return open(file, "r+")


def check_folder(folder: Path, is_shared: bool) -> None:
    """Raises OSError if lock files in an existing folder are not safe from other users.

    A shared folder belongs to root, to this user, or to the user who ran first. That user is not trusted: files in the
    folder are only locked, never read, and never followed as links. With mode 1777 all users can create locks in it,
    and only the owner of the folder could remove those of others, which is_current() notices.
    """
    state = os.lstat(folder)
    if not stat.S_ISDIR(state.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{kind_of(state.st_mode)}, not a folder", str(folder))
    if state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, "all users may replace its files", str(folder))
    if not is_shared and state.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))
    if state.st_uid not in (0, os.geteuid()) and state.st_mode & MODE != MODE:
        problem = f"it belongs to another user, and its mode is {stat.S_IMODE(state.st_mode):o}, not {MODE:o}"
        raise PermissionError(errno.EPERM, problem, str(folder))


def make_folder(folder: Path, is_shared: bool) -> None:
    """Creates a folder for lock files if it is missing; raises OSError if it cannot be used safely."""
    mask = os.umask(0)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, MODE if is_shared else 0o700)
    finally:
        os.umask(mask)
    check_folder(folder, is_shared)


def open_lock(path: Path) -> IO[str]:
    """Opens a lock file, which is created for all users if it is missing. Raises OSError for links and special files.

    It is opened without O_CREAT first: in a sticky folder the kernel refuses O_CREAT for a file of another user
    (fs.protected_regular, proc_sys_fs(5)).
    """
    while True:
        try:
            return open_regular(path, os.O_RDWR)
        except FileNotFoundError:
            mask = os.umask(0)
            try:
                return open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:  # another process has created it
                continue
            finally:
                os.umask(mask)


def check_lock(path: Path) -> None:
    """Raises OSError if a lock file cannot be opened or its file system has no locks.

    Another file of that folder is locked, so that nobody who asks for the lock itself waits for this.
    """
    open_lock(path).close()
    with tempfile.TemporaryFile(dir=path.parent) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


warnings: List[str] = []  # that were printed: each is printed once


def warn(text: str) -> None:
    if text not in warnings:
        warnings.append(text)
        print(f"{Path(sys.argv[0]).name}: warning: {text}", file=sys.stderr)


def lock_path(name: str) -> Path:
    """The path of the lock file `name` that all users of this host share. If it cannot be used, a line says so, and the
    path is that of this user, or NOWHERE."""
    places = [(shared_folder(), True, "other users' runs"), (private_folder(), False, "other runs")]
    for folder, is_shared, others in places:
        try:
            make_folder(folder, is_shared)
            check_lock(folder / name)
            return folder / name
        except OSError as error:
            problem = f"{error.filename or folder / name}: {(error.strerror or '').lower()}"
            warn(f"{cli.one_line(problem)}, so {others} are not waited for; {REMEDY}")
    return NOWHERE


def fault_of_shared_folder() -> str:
    """Why the shared folder cannot be used, or an empty text. Creates nothing."""
    folder = shared_folder()
    try:
        check_folder(folder, is_shared=True)
        names = os.listdir(folder)
    except FileNotFoundError:
        return "" if os.access(folder.parent, os.W_OK | os.X_OK) else f"{folder} cannot be created"
    except OSError as error:
        return f"{folder}: {(error.strerror or '').lower()}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: not writable"
    for path in (folder / name for name in names):
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if not stat.S_ISREG(mode):
                return f"{path}: {kind_of(mode)}, not a regular file"
            if not os.access(path, os.W_OK):
                return f"{path}: not writable"
    return ""


def fault_of_locks(folder: Path) -> str:
    """Why files in `folder` cannot be locked, or an empty text. Leaves no file."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return (error.strerror or "").lower() if error.errno in WITHOUT_LOCKS else ""
    return ""


def is_current(stream: IO[str], path: Path) -> bool:
    """Whether an open lock file is still the one at `path`: programs that clean /tmp remove old files."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(stream.fileno()), os.lstat(path))
    return False


@contextlib.contextmanager
def lock_one_of(places: Sequence[Path], what: str, shared: bool = False) -> Iterator[IO[str]]:
    """Holds the lock of one of the files `places`, each from lock_path(), and waits until one is free; `what` names
    them in the message.

    Several processes may hold a `shared` lock at once, but not together with an exclusive one. It uses flock(2), so
    child processes inherit the lock with the open file: see process.run(). NFS emulates it for all its clients.
    """
    reported = False
    while True:
        for place in places:
            with open(NOWHERE, "r+") if place == NOWHERE else open_lock(place) as stream:
                try:
                    if place != NOWHERE:
                        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if place == NOWHERE or is_current(stream, place):
                    yield stream
                    return
        if not reported:
            print(f"  {what} in use; waiting", file=sys.stderr)
            reported = True
        time.sleep(0.2)


def lock_cpu(shared: bool = False) -> ContextManager[IO[str]]:
    """Holds the lock of this machine's CPU: exclusive for a measurement, `shared` for other work."""
    return lock_one_of([lock_path("cpu")], "this machine's CPU", shared)
