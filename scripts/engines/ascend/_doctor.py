"""Rows of make doctor for chips of engine ascend. Changes nothing. Python 3.7, standard library only.

A Checker runs in the background: npu-smi, CANN's set_env.sh and, in that environment, atc, its python3 and the
interpreter of ais_bench. Each group of rows is a function of their results.
"""

from __future__ import annotations

from _support import machine, process
from _support.query import BackgroundQueries, Fault

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Tuple, Union

from engines import COMPILE, RUN, UNKNOWN, Blocker, Found, Options, Row
from engines.ascend import _cann, _find, _npu_smi
from engines.ascend.compile import explain

# {module: its package}: what atc's operator compiler imports (docs/ascend-tools.md#python-numpy), and what only some
# versions of CANN import.
MODULES = {"attr": "attrs", "google.protobuf": "protobuf", "yaml": "pyyaml"}
MODULES.update({name: name for name in ("decorator", "psutil", "sympy", "scipy", "cffi")})
ADVISED = {"absl": "absl-py", "ml_dtypes": "ml-dtypes"}
ADVISED.update({name: name for name in ("cloudpickle", "tornado", "requests", "jinja2")})
PROBE = Path(__file__).with_name("_probe.py")
MEMORY = 8  # GB that one atc may need, if params.yaml does not have atc.memory

Output = Tuple[int, str]  # status and output of a program


class Probe(NamedTuple):
    """The output of _probe.py about an interpreter."""

    python: List[int]  # its version
    numpy: str  # its version; empty: not installed
    missing: List[str]  # requested modules that are not installed
    ais_bench: str  # "yes"; "other": only ais-bench-benchmark, for language models; empty: not installed
    shadowed: bool  # the inference tool and ais-bench-benchmark are both installed
    flags: List[str]  # the flags of ais_bench by which its generations differ
    aclruntime: bool  # installed; it may not be importable


class Cann(NamedTuple):
    """The toolkit."""

    version: str
    home: str
    set_env: List[str]  # its set_env.sh files
    lacks_chip: bool  # it does not support the soc_version


class Compiler(NamedTuple):
    """atc, and the python3 of PATH, which it uses."""

    path: str  # empty: not installed
    help_page: Union[Output, Fault, None]  # of --help
    probe: Union[Probe, Fault]


class Runner(NamedTuple):
    """The command that runs ais_bench."""

    command: str
    path: str  # of its first word; empty: not installed
    python: str  # its first word if that is an interpreter; else empty, and the fields below are not used
    shares_python: bool  # atc uses the same interpreter
    probe: Union[Probe, Fault]
    imported: Union[Output, Fault, None]  # result of `import aclruntime`


class Tools(NamedTuple):
    """What is installed in CANN's environment."""

    cann: Cann
    compiler: Compiler
    runner: Runner


class Npus(NamedTuple):
    """The devices that npu-smi shows, or the reason that it does not."""

    driver: str = ""  # its version
    devices: Tuple[_npu_smi.Device, ...] = ()
    problem: str = ""
    late: bool = False


