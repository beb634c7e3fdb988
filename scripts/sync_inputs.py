"""params.yaml, requirements.txt and scripts/ -> .make/: a small file for each setting, a copy of each script, written
only when bytes differ.

make's rules depend on those, so that only what a change concerns is rebuilt (as Kbuild's include/config). Writes
.make/inputs.mk, which the Makefile includes: see params/makefile.py. make runs this command when the digest of --watch
differs from the one in inputs.mk, whatever the times of the files. Exits 1 on a setting that is unknown, missing, of
the wrong type, or that make or a shell would read differently.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, digest, read_record, time_after_all, write_atomically, write_text
from _support.cli import die

import hashlib
import os
import re
from pathlib import Path
from typing import Dict, List, NamedTuple

from formats.user_inputs import digest_of_input
from params.chips import Chip, chips_of, derived, files_of
from params.makefile import PINS, Rules
from params.read import read_params

HELD = {"archive": "data/archive.tar.gz", "weights": "models/checkpoint.pkl"}


class Given(NamedTuple):
    """An input that the user may give, and what ROOT holds of it."""

    path: str  # as given, or ""
    stat: str  # what make saw of it
    digest: str  # of what was given, or ""
    origin: str  # of what ROOT holds: sample, official, given, or ""
    held: Record  # its record


def source_of(root: Path, source: str, origins: List[str]) -> str:
    """The source of what ROOT does not hold: as given, else as what it holds, else cifar10. Mixing them is refused."""
    holds = "sample" if "sample" in origins else "cifar10"
    if source and any(origins) and source != holds:
        remedy = f"give another ROOT=, leave SOURCE out, or remove {' and '.join(str(root / h) for h in HELD.values())}"
        die(f"SOURCE={source}", f"ROOT={root} holds inputs of {holds}", remedy)
    return source or (holds if any(origins) else "cifar10")


def given_of(root: Path, name: str, path: str, stat: str) -> Given:
    """What the user gave of the input `name`, and what ROOT holds; exits 1 if the path is not such an input."""
    held = root / HELD[name]
    given = digest_of_input(name, Path(path)) if path else ""
    return Given(path, stat, given, artifact.origin_of(held), read_record(artifact.record_of(held)))


def sums_of(files: List[str]) -> str:
    """What `sha256sum FILES` prints."""
    return "".join(f"{digest(Path(name))}  {name}\n" for name in files if os.path.isfile(name))


def scripts_of(folder: Path, watched: List[str]) -> List[Path]:
    """The scripts among the watched files; exits 1 on a name that make would read as something else."""
    scripts = [path for path in map(Path, watched) if folder in path.parents and path.is_file()]
    for path in scripts:
        if not re.fullmatch(r"[\w./+-]+", path.as_posix(), re.ASCII):
            die(path, "a file name that make cannot handle", "use letters, digits and . _ + - alone, or move it away")
    return scripts


def folder_digest(record: Record) -> object:
    """The digest that a given folder had when its tar was made; None if it was no given one."""
    key = record.get("key")
    return key.get("given") if isinstance(key, dict) else None


class State:
    """The folder .make of a ROOT. What changes there gets a time after every artifact's, whatever the clock says: so
    make sees it as newer."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".make"
        self.names: List[str] = []
        self.changed: List[str] = []
        self.time = 0

    def make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            die(f"ROOT={self.root}", f"cannot be made or written ({error.strerror})", "give another ROOT=")

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the folder, if its bytes differ."""
        path = self.folder / name
        self.names.append(name)
        if not path.is_file() or path.read_bytes() != data:
            self.replace(name, data)

    def replace(self, name: str, data: bytes) -> None:
        """Writes a file of the folder, as newer than every artifact."""
        self.time = self.time or time_after_all(self.root)
        write_atomically(self.folder / name, data, self.time)
        self.changed.append(name)

    def remove_others(self, *folders: str) -> None:
        """Removes files of these folders that were not written: settings and scripts that are gone."""
        for path in (path for folder in folders for path in (self.folder / folder).rglob("*") if path.is_file()):
            if path.relative_to(self.folder).as_posix() not in self.names:
                path.unlink()

    def explain(self) -> None:
        """Under make WHY=1: prints which settings and scripts changed."""
        changed = [name for name in self.changed if name != "inputs.mk"]
        if os.environ.get("WHY") == "1" and changed:
            print(f"  {self.folder}: changed: {' '.join(changed)}")

    def note_given(self, name: str, given: Given) -> None:
        """Notes which input was given, so that make imports it if ROOT holds another."""
        note = f"given/{name}"
        if not given.digest:
            path = self.folder / note
            self.write(note, path.read_bytes() if path.is_file() else b"")
        elif given.origin not in ("", "sample") and given.digest in (
            given.held.get("sha256"),
            folder_digest(given.held),
        ):
            self.write(note, given.digest.encode() + b"\n")
            write_text(self.folder / f"{note}.stat", given.stat + "\n")
        else:
            self.replace(note, given.digest.encode() + b"\n")


def make_variables(values: Dict[str, str], rules: Rules, chips: List[Chip]) -> str:
    """The text of inputs.mk."""
    lines = ["# Made by sync_inputs.py; see scripts/params/makefile.py."]
    lines += [f"{name} := {value}".rstrip() for name, value in values.items()]
    lines += [*rules.command_lines(), *rules.reference_lines()]
    return "\n".join([*lines, *(line for chip in chips for line in rules.chip_lines(chip))]) + "\n"


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--scripts", type=Path, required=True)
    parser.add_argument("--watch", nargs="+", default=[], help="the files whose digest make compares")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--source", default="")
    for name in HELD:
        parser.add_argument(f"--{name}", default="", help="the path that the user gave")
        parser.add_argument(f"--{name}-stat", default="", help="what make saw of it: kept once ROOT holds it")
    args = parser.parse_args()
    sums = sums_of(args.watch)  # before they are read: what changes meanwhile is seen by the next make
    params = read_params(args.params)
    chips = chips_of(args.params, params, args.scripts / "engines")
    files = [name for name in files_of(chips) if name not in args.watch]
    scripts = scripts_of(args.scripts, args.watch)
    sums += sums_of(files)
    params.update(derived(chips, params))
    given = {name: given_of(args.root, name, getattr(args, name), getattr(args, f"{name}_stat")) for name in HELD}
    source = source_of(args.root, args.source, [one.origin for one in given.values()])
    state = State(args.root)
    state.make_folder()
    values = {"batch_sizes": params["batch_sizes"], "chips": " ".join(chip.name for chip in chips)}
    values.update({"input.files": " ".join(files), "input.source": source})
    with artifact.locked(state.folder / "inputs.mk"):
        for name, one in given.items():
            state.note_given(name, one)
            sampled = not one.digest and (one.origin or source) == "sample"
            values[f"input.{name}"] = "sample" if sampled else ""
        for key, text in params.items():
            state.write(f"params/{key}", text.encode() + b"\n")
        for path in scripts:
            state.write(f"scripts/{path.relative_to(args.scripts).as_posix()}", path.read_bytes())
        state.write(PINS, args.requirements.read_bytes())
        state.remove_others("params", "scripts")
        values["input.digest"] = hashlib.sha256(sums.encode()).hexdigest()
        state.write("inputs.mk", make_variables(values, Rules(args.scripts, params), chips).encode())
        artifact.renew(state.folder / "inputs.mk")
    state.explain()


if __name__ == "__main__":
    main()
