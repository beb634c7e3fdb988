"""Artifacts, their records, cache keys and locks. An artifact is complete or absent.

make compares times; the command that it starts compares contents. `build_file` and `build_folder` take the artifact's
lock and compare the record beside it (digests of inputs, scripts and settings) with the cache key. If nothing differs,
they only renew the file's time and exit 0. Otherwise the caller fills a temporary file or folder, which is renamed when
it is complete. Data are on the disk before their name is, so this is also true after a power cut. This module does not
influence the bytes of an artifact. Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import SOURCES, environment, locks
from _support.cli import SCRIPTS, die, short
from _support.imports import local_imports

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, NoReturn, Tuple

UNFINISHED = 314159265  # ns after 1970: modification time of a file whose record is not written yet
ATTEMPTS = 10  # to write a small file that other processes write too
OUTDATED = UNFINISHED + 10**9  # ns after 1970: modification time of a file whose settings changed during the build
ORPHAN = re.compile(r"\.tmp\.[0-9]+(\.old)?$")  # the number is that of the process: temporary(), replace_folder()
LARGEST = 1 << 29  # bytes of a record; a larger file is damaged, and would take many times its size in memory
RECORD_DIGEST = "record_sha256"  # the entry of a record with the digest of all other entries
Record = Dict[str, Any]
DAMAGED = "damaged, or written by another version"  # the reason to reject a record; the names of its fields follow


def blocks(path: Path) -> Iterator[bytes]:
    """Yields a file's bytes in blocks of 1 MiB; exits 1 if it is not a regular file, because a pipe may never end."""
    if path.exists() and not path.is_file():
        die(path, "not a file", "move it away and run the same command again")
    with open(path, "rb") as stream:
        yield from iter(lambda: stream.read(1 << 20), b"")


def digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    sha256 = hashlib.sha256()
    for block in blocks(path):
        sha256.update(block)
    return sha256.hexdigest()


def git_blob(path: Path) -> str:
    """The id that `git hash-object` prints for a file: the sha1 of "blob <size>\\0" and its bytes, in hexadecimal."""
    sha1 = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)  # usedforsecurity: for FIPS hosts
    for block in blocks(path):
        sha1.update(block)
    return sha1.hexdigest()


def read_verified(path: Path, sha256: str) -> bytes:
    """The bytes of an input, read once, for a command that has stated their digest `sha256` in its cache key.

    A command computes its key and may then wait for a lock. Exits 1 if the file has changed since.
    """
    data = b"".join(blocks(path))
    if hashlib.sha256(data).hexdigest() != sha256:
        die_changed(path)
    return data


@contextlib.contextmanager
def opened_verified(path: Path, sha256: str) -> Iterator[IO[bytes]]:
    """The same for a file that is too large for memory. Another make replaces files, and does not change them, so what
    is read afterwards has that digest."""
    with open(path, "rb") as stream:
        computed = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            computed.update(block)
        if computed.hexdigest() != sha256:
            die_changed(path)
        stream.seek(0)
        yield stream


def check_unchanged(path: Path, sha256: str) -> None:
    """Exits 1 if a file that another program has read no longer has the digest in the cache key."""
    if digest(path) != sha256:
        die_changed(path)


def die_changed(path: Path) -> NoReturn:
    die(path, "changed while this command waited or ran", "run the same command again")


def is_file(path: Path) -> bool:
    """Whether `path` is a file. Raises PermissionError if its folder may not be entered, for which Path.is_file()
    returns False since Python 3.14."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link to itself
            raise
        return False


def absence(path: Path) -> str:
    """What is in place of a file at `path`, for a message."""
    return "a folder, not a file" if path.is_dir() else "not a file" if path.exists() else "no such file"


def check_no_folder(*paths: Path) -> None:
    """Exits 1 if a folder is in the place of a file that this command writes: it may contain files of the user."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():  # a link is replaced
            die(path, absence(path), f"type: {removal(path)}, then {SAME}")


