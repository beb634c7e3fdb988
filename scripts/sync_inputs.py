"""Writes ROOT/.make: one file per setting, a copy of each script, and inputs.mk; each only if its bytes differ.

The rules of make depend on these files, so that a change rebuilds only what uses it (as with Kbuild's include/config).
The Makefile includes .make/inputs.mk: see params/makefile.py. make runs this command when the digest of the --watch
files differs from the one in inputs.mk, whatever the times of the files. Exits 1 if a setting is unknown, missing,
mistyped, or contains characters that are special to make or a shell.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, digest, read_record, time_after_all, write_atomically, write_text
from _support.cli import die

import argparse
import hashlib
import os
import re
from pathlib import Path
from typing import Dict, List, NamedTuple

from formats import held
from formats.user_inputs import digest_of_input
from network.spec import NAME
from params.chips import Chip, chips_of, derived, files_of
from params.makefile import PINS, Rules, check_links, with_digest
from params.read import read_params

PATHS = {"archive": held.PATHS["archive"], "weights": held.PATHS["checkpoint"]}
# An artifact that states the origin of each input, and the name of that entry.
STATED = {
    "archive": ("data/bin/manifest.json", "data_origin"),
    "weights": (f"models/onnx/{NAME}.json", "checkpoint_origin"),
}


LAST = "inputs.mk"  # the file that is written last, when the disk has all others


class UserInput(NamedTuple):
    """An input that the user may pass to make, and the one in ROOT."""

    path: str  # as passed, or ""
    stat: str  # make's text of its inode, size and time
    digest: str  # of the passed file or folder, or ""
    origin: str  # of the file in ROOT: sample, official, given, or ""
    record: Record  # of the file in ROOT


def source_of(root: Path, source: str, origins: List[str]) -> str:
    """The source of the inputs that ROOT lacks: SOURCE, else that of the present inputs, else cifar10. Exits 1 if they
    would be mixed."""
    present = "sample" if "sample" in origins else "cifar10"
    if source and any(origins) and source != present:
        remedy = (
            f"use another ROOT=, omit SOURCE, or remove {' and '.join(str(root / path) for path in PATHS.values())}"
        )
        contained = "inputs of the sample" if present == "sample" else "other inputs than the sample's"
        die(f"SOURCE={source}", f"ROOT={root} contains {contained}", remedy)
    return source or (present if any(origins) else "cifar10")


def was_sample(root: Path, name: str) -> bool:
    """Whether the input `name` in ROOT was the sample's in the last make, or when what is made from it was built."""
    path, entry = STATED[name]
    stated = read_record(root / path).get("provenance", {})
    inputs = root / ".make/inputs.mk"
    known = inputs.read_text("utf-8", "replace") if inputs.is_file() else ""
    return f"input.{name} := sample\n" in known or (isinstance(stated, dict) and stated.get(entry) == "sample")


def user_input(root: Path, name: str, path: str, stat: str) -> UserInput:
    """The input `name` that the user passed and the one in ROOT; exits 1 if the path is not such an input."""
    current = root / PATHS[name]
    sha256 = digest_of_input(name, Path(path)) if path else ""
    record = read_record(artifact.record_of(current))
    if path and artifact.is_file(current) and record.get("sha256") != digest(current):
        record = {}  # damaged, so the user's file replaces it
    return UserInput(path, stat, sha256, held.recorded_origin(current, was_sample(root, name)), record)


def sums_of(files: List[str]) -> str:
    """The output of `sha256sum FILES`, without missing files."""
    return "".join(f"{digest(Path(name))}  {name}\n" for name in files if os.path.isfile(name))


def scripts_of(folder: Path, watched: List[str]) -> List[Path]:
    """The scripts among the watched files; exits 1 if make cannot handle a name."""
    scripts = [path for path in map(Path, watched) if folder in path.parents and path.is_file()]
    for path in scripts:
        if not re.fullmatch(r"[\w./+-]+", path.as_posix(), re.ASCII):
            die(path, "a file name that make cannot handle", "use only letters, digits and . _ + -, or move it away")
    return scripts


def folder_digest(record: Record) -> object:
    """The digest of the user's folder from which a tar was packed; None if it was not packed from one."""
    key = record.get("key")
    return key.get("given") if isinstance(key, dict) else None