class Checker:
    """The rows for chips of engine ascend; see engines.Checker."""

    part = "Ascend"

    def __init__(self, query: BackgroundQueries, options: Options, chips: List[str]) -> None:
        self.soc_version, self.chips = options.get("soc_version", ""), chips
        memory = options.get("atc.memory", "")
        self.memory = int(memory) if memory.isdigit() else MEMORY
        self.npus = query.ask(query_npus)
        self.tools = query.ask(lambda: query_tools(query, self.soc_version))

    def rows(self, devices: str, root: Path) -> Iterator[Row]:
        """The rows; a single one if the host has neither CANN nor npu-smi and CHIP= is not a chip of this engine."""
        npus, tools = self.npus_or_reason(), self.tools()
        if tools is None and npus.problem == _npu_smi.NOT_ON_PATH and not self.soc_version:
            fallback = f"; use CHIP={self.chips[0]}" if self.chips else ""
            yield Row("Ascend", f"no CANN, {npus.problem}{fallback}")
            return
        if tools is None:
            remedy = "install CANN's toolkit, or set SET_ENV= to its set_env.sh"
            yield Row("CANN", "not found; no set_env.sh in the usual places", remedy, (blocker("CANN", RUN, COMPILE),))
        elif isinstance(tools, Fault):
            yield environment_row(tools)
        else:
            yield from cann_rows(tools.cann, self.soc_version)
            yield compiler_row(tools.compiler)
            yield from interpreter_rows(tools)
            yield from runner_rows(tools.runner)
        if (self.soc_version or isinstance(tools, Tools)) and machine.memory_gb() < self.memory:
            fix = f"atc may need {self.memory} GB: compile on a host with more, or lower atc.memory and try"
            yield Row("memory", "", fix)
        yield from device_rows(npus, devices, self.soc_version, self.chips)
        yield from root_rows(root)

    def npus_or_reason(self) -> Npus:
        """The devices, or the reason that none is shown."""
        npus = self.npus()
        return Npus(problem=f"npu-smi: {npus.text}", late=npus.late) if isinstance(npus, Fault) else npus

    def found(self) -> Found:
        """The chip of the devices."""
        npus = self.npus_or_reason()
        if npus.devices:
            return _find.chip_of(npus.devices, self.chips)
        return Found("", absent=npus.problem, source=_find.SOURCE)


def blocker(text: str, *kinds: str) -> Blocker:
    return Blocker(text, kinds)


# Queries. Each runs in a separate process.


def query_npus() -> Npus:
    """Runs npu-smi."""
    try:
        driver, devices = _npu_smi.list_devices()
    except _npu_smi.NoNpu as reason:
        return Npus(problem=str(reason))
    return Npus(driver, tuple(devices))


def query_tools(query: BackgroundQueries, soc_version: str) -> Tools | None:
    """Sets up CANN's environment and examines what is installed there; None if CANN is not found."""
    environment = _cann.environment(compiler=True)
    home, atc = _cann.toolkit(environment), process.command_from_env("ATC", "atc")
    runner = process.command_from_env("AIS_BENCH", "python3 -m ais_bench")

    def path_of(word: str) -> str:
        return shutil.which(word, path=environment.get("PATH", os.defpath)) or ""

    def ask(program: str, *arguments: str) -> Callable[[], Union[Output, Fault, None]]:
        if not program:
            return lambda: None
        command = [program, *arguments]
        return query.ask(lambda: process.ask_program(command, environment, query.limit + 1), sooner=0.15)

    compiler, python3, program = path_of(atc[0]), path_of("python3"), path_of(runner[0])
    if not home and not compiler:
        return None
    has_python = os.path.basename(runner[0]).startswith("python")
    python = program if has_python else ""
    help_page = ask(compiler, *atc[1:], "--help")
    modules = ask(python3, str(PROBE), *MODULES, *ADVISED)
    packages = modules if python == python3 else ask(python, str(PROBE))
    imported = ask(python, "-c", "import aclruntime")
    set_env = [str(path) for path in _cann.set_env_files()]
    cann = Cann(_cann.version(environment), str(home or "location unknown"), set_env, lacks_chip(home, soc_version))
    name = runner[0] if has_python else ""
    probe = probe_of(packages())
    return Tools(
        cann,
        Compiler(compiler, help_page(), probe_of(modules())),
        Runner(" ".join(runner), program, name, python == python3, probe, imported()),
    )


def lacks_chip(home: Path | None, soc_version: str) -> bool:
    """Whether CANN lists the chips that it supports, and not this one (docs/ascend-tools.md#soc-version)."""
    folders = [folder for part in ("data", "*/data", "*/*/data") for folder in (home.glob(part) if home else ())]
    known = {file.stem for folder in folders for file in folder.glob("platform_config/*.ini")}
    return bool(known) and soc_version not in known


def probe_of(answer: Union[Output, Fault, None]) -> Union[Probe, Fault]:
    """Parses the output of _probe.py. `answer` is None if the interpreter does not exist."""
    if answer is None:
        return Fault("missing", "install python3; CANN up to 8.1 needs 3.7 to 3.10")
    if isinstance(answer, Fault):
        return answer
    status, text = answer
    line = re.search(r"^@(\{.*\})\s*$", text, re.MULTILINE)
    last = (text.strip().splitlines() or ["without output"])[-1]
    return (
        Probe(**json.loads(line.group(1))) if line else Fault(f"status {status}, {last[-100:]}", "repair or replace it")
    )


