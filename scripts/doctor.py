"""Lists what this machine and ROOT have, what is missing, and how to get it. Changes nothing.

Exits 0, or 1 if --chip cannot run here. Needs only Python 3.7 and its standard library, downloads nothing and hashes
nothing; while .venv is missing, it asks whether the index of torch's CPU build can be reached. All queries to other
programs run in parallel and share --limit s; a missing answer is shown as such. Each engine that has a _doctor.py adds
its own rows.
"""

from __future__ import annotations

from _support import PYTHONS, artifact, cli, environment, locks, machine, process, torch_build, web
from _support.query import BackgroundQueries, Fault

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple, Type, Union

import engines
from engines import COMPILE, RUN, UNKNOWN, Blocker, Found, Row
from formats.official import ARCHIVE, CHECKPOINT, SOURCES

SPACE = 3 * 10**9  # bytes: .venv 1.4 GB, the demo 0.3 GB, a ROOT of 10,000 images 1 GB with three batch sizes

Text = Union[str, Fault]  # the output of a program
Page = List[Tuple[str, Row]]  # (part, row)


class Chip(NamedTuple):
    """The chip of --chip."""

    name: str
    options: Dict[str, str]  # the words of its line in params.yaml
    engine: str  # "" if its line has none


def version_of(command: List[str]) -> str:
    """The first line of a program's output, or an empty text if it fails."""
    status, text = process.ask_program(command, dict(os.environ))
    return "" if status else cli.one_line(text.partition("\n")[0])


def interpreter_of(python: str) -> str:
    """The version of `python`, the value of PYTHON=, or else the path of the interpreter that .venv would use."""
    if python:
        return version_of([python, "-c", "import sys; print(sys.version.split()[0])"])
    return machine.supported_python() or ""


def needed(what: str) -> Tuple[Blocker, ...]:
    """The blocker of running and compiling for every chip if `what` is missing."""
    return (Blocker(what, (RUN, COMPILE)),)


# Rows of the machine and of ROOT, for all engines.


def tool_rows(make: Text, python: str, interpreter: Text) -> Iterator[Row]:
    """Rows of make, of the interpreter and of patch. `make`: its version; `interpreter`: of interpreter_of(python)."""
    version = make.replace("GNU Make ", "") if isinstance(make, str) else make.text
    fits = isinstance(make, str) and re.match(r"[4-9]|[1-9]\d", version)
    yield Row("GNU Make", version or "missing", "" if fits else "install 4.0 or newer")
    if python:
        works = isinstance(interpreter, str) and interpreter
        problem = interpreter.text if isinstance(interpreter, Fault) else "does not run"
        text = f"{python}, {f'{interpreter}, used without .venv' if works else problem}"
        fix = "" if works else "set PYTHON= to another interpreter, or omit it"
        yield Row("PYTHON", text, fix, () if works else needed("PYTHON"))
    else:
        yield environment_row("" if isinstance(interpreter, Fault) else interpreter)
    patch = shutil.which("patch")
    yield Row(
        "patch", patch or "missing", "" if patch else "install it (apt install patch); only make upstream needs it"
    )


def environment_row(interpreter: str) -> Row:
    """The row of .venv. A missing .venv blocks nothing if make can create it."""
    blocks = () if os.access(".", os.W_OK) else needed(".venv")
    if Path(".venv/requirements.txt").is_file():
        if not Path(".venv/bin/python").exists():
            return Row(".venv", "its interpreter is missing", "rm -r .venv, then make setup", blocks)
        if Path(".venv/requirements.txt").read_bytes() == Path("requirements.txt").read_bytes():
            return Row(".venv", "matches requirements.txt")
        return Row(".venv", "does not match requirements.txt", "make setup", blocks)
    if interpreter:
        return Row(".venv", f"missing; would be created with {interpreter}", "make setup", blocks)
    return Row(".venv", "missing", f"install {PYTHONS}, or set PYTHON=", needed(".venv"))


def query_torch(query: BackgroundQueries) -> Callable[[], Iterator[Row]]:
    """Asks which build of torch set-up would install, unless .venv has one; returns the function for its row."""
    folders = Path(".venv/lib").glob("python*/site-packages/torch-*.dist-info")
    installed = [re.sub(r"^torch-|\.dist-info$", "", path.name) for path in folders]
    pin = torch_build.pinned_version(Path("requirements.txt").read_text("utf-8"))
    if not pin or Path(".venv/requirements.txt").is_file():
        return lambda: iter([Row("torch", f"{version}, in .venv") for version in installed])

    def pip_settings() -> Dict[str, str]:
        os.nice(10)  # pip starts slowly, and the other queries need the CPU more
        return torch_build.pip_settings(machine.supported_python() or "python3")

    settings = query.ask(pip_settings)
    no_index = torch_build.is_set({"no-index": os.environ.get("PIP_NO_INDEX") or "0"}, "no-index")
    reachable = query.ask(lambda: not no_index and torch_build.is_reachable(torch_build.CPU_INDEX))
    return lambda: iter([torch_row(pin, settings(), reachable())])


