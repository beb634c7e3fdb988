"""What this machine and ROOT have, what is missing, and how to get it: one line a thing, nothing changed.

Exits 0, but 1 if a --chip is asked for that cannot run here. Runs on any Python 3.7 or newer with the standard library
alone, downloads nothing, hashes nothing, and waits for nobody: what answers late is shown as such.
All other programs are asked at once and have --limit s together.
"""

from __future__ import annotations

import _build

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import _tool
import _web
import find_chip
import setup_env
from _ascend_host import Ascend, Row
from _asker import Asker, Fault
from engines.ascend_compile import memory
from engines.openvino_cpu import INSTRUCTIONS, instructions
from engines.threads import threads

SPACE = 3 * 10**9  # bytes: .venv 1.1 GB, the demo 0.3 GB, a ROOT of 10,000 images 1 GB with three batch sizes
SOURCES = ("basic_layers.py", "attention_module.py", "residual_attention_network.py")  # of upstream's model/


def version_of(command: List[str]) -> str:
    status, text = _tool.ask(command, dict(os.environ))
    return "" if status else _build.plain(text.partition("\n")[0])


def tools(make: Any, python: str, base: Any) -> Iterator[Row]:
    """`base`: the version of the `python` that the user gave, else the interpreter that .venv would be made with."""
    late = next((answer.text for answer in (make, base) if isinstance(answer, Fault)), "")
    make, base = ("" if isinstance(answer, Fault) else answer for answer in (make, base))
    fits = re.match(r"[4-9]|[1-9]\d", make.replace("GNU Make ", ""))
    yield Row("GNU Make", make.replace("GNU Make ", "") or late or "missing", "" if fits else "install 4.0 or newer")
    if python:
        fix = "" if base else "give another PYTHON=, or leave it out"
        yield Row("PYTHON", f"{python}, {late or 'does not run' if fix else base + ', used as it is'}", fix)
    elif not Path(".venv/bin/python").exists() and Path(".venv/requirements.txt").is_file():
        yield Row(".venv", "its interpreter is gone", "rm -r .venv, then make setup")
    elif Path(".venv/requirements.txt").is_file():
        same = Path(".venv/requirements.txt").read_bytes() == Path("requirements.txt").read_bytes()
        yield Row(".venv", "as requirements.txt" if same else "of other pins", "" if same else "make setup")
    else:
        remedy = "make setup" if base else "install python3.10 to 3.12, or give PYTHON="
        yield Row(".venv", f"missing; would be made with {base}" if base else "missing", remedy)
    patch = shutil.which("patch")
    yield Row("patch", patch or "missing", "" if patch else "make upstream needs it: apt install patch")


def machine() -> Iterator[Row]:
    total, unused = memory(), [memory()]
    with contextlib.suppress(OSError, ValueError, IndexError):
        unused.append(int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024 / 1e9)
    with contextlib.suppress(OSError, ValueError):
        unused.append(total - int(Path("/sys/fs/cgroup/memory.current").read_text()) / 1e9)
    yield Row("memory", f"{total:.0f} GB, {max(0.0, min(unused)):.1f} GB of it available")
    able = [f"{name} by {instructions(name)}" for name in INSTRUCTIONS if instructions(name)]
    yield Row("CPU", f"{threads()} threads; {', '.join(able) or 'no precision of OpenVINO: CHIP=cpu runs'}")
    writable, owner = os.access(".", os.W_OK), os.stat(".").st_uid
    text = f"{os.getcwd()}, {'can' if writable else 'cannot'} be written"
    text += "" if owner == os.geteuid() else f", of user {owner}"
    yield Row("tree", text, "" if writable else "make setup needs it: clone it where you may write, or give PYTHON=")


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
    remedy = "" if free > SPACE else f"free some: up to {SPACE / 1e9:.0f} GB are needed, if nothing is made yet"
    yield Row("disk", f"{free / 1e9:.1f} GB free", remedy)