def read_json(path: Path) -> Record:
    """The JSON object in a file, or an empty one if the file is missing or is not such an object. Raises
    PermissionError if this user may not read it: a file that another user wrote is not missing."""
    try:
        record = json.loads(path.read_text("utf-8")) if is_file(path) and path.stat().st_size < LARGEST else {}
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def format_record(record: Record) -> str:
    """The text of a record's file. Its last entry is the sha256 of the other entries as canonical JSON: sorted keys, no
    spaces, ASCII."""
    entries = {name: value for name, value in record.items() if name != RECORD_DIGEST}
    canonical = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps({**entries, RECORD_DIGEST: hashlib.sha256(canonical).hexdigest()}, indent=1) + "\n"


def is_intact(path: Path, record: Record) -> bool:
    """Whether the file at `path` has exactly the bytes that write_record() writes for `record`, which was read from it.
    Spaces count too: any change of the file is damage."""
    return path.read_bytes() == format_record(record).encode("utf-8")


def read_record(path: Path) -> Record:
    """The record at `path`, or an empty one if it is missing or damaged. Raises PermissionError like read_json().

    Earlier versions of this project wrote records without a digest, which are accepted here.
    """
    record = read_json(path)
    return record if RECORD_DIGEST not in record or is_intact(path, record) else {}


class Entries(Dict[str, Any]):
    """A map of a record. A command that reads an entry which is missing exits 1 with one line."""

    def __init__(self, entries: Record, path: Path, artifact: Path) -> None:
        super().__init__(entries)
        self.path, self.artifact = path, artifact

    def __missing__(self, name: str) -> NoReturn:
        die(self.path, f"{DAMAGED} ({name})", rebuild_hint(self.artifact))


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_map(value: Any) -> bool:
    return isinstance(value, dict)


def is_count(value: Any) -> bool:
    """Whether `value` is a whole number above 0, and not a boolean."""
    return type(value) is int and value > 0


Checks = Dict[str, Callable[[Any], bool]]
MANIFEST: Checks = {"digest": is_text, "count": is_count}  # what the record in a folder of bins or outputs must contain
OPTIONAL: Checks = {"engine": is_map, "graph": is_map, "format": is_text}  # of a record, if it contains them
OF_PROVENANCE: Checks = {"batch_size": is_count, **dict.fromkeys(("chip", "engine", "options", "precision"), is_text)}


# Chip and batch size in the path of a record, below models/om/ and results/ of ROOT.
PLACE = re.compile(r"(?:^|/)(?:models/om|results)/([^/]+)/bs([1-9][0-9]?)(?:/outputs/manifest|/[a-z]+)?\.json$")


COPIED = "it was copied from another place"


def place_problem(path: Path, provenance: Record) -> str:
    """Why a record with this provenance is not one of the chip and batch size in its path; empty if it is."""
    place = PLACE.search(path.as_posix())
    for entry, expected in zip(("chip", "batch_size"), place.groups() if place else ()):
        if str(provenance.get(entry)) != expected:
            is_of = f"is of {entry.replace('_', ' ')} {short(provenance.get(entry))}, not {expected}"
            return f"{is_of}: {COPIED}"
    return ""


def record_problem(artifact: Path, path: Path, record: Record) -> Tuple[Path, str] | None:
    """The file and the reason why the `record` at `path` cannot be used for `artifact`; None if it can."""
    if not isinstance(record.get("provenance"), dict):
        return path, DAMAGED if is_file(path) else absence(path)
    provenance, is_folder = record["provenance"], artifact.name == "manifest.json"
    if not is_folder and not is_file(artifact):
        return artifact, absence(artifact)
    if not is_folder and record.get("sha256") != digest(artifact):
        return artifact, f"its digest differs from the one in {path.name}"
    wrong = [name for name, is_valid in MANIFEST.items() if is_folder and not is_valid(record.get(name))]
    wrong += [name for name, is_valid in OPTIONAL.items() if name in record and not is_valid(record[name])]
    wrong += [name for name, is_valid in OF_PROVENANCE.items() if name in provenance and not is_valid(provenance[name])]
    problem = f"{DAMAGED} ({', '.join(wrong)})" if wrong else place_problem(path, provenance)
    return (path, problem) if problem else None


def needed_record(artifact: Path, path: Path | None = None) -> Record:
    """The record of `artifact`; exits 1 if it is missing or invalid, or if its digest differs from the artifact's."""
    path = path or record_of(artifact)
    record = read_record(path)
    problem = record_problem(artifact, path, record)
    if problem:
        die(*problem, rebuild_hint(artifact, path))
    return Entries({**record, "provenance": Entries(record["provenance"], path, artifact)}, path, artifact)