def torch_row(pin: str, settings: Union[Dict[str, str], Fault], reachable: Union[bool, Fault]) -> Row:
    """The row of the build that set-up would install. `settings`: pip's; `reachable`: the index of the CPU build."""
    known = {} if isinstance(settings, Fault) else settings

    def versions(*options: str) -> List[str]:
        if "--index-url" in options:
            return [f"{pin}+cpu"] if reachable is True else []
        return torch_build.versions_in_folders(known)

    build = torch_build.choose_build(pin, known, versions, torch_build.CPU_INDEX)
    if not build.warning:
        return Row("torch", f"would be {build.version}, {build.source}")
    if not known or isinstance(reachable, Fault) or "index-url" in known or "extra-index-url" in known:
        host = web.host(torch_build.CPU_INDEX)
        return Row("torch", f"would be {pin}+cpu if pip's indexes or {host} offer it, else {build.source}")
    remedy = "for the CPU build name an index or a folder that has it by pip's own variables (docs/install.md)"
    return Row("torch", f"would be {build.version}, {build.source}", remedy)


def machine_rows() -> Iterator[Row]:
    memory = machine.memory()
    yield Row("memory", f"{memory.total:.0f} GB, {memory.available:.1f} GB of it available")
    yield Row("CPU", f"{machine.threads()} threads")
    fault = locks.fault_of_shared_folder()
    yield Row("locks of the host", fault or f"{locks.shared_folder()}, for all users", locks.REMEDY if fault else "")
    if environment.ignored:
        names = " ".join(environment.ignored)
        yield Row("environment", f"{names}: not used, because results must not depend on these variables")
    writable, owner = os.access(".", os.W_OK), os.stat(".").st_uid
    text = f"{os.getcwd()}, {'writable' if writable else 'not writable'}"
    text += "" if owner == os.geteuid() else f", of user {owner}"
    yield Row("tree", text, "" if writable else "clone it to a writable folder, or set PYTHON=")


