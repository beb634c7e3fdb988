"""What this machine and ROOT have, what is missing, and how to get it: one line a thing, nothing changed, exits 0.

Runs on any Python 3.7 or newer with the standard library alone, downloads nothing and hashes nothing.
"""

from __future__ import annotations

import _build

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple

import _web
import setup_env

SPACE = 3 * 10**9  # bytes: .venv 1.1 GB, the demo 0.3 GB, a ROOT of 10,000 images 1 GB with three batch sizes
SOURCES = ("basic_layers.py", "attention_module.py", "residual_attention_network.py")  # of upstream's model/


class Row(NamedTuple):
    what: str
    found: str
    fix: str = ""  # empty: nothing to do


def tools(make: str, python: str) -> Iterator[Row]:
    yield Row("GNU Make", make)
    if python:
        command = [python, "-c", "import sys; print(sys.version.split()[0])"]
        version = ""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=True)
            version = _build.plain(answer.stdout.decode("utf-8", "replace"))
        fix = "" if version else "give another PYTHON=, or leave it out"
        yield Row("PYTHON", f"{python}, {'does not run' if fix else version + ', used as it is'}", fix)
    elif not Path(".venv/bin/python").exists() and Path(".venv/requirements.txt").is_file():
        yield Row(".venv", "its interpreter is gone", "rm -r .venv, then make setup")
    elif Path(".venv/requirements.txt").is_file():
        same = Path(".venv/requirements.txt").read_bytes() == Path("requirements.txt").read_bytes()
        yield Row(".venv", "as requirements.txt" if same else "of other pins", "" if same else "make setup")
    else:
        base = setup_env.supported()
        remedy = "make setup" if base else "install python3.10 to 3.12, or give PYTHON="
        yield Row(".venv", f"missing; would be made with {base}" if base else "missing", remedy)
    patch = shutil.which("patch")
    yield Row("patch", patch or "missing", "" if patch else "make upstream needs it: apt install patch")


def place(root: Path) -> Iterator[Row]:
    there = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    if not there.is_dir():
        yield Row("ROOT", f"{there}, a file", "give another ROOT=")
        return
    try:
        with tempfile.TemporaryFile(dir=there):  # root is told by access(2) that it may write anywhere
            writable = True
    except OSError:
        writable = False
    yield Row("ROOT", f"{root}, {'can' if writable else 'cannot'} be written", "" if writable else "give another ROOT=")
    free = shutil.disk_usage(there).free
    yield Row("disk", f"{free / 1e9:.1f} GB free", "" if free > SPACE else f"{SPACE / 1e9:.0f} GB are needed at most")


def held(root: Path) -> Iterator[Row]:
    """The inputs, by their records: what was put there by hand and not yet used has none."""
    archive = ("archive", root / "data/archive.tar.gz", "cifar-10-python.tar.gz", "ARCHIVE")
    checkpoint = ("checkpoint", root / "models/checkpoint.pkl", "model_92_sgd.pkl", "WEIGHTS")
    words = {"sample": "the built-in sample's", "official": "the official file", "given": "your own file"}
    for what, file, name, variable in (archive, checkpoint):
        if file.is_file():
            origin = str(_build.read_record(_build.record_of(file)).get("origin"))
            yield Row(what, f"{file}, {file.stat().st_size} bytes, {words.get(origin, 'put there by hand')}")
        else:
            remedy = f"make accuracy downloads {name}; without a network put it there by hand, or give {variable}="
            yield Row(what, f"{file} missing", remedy)
            for part in sorted(file.parent.glob("download.tmp.*")):
                yield Row("download", f"{part}, {part.lstat().st_size} bytes so far", "the next make goes on with it")
    missing = [name for name in SOURCES if not (root / "models/upstream" / name).is_file()]
    remedy = f"make upstream downloads {' '.join(missing)}, or put them there by hand; nothing else needs them"
    found = f"{root / 'models/upstream'}/ {'lacks files' if missing else 'has them all'}"
    yield Row("upstream", found, remedy if missing else "")


def network() -> Iterator[Row]:
    for scheme, url in sorted(_web.proxies().items()):
        yield Row(f"{scheme} proxy", _build.plain(url) if scheme == "no" else _web.host(url))
    for name in _web.CA_BUNDLES:
        if os.environ.get(name):
            there = os.path.exists(os.environ[name])
            yield Row(name, os.environ[name] + ("" if there else ", missing"), "" if there else f"mend or unset {name}")


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--make", required=True, help="its version")
    parser.add_argument("--python", default="", help="the interpreter that the user gave")
    args = parser.parse_args()
    parts = {"tools": tools(args.make, args.python), "ROOT": place(args.root), "inputs": held(args.root)}
    for part, rows in {**parts, "network": network()}.items():
        try:
            for row in rows:
                show(row)
        except OSError as error:
            show(Row(part, f"{error.filename}: {error.strerror}", "check who owns it and its permissions"))


def show(row: Row) -> None:
    print(f"  {'!' if row.fix else ' '} {row.what:<18} {row.found}" + (f"  ->  {row.fix}" if row.fix else ""))


if __name__ == "__main__":
    main()