def sync(path: Path) -> None:
    """Returns when the disk has the bytes and the time of a file, or the names in a folder."""
    with contextlib.suppress(PermissionError):  # a folder that may be written, but not read
        file = os.open(str(path), os.O_RDONLY)
        try:
            os.fsync(file)
        except OSError as error:  # some file systems do not support it for a folder
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
                error.filename = path
                raise
        finally:
            os.close(file)


def sync_all(files: Iterable[Path]) -> None:
    """The same for many files and for their names. After the first one there is little left to write."""
    files = list(files)
    for path in (*files, *dict.fromkeys(file.parent for file in files)):
        sync(path)


def is_orphan(path: Path) -> bool:
    """Whether a path has the name of a temporary file or folder, or of a folder that a killed run was replacing. A
    user's own file, such as notes.tmp.bak, has not."""
    return bool(ORPHAN.search(path.name))


def remove_orphans(out: Path) -> None:
    """Removes what killed runs left of the file or folder `out`, and the folder that one of them was replacing."""
    for orphan in out.parent.glob(f"{glob.escape(out.name)}.tmp.*"):
        if is_orphan(orphan):
            remove(orphan)


def write_text(path: Path, text: str) -> None:
    """Writes a small text file completely or not at all."""
    write_atomically(path, text.encode("utf-8"))


def write_atomically(path: Path, data: bytes, time_ns: int = 0, durable: bool = True) -> None:
    """Writes a small file completely or not at all; `time_ns`, if not 0, is its modification time.

    If not `durable`, the caller calls sync_all() for it: after a power cut before that, the file may be empty.
    """
    check_no_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    remove_orphans(path)
    for attempt in range(ATTEMPTS):
        try:
            temporary.write_bytes(data)
            if time_ns:
                os.utime(temporary, ns=(time_ns, time_ns))
            if durable:
                sync(temporary)
            temporary.replace(path)
            break
        except FileNotFoundError:  # another process, which writes the same file, has removed it as an orphan
            if attempt == ATTEMPTS - 1:
                raise
        except OSError as error:
            error.filename = error.filename or path  # ENOSPC has no file name
            raise
        finally:
            remove(temporary)
    if durable:
        sync(path.parent)


def read_bytes(path: str) -> bytes:
    """The bytes of a file. os.open and os.read are faster than open() for thousands of small files.

    Raises OSError for what is not a regular file: a pipe would never end.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # the flag matters for a pipe, whose opening would wait
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return b"".join(iter(lambda: os.read(file, 1 << 12), b""))
    finally:
        os.close(file)


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file. os.open and os.write are faster than open() for thousands of small files."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        while data:
            data = data[os.write(file, data) :]
    finally:
        os.close(file)


def write_record(path: Path, record: Record) -> None:
    """Writes a record with its own digest, completely or not at all."""
    write_text(path, format_record(record))


def remove(path: Path) -> None:
    """Removes a file, a link or a folder if it exists; another process may remove the file at the same time."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def start_time() -> int:
    """The modification time, in ns, of the artifacts of this run.

    It is the start of the run, because later edits are not part of them. It is not older than any prerequisite (make's
    $^, in DEPS), because the clock may have been set back.
    """
    times = [time.time_ns()]
    for name in os.environ.get("DEPS", "").split():
        with contextlib.suppress(OSError):
            times.append(os.stat(name).st_mtime_ns)
    return max(times)


START_TIME = start_time()


def renew(path: Path, time_ns: int = 0) -> None:
    """Sets the modification time of `path` to the time of this run (see start_time()), or to `time_ns` if it is later.

    If settings or scripts have changed since make read them, the time is OUTDATED, so that the next make checks the
    artifact again: another make has updated .make, and this run may have used the previous version.
    """
    time_ns = max(START_TIME, time_ns)
    root, known = root_of(path), os.environ.get("INPUTS_DIGEST")
    inputs = root / ".make" / "inputs.mk" if root else None
    if known and inputs and inputs.is_file() and inputs != path.absolute():
        is_current = f"input.digest := {known}\n" in inputs.read_text("utf-8")
        time_ns = time_ns if is_current else OUTDATED
    set_time(path, time_ns)