# Rows of CANN, its compiler and its interpreters.


def environment_row(fault: Fault) -> Row:
    """CANN's environment, if it could not be set up."""
    variable = re.match(r"(ATC|AIS_BENCH)=", fault.text)
    effect = blocker("whether set_env.sh sets up CANN", UNKNOWN) if fault.late else blocker("CANN", RUN, COMPILE)
    what = variable.group(1) if variable else "set_env.sh"
    return Row(what, fault.text, fault.fix or "correct SET_ENV", (effect,))


def cann_rows(cann: Cann, soc_version: str) -> Iterator[Row]:
    where = ", ".join(cann.set_env) or f"{cann.home}, already set up in this shell"
    yield Row("CANN", f"{cann.version}; {where}")
    if soc_version and cann.lacks_chip:
        blocks = (blocker("a CANN that supports the chip", RUN, COMPILE),)
        remedy = "install a CANN release that supports this chip"
        yield Row("soc_version", f"this CANN does not support {soc_version}", remedy, blocks)


def compiler_row(compiler: Compiler) -> Row:
    problem, remedy = "", ""
    if not compiler.path or compiler.help_page is None:
        problem = "missing"
        remedy = "make om needs it: install CANN's toolkit, set SET_ENV= or ATC=, or use a compiled model (OM=)"
    elif isinstance(compiler.help_page, Fault):
        problem, remedy = compiler.help_page.text, "" if compiler.help_page.late else compiler.help_page.fix
    elif compiler.help_page[0]:
        problem, remedy = explain(compiler.help_page[1], compiler.help_page[0])
    blocks = (blocker("atc", COMPILE),) if remedy else ()
    return Row("atc", ", ".join(filter(None, (compiler.path, problem))), remedy, blocks)


def interpreter_rows(tools: Tools) -> Iterator[Row]:
    """The python3 that atc takes from PATH and, if it differs, that of ais_bench; with their modules."""
    compiler, runner, version = tools.compiler, tools.runner, tools.cann.version
    if runner.python and runner.shares_python:
        yield from python_rows("", "python3", compiler.probe, version, (RUN, COMPILE))
    else:
        yield from python_rows("atc's ", "python3", compiler.probe, version, (COMPILE,))
    if isinstance(compiler.probe, Probe):
        yield modules_row(compiler.probe.missing)
    if runner.python and not runner.shares_python:
        yield from python_rows("", runner.python, runner.probe, version, (RUN,))


def python_rows(
    whose: str, name: str, probe: Union[Probe, Fault], cann_version: str, kinds: Tuple[str, ...]
) -> Iterator[Row]:
    """The interpreter `name` and its numpy. `whose` is "atc's " or empty; `kinds` is what they are needed for."""
    what = f"{whose}python3" if whose else "CANN's python3"
    if isinstance(probe, Fault):
        remedy = probe.fix if probe.late else f"make {name} -c 'import numpy' work on this host"
        blocks = (blocker("a working python3 for CANN", *((UNKNOWN,) if probe.late else kinds)),)
        yield Row(what, probe.text, remedy, blocks)
        return
    is_old = [int(number) for number in re.findall(r"\d+", cann_version)[:2]] <= [8, 1]  # also if unknown
    is_wrong = probe.python[:2] < [3, 7] or (is_old and probe.python[:2] > [3, 10])
    remedy = "CANN up to 8.1 needs Python 3.7 to 3.10: put one first on PATH" if is_wrong else ""
    yield Row(what, f"{name} {'.'.join(map(str, probe.python))}", remedy)
    is_good = re.match(r"[01]\.", probe.numpy)
    remedy = "" if is_good else f"{name} -m pip install 'numpy<2'"
    yield Row(f"{whose}numpy", probe.numpy or "missing", remedy, () if is_good else (blocker("numpy < 2", *kinds),))