def held(root: Path) -> Iterator[Row]:
    """The inputs, by their records: what was put there by hand and not yet used has none."""
    archive = ("archive", root / "data/archive.tar.gz", "cifar-10-python.tar.gz", "ARCHIVE")
    checkpoint = ("checkpoint", root / "models/checkpoint.pkl", "model_92_sgd.pkl", "WEIGHTS")
    words = {"sample": "the built-in sample's", "official": "the official file", "given": "your own file"}
    for what, file, name, variable in (archive, checkpoint):
        if os.environ.get(variable):  # make hands on what it was given
            there = os.path.exists(os.environ[variable])
            yield Row(what, os.environ[variable] + ("" if there else ", missing"), "" if there else "check the path")
        elif file.is_file():
            origin = str(_build.read_record(_build.record_of(file)).get("origin"))
            yield Row(what, f"{file}, {file.stat().st_size} bytes, {words.get(origin, 'put there by hand')}")
        else:
            remedy = f"make accuracy downloads {name}; without a network put it there by hand, or give {variable}="
            yield Row(what, f"{file} missing", remedy)
            for part in sorted(file.parent.glob("download.tmp.*")):
                yield Row("download", f"{part}, {part.lstat().st_size} bytes so far", "the next make goes on with it")
    missing = [name for name in SOURCES if not (root / "models/upstream" / name).is_file()]
    needs = f"lacks {' '.join(missing)}; make upstream downloads them, nothing else needs them"
    yield Row("upstream", f"{root / 'models/upstream'}/ {needs if missing else 'has them all'}")


def network() -> Iterator[Row]:
    for scheme, url in sorted(_web.proxies().items()):
        yield Row(f"{scheme} proxy", _build.plain(url) if scheme == "no" else _web.host(url))
    for name in _web.CA_BUNDLES:
        if os.environ.get(name):
            there = os.path.exists(os.environ[name])
            yield Row(name, os.environ[name] + ("" if there else ", missing"), "" if there else f"mend or unset {name}")


def params() -> str:
    """The text of params.yaml, or an empty one."""
    with contextlib.suppress(OSError):
        if Path("params.yaml").is_file():
            return Path("params.yaml").read_text("utf-8", "replace")
    return ""


def chips(text: str) -> Dict[str, Dict[str, str]]:
    """{chip: its engine, soc_version …} by the lines of params.yaml; empty if that is missing or broken."""
    lines = re.search(r"^chips:.*\n((?:(?:[ #].*)?\n)*)", text + "\n", re.MULTILINE)
    found = re.findall(r"^ +([^\s:#]+):(.*)$", lines.group(1) if lines else "", re.MULTILINE)
    return {name: dict(re.findall(r"(\w+)=(\S+)", rest)) for name, rest in found}


def chip_row(asked: str, ascend: Ascend, wrong: List[str], ready: bool) -> Tuple[Row, Any]:
    """(the row of the chip that was asked for, whether it can run here: None if that cannot be told). `wrong`: what
    keeps any chip from running; `ready`: a compiled model of the chip is there."""
    known = ascend.chips
    if asked not in known:
        name = re.sub("(?i)ascend", "", asked).strip().lower()
        shared = {chip: len(os.path.commonprefix([name, chip.lower()])) for chip in known}
        near = [chip for chip in known if shared[chip] > 1 and shared[chip] == max(shared.values())]
        remedy = (
            f"give one of {', '.join(near or known)}" if known else "params.yaml has no chips: git diff params.yaml"
        )
        return Row("CHIP", f"{asked}: no such chip", remedy), False
    above, npu = "see the rows above", bool(ascend.soc_version)
    lacks, hinders = ([*wrong, *dict.fromkeys(some if npu else [])] for some in (ascend.lacks, ascend.hinders))
    if lacks:
        compiles = "make om works here, but running needs" if npu and not hinders else "it needs"
        return Row("CHIP", f"{asked} cannot run here: {compiles} {', '.join(lacks)}", above), False
    doubts = dict.fromkeys(ascend.unsure if npu else [])
    text = f"{asked} may run here; not certain: {', '.join(doubts)}" if doubts else f"{asked} can run here"
    if not hinders:
        return Row("CHIP", text), None if doubts else True
    text += f", with a ready .om alone: make om needs {', '.join(hinders)}"
    return Row("CHIP", text, f"{above}, or give OM="), None if doubts and ready else ready


