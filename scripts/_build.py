"""What every script needs to leave whole files behind; nothing here shapes an artifact's bytes.

make asks by time, a script decides by content: `build_file` and `build_folder` take the artifact's lock, compare the
record that lies beside it (digests of inputs, scripts and flags) and, if nothing differs, only renew the time and
exit 0. Otherwise the caller fills a temporary file or folder, which gets its name when it is whole.
Runs on Python 3.7 and newer, with the standard library alone.
"""

from __future__ import annotations

import _interrupts

import argparse
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterable, Iterator, NoReturn, Type

SCRIPTS = Path(__file__).resolve().parent
UNFINISHED = 314159265  # ns after 1970: the time of a file whose record is not yet written, and of no other
Record = Dict[str, Any]


if Path(sys.argv[0]).resolve().parent == SCRIPTS:
    for stream in filter(None, (sys.stdout, sys.stderr)):  # names and others' words may hold what no terminal shows
        stream.reconfigure(errors="backslashreplace")


def die(subject: object, problem: str, remedy: str, status: int = 1) -> NoReturn:
    """Prints `script: subject: problem; remedy` on stderr and exits with `status` (1: wrong matter, 2: wrong call).

    In another thread than the main one it only raises: whoever ends the script with it prints it, and nothing else.
    """
    line = f"{Path(sys.argv[0]).name}: {plain(subject)}: {plain(problem)}; {plain(remedy)}"
    if threading.current_thread() is not threading.main_thread():
        raise SystemExit(line)  # which Python prints, and exits 1
    print(line, file=sys.stderr)
    raise SystemExit(status)


def plain(text: object) -> str:
    """`text` on one line, without control characters, and not without end."""
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return shown if len(shown) < 1000 else shown[:1000] + "…"


def explain(kind: Type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook for what nobody caught: one line for what a user can cause, a traceback only for our own mistakes."""
    script = Path(sys.argv[0]).name
    if isinstance(error, KeyboardInterrupt):
        print(f"{script}: interrupted; run the same command again to go on", file=sys.stderr)
    elif isinstance(error, BrokenPipeError):
        pass
    elif isinstance(error, ModuleNotFoundError):
        remedy = "run make setup, or give PYTHON= an interpreter that has what requirements.txt lists"
        print(f"{script}: {error.name}: not installed for {sys.executable}; {remedy}", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno is not None:
        remedy = {
            errno.ENOSPC: "free some space and run the same command again",
            errno.EDQUOT: "free some space and run the same command again",
            errno.EFBIG: "raise the limit on file size (ulimit -f) and run the same command again",
            errno.EACCES: "check who owns it and its permissions",
            errno.EROFS: "give a ROOT= that can be written",
            errno.ENOENT: "check the path, or run make with the stage that makes it",
        }.get(error.errno, "check the path")
        print(f"{script}: {error.filename}: {(error.strerror or '').lower()}; {remedy}", file=sys.stderr)
    elif sys.version_info < (3, 10):  # noqa: UP036 - Ascend hosts
        remedy = "give PYTHON= 3.10 to 3.12, or leave it out; inference and what follows it run on 3.7 and newer"
        problem = f"does not run on Python {sys.version.split()[0]} ({kind.__name__}: {plain(error)})"
        print(f"{script}: PYTHON={sys.executable}: {problem}; {remedy}", file=sys.stderr)
    else:
        traceback.print_exception(kind, error, trace)


sys.excepthook = explain


class Parser(argparse.ArgumentParser):
    """Arguments as flags; a wrong call is one line on stderr and status 2."""

    def __init__(self, doc: str | None) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        _interrupts.raise_again()

    def error(self, message: str) -> NoReturn:
        die("arguments", message, f"see {self.prog} --help", status=2)


def blocks(path: Path) -> Iterator[bytes]:
    """A file's bytes; exits 1 on a pipe or another thing that may never end."""
    if path.exists() and not path.is_file():
        die(path, "not a file", "move it away and run the same command again")
    with open(path, "rb") as stream:
        yield from iter(lambda: stream.read(1 << 20), b"")


def digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    found = hashlib.sha256()
    for block in blocks(path):
        found.update(block)
    return found.hexdigest()


def git_blob(path: Path) -> str:
    """What `git hash-object` names a file: the sha1 of "blob <size>\\0" and its bytes, in hexadecimal."""
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)  # on FIPS hosts too
    for block in blocks(path):
        found.update(block)
    return found.hexdigest()


