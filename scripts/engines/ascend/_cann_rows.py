"""Rows of make doctor about CANN, its interpreters and ais_bench. Python 3.7, standard library only."""

from __future__ import annotations

from _support.query import Fault

import re
from typing import Iterator, List, Tuple, Union

from engines import COMPILE, RUN, UNKNOWN, Blocker, Row
from engines.ascend import _versions
from engines.ascend._reasons import LOADER, explain_ais_bench, explain_atc
from engines.ascend._tools import ADVISED, MODULES, Cann, Compiler, Output, Probe, Runner, Tools


def blocker(text: str, *kinds: str) -> Blocker:
    return Blocker(text, kinds)


# CANN, its compiler and its interpreters.


def environment_row(fault: Fault) -> Row:
    """CANN's environment, if it could not be set up."""
    variable = re.match(r"(ATC|AIS_BENCH)=", fault.text)
    effect = blocker("whether set_env.sh sets up CANN", UNKNOWN) if fault.late else blocker("CANN", RUN, COMPILE)
    what = variable.group(1) if variable else "set_env.sh"
    return Row(what, fault.text, fault.fix or "correct SET_ENV", (effect,))


def cann_rows(tools: Tools, soc_version: str) -> Iterator[Row]:
    """The toolkit, its operators, and whether it supports the chip."""
    cann = tools.cann
    texts = [f"{cann.label}; {cann.place}"]
    texts += [f"its atc is of {cann.version}"] if cann.version != cann.label else []
    texts += [f"also installed: {cann.others}"] if cann.others else []
    yield Row("CANN", "; ".join(texts))
    if tools.compiler.path and _versions.minor(cann.version) >= _versions.OPS_PACKAGE:
        yield ops_row(cann)
    newest = _versions.NEWEST.get(soc_version)
    if soc_version and cann.lacks_chip:
        blocks = (blocker("a CANN that supports the chip", RUN, COMPILE),)
        remedy = "install a CANN release that supports this chip"
        yield Row("soc_version", f"this CANN does not support {soc_version}", remedy, blocks)
    elif newest and _versions.minor(cann.version) > newest:
        limit = ".".join(map(str, newest))
        blocks = (blocker(f"whether CANN {cann.version} supports {soc_version}", UNKNOWN),)
        text = f"CANN {limit} is the newest that is documented for {soc_version}"
        yield Row("soc_version", text, f"if atc or ais_bench fails, use CANN {limit} or older", blocks)


def ops_row(cann: Cann) -> Row:
    """The package of operators, which CANN needs from 8.5 on (docs/ascend-tools.md#set-env)."""
    install = f"install the ops package of the chip, of version {cann.label}, in the folder of the toolkit"
    if not cann.ops:
        blocks = (blocker("whether the ops package of the chip is installed", UNKNOWN),)
        return Row("ops", "no record of it; from CANN 8.5 on atc needs this package", install, blocks)
    found = _versions.minor(cann.ops.split()[-1])
    if found and found not in (_versions.minor(cann.label), _versions.minor(cann.version)):
        blocks = (blocker("whether the ops package fits the toolkit", UNKNOWN),)
        return Row("ops", f"{cann.ops}, of another version than the toolkit", install, blocks)
    return Row("ops", cann.ops)


def compiler_row(compiler: Compiler) -> Row:
    problem, remedy = "", ""
    if not compiler.path or compiler.help_page is None:
        problem = "missing"
        remedy = "make om needs it: install CANN's toolkit, set SET_ENV= or ATC=, or use a compiled model (OM=)"
    elif isinstance(compiler.help_page, Fault):
        problem, remedy = compiler.help_page.text, "" if compiler.help_page.late else compiler.help_page.fix
    elif compiler.help_page[0]:
        problem, remedy = explain_atc(compiler.help_page[1], compiler.help_page[0])
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
        yield modules_row(compiler.probe, version)
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
    yield Row(what, f"{name} {'.'.join(map(str, probe.python))}", python_remedy(probe.python, cann_version))
    yield numpy_row(f"{whose}numpy", name, probe, cann_version, kinds)


def python_remedy(python: List[int], cann_version: str) -> str:
    """What to do if CANN is not documented for a Python; empty if it is, or if that is unknown."""
    newest, cann = _versions.newest_python(cann_version), _versions.minor(cann_version)
    if [3, 7] <= python[:2] <= [3, newest] or (python[:2] > [3, newest] and cann > _versions.RELEASES[-1]):
        return ""
    if not cann:
        return "if atc fails, put Python 3.7 to 3.10, which every CANN accepts, first on PATH"
    return f"CANN {'.'.join(map(str, cann))} needs Python 3.7 to 3.{newest}: put one first on PATH"


def numpy_row(what: str, name: str, probe: Probe, cann_version: str, kinds: Tuple[str, ...]) -> Row:
    """The numpy of the interpreter `name` (docs/ascend-tools.md#python-numpy)."""
    need = _versions.numpy_for(cann_version, probe.python, probe.numpy)
    remedy = f"{name} -m pip install '{need.package}'"
    if need.fits and _versions.numbers_of(probe.numpy) >= [2] and RUN in kinds:
        text = f"{probe.numpy}, which this CANN accepts; not known whether aclruntime works with numpy 2"
        doubt = (blocker("whether aclruntime works with numpy 2", UNKNOWN),)
        return Row(what, text, f"if ais_bench fails: {remedy}" if "<" in need.package else "", doubt)
    if need.fits:
        return Row(what, probe.numpy)
    is_certain = _versions.minor(cann_version) or not _versions.numbers_of(probe.numpy)
    blocks = (blocker(need.text, *(kinds if is_certain else (UNKNOWN,))),)
    older = "put an older Python first on PATH: there is no numpy < 2 for this one"
    return Row(what, probe.numpy or "missing", remedy if need.package else older, blocks)


def modules_row(probe: Probe, cann_version: str) -> Row:
    """The Python modules of atc: those of MODULES and ADVISED that are not installed."""
    missing, more = ([name for name in names if name in probe.missing] for names in (MODULES, ADVISED))
    text = [f"missing: {' '.join(missing)}"] if missing else []
    text += [f"some CANN versions need {' '.join(more)}"] if more else []
    packages = " ".join(sorted({**MODULES, **ADVISED}[name] for name in (*missing, *more)))
    need = _versions.numpy_for(cann_version, probe.python, probe.numpy)
    bound = f" '{need.package}'" if need.text != "numpy >= 1.19.2" and need.package else ""  # pip must not replace it
    remedy = f"python3 -m pip install {packages}{bound}" if packages else ""
    blocks = (blocker("atc's modules", COMPILE),) if missing else ()
    return Row("atc's modules", "; ".join(text) or "installed", remedy, blocks)


# ais_bench.


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
        reason, remedy = explain_ais_bench(text, status)
        fix = remedy if remedy in LOADER.values() and "No module" not in reason else install
        return Row("aclruntime", f"its import fails, {reason}", fix, blocks)
    return Row("aclruntime", "installed")