def modules_row(absent: List[str]) -> Row:
    """The Python modules of atc. `absent`: those of MODULES and ADVISED that are not installed."""
    missing, more = ([name for name in names if name in absent] for names in (MODULES, ADVISED))
    text = [f"missing: {' '.join(missing)}"] if missing else []
    text += [f"some CANN versions need {' '.join(more)}"] if more else []
    packages = " ".join(sorted({**MODULES, **ADVISED}[name] for name in (*missing, *more)))
    remedy = f"python3 -m pip install {packages} 'numpy<2'" if packages else ""
    blocks = (blocker("atc's modules", COMPILE),) if missing else ()
    return Row("atc's modules", "; ".join(text) or "installed", remedy, blocks)


# Rows of ais_bench.


def runner_rows(runner: Runner) -> Iterator[Row]:
    if not runner.python:
        remedy = "" if runner.path else "set AIS_BENCH= to an existing command, or leave it out"
        text = f"{runner.command}, {'used as given' if runner.path else 'missing'}"
        yield Row("ais_bench", text, remedy, () if runner.path else (blocker("AIS_BENCH", RUN),))
    elif isinstance(runner.probe, Probe):
        install = f"install ais_bench and aclruntime for {runner.python} (docs/ascend.md)"
        yield ais_bench_row(runner.python, runner.probe, install)
        yield aclruntime_row(runner.probe.aclruntime, runner.imported, install)


def ais_bench_row(python: str, probe: Probe, install: str) -> Row:
    blocks = () if probe.ais_bench == "yes" else (blocker("ais_bench", RUN),)
    remove = f"{python} -m pip uninstall ais-bench-benchmark, then {install}"
    if probe.shadowed:
        doubt = blocker("which of the two ais_bench starts", UNKNOWN)
        text = "installed, but so is ais-bench-benchmark, another tool with the same import name"
        return Row("ais_bench", text, remove, (doubt, *blocks))
    if probe.ais_bench == "other":
        text = "not the inference tool but ais-bench-benchmark, which has the same import name"
        return Row("ais_bench", text, remove, blocks)
    if not probe.ais_bench:
        return Row("ais_bench", "missing", install, blocks)
    older = "installed (old generation)" if probe.flags else "installed"
    return Row("ais_bench", "installed (new generation)" if "divide_input" in probe.flags else older)


def aclruntime_row(is_installed: bool, imported: Union[Output, Fault, None], install: str) -> Row:
    """`imported`: the result of its import, which may crash or hang."""
    blocks = (blocker("aclruntime", RUN),)
    if not is_installed or imported is None:
        return Row("aclruntime", "missing", install, blocks)
    if isinstance(imported, Fault):
        return Row("aclruntime", f"installed; its import: {imported.text}", "" if imported.late else imported.fix)
    status, text = imported
    if status:
        last = (text.strip().splitlines() or [""])[-1][-200:]
        return Row("aclruntime", f"its import fails, status {status}: {last}", install, blocks)
    return Row("aclruntime", "installed")


# Rows of the devices.


def device_rows(npus: Npus, asked: str, soc_version: str, chips: List[str]) -> Iterator[Row]:
    """The driver, its devices, and problems of the requested ones. `asked`: "0,1"; empty: 0 if a chip is asked for."""
    chip, numbers = soc_version.replace("Ascend", "", 1), []
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", asked or "0", re.ASCII):
        blocks = (blocker("a device number", RUN),)
        yield Row("DEVICE", f"{asked}: not a device number", "set DEVICE= to one number, or to several as 0,1", blocks)
    elif asked or chip:
        numbers = [int(word) for word in (asked or "0").split(",")]
    driver = npus.driver or driver_version()
    if not npus.devices:
        yield no_device_row(npus, driver, is_asked=bool(soc_version))
        return
    yield Row("driver", driver or "version unknown")
    for device in npus.devices:
        yield device_row(device, chip, is_asked=device.number in numbers)
    for number in numbers:
        yield from number_rows(number, npus.devices, chip, chips)


def driver_version() -> str:
    """The version from the file of the driver's installer, or an empty text."""
    with contextlib.suppress(OSError):
        text = Path(_cann.DRIVER, "version.info").read_text("utf-8", "replace")
        return "".join(re.findall(r"^[Vv]ersion=(\S+)", text, re.MULTILINE)[:1])
    return ""


