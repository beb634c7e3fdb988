"""What a host has for chips of engine ascend, as rows of make doctor. Changes nothing; Python 3.7 and newer."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

import _cann
import _npu
import _tool
import find_chip
from _asker import Asker, Fault
from engines.ascend_compile import explained

# What atc's compiler of operators imports (contract 1.8): the module, and its name for pip; the second for some CANN.
MODULES = {"attr": "attrs", "google.protobuf": "protobuf", "yaml": "pyyaml"}
MODULES.update({name: name for name in ("decorator", "psutil", "sympy", "scipy", "cffi")})
ADVISED = {"absl": "absl-py", "ml_dtypes": "ml-dtypes"}
ADVISED.update({name: name for name in ("cloudpickle", "tornado", "requests", "jinja2")})
PROBE = Path(__file__).with_name("_probe.py")


class Row(NamedTuple):
    what: str
    found: str
    fix: str = ""  # empty: nothing to do


def look() -> Any:
    """(driver's version, devices), or why there are none."""
    try:
        return _npu.look()
    except _npu.NoNpu as problem:
        return str(problem)


def probed(answer: Any) -> Any:
    """The dictionary that PROBE has printed, or a Fault."""
    if answer is None or isinstance(answer, Fault):
        return answer or Fault("missing", "install python3, 3.7 to 3.10 for an older CANN")
    line = re.search(r"^@(\{.*\})\s*$", answer[1], re.MULTILINE)
    said = (answer[1].strip().splitlines() or ["it says nothing"])[-1]
    return json.loads(line.group(1)) if line else Fault(f"status {answer[0]}, {said[-100:]}", "mend or change it")


def examine(asker: Asker, soc_version: str) -> Dict[str, Any]:
    """What CANN has, by its own environment; empty where it is not."""
    environment = _cann.environment(compiler=True)
    path, home = environment.get("PATH", os.defpath), _cann.toolkit(environment)
    atc, runner = _tool.words("ATC", "atc"), _tool.words("AIS_BENCH", "python3 -m ais_bench")
    where = {word: shutil.which(word, path=path) for word in ("python3", atc[0], runner[0])}
    if not home and not where[atc[0]]:
        return {}
    own = os.path.basename(runner[0]).startswith("python")
    python = runner[0] if own else "python3"
    questions: Dict[str, List[Any]] = {
        "atc": [where[atc[0]], *atc[1:], "--help"],
        "python3": [where["python3"], str(PROBE), *MODULES, *ADVISED],
        "host": [where[python], str(PROBE)],
        "import": [where[python], "-c", "import aclruntime"],
    }

    def ask(command: List[Any]) -> Callable[[], Any]:
        return asker.ask(lambda: _tool.ask(command, environment, asker.limit + 1), sooner=0.15)

    waits = {name: ask(command) for name, command in questions.items() if command[0]}
    folders = [place for part in ("data", "*/data", "*/*/data") if home for place in home.glob(part)]
    known = {file.stem for folder in folders for file in folder.glob("platform_config/*.ini")}
    found: Dict[str, Any] = {name: waits[name]() if name in waits else None for name in questions}
    found.update({name: probed(found[name]) for name in ("python3", "host")})
    found.update(version=_cann.version(environment), home=str(home or "of no named folder"))
    found.update(files=[str(file) for file in _cann.set_env_files()], unknown=bool(known) and soc_version not in known)
    found.update(where={"atc": where[atc[0]], "ais_bench": where[runner[0]]}, own=own, python=python)
    return {**found, "same": where[python] == where["python3"], "runner": " ".join(runner)}


class Ascend:
    """CANN, its interpreter and its tools, and the devices; asked in the background, read by rows()."""

    def __init__(self, asker: Asker, soc_version: str, chips: List[str]) -> None:
        self.soc_version, self.chips = soc_version, chips
        self.lacks: List[str] = []  # what keeps the asked chip from running here, once rows() has been read
        self.hinders: List[str] = []  # what keeps it from being compiled for
        self.unsure: List[str] = []  # what cannot be told
        self.npu = asker.ask(look)
        self.examined = asker.ask(lambda: examine(asker, soc_version))
        self.cann: Dict[str, Any] = {}
        self.devices: List[_npu.Device] = []

    def both(self, what: str) -> None:
        self.lacks.append(what)
        self.hinders.append(what)

    def rows(self, asked: str, root: Path) -> Iterator[Row]:
        """One row a thing, calm where there is nothing of Ascend and no chip of it is asked for. `asked`: devices."""
        npu, cann = self.npu(), self.examined()
        if isinstance(cann, Fault):
            variable = re.match(r"(ATC|AIS_BENCH)=", cann.text)
            yield Row(variable.group(1) if variable else "set_env.sh", cann.text, cann.fix or "mend SET_ENV")
        else:
            self.cann = cann
        if not self.soc_version and not cann and npu == "npu-smi is not on PATH":
            yield Row("Ascend", f"no CANN, {npu}: CHIP=cpu is what runs here")
            return
        if cann and not isinstance(cann, Fault):
            yield from self.tools()
            yield from self.interpreter()
        elif isinstance(cann, Fault) and cann.late:
            self.unsure.append("what set_env.sh sets up")
        else:
            self.both("CANN")
            if not cann:
                remedy = "install CANN's toolkit, or give SET_ENV= its set_env.sh"
                yield Row("CANN", "not found; no set_env.sh in the usual places", remedy)
        yield from self.npus(npu, asked)
        odd = _cann.odd(root)
        if odd:
            self.both("a plain path")
            remedy = "give another ROOT=, whose whole path is of letters, digits and . _ - / alone"
            yield Row("path of ROOT", f"holds {odd}, which CANN's tools refuse", remedy)
        mask = os.umask(0o077)
        os.umask(mask)
        notes = [] if mask & 0o022 == 0o022 else [f"umask {mask:04o} lets others write"]
        notes += ["ROOT is another user's"] if root.exists() and root.stat().st_uid != os.geteuid() else []
        if notes:
            yield Row("permissions", f"{', '.join(notes)}: ais_bench gets private copies of its inputs")

    def tools(self) -> Iterator[Row]:
        cann, soc_version, atc = self.cann, self.soc_version, self.cann["where"]["atc"]
        where = ", ".join(cann["files"]) or f"{cann['home']}, set up by this shell"
        yield Row("CANN", f"{cann['version']}; {where}")
        if soc_version and cann["unknown"]:
            self.both("a CANN that knows the chip")
            yield Row("soc_version", f"this CANN has no {soc_version}", "install a CANN release for this chip")
        problem, remedy = "", ""
        if not atc:
            problem = "missing"
            remedy = "make om needs it: install CANN's toolkit, give SET_ENV= or ATC=, or bring ready models (OM=)"
        elif isinstance(cann["atc"], Fault):
            problem, remedy = cann["atc"].text, "" if cann["atc"].late else cann["atc"].fix
        elif cann["atc"][0]:
            problem, remedy = explained(cann["atc"][1], cann["atc"][0])
        yield Row("atc", ", ".join(filter(None, (atc, problem))), remedy)
        if remedy:
            self.hinders.append("atc")

    def interpreter(self) -> Iterator[Row]:
        """CANN's python3: the one that atc takes from PATH, and that of ais_bench, which is mostly the same."""
        cann = self.cann
        if cann["own"] and cann["same"]:
            yield from self.python("", "python3", cann["python3"], self.lacks, self.hinders)
        else:
            yield from self.python("atc's ", "python3", cann["python3"], self.hinders)
        if not isinstance(cann["python3"], Fault):
            missing = [name for name in MODULES if name in cann["python3"]["missing"]]
            more = [name for name in ADVISED if name in cann["python3"]["missing"]]
            packages = " ".join(sorted({**MODULES, **ADVISED}[name] for name in (*missing, *more)))
            text = [f"missing: {' '.join(missing)}"] if missing else []
            text += [f"some CANN want {' '.join(more)}"] if more else []
            yield Row(
                "atc's modules", "; ".join(text) or "there", packages and f"python3 -m pip install {packages} 'numpy<2'"
            )
            self.hinders += ["atc's modules"] if missing else []
        if not cann["own"]:
            there = cann["where"]["ais_bench"]
            remedy = "" if there else "give AIS_BENCH= a command that there is, or leave it out"
            yield Row("ais_bench", f"{cann['runner']}, {'used as it is' if there else 'missing'}", remedy)
            self.lacks += [] if there else ["AIS_BENCH"]
            return
        if not cann["same"]:
            yield from self.python("", cann["python"], cann["host"], self.lacks)
        if not isinstance(cann["host"], Fault):
            yield from self.ais_bench(cann["host"])

    def python(self, whose: str, name: str, found: Any, *lists: List[str]) -> Iterator[Row]:
        what = f"{whose or 'CANN' + chr(39) + 's '}python3"
        if isinstance(found, Fault):
            remedy = found.fix if found.late else f"see that {name} -c 'import numpy' works there"
            yield Row(what, found.text, remedy)
            for some in (self.unsure,) if found.late else lists:
                some.append("a python3 of CANN that answers")
            return
        version = found["python"]
        old = [int(number) for number in re.findall(r"\d+", self.cann["version"])[:2]] <= [8, 1]  # or unknown
        wrong = version[:2] < [3, 7] or (old and version[:2] > [3, 10])
        remedy = "CANN up to 8.1 wants 3.7 to 3.10: put such a python3 first on PATH" if wrong else ""
        yield Row(what, f"{name} {'.'.join(map(str, version))}", remedy)
        good = re.match(r"[01]\.", found["numpy"])
        remedy = "" if good else f"{name} -m pip install 'numpy<2'"
        yield Row(f"{whose}numpy", found["numpy"] or "missing", remedy)
        for some in lists if remedy else ():
            some.append("numpy < 2")

    def ais_bench(self, found: Dict[str, Any]) -> Iterator[Row]:
        python = self.cann["python"]
        remedy = f"install ais_bench and aclruntime of Ascend's tools for {python} (README.md)"
        remove = f"{python} -m pip uninstall ais-bench-benchmark, then {remedy}"
        older = "there, of the older generation" if found["words"] else "there"
        text = "there, of the newer generation" if "divide_input" in found["words"] else older
        if found["both"]:
            self.unsure.append("which ais_bench starts")
            yield Row("ais_bench", "there, but another of its name, for language models, lies over it", remove)
        elif found["ais_bench"] == "other":
            yield Row("ais_bench", "not the inference tool, but another of its name, for language models", remove)
        else:
            yield Row("ais_bench", text if found["ais_bench"] else "missing", "" if found["ais_bench"] else remedy)
        self.lacks += [] if found["ais_bench"] == "yes" else ["ais_bench"]
        loaded = self.cann["import"]
        if not found["aclruntime"]:
            yield Row("aclruntime", "missing", remedy)
            self.lacks.append("aclruntime")
        elif isinstance(loaded, Fault):
            yield Row("aclruntime", f"there; {loaded.text} when imported", "" if loaded.late else loaded.fix)
        elif loaded[0]:
            said = (loaded[1].strip().splitlines() or [""])[-1][-200:]
            yield Row("aclruntime", f"not for this python or CANN: status {loaded[0]} {said}", remedy)
            self.lacks.append("aclruntime")
        else:
            yield Row("aclruntime", "there")

    def npus(self, npu: Any, asked: str) -> Iterator[Row]:
        wanted = self.soc_version.replace("Ascend", "", 1)
        plain = re.fullmatch(r"\d{1,3}(,\d{1,3})*", asked or "0", re.ASCII)
        if not plain:
            self.lacks.append("a device number")
            yield Row("DEVICE", f"{asked}: no device number", "give one, or several as 0,1")
        driver, self.devices = ("", []) if isinstance(npu, (str, Fault)) else npu
        with contextlib.suppress(OSError):
            text = Path(_cann.DRIVER, "version.info").read_text("utf-8", "replace")
            driver = driver or "".join(re.findall(r"^[Vv]ersion=(\S+)", text, re.MULTILINE)[:1])
        if not self.devices:
            problem = f"npu-smi: {npu.text}" if isinstance(npu, Fault) else str(npu)
            nodes = sorted(Path("/dev").glob("davinci[0-9]*"))
            late = isinstance(npu, Fault) and npu.late
            doubt = late or (nodes and "not on PATH" in problem)
            (self.unsure if doubt else self.lacks).append("an NPU that npu-smi shows")
            calm = "not on PATH" in problem and (nodes or not self.soc_version)
            remedy = "" if calm else "install the driver; in a container hand in /dev/davinci* and npu-smi"
            remedy = "give it numbers of npu-smi's column Device, or unset it" if "VISIBLE" in problem else remedy
            remedy = "npu-smi info by hand; if it hangs too, restart the machine" if late else remedy
            yield Row("driver", ", ".join(filter(None, [driver, problem, *map(str, nodes[:1])])), remedy)
            return
        yield Row("driver", driver or "of an unknown version")
        there = {device.number: device for device in self.devices}
        shown = ", ".join(f"{number} ({device.name})" for number, device in sorted(there.items()))
        numbers = [int(word) for word in (asked or "0").split(",")] if plain and (asked or wanted) else []
        for device in self.devices:
            remedy = f"npu-smi info -t health -i {device.npu}; reset it, or use another DEVICE="
            found = f"{device.name}, health {device.health}, {device.memory} MB used"
            yield Row(f"device {device.number}", found, "" if device.health == "OK" else remedy)
            if device.health != "OK" and device.number in numbers:
                self.unsure.append(f"the health of device {device.number}")
        fitting = " or ".join(str(number) for number, device in sorted(there.items()) if device.name == wanted)
        for number in numbers:
            if number not in there:
                self.lacks.append(f"a device {number}")
                yield Row("DEVICE", f"no device {number}; there is {shown}", f"give DEVICE={fitting or ' one of them'}")
                continue
            name = there[number].name
            if name in _npu.VAGUE and wanted.startswith(name):
                self.unsure.append(f"whether device {number}, a {name}, is a {wanted}")
            elif wanted and name != wanted:
                self.lacks.append(f"a {wanted} as device {number}")
                chip, _, remedy = find_chip.chosen([there[number]], self.chips)
                remedy = f"give CHIP={chip}" if chip else remedy
                remedy = f"give DEVICE={fitting}" if fitting else remedy
                yield Row("DEVICE", f"{number} is a {name}; there is {shown}", remedy)
