"""What make doctor asks about CANN and ais_bench. Changes nothing. Python 3.7, standard library only.

The questions run in parallel: CANN's set_env.sh and, in its environment, atc, its python3 and the interpreter of
ais_bench.
"""

from __future__ import annotations

from _support import process
from _support.query import BackgroundQueries, Fault

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple, Union

from engines.ascend import _cann

# {module: its package}: what atc's operator compiler imports (docs/ascend-tools.md#python-numpy), and what only some
# versions of CANN import.
MODULES = {"attr": "attrs", "google.protobuf": "protobuf", "yaml": "pyyaml"}
MODULES.update({name: name for name in ("decorator", "psutil", "sympy", "scipy", "cffi")})
ADVISED = {"absl": "absl-py", "ml_dtypes": "ml-dtypes"}
ADVISED.update({name: name for name in ("cloudpickle", "tornado", "requests", "jinja2")})
PROBE = Path(__file__).with_name("_probe.py")

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

    label: str  # its version
    version: str  # of its compiler, which may be older
    place: str  # its set_env.sh, or where it is set up
    others: str  # the other ones on this host
    lacks_chip: bool  # it does not support the soc_version
    ops: str  # the package of operators; empty: no record of it


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
    name = runner[0] if has_python else ""
    probe = probe_of(packages())
    return Tools(
        cann_of(environment, soc_version),
        Compiler(compiler, help_page(), probe_of(modules())),
        Runner(" ".join(runner), program, name, python == python3, probe, imported()),
    )


def cann_of(environment: Dict[str, str], soc_version: str) -> Cann:
    """The toolkit of an environment for atc."""
    home, sourced = _cann.toolkit(environment), _cann.file_to_source(dict(os.environ), compiler=True)
    return Cann(
        label=_cann.label(home) if home else "unknown",
        version=_cann.version(environment, "compiler"),
        place=str(sourced or f"{home or 'location unknown'}, already set up in this shell"),
        others=_cann.others(environment),
        lacks_chip=lacks_chip(home, soc_version),
        ops=_cann.ops_package(home) if home else "",
    )


def lacks_chip(home: Path | None, soc_version: str) -> bool:
    """Whether CANN lists the chips that it supports, and not this one (docs/ascend-tools.md#soc-version)."""
    folders = [folder for part in ("data", "*/data", "*/*/data") for folder in (home.glob(part) if home else ())]
    known = {file.stem for folder in folders for file in folder.glob("platform_config/*.ini")}
    return bool(known) and soc_version not in known


def probe_of(answer: Union[Output, Fault, None]) -> Union[Probe, Fault]:
    """Parses the output of _probe.py. `answer` is None if the interpreter does not exist."""
    if answer is None:
        return Fault("missing", "install python3; every CANN accepts 3.7 to 3.10")
    if isinstance(answer, Fault):
        return answer
    status, text = answer
    line = re.search(r"^@(\{.*\})\s*$", text, re.MULTILINE)
    with contextlib.suppress(ValueError, TypeError, RecursionError):  # not JSON, or other entries
        if line:
            return Probe(**json.loads(line.group(1)))
    last = (text.strip().splitlines() or ["without output"])[-1]
    return Fault(f"status {status}, {last[-100:]}", "repair or replace it")