def set_time(path: Path, time_ns: int) -> None:
    """Sets the modification time of a file, in ns. Only its owner may, so for a file of another user, in a ROOT that
    several users share, it is replaced by a copy. The caller holds the lock of the artifact."""
    try:
        os.utime(path, ns=(time_ns, time_ns))
    except PermissionError:
        with temporary(path) as copy:
            shutil.copyfile(path, copy)
            os.utime(copy, ns=(time_ns, time_ns))
            sync(copy)
            copy.replace(path)


def time_after_all(root: Path) -> int:
    """A time, in ns, later than the modification time of every artifact below ROOT, and not before now.

    Changed sources (a setting, a script, a user's file) get this time. With the clock alone a change could look older
    than an artifact built before it: clocks are set back, and clocks of other hosts may be ahead.
    """
    places = ("data/*", "data/*/manifest.json", "models/*", "models/*/*", "models/om/*/*", "results/*/*/*")
    manifests = ("results/*/outputs/manifest.json", "results/*/*/outputs/manifest.json")
    times = [path.lstat().st_mtime_ns for place in (*places, *manifests) for path in root.glob(place)]
    return max([time.time_ns(), *(time_ns + 10**6 for time_ns in times)])


def root_of(artifact: Path) -> Path | None:
    """The ROOT of an artifact: the nearest folder above it that has a .make."""
    return next((path for path in artifact.absolute().parents if (path / ".make").is_dir()), None)


def lock_beside(artifact: Path) -> Path:
    """The lock file beside an artifact: .venv -> .venv.lock."""
    return artifact.with_name(f".{artifact.name.lstrip('.')}.lock")


@contextlib.contextmanager
def locked(artifact: Path, beside: bool = False) -> Iterator[None]:
    """Holds the exclusive lock of `artifact`. The kernel releases it when the process ends.

    It is a POSIX record lock, because that works across the hosts of a shared file system. The lock file is below the
    nearest .make. Without one, or if `beside` is set, it is beside the artifact.
    """
    artifact = artifact.absolute()
    root = root_of(artifact)
    if not root and not beside and os.environ.get("INPUTS_DIGEST"):
        die(artifact, "ROOT's .make was removed while make ran", "run the same command again")
    if root and not beside:
        path = root / ".make" / "locks" / "__".join(artifact.relative_to(root).parts)
    else:
        path = lock_beside(artifact)
    remedy = "copy this folder to another file system" if beside else "set ROOT= to a folder of another file system"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = locks.open_regular(path, os.O_RDWR | os.O_CREAT)
    except locks.NotRegularError as error:
        die(path, error.strerror or "", "remove it, and run the same command again")
    with stream:
        locks.lock_exclusively(stream, path, artifact, remedy)
        yield


def key_of(inputs: Record, settings: Record, packages: Iterable[str] = (), part: str = "") -> Record:
    """The cache key of an artifact: everything that determines its bytes.

    These are the digests of its inputs, its settings, the digests of the running script, of the dotted module `part`
    (an engine's) and of all that they import, and the versions of packages; "" for one that is not installed.
    """
    scripts = {**digests_of(Path(sys.argv[0]).resolve()), **(digests_of_part(part) if part else {})}
    return {"inputs": inputs, "flags": settings, "scripts": scripts, "versions": versions_of(packages)}


def digests_of(script: Path) -> Dict[str, str]:
    """{path below scripts/: sha256} of a script and of all that it imports."""
    return {path.relative_to(SCRIPTS).as_posix(): source_digest(path) for path in local_imports(script)}


def digests_of_part(part: str) -> Dict[str, str]:
    """The same of a dotted module, such as engines.openvino.run."""
    return digests_of(SCRIPTS.joinpath(*part.split(".")).with_suffix(".py"))


def versions_of(packages: Iterable[str]) -> Dict[str, str]:
    """The versions of packages; "" for one that is not installed."""
    versions: Dict[str, str] = {}
    if packages:
        from importlib import metadata  # since Python 3.8

        for name in packages:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = ""
    return versions