def no_device_row(npus: Npus, driver: str, is_asked: bool) -> Row:
    """The reason that npu-smi does not show a device. If npu-smi is not installed but a device node exists, as in many
    containers, a device may be usable. `is_asked`: CHIP= is a chip of this engine."""
    nodes = [str(path) for path in sorted(Path("/dev").glob("davinci[0-9]*"))[:1]]
    not_installed = npus.problem == _npu_smi.NOT_ON_PATH
    remedy = "install the driver; in a container, pass in its devices and npu-smi (docs/ascend.md)"
    if npus.late:
        remedy = "run npu-smi info; if it hangs too, restart the host"
    elif "VISIBLE" in npus.problem:
        remedy = "set it to numbers of npu-smi's column Device, or unset it"
    elif not_installed and (nodes or not is_asked):
        remedy = ""
    is_unknown = npus.late or (not_installed and nodes)
    blocks = (blocker("an NPU that npu-smi shows", UNKNOWN if is_unknown else RUN),)
    return Row("driver", ", ".join(filter(None, [driver, npus.problem, *nodes])), remedy, blocks)


def is_family_of(name: str, chip: str) -> bool:
    """Whether npu-smi's name of a device is only the family of `chip`."""
    return name in _npu_smi.FAMILIES and chip.startswith(name)


def device_row(device: _npu_smi.Device, chip: str, is_asked: bool) -> Row:
    """A device. `chip`: npu-smi's name of the requested chip, or empty."""
    is_healthy, doubts = device.health == "OK", []
    if is_asked and not is_healthy:
        doubts.append(blocker(f"the health of device {device.number}", UNKNOWN))
    if is_asked and is_family_of(device.name, chip):
        doubts.append(blocker(f"whether device {device.number}, a {device.name}, is a {chip}", UNKNOWN))
    remedy = "" if is_healthy else f"run npu-smi info -t health -i {device.npu}; reset it, or set another DEVICE="
    text = f"{device.name}, health {device.health}, {device.memory} MB used"
    return Row(f"device {device.number}", text, remedy, tuple(doubts))


def number_rows(number: int, devices: Tuple[_npu_smi.Device, ...], chip: str, chips: List[str]) -> Iterator[Row]:
    """A row if a requested device number does not exist or is another chip."""
    by_number = {device.number: device for device in sorted(devices)}
    shown = ", ".join(f"{number} ({device.name})" for number, device in by_number.items())
    fitting = " or ".join(str(number) for number, device in by_number.items() if device.name == chip)
    if number not in by_number:
        blocks = (blocker(f"a device {number}", RUN),)
        remedy = f"set DEVICE={fitting or ' to one of these'}"
        yield Row("DEVICE", f"device {number} does not exist; npu-smi shows {shown}", remedy, blocks)
        return
    name = by_number[number].name
    if chip and name != chip and not is_family_of(name, chip):
        other = _find.chip_of([by_number[number]], chips)
        remedy = f"set CHIP={other.chip}" if other.chip else other.remedy
        remedy = f"set DEVICE={fitting}" if fitting else remedy
        blocks = (blocker(f"a {chip} as device {number}", RUN),)
        yield Row("DEVICE", f"device {number} is a {name}; npu-smi shows {shown}", remedy, blocks)


# Rows of ROOT.


def root_rows(root: Path) -> Iterator[Row]:
    """Problems that CANN's tools have with the path of ROOT or with permissions."""
    characters = _cann.unsupported_characters(root)
    if characters:
        remedy = "set ROOT= to a path that has only letters, digits and . _ - /"
        blocks = (blocker("a ROOT path that CANN's tools accept", RUN, COMPILE),)
        yield Row("path of ROOT", f"contains {characters}, which CANN's tools reject", remedy, blocks)
    mask = os.umask(0o077)
    os.umask(mask)
    notes = [] if mask & 0o022 == 0o022 else [f"umask {mask:04o} lets other users write"]
    notes += ["ROOT belongs to another user"] if root.exists() and root.stat().st_uid != os.geteuid() else []
    if notes:
        yield Row("permissions", f"{', '.join(notes)}; ais_bench gets private copies of its inputs")
