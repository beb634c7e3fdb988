"""The interface of an engine. Each engine is a folder here. Code outside this folder does not know engines by name.

    __init__.py   the constants of `Constants`, one assignment each; the file is parsed, not imported
    compile.py    compile_model(request) -> what to record; below "run" what may differ between equal builds
    run.py        open_session(model, options) -> Session, if the engine runs in this process (IN_PROCESS = True), and
                  with the option tune more, see Tunable; infer(request, work, out) -> digest of the outputs and what
                  to record, if it is a separate program
    perf.py       measure(request, rules, batches) -> Measured, only if it is a separate program
    graph.py      refusal(description, model, options) -> why this engine cannot use a graph, or None: optional, for a
                  graph of the user's own (Python 3.7)
    layers.py     tensor_names(model), tensors(model, images, names): optional, for make compare LAYERS=1
    profile.py    profile(model, options, macs, images) -> rows by operator: optional, for make bench
    _find.py      find(chips) -> Found: optional, detects the chip of this host (Python 3.7, standard library only)
    _doctor.py    Checker(query, options, chips): optional, rows of make doctor (Python 3.7, standard library only)

tests/fakes/null_engine is the smallest example. Runs on Python 3.7, standard library only.
"""

from __future__ import annotations

from _support.artifact import Record, read_verified
from _support.cli import die

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from network.spec import FLOAT32

if TYPE_CHECKING:  # Protocol is newer than Python 3.7, and numpy need not be loaded for the types
    from _support.query import BackgroundQueries

    from typing import Protocol

    from numpy.typing import NDArray

    from engines.feed import Work
    from formats.bins import Form
    from reporting.timing import Measured

    Array = NDArray[Any]
else:
    Protocol = object

# Without its telemetry client, as openvino expects it on some hosts. With it, each import of openvino sends a report to
# OpenVINO's maker, writes files below ~/intel, and loads an HTTP client, which takes a third of the time.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

ENGINES = Path(__file__).resolve().parent
REFERENCE = "onnxruntime"  # runs the plain export in float32; its logits are the reference of every comparison
Options = Dict[str, str]


class Constants(NamedTuple):
    """The constants in an engine's __init__.py. Only the first two are required."""

    ENDING: str  # of the compiled model's file name
    IN_PROCESS: bool  # run.py has open_session(), otherwise infer()
    PACKAGES: Dict[str, Tuple[str, ...]] = {}  # {"compile" | "run": packages whose versions are part of the cache key}
    NEEDS: Tuple[str, ...] = ()  # options that a chip's line must have
    VALUES: Dict[str, Tuple[str, ...]] = {}  # {option: its allowed values}
    OPTIONS: Tuple[str, ...] = ()  # keys of params.yaml that become options of every chip of this engine
    LIMITS: Tuple[str, ...] = ()  # keys of params.yaml that the engine also gets; not part of any cache key
    INT8: str = ""  # the word in a chip's line that selects the int8 graph
    STORED: str = ""  # ending of the file with what a runtime has compiled, see Exporter


class ModelFile(NamedTuple):
    """A graph or a compiled model. The command has read it once, so an engine uses `data` and does not read `path`
    again: another make may have replaced the file."""

    path: Path  # for messages
    data: bytes  # its content, of which the digest is in the cache key


class CompileRequest(NamedTuple):
    """One graph to compile for one batch size."""

    model: ModelFile  # the optimized or int8 graph, ONNX
    unquantized: ModelFile | None  # the optimized graph, if `model` is the int8 graph
    batch_size: int
    out: Path  # the file to write
    log: Path  # the file for a program's output
    options: Options
    limits: Options
    graph: Record = {}  # its description: opset, domains, precision (graphs/description.py)


class RunRequest(NamedTuple):
    """One compiled model to run on bins, by an engine that is a separate program."""

    model: Path  # it may change: the engine compares its digest with the one in `record`
    record: Record  # of the model
    bins: Path  # the folder with image_<i>.bin
    form: Form  # of each of them
    images: int  # number of bins
    output_format: str  # txt, bin or npy
    devices: str  # "0" or "0,1"; empty: 0
    limits: Options
    log: Path  # the file for the program's output; private folders of the run are made in the same folder


class PerfRules(NamedTuple):
    """How long a timed run lasts, and which load it tolerates (params.yaml, perf)."""

    warmup: float  # s
    min_duration: float  # s
    min_queries: int
    others: float  # limit of the load from other processes, as a share of the CPUs or of the NPU, 0 to 1


class Found(NamedTuple):
    """The chip of this host, or the reason that it is unknown."""

    chip: str
    problem: str = ""  # why the chip cannot be determined although there is a device; chip is empty then
    remedy: str = ""
    absent: str = ""  # why no device was found; this is not an error, the fallback chip is used
    source: str = ""  # the program that lists the devices, for messages


class Blocker(NamedTuple):
    """Something that a chip needs and this host lacks."""

    text: str  # a noun: "numpy < 2"
    kinds: Tuple[str, ...]  # RUN, COMPILE: not possible without it; UNKNOWN: the host may have it


RUN, COMPILE, UNKNOWN = "run", "compile", "unknown"


class Row(NamedTuple):
    """A row of make doctor."""

    what: str
    found: str
    fix: str = ""  # what to do; empty if nothing is wrong
    blocks: Tuple[Blocker, ...] = ()  # for chips of the engine that the row belongs to


class Choice(NamedTuple):
    """How an engine shares out the images of a batch. The logits do not depend on it, except for rounding."""

    streams: int  # requests that run in parallel, each on its own threads
    images: int  # in a request, at most