def source_digest(path: Path) -> str:
    """The sha256 of a script as it was loaded. If it is not loaded yet, its later import must find the same bytes."""
    name = os.path.realpath(str(path))
    if name not in SOURCES:
        SOURCES[name] = digest(path)
    return SOURCES[name]


def has_key(record: Record, key: Record) -> bool:
    """Whether the record has this cache key. A package that is not installed has the recorded version: an Ascend host
    without torch uses the graph that another host exported."""
    before, versions = record.get("key"), key.get("versions")
    recorded = before.get("versions") if isinstance(before, dict) else None
    if isinstance(versions, dict) and isinstance(recorded, dict):
        key = {**key, "versions": {name: version or recorded.get(name, "") for name, version in versions.items()}}
    return bool(before == key)


KEY_WORDS = {"inputs": "input", "flags": "setting", "scripts": "script", "versions": "package"}


def differences(before: Record, key: Record) -> Iterator[str]:
    """Yields the differences between two cache keys, as texts such as `setting opset 11 -> 12`."""
    for part, values in key.items():
        old = before.get(part)
        if not isinstance(values, dict) or not isinstance(old, dict):
            yield from [part] if old != values else []
            continue
        for name in dict.fromkeys([*values, *old]):
            if old.get(name) != values.get(name):
                shown = f" {old.get(name)} -> {values.get(name)}" if part in ("flags", "versions") else ""
                yield f"{KEY_WORDS.get(part, part)} {name}{shown}"


def explain_rebuild(artifact: Path, record: Record, key: Record, reason: str = "") -> None:
    """Under make WHY=1: prints what differs between the recorded cache key of an artifact and its present one."""
    if os.environ.get("WHY") != "1":
        return
    before = record.get("key")
    reasons = [*differences(before, key)] if isinstance(before, dict) else ["no record"]
    if not artifact.exists():
        reasons = ["no such file"]
    elif reason:
        reasons = [reason]
    print(f"            built because of: {', '.join(reasons) or 'digest differs from the record'}")


class Unchanged(SystemExit):
    """Raised when the artifact is up to date: the process exits 0, unless the caller catches it and continues."""


class Job:
    """An artifact that is being built: the caller fills `path` and adds to `record`.

    The record's provenance starts as a copy of the inputs' provenance, `upstream`.
    """

    def __init__(self, path: Path, key: Record, upstream: Record) -> None:
        self.path, self.time = path, 0  # ns; if not 0, a modification time later than that of this run
        self.leftovers: List[Path] = []  # files to remove when the artifact is complete
        self.record: Record = {"key": key, "inherited": sorted(upstream), "provenance": dict(upstream)}
        at_start = environment.at_start()
        if at_start:
            self.record["at_start"] = at_start


def record_of(artifact: Path) -> Path:
    """The path of an artifact's record, beside it: archive.tar.gz -> archive.json."""
    return artifact.with_name(artifact.name.split(".")[0] + ".json")


def imported_from(path: Path, sha256: str) -> str:
    """The path from which the user's file at `path` was imported, as passed to make; "" if it is unknown. `sha256` is
    the digest of the file."""
    record = read_record(record_of(path))
    return str(record.get("path", "")) if record.get("sha256") == sha256 else ""


SAME = "the same make command"  # the end of a remedy
OWN = {".onnx": "ONNX", ".om": "OM"}  # the variable of a user's own file


def rebuild_hint(artifact: Path, record: Path | None = None, *others: Path) -> str:
    """The remedy for an artifact that is missing or damaged. `record` is its record, if that has another name, and
    `others` are more files that its command writes. A folder or a pipe in place of them is removed too: a
    command cannot replace a folder, and make may wait for a pipe."""
    record = record or record_of(artifact)
    own = read_json(record).get("origin") == "given" and OWN.get(artifact.suffix)
    in_place = [path for path in (record, *others) if path != artifact and os.path.lexists(path) and not is_file(path)]
    return f"type: {removal(artifact, *in_place)}, then {SAME}{f' (add {own}= and your file)' if own else ''}"


def removal(*paths: Path) -> str:
    """The command that removes files, also if one is missing, or if a folder is in its place."""
    return f"rm {'-rf' if any(map(os.path.isdir, paths)) else '-f'} {' '.join(map(str, paths))}"