class State:
    """The folder .make of a ROOT. A changed file gets a time later than that of every artifact, whatever the clock
    says, so that make sees it as newer."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.names: List[str] = []
        self.changed: List[str] = []
        self.time = 0

    def make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            die(f"ROOT={self.root}", f"cannot be created or written ({error.strerror})", "use another ROOT=")

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the folder if its bytes differ."""
        path = self.folder / name
        self.names.append(name)
        if not path.is_file() or path.read_bytes() != data:
            self.replace(name, data)

    def write_settings(self, params: Dict[str, str]) -> None:
        """Writes one file per setting: {key: text of its value}."""
        for key, text in params.items():
            self.write(f"params/{key}", text.encode() + b"\n")

    def write_scripts(self, folder: Path, scripts: List[Path]) -> None:
        """Copies the scripts, which are below `folder`."""
        for path in scripts:
            self.write(f"scripts/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def replace(self, name: str, data: bytes) -> None:
        """Writes a file of the folder with a time later than that of every artifact."""
        self.time = self.time or time_after_all(self.root)
        write_atomically(self.folder / name, data, self.time, durable=name == LAST)
        self.changed.append(name)

    def sync(self) -> None:
        """Returns when the disk has the changed files. Only then inputs.mk may say that they are up to date."""
        artifact.sync_all([self.folder / name for name in self.changed])

    def remove_orphans(self) -> None:
        """Removes temporary files of killed runs. The caller holds the lock of inputs.mk."""
        for path in filter(artifact.is_orphan, [*self.folder.rglob("*.tmp.*")]):
            artifact.remove(path)

    def remove_others(self, *folders: str) -> None:
        """Removes the files of deleted settings and scripts: those in `folders` that were not written."""
        for path in (path for folder in folders for path in (self.folder / folder).rglob("*") if path.is_file()):
            if path.relative_to(self.folder).as_posix() not in self.names:
                path.unlink()

    def explain(self) -> None:
        """Under make WHY=1: prints which settings and scripts changed."""
        changed = [name for name in self.changed if name != LAST]
        if os.environ.get("WHY") == "1" and changed:
            print(f"  {self.folder}: changed: {' '.join(changed)}")

    def write_note(self, name: str, user: UserInput) -> None:
        """Writes the digest of the passed input, so that make imports it if ROOT contains another one."""
        note = f"given/{name}"
        if not user.digest:
            path = self.folder / note
            self.write(note, path.read_bytes() if path.is_file() else b"")
        elif user.origin not in ("", "sample") and user.digest in (
            user.record.get("sha256"),
            folder_digest(user.record),
        ):
            self.write(note, user.digest.encode() + b"\n")
            write_text(self.folder / f"{note}.stat", user.stat + "\n")
        else:
            self.replace(note, user.digest.encode() + b"\n")


def make_variables(values: Dict[str, str], rules: Rules, chips: List[Chip]) -> str:
    """The text of inputs.mk."""
    lines = ["# Generated by sync_inputs.py; see scripts/params/makefile.py."]
    lines += [f"{name} := {value}".rstrip() for name, value in values.items()]
    lines += [*rules.command_lines(), *rules.reference_lines()]
    return with_digest([*lines, *(line for chip in chips for line in rules.chip_lines(chip))])


def arguments() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--scripts", type=Path, required=True)
    parser.add_argument("--watch", nargs="+", default=[], help="the files whose digest make compares")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="ROOT/.make, or make's copy of it under -n")
    parser.add_argument("--source", default="")
    for name in PATHS:
        parser.add_argument(f"--{name}", default="", help="the path that the user passed")
        parser.add_argument(
            f"--{name}-stat", default="", help="make's text of its inode, size and time, stored once it is imported"
        )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    check_links(args.root / ".make")
    sums = sums_of(args.watch)  # before they are read, so that the next make notices later changes
    params = read_params(args.params)
    chips = chips_of(args.params, params, args.scripts / "engines")
    files = [name for name in files_of(chips) if name not in args.watch]
    scripts = scripts_of(args.scripts, args.watch)
    sums += sums_of(files)
    params.update(derived(chips, params))
    users = {name: user_input(args.root, name, getattr(args, name), getattr(args, f"{name}_stat")) for name in PATHS}
    source = source_of(args.root, args.source, [user.origin for user in users.values()])
    state = State(args.root, args.state)
    state.make_folder()
    values = {"batch_sizes": params["batch_sizes"], "chips": " ".join(chip.name for chip in chips)}
    values.update({"input.files": " ".join(files), "input.source": source})
    is_copy = args.state != args.root / ".make"
    with artifact.locked(state.folder / LAST, beside=is_copy):
        state.remove_orphans()
        for name, user in users.items():
            state.write_note(name, user)
            is_sample = not user.digest and (user.origin or source) == "sample"
            values[f"input.{name}"] = "sample" if is_sample else ""
        state.write_settings(params)
        state.write_scripts(args.scripts, scripts)
        state.write(PINS, args.requirements.read_bytes())
        state.write("given/params", f"{args.params}\n".encode())
        state.remove_others("params", "scripts")
        values["input.digest"] = hashlib.sha256(sums.encode()).hexdigest()
        text = make_variables(values, Rules(args.scripts, params), chips)
        state.sync()
        state.write(LAST, text.encode())
        artifact.renew(state.folder / LAST)
    state.explain()


if __name__ == "__main__":
    main()