class Session(Protocol):
    """A loaded model in this process."""

    conditions: Record  # what to record of a run: runtime, threads, streams …

    def stream(self, batches: Iterable[Array]) -> Iterator[Array]:
        """The logits of each batch, in order: float32 [batch, classes] for [batch, *shape of a bin].

        A session keeps as many requests in flight as it has streams, and more, and does not wait for a batch to finish
        before it takes the next one. It takes a bounded number of batches in advance, and only while it is asked for
        logits. Batches are not changed until their logits are given. Logits stay valid until the next ones are
        requested. feed.Pipeline is the usual implementation, feed.OneAtATime that of an engine without streams.
        """


class Compiler(Protocol):
    def compile_model(self, request: CompileRequest) -> Record: ...


class GraphJudge(Protocol):
    def refusal(self, description: Record, model: Path, options: Options) -> Tuple[str, str] | None:
        """Why this engine cannot compile or run a graph, and the remedy; None if nothing is known against it."""


class InProcess(Protocol):
    def open_session(self, model: ModelFile, options: Options) -> Session: ...


class Tunable(Protocol):
    """An engine of this process with "tune" among its OPTIONS: its batches are shared out as engines/tuning.py says."""

    def can_run(self, options: Options) -> bool:
        """Whether this CPU has the instructions for a chip."""

    def open_session(self, model: ModelFile, options: Options, choice: Choice | None = None) -> Session:
        """The session for a choice; without one for the default of split.py."""


class Exporter(Tunable, Protocol):
    """An engine with STORED: it exports what its runtime has compiled, for a quicker start."""

    def export_session(self, session: Session) -> bytes:
        """What the runtime has compiled for a session of open_session(); empty if it should not be stored."""

    def open_stored(self, stored: bytes | bytearray, model: Path, options: Options, choice: Choice) -> Session | None:
        """The session from what export_session() returned for the same options and choice on this machine; None if the
        runtime refuses it. `model` is for messages."""


class Program(Protocol):
    def infer(self, request: RunRequest, work: Work, out: Path) -> Tuple[str, Record]:
        """Writes the outputs of all bins to `out`; returns (the sha256 of their bytes, in order; what to record).

        Exits 1 if the bins differ from their record in `work`.
        """


class Timer(Protocol):
    def measure(self, request: RunRequest, rules: PerfRules, batches: Iterator[Array]) -> Measured: ...


class Layers(Protocol):
    def tensor_names(self, model: ModelFile) -> List[str]: ...

    def tensors(self, model: ModelFile, images: Array, names: Sequence[str]) -> Dict[str, Array]: ...


class Profiler(Protocol):
    def profile(self, model: Path, options: Options, macs: Dict[str, int], images: Array) -> List[Record]: ...


class Finder(Protocol):
    def find(self, chips: List[str]) -> Found:
        """Detects the chip of this host's devices. `chips`: the names in params.yaml."""


class Checker(Protocol):
    """Examines this host for an engine. The constructor starts all queries to other programs by `query`."""

    part: str  # the group of its rows in the JSON of make doctor

    def __init__(self, query: BackgroundQueries, options: Options, chips: List[str]) -> None:
        """`options`: the engine's LIMITS by their keys and, if CHIP= is a chip of this engine, the words of the chip's
        line. `chips`: the names in params.yaml; the first is the fallback."""

    def rows(self, devices: str, root: Path) -> Iterator[Row]:
        """The rows for the devices "0" or "0,1" (empty: not given). A row that is named like a row of the machine, such
        as memory or CPU, extends it."""

    def found(self) -> Found:
        """The result of find() of _find.py, from the queries that were made already."""


def constants_of(name: str, engines: Path = ENGINES) -> Constants:
    """Reads an engine's constants by parsing its __init__.py. Exits 1 if one is missing or is not a literal."""
    path = engines / name / "__init__.py"
    values: Dict[str, Any] = {}
    try:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                values[node.targets[0].id] = ast.literal_eval(node.value)
        constants = Constants(**values)
        wrong = [name for name, kind in KINDS.items() if not isinstance(getattr(constants, name), kind)]
        if wrong or not re.fullmatch(r"\w+", constants.ENDING):
            raise ValueError(f"{(wrong or ['ENDING'])[0]} is {getattr(constants, (wrong or ['ENDING'])[0])!r}")
        return constants
    except (SyntaxError, ValueError, TypeError) as error:
        die(path, f"not the constants of an engine ({error})", "see Constants in scripts/engines/__init__.py")


KINDS = {"ENDING": str, "IN_PROCESS": bool, "PACKAGES": dict, "VALUES": dict, "INT8": str, "STORED": str}
KINDS.update({name: tuple for name in ("NEEDS", "OPTIONS", "LIMITS")})


def names_of(engines: Path = ENGINES) -> List[str]:
    """The names of all engines."""
    return sorted(path.parent.name for path in engines.glob("*/compile.py"))


def has(name: str, part: str) -> bool:
    """Whether an engine has an optional part: perf, graph, layers, profile, _find or _doctor."""
    return (ENGINES / name / f"{part}.py").is_file()


def module_of(name: str, part: str) -> str:
    return f"engines.{name}.{part}"


def load(name: str, part: str) -> Any:
    """Imports the module <name>/<part>.py of an engine. Its type is one of the protocols above."""
    return importlib.import_module(module_of(name, part))


def read_model(path: Path, sha256: str) -> ModelFile:
    """Reads a graph or a compiled model; exits 1 if its digest is not `sha256`, the one in the cache key."""
    return ModelFile(path, read_verified(path, sha256))


def input_of(options: Options) -> str:
    """The type of a chip's bins, a key of FORMS: the option input= of its line."""
    return options.get("input", FLOAT32)


def options_of(words: str) -> Options:
    """Returns {name: value} for words name=value."""
    return dict(word.split("=", 1) for word in words.split())