def can_write(folder: Path) -> bool:
    """Whether files can be created in a folder; for the user root access(2) would always say yes."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def root_rows(root: Path) -> Iterator[Row]:
    folder = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not folder.is_dir():
        yield Row("ROOT", f"{folder} is not a folder", "use another ROOT=", needed("ROOT"))
        return
    if can_write(folder):
        yield Row("ROOT", f"{root}, writable")
        fault = locks.fault_of_locks(folder)
        remedy = f"use a ROOT= of another file system, or {locks.MOUNT_OPTION}" if fault else ""
        blocks = needed("a ROOT with file locks") if fault else ()
        yield Row("locks of ROOT", f"its file system has none ({fault})" if fault else "work", remedy, blocks)
    else:
        yield Row("ROOT", f"{root}, not writable", "use another ROOT=", needed("ROOT"))
    free = shutil.disk_usage(folder).free
    remedy = "" if free > SPACE else f"free disk space: a complete build needs up to {SPACE / 1e9:.0f} GB"
    yield Row("disk", f"{free / 1e9:.1f} GB free", remedy)


def input_rows(root: Path) -> Iterator[Row]:
    yield from download_rows("archive", root / "data/archive.tar.gz", ARCHIVE.name, "ARCHIVE")
    yield from download_rows("checkpoint", root / "models/checkpoint.pkl", CHECKPOINT.name, "WEIGHTS")
    missing = [f"{name}.py" for name in SOURCES if not (root / f"models/upstream/{name}.py").is_file()]
    needs = f"lacks {' '.join(missing)}; make upstream downloads them, other targets do not need them"
    yield Row("upstream", f"{root / 'models/upstream'}/ {needs if missing else 'complete'}")


def download_rows(what: str, file: Path, name: str, variable: str) -> Iterator[Row]:
    """The rows of an input, by its record. A file that was copied there by hand has no record until it is used.

    `name` is the official file's name; `variable` is the make variable for the user's own file.
    """
    words = {"sample": "of the built-in sample", "official": "the official file", "given": "your own file"}
    path = os.environ.get(variable)  # make exports its variables
    if path:
        exists = os.path.exists(path)
        yield Row(what, path + ("" if exists else ", missing"), "" if exists else "check the path")
    elif file.is_file():
        origin = str(artifact.read_record(artifact.record_of(file)).get("origin"))
        yield Row(what, f"{file}, {file.stat().st_size} bytes, {words.get(origin, 'copied there by hand')}")
    else:
        remedy = f"make accuracy downloads {name}; without a network copy it there by hand, or set {variable}="
        yield Row(what, f"{file} missing", remedy)
        for part in sorted(file.parent.glob("download.tmp.*")):
            yield Row("download", f"{part}, {part.lstat().st_size} bytes so far", "the next make continues it")


def network_rows() -> Iterator[Row]:
    """Rows of proxies and CA bundles, without passwords."""
    for scheme, url in sorted(web.proxies().items()):
        yield Row(f"{scheme} proxy", cli.one_line(url) if scheme == "no" else web.host(url))
    for name in web.CA_BUNDLES:
        bundle = os.environ.get(name)
        if bundle:
            exists = os.path.exists(bundle)
            yield Row(name, bundle + ("" if exists else ", missing"), "" if exists else f"correct or unset {name}")


def collected(part: str, rows: Iterable[Row], blocks: Tuple[Blocker, ...] = ()) -> Page:
    """The rows of a part. An error ends the part and becomes its last row, with `blocks` as its blockers."""
    page: Page = []
    try:
        for row in rows:
            page.append((part, row))
    except (OSError, RuntimeError) as error:
        problem = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        page.append((part, Row(part, problem, "check its owner and permissions", blocks)))
    return page


# Engines and chips.


def read_params(path: Path) -> Dict[str, Dict[str, str]]:
    """{section: {name: text}} of the first two levels of params.yaml, read without PyYAML.

    Only sections with one name per line are read. Empty if the file is missing or invalid.
    """
    text = ""
    with contextlib.suppress(OSError):
        if path.is_file():
            text = path.read_text("utf-8", "replace")
    sections = {}
    for section, body in re.findall(r"^(\w+):.*\n((?:(?:[ #].*)?\n)*)", text + "\n", re.MULTILINE):
        lines = re.findall(r"^ +([^\s:#]+) *:(.*)$", body, re.MULTILINE)
        sections[section] = {name.strip("\"'"): re.sub(r"(^| )#.*", "", rest).strip() for name, rest in lines}
    return sections


def chip_of(name: str, line: str) -> Chip:
    """The chip `name`, whose line in params.yaml is `line`."""
    options = dict(re.findall(r"(\w+)=(\S+)", line))
    engine = options.pop("engine", "")
    return Chip(name, options, engine if engine in engines.names_of() else "")


def new_checkers(query: BackgroundQueries, params: Dict[str, Dict[str, str]], chip: Chip) -> Dict[str, engines.Checker]:
    """{engine: its checker}; the checkers start their queries at once."""
    checkers = {}
    for name in engines.names_of():
        if engines.has(name, "_doctor"):
            new: Type[engines.Checker] = engines.load(name, "_doctor").Checker
            keys = [key.split(".", 1) for key in engines.constants_of(name).LIMITS]
            limits = {f"{group}.{key}": params[group][key] for group, key in keys if key in params.get(group, {})}
            options = {**limits, **(chip.options if chip.engine == name else {})}
            checkers[name] = new(query, options, list(params.get("chips", {})))
    return checkers


def with_rows(page: Page, more: Page) -> Page:
    """The page with an engine's rows. A row with the name of a machine's row extends it; others are added."""
    page = list(page)
    own = {row.what: i for i, (part, row) in enumerate(page) if part == "machine"}
    for part, row in more:
        if row.what not in own:
            page.append((part, row))
            continue
        before = page[own[row.what]][1]
        text, fix = ("; ".join(filter(None, texts)) for texts in ((before.found, row.found), (before.fix, row.fix)))
        page[own[row.what]] = ("machine", before._replace(found=text, fix=fix))
    return page


def unknown_row(name: str, lines: Dict[str, str]) -> Row:
    """The row of a chip that params.yaml does not have. It suggests the chips whose names or options have the longest
    common beginning with it."""
    if not lines:
        return Row("CHIP", f"{name}: unknown chip", "restore the block chips: of params.yaml")
    wanted, shared = name.lower().replace(" ", ""), {}
    for chip, rest in lines.items():
        words = [chip, *re.findall(r"=(\S+)", rest)]
        shared[chip] = max(len(os.path.commonprefix([wanted, word.lower()])) for word in words)
    near = [chip for chip in lines if shared[chip] > 1 and shared[chip] == max(shared.values())]
    return Row("CHIP", f"{name}: unknown chip", f"use one of {', '.join(near or lines)}")


def chip_row(chip: Chip, blockers: List[Blocker], root: Path) -> Tuple[Row, bool | None]:
    """(the row of the chip, whether it can run here, None if unknown), by the blockers."""
    if not chip.engine:
        blockers = [*blockers, *needed("a known engine= in its line of params.yaml")]
    run, compiling, unknown = (
        list(dict.fromkeys(blocker.text for blocker in blockers if kind in blocker.kinds))
        for kind in (RUN, COMPILE, UNKNOWN)
    )
    above = "see the rows above"
    if run:
        needs = "it needs" if compiling else "make om works here, but running needs"
        return Row("CHIP", f"{chip.name} cannot run here: {needs} {', '.join(run)}", above), False
    text = f"{chip.name} may run here; not certain: {', '.join(unknown)}" if unknown else f"{chip.name} can run here"
    if not compiling:
        return Row("CHIP", text), None if unknown else True
    ending = engines.constants_of(chip.engine).ENDING
    is_ready = bool(os.environ.get("OM")) or any((root / "models/om" / chip.name).glob(f"*.{ending}"))
    text += f", but only a compiled .{ending}: make om needs {', '.join(compiling)}"
    return Row("CHIP", text, f"{above}, or set OM="), None if unknown and is_ready else is_ready


def default_rows(searches: List[Found], chips: List[str], root: Path) -> Iterator[Row]:
    """The row of the chip that make uses without CHIP=, if there are devices: see find_chip.py."""
    first = next((one for one in searches if one.chip or one.problem), None)
    if first is None:
        return
    note = root / f".make/chip-{os.uname().nodename}"
    noted = "".join(note.read_text("utf-8", "replace").split()[:1]) if note.is_file() else ""
    if noted in chips and noted != first.chip:
        now = f"{first.source} {f'shows {first.chip}' if first.chip else first.problem}"
        text = f"{noted} is stored and may still be used; now {now}"
        yield Row("CHIP", text, f"rm {note}, or set CHIP=")
    elif first.problem:
        yield Row("CHIP", f"not set, and {first.source} {first.problem}", first.remedy)
    else:
        text = f"not set: make uses {first.chip}; make doctor CHIP={first.chip} checks whether it can run"
        yield Row("CHIP", text)


# The page.


def line(row: Row) -> str:
    found, fix = cli.one_line(row.found), cli.one_line(row.fix)
    return f"  {'!' if fix else ' '} {row.what:<18} {found}" + (f"  ->  {fix}" if fix else "")


def as_json(page: Page, chip: str, can_run: bool | None) -> str:
    rows = [{"part": part, "what": row.what, "found": row.found, "fix": row.fix} for part, row in page]
    return json.dumps({"chip": chip, "can_run": can_run, "rows": rows}, indent=1)


def show(text: str) -> None:
    """Prints the page. A closed pipe or a full disk does not change the exit status."""
    try:
        print(text)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--make", default="", help="its version")
    parser.add_argument("--python", default="", help="the value of PYTHON=")
    parser.add_argument("--chip", default="", help="the chip to check")
    parser.add_argument("--devices", default="", help="its devices: 0 or 0,1")
    parser.add_argument("--limit", type=float, default=1.5, help="seconds for all queries to other programs")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args()
    root, query, params = args.root, BackgroundQueries(args.limit), read_params(args.params)
    lines = params.get("chips", {})
    chips, chip = list(lines), chip_of(args.chip, lines.get(args.chip, ""))
    checkers = new_checkers(query, params, chip)
    interpreter = query.ask(lambda: interpreter_of(args.python))
    make = query.ask(lambda: args.make or version_of(["make", "--version"]))
    torch = query_torch(query) if not args.python else lambda: iter(())
    page = [
        *collected("tools", tool_rows(make(), args.python, interpreter())),
        *collected("tools", torch()),
        *collected("machine", machine_rows()),
        *collected("ROOT", root_rows(root), needed("ROOT")),
        *collected("inputs", input_rows(root)),
        *collected("network", network_rows()),
    ]
    blockers = [blocker for _, row in page for blocker in row.blocks]
    for name, checker in checkers.items():
        rows = collected(checker.part, checker.rows(args.devices, root))
        blockers += [blocker for _, row in rows for blocker in row.blocks if name == chip.engine]
        page = with_rows(page, rows)
    can_run = None
    if args.chip and args.chip not in lines:
        can_run = False
        page.append(("chip", unknown_row(args.chip, lines)))
    elif args.chip:
        row, can_run = chip_row(chip, blockers, root)
        page.append(("chip", row))
    else:
        page += collected("chip", default_rows([checker.found() for checker in checkers.values()], chips, root))
    show(as_json(page, args.chip, can_run) if args.json else "\n".join(line(row) for _, row in page))
    raise SystemExit(1 if can_run is False else 0)


if __name__ == "__main__":
    main()