def renew_record(path: Path, record: Record, upstream: Record) -> None:
    """Writes the provenance of the present inputs into a record; inputs of another origin may give the same bytes."""
    before, inherited = record.get("provenance"), record.get("inherited", ())
    own = {name: value for name, value in (before if isinstance(before, dict) else {}).items() if name not in inherited}
    provenance = {**own, **upstream}
    if provenance != record.get("provenance") or RECORD_DIGEST not in record:
        write_record(path, {**record, "inherited": sorted(upstream), "provenance": provenance})


@contextlib.contextmanager
def build_file(
    out: Path, key: Record, upstream: Record | None = None, record_path: Path | None = None, reason: str = ""
) -> Iterator[Job]:
    """Builds the file `out` and its record. Exits 0 at once if the record has this `key` and the digest of the file,
    unless there is a `reason`, a text, to build it in any case.

    The last steps are: rename the file, with a time of 1970; write the record; set the time of this run. The disk has
    the result of each step before the next one. If the process is killed in between, or the power fails, the next make
    sees an old file and checks it again.
    """
    record_path = record_path or record_of(out)
    with locked(out):
        remove_orphans(out)
        remove_orphans(record_path)
        check_no_folder(out, record_path)
        record = read_record(record_path)
        if not reason and has_key(record, key) and is_file(out) and digest(out) == record.get("sha256"):
            renew_record(record_path, record, upstream or {})
            renew(out)
            print("  unchanged")
            raise Unchanged(0)
        explain_rebuild(out, record, key, reason)
        with temporary(out) as path:
            job = Job(path, key, upstream or {})
            yield job
            job.record["sha256"] = digest(path)
            os.utime(path, ns=(UNFINISHED, UNFINISHED))
            sync(path)
            path.replace(out)
        sync(out.parent)
        write_record(record_path, job.record)
        for leftover in job.leftovers:
            remove(leftover)
        renew(out, job.time)


@contextlib.contextmanager
def build_folder(manifest: Path, key: Record, upstream: Record | None = None) -> Iterator[Job]:
    """Builds the folder of `manifest`, the record inside it; make looks at the manifest, not at the files.

    The caller sets record["count"], the number of files beside the manifest. Exits 0 at once if the manifest has this
    `key` and the folder contains that many files. The disk has the manifest before the folder gets its name, but not
    the other files, which may be thousands: their readers compare them with the digest in the manifest.
    """
    folder = manifest.parent
    with locked(folder):
        remove_orphans(folder)
        record = read_record(manifest)
        if has_key(record, key) and record.get("count") == len(os.listdir(folder)) - 1:
            renew_record(manifest, record, upstream or {})
            renew(manifest)
            print("  unchanged")
            raise Unchanged(0)
        explain_rebuild(manifest, record, key)
        check_replaceable(folder)
        with temporary(folder) as path:
            path.mkdir()
            job = Job(path, key, upstream or {})
            yield job
            write_record(path / manifest.name, job.record)
            set_time(path / manifest.name, UNFINISHED)
            sync(path / manifest.name)
            replace_folder(path, manifest)
        renew(manifest)


def check_replaceable(folder: Path) -> None:
    """Raises PermissionError before the work, not after it, if the files of an existing folder may not be removed."""
    if folder.is_dir() and not folder.is_symlink() and not os.access(str(folder), os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def replace_folder(new: Path, manifest: Path) -> None:
    """Renames the complete folder `new` to that of `manifest`, after the present one, which is then removed.

    overlayfs cannot rename a folder that comes with a container's image (EXDEV). That one is removed before, first its
    manifest: without it the folder counts as absent if this process is killed in between.
    """
    folder, old = manifest.parent, new.with_name(f"{new.name}.old")
    try:
        folder.rename(old)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        remove(manifest)
        remove(folder)
    new.rename(folder)
    sync(folder.parent)
    remove(old)


@contextlib.contextmanager
def temporary(out: Path) -> Iterator[Path]:
    """A temporary path beside `out`, whose lock the caller holds.

    Leftovers of killed runs are removed first. At the end the path is removed if it still exists.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(out)
    path = out.with_name(f"{out.name}.tmp.{os.getpid()}")
    try:
        yield path
    except OSError as error:
        error.filename = error.filename or out  # ENOSPC has no file name
        raise
    finally:
        remove(path)