def default_row(ascend: Ascend, root: Path) -> Row:
    """The chip of a make without CHIP=, by what npu-smi shows and what is remembered of it."""
    chip, problem, remedy = find_chip.chosen(ascend.devices, ascend.chips)
    note = root / f".make/chip-{os.uname().nodename}"
    held = note.read_text("utf-8", "replace").strip() if note.is_file() else ""
    if held in ascend.chips and held != chip:
        return Row("CHIP", f"{held} is taken, remembered of an earlier npu-smi", f"rm {note}, or give CHIP=")
    if problem:
        return Row("CHIP", f"none is given, and npu-smi {problem}", remedy)
    return Row("CHIP", f"none is given: {chip} is taken; make doctor CHIP={chip} tells whether it can run")


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--make", default="", help="its version")
    parser.add_argument("--python", default="", help="the interpreter that the user gave")
    parser.add_argument("--chip", default="", help="the chip that should run here")
    parser.add_argument("--devices", default="", help="and on which devices: 0 or 0,1")
    parser.add_argument("--limit", type=float, default=1.5, help="s for the answers of other programs")
    parser.add_argument("--json", action="store_true", help="the same rows as JSON")
    args = parser.parse_args()
    asker, text = Asker(args.limit), params()
    known = chips(text)
    soc_version = known.get(args.chip, {}).get("soc_version", "")
    ascend = Ascend(asker, soc_version, list(known))
    ask_version = [args.python, "-c", "import sys; print(sys.version.split()[0])"]
    asked = asker.ask(lambda: version_of(ask_version) if args.python else setup_env.supported() or "")
    make = asker.ask(lambda: args.make or version_of(["make", "--version"]))
    parts = {"tools": tools(make(), args.python, asked()), "machine": machine(), "ROOT": place(args.root)}
    parts.update({"inputs": held(args.root), "network": network(), "Ascend": ascend.rows(args.devices, args.root)})
    rows: List[Tuple[str, Row]] = []
    for part, some in parts.items():
        try:
            for row in some:
                rows.append((part, row))
        except (OSError, RuntimeError) as error:
            problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            rows.append((part, Row(part, f"{problem}", "check who owns it and its permissions")))
    need = int((re.findall(r"^atc:.*\n(?:[ #].*\n)*? +memory: *(\d+)", text, re.MULTILINE) or [8])[0])
    few = (soc_version or ascend.cann) and memory() < need
    fix = f"atc may need {need} GB: compile on a larger host, or lower atc.memory and try" if few else ""
    rows = [(part, row._replace(fix=fix) if row.what == "memory" else row) for part, row in rows]
    can_run = None
    if args.chip:
        fatal = {row.what: row for _, row in rows if row.fix and row.what in (".venv", "PYTHON", "ROOT")}
        tree = os.access(".", os.W_OK)
        wrong = [what for what, row in fatal.items() if what != ".venv" or "make setup" not in row.fix or not tree]
        precision = known.get(args.chip, {}).get("precision", "")
        if precision in INSTRUCTIONS and not instructions(precision):
            wrong.append(f"a CPU with {' or '.join(INSTRUCTIONS[precision])}")
        ready = bool(os.environ.get("OM")) or any((args.root / "models/om" / args.chip).glob("*.om"))
        last, can_run = chip_row(args.chip, ascend, wrong, ready)
        rows.append(("chip", last))
    elif ascend.devices:
        rows.append(("chip", default_row(ascend, args.root)))
    if args.json:
        found = [{"part": part, **row._asdict()} for part, row in rows]
        text = json.dumps({"chip": args.chip, "can_run": can_run, "rows": found}, indent=1)
    else:
        text = "\n".join(line(row) for _, row in rows)
    try:
        print(text, flush=True)
    except OSError:  # nobody reads it, or the disk is full: that is no fault of what was asked
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1 if can_run is False else 0)


def line(row: Row) -> str:
    found, fix = _build.plain(row.found), _build.plain(row.fix)
    return f"  {'!' if fix else ' '} {row.what:<18} {found}" + (f"  ->  {fix}" if fix else "")


if __name__ == "__main__":
    main()