def read_record(path: Path) -> Record:
    """The record at `path`, or an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def needed_record(artifact: Path, path: Path | None = None) -> Record:
    """The record of `artifact`; exits 1 where there is none of ours, or if it tells of other bytes than are there."""
    path = path or record_of(artifact)
    record = read_record(path)
    if not isinstance(record.get("provenance"), dict):
        die(path, "no such record, or not one of ours", again(artifact))
    if artifact.name != "manifest.json" and record.get("sha256") != digest(artifact):
        die(artifact, f"not the file that {path.name} tells of", again(artifact))
    return record


def write_text(path: Path, text: str) -> None:
    """Writes a whole small file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or path  # a full disk names no file
        raise
    finally:
        remove(temporary)


def read_bytes(path: str) -> bytes:
    """The bytes of one of many small files, without the cost of open()."""
    file = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 12), b""))
    finally:
        os.close(file)


def write_bytes(path: str, data: bytes) -> None:
    """Writes one of many small files, without the cost of open()."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)


def write_record(path: Path, record: Record) -> None:
    write_text(path, json.dumps(record, indent=1) + "\n")


def remove(path: Path) -> None:
    """Removes a file or a folder, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def begun() -> int:
    """The time, in ns, of what this run makes: its start, since later edits are not in it, but not older than any
    prerequisite (make's $^, in DEPS), since clocks may jump."""
    times = [time.time_ns()]
    for name in os.environ.get("DEPS", "").split():
        with contextlib.suppress(OSError):
            times.append(os.stat(name).st_mtime_ns)
    return max(times)


BEGUN = begun()


def renew(path: Path) -> None:
    """Gives `path` the time of this run: see begun()."""
    os.utime(path, ns=(BEGUN, BEGUN))


