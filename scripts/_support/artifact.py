"""What every script needs to leave whole files behind; nothing here shapes an artifact's bytes.

make asks by time, a script decides by content: `build_file` and `build_folder` take the artifact's lock, compare the
record that lies beside it (digests of inputs, scripts and flags) and, if nothing differs, only renew the time and
exit 0. Otherwise the caller fills a temporary file or folder, which gets its name when it is whole.
Runs on Python 3.7 and newer, with the standard library alone.
"""

from __future__ import annotations

from _support.cli import SCRIPTS, die
from _support.imports import local_imports

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator

UNFINISHED = 314159265  # ns after 1970: the time of a file whose record is not yet written, and of no other
OUTDATED = UNFINISHED + 10**9  # ns: the time of a file that was built of settings that have changed meanwhile
Record = Dict[str, Any]


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
        die(path, "no such record, or not one of ours", rebuild_hint(artifact))
    if artifact.name != "manifest.json" and record.get("sha256") != digest(artifact):
        die(artifact, f"not the file that {path.name} tells of", rebuild_hint(artifact))
    return record


def write_text(path: Path, text: str) -> None:
    """Writes a whole small file or none."""
    write_atomically(path, text.encode("utf-8"))


def write_atomically(path: Path, data: bytes, time_ns: int = 0) -> None:
    """The same of bytes, with the time given, if any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        if time_ns:
            os.utime(temporary, ns=(time_ns, time_ns))
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
    """Removes a file, a link or a folder if it exists; another process may remove the file at the same time."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def start_time() -> int:
    """The time, in ns, of what this run makes: its start, since later edits are not in it, but not older than any
    prerequisite (make's $^, in DEPS), since clocks may jump."""
    times = [time.time_ns()]
    for name in os.environ.get("DEPS", "").split():
        with contextlib.suppress(OSError):
            times.append(os.stat(name).st_mtime_ns)
    return max(times)


START_TIME = start_time()


def renew(path: Path, time_ns: int = 0) -> None:
    """Gives `path` the time of this run (see start_time()), or a later one.

    But an old one, so that the next make asks again, if settings or scripts have changed since make read them: another
    make has put them into .make meanwhile, and this run may still have used what was there before.
    """
    time_ns = max(START_TIME, time_ns)
    root, known = root_of(path), os.environ.get("INPUTS_DIGEST")
    inputs = root / ".make" / "inputs.mk" if root else None
    if known and inputs and inputs.is_file() and inputs != path.absolute():
        same = f"input.digest := {known}\n" in inputs.read_text("utf-8")
        time_ns = time_ns if same else OUTDATED
    os.utime(path, ns=(time_ns, time_ns))


def time_after_all(root: Path) -> int:
    """A time, in ns, after that of every artifact below ROOT, and not before now.

    What changes and is no prerequisite's result (a setting, a script, a given file) gets this time. By the clock alone
    a change could be older than what was made before it: clocks are set back, and other hosts' clocks are ahead.
    """
    places = ("data/*", "data/bin/manifest.json", "models/*", "models/*/*", "models/om/*/*", "results/*/*/*")
    manifests = ("results/*/outputs/manifest.json", "results/*/*/outputs/manifest.json")
    times = [path.lstat().st_mtime_ns for place in (*places, *manifests) for path in root.glob(place)]
    return max([time.time_ns(), *(known + 10**6 for known in times)])


def root_of(artifact: Path) -> Path | None:
    """The ROOT of an artifact: the nearest folder above it that has a .make."""
    return next((path for path in artifact.absolute().parents if (path / ".make").is_dir()), None)


@contextlib.contextmanager
def locked(artifact: Path, beside: bool = False) -> Iterator[None]:
    """Holds the one lock of `artifact`. The kernel frees it with the process, so a dead one leaves nothing behind.

    POSIX record locks, because they hold across the hosts of a shared file system too. The lock's file lies under
    the nearest .make, or beside the artifact where there is none or the caller says so.
    """
    artifact = artifact.absolute()
    root = root_of(artifact)
    if root and not beside:
        path = root / ".make" / "locks" / "__".join(artifact.relative_to(root).parts)
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


def key_of(inputs: Record, settings: Record, packages: Iterable[str] = (), part: str = "") -> Record:
    """The cache key of an artifact, what decides its bytes: digests of its inputs, settings, the running script with
    all that it imports (and the dotted module `part`, an engine's), versions of packages."""
    scripts = local_imports(Path(sys.argv[0]).resolve())
    if part:
        scripts += local_imports(SCRIPTS.joinpath(*part.split(".")).with_suffix(".py"))
    versions = {}
    if packages:
        from importlib import metadata  # since Python 3.8

        versions = {name: metadata.version(name) for name in packages}
    digests = {path.relative_to(SCRIPTS).as_posix(): digest(path) for path in scripts}
    return {"inputs": inputs, "flags": settings, "scripts": digests, "versions": versions}


KEY_WORDS = {"inputs": "input", "flags": "setting", "scripts": "script", "versions": "package"}


def differences(before: Record, key: Record) -> Iterator[str]:
    """What differs between two cache keys, in words."""
    for part, values in key.items():
        old = before.get(part)
        if not isinstance(values, dict) or not isinstance(old, dict):
            yield from [part] if old != values else []
            continue
        for name in dict.fromkeys([*values, *old]):
            if old.get(name) != values.get(name):
                shown = f" {old.get(name)} -> {values.get(name)}" if part in ("flags", "versions") else ""
                yield f"{KEY_WORDS.get(part, part)} {name}{shown}"


def explain_rebuild(artifact: Path, record: Record, key: Record) -> None:
    """Under make WHY=1: prints why an artifact is built again, by the cache key in its record."""
    if os.environ.get("WHY") != "1":
        return
    before = record.get("key")
    reasons = [*differences(before, key)] if isinstance(before, dict) else ["no record"]
    if not artifact.exists():
        reasons = ["no such file"]
    print(f"            built because of: {', '.join(reasons) or 'bytes that are not those of its record'}", flush=True)


class Unchanged(SystemExit):
    """The artifact is what it would be: the process exits 0, or the caller goes on."""


class Job:
    """An artifact being made: fill `path`, add to `record`, whose provenance begins with that of its inputs."""

    def __init__(self, path: Path, key: Record, upstream: Record) -> None:
        self.path, self.time = path, 0  # a later time for the artifact than this run's, in ns
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


def rebuild_hint(artifact: Path) -> str:
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
        explain_rebuild(out, record, key)
        with temporary(out) as path:
            job = Job(path, key, upstream or {})
            yield job
            job.record["sha256"] = digest(path)
            os.utime(path, ns=(UNFINISHED, UNFINISHED))
            path.replace(out)
        write_record(record_path, job.record)
        renew(out, job.time)


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
        explain_rebuild(manifest, record, key)
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