@contextlib.contextmanager
def locked(artifact: Path, beside: bool = False) -> Iterator[None]:
    """Holds the one lock of `artifact`. The kernel frees it with the process, so a dead one leaves nothing behind.

    POSIX record locks, because they hold across the hosts of a shared file system too. The lock's file lies under
    the nearest .make, or beside the artifact where there is none or the caller says so.
    """
    artifact = artifact.absolute()
    house = next((p for p in artifact.parents if (p / ".make").is_dir()), None)
    if house and not beside:
        path = house / ".make" / "locks" / "__".join(artifact.relative_to(house).parts)
    else:
        path = artifact.with_name(f".{artifact.name.lstrip('.')}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            print(f"{Path(sys.argv[0]).name}: {artifact}: in use by another process; waiting", file=sys.stderr)
            fcntl.lockf(stream, fcntl.LOCK_EX)
        yield


def local_imports(script: Path) -> list[Path]:
    """`script` and all files of scripts/ that it imports, at any depth, but for those that begin with _ and shape no
    bytes. Read, not run."""
    found = [script]
    for file in found:
        for name in re.findall(r"^\s*(?:from|import) ([\w.]+)", file.read_text("utf-8"), re.MULTILINE):
            path = SCRIPTS / (name.replace(".", "/") + ".py")
            if path.is_file() and path.name[0] != "_" and path not in found:
                found.append(path)
    return found


def key_of(inputs: Record, flags: Record, packages: Iterable[str] = (), engine: str = "") -> Record:
    """What decides an artifact's bytes: digests of inputs, flags, the running script and what it imports (an engine's
    module too), versions of packages."""
    scripts = local_imports(Path(sys.argv[0]).resolve())
    if engine:
        scripts += local_imports(SCRIPTS / f"{engine.replace('.', '/')}.py")
    versions = {}
    if packages:
        from importlib import metadata  # since Python 3.8

        versions = {name: metadata.version(name) for name in packages}
    digests = {path.relative_to(SCRIPTS).as_posix(): digest(path) for path in scripts}
    return {"inputs": inputs, "flags": flags, "scripts": digests, "versions": versions}


class Unchanged(SystemExit):
    """The artifact is what it would be: the process exits 0, or the caller goes on."""


class Job:
    """An artifact being made: fill `path`, add to `record`, whose provenance begins with that of its inputs."""

    def __init__(self, path: Path, key: Record, upstream: Record) -> None:
        self.path = path
        self.record: Record = {"key": key, "inherited": sorted(upstream), "provenance": dict(upstream)}


def record_of(artifact: Path) -> Path:
    """Where an artifact's record lies: archive.tar.gz -> archive.json, beside it."""
    return artifact.with_name(artifact.name.split(".")[0] + ".json")


def origin_of(held: Path, found: str = "") -> str:
    """What an input that ROOT holds is: "sample", "official" (by its digest), "given" (also by hand), or "": none.
    `found` is its digest, where it is known."""
    if not held.is_file() or held.stat().st_mtime_ns == UNFINISHED:
        return ""
    record = read_record(record_of(held))
    return str(record.get("origin")) if record.get("sha256") == (found or digest(held)) else "given"


def again(artifact: Path) -> str:
    """The remedy for an artifact that is not what was made."""
    return f"type: rm {artifact}, then the same make command"


def renew_record(path: Path, record: Record, upstream: Record) -> None:
    """The same bytes may have come by another way: writes the provenance of today's inputs into a record."""
    before, inherited = record.get("provenance"), record.get("inherited", ())
    own = {name: value for name, value in (before if isinstance(before, dict) else {}).items() if name not in inherited}
    today = {**own, **upstream}
    if today != record.get("provenance"):
        write_record(path, {**record, "inherited": sorted(upstream), "provenance": today})


@contextlib.contextmanager
def build_file(
    out: Path, key: Record, upstream: Record | None = None, record_path: Path | None = None
) -> Iterator[Job]:
    """Makes the file `out` and its record. Exits 0 at once if the record's key is `key` and the bytes are the record's.

    Order of the end: the file under its name with a time of 1970, then the record, then the time of this run. Killed
    in between, the next make finds the file old and asks again.
    """
    record_path = record_path or record_of(out)
    with locked(out):
        record = read_record(record_path)
        if record.get("key") == key and out.is_file() and digest(out) == record.get("sha256"):
            renew_record(record_path, record, upstream or {})
            renew(out)
            print("  unchanged")
            raise Unchanged(0)
        with temporary(out) as path:
            job = Job(path, key, upstream or {})
            yield job
            job.record["sha256"] = digest(path)
            os.utime(path, ns=(UNFINISHED, UNFINISHED))
            path.replace(out)
        write_record(record_path, job.record)
        renew(out)


@contextlib.contextmanager
def build_folder(manifest: Path, key: Record, upstream: Record | None = None) -> Iterator[Job]:
    """Makes the folder of `manifest` with the manifest, its record, inside; make follows the manifest, never the files.

    The caller sets record["count"], the number of files beside the manifest. Exits 0 at once if the manifest's key is
    `key` and that many files are there.
    """
    folder = manifest.parent
    with locked(folder):
        record = read_record(manifest)
        if record.get("key") == key and record.get("count") == len(os.listdir(folder)) - 1:
            renew_record(manifest, record, upstream or {})
            renew(manifest)
            print("  unchanged")
            raise Unchanged(0)
        with temporary(folder) as path:
            path.mkdir()
            job = Job(path, key, upstream or {})
            yield job
            write_record(path / manifest.name, job.record)
            renew(path / manifest.name)
            old = path.with_name(f"{path.name}.old")
            if folder.exists():
                folder.rename(old)
            path.rename(folder)
            remove(old)


@contextlib.contextmanager
def temporary(out: Path) -> Iterator[Path]:
    """A name beside `out`, whose lock is held, to build under: orphans of killed runs go first, ours if we fail."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for orphan in out.parent.glob(f"{out.name}.tmp.*"):
        remove(orphan)
    path = out.with_name(f"{out.name}.tmp.{os.getpid()}")
    try:
        yield path
    except OSError as error:
        error.filename = error.filename or out  # a full disk names no file
        raise
    finally:
        remove(path)
