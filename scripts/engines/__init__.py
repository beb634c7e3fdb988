"""The contract of an engine. Each engine is a folder here, and nothing outside this folder knows an engine's name.

    __init__.py   the constants of `Constants`, one assignment each; they are read by `ast` and not run
    compile.py    compile_model(request) -> what to record
    run.py        open_session(model, options) -> Session, of an engine that runs in this process (IN_PROCESS = True);
                  infer(request, out) -> what to record, of one that is a program of its own
    perf.py       measure(request, rules, batches) -> Measured, of one that is a program of its own
    layers.py     tensor_names(model), tensors(model, images, names): optional, for make compare LAYERS=1
    profile.py    profile(model, options, macs, images) -> rows by operator: optional, for make bench
    _find.py      find(chips) -> Found: optional, the chip that this host has (Python 3.7, standard library only)
    _doctor.py    Checker(query, options, chips): optional, rows of make doctor (Python 3.7, standard library only)

tests/fakes/null_engine is the smallest engine. Runs on Python 3.7, standard library only.
"""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import die

import ast
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

if TYPE_CHECKING:  # Protocol is newer than Python 3.7, and numpy need not be loaded for the types
    from _support.query import BackgroundQueries

    from typing import Protocol

    from numpy.typing import NDArray

    from reporting.timing import Measured

    Array = NDArray[Any]
else:
    Protocol = object

ENGINES = Path(__file__).resolve().parent
REFERENCE = "onnxruntime"  # the engine that answers the plain export in float32; every comparison is against it
Options = Dict[str, str]


class Constants(NamedTuple):
    """What an engine's __init__.py says; only the first two have to be there."""

    ENDING: str  # of the compiled model's file name
    IN_PROCESS: bool  # run.py has open_session, else infer
    PACKAGES: Dict[str, Tuple[str, ...]] = {}  # {"compile" | "run": packages whose versions are part of the cache key}
    NEEDS: Tuple[str, ...] = ()  # options that a chip's line has to give
    VALUES: Dict[str, Tuple[str, ...]] = {}  # {option: the values that it may have}
    OPTIONS: Tuple[str, ...] = ()  # keys of params.yaml that are options of every chip of this engine
    LIMITS: Tuple[str, ...] = ()  # keys of params.yaml that the engine gets beside them; not part of any cache key
    INT8: str = ""  # a word of a chip's line that asks for the quantized graph


class CompileRequest(NamedTuple):
    """One graph to compile for one batch size."""

    model: Path  # the optimized or quantized ONNX file
    unquantized: Path | None  # the graph before quantization, if `model` is quantized
    batch_size: int
    out: Path  # the file to write
    log: Path  # what a program says
    options: Options
    limits: Options


class RunRequest(NamedTuple):
    """One compiled model to run on bins, by an engine that is a program of its own."""

    model: Path
    record: Record  # the model's
    bins: Path  # the folder with image_<i>.bin, float32 [*IMAGE_SHAPE] each
    images: int  # how many of them
    output_format: str  # txt, bin or npy
    devices: str  # "0" or "0,1"; empty: 0
    limits: Options
    log: Path  # what the program says; private folders of the run are made beside it


class PerfRules(NamedTuple):
    """How long a timed run lasts, and when it counts as stable (params.yaml, perf)."""

    warmup: float  # s
    min_duration: float  # s
    min_queries: int
    others: float  # share of the CPUs or of the NPU, 0 to 1, that other processes may use


class Found(NamedTuple):
    """The chip of this host, or the reason that none was found."""

    chip: str
    problem: str = ""  # what is wrong: the chip is empty then
    remedy: str = ""
    absent: str = ""  # why no device was found: nothing is wrong, the fallback chip is used
    source: str = ""  # the program that shows the devices, for messages


class Blocker(NamedTuple):
    """What a chip needs and this host does not have."""

    text: str  # a noun: "numpy < 2"
    kinds: Tuple[str, ...]  # what is not possible without it: RUN, COMPILE; UNKNOWN: the host may have it


RUN, COMPILE, UNKNOWN = "run", "compile", "unknown"


class Row(NamedTuple):
    """A row of make doctor."""

    what: str
    found: str
    fix: str = ""  # what to do; empty: nothing
    blocks: Tuple[Blocker, ...] = ()  # what this row prevents, for chips of the engine that it is about


class Session(Protocol):
    """A loaded model in this process."""

    conditions: Record  # runtime, threads, streams …: what to record of a run

    def stream(self, batches: Iterable[Array]) -> Iterator[Array]:
        """The logits of each batch, in order: float32 [batch, classes] for float32 [batch, *IMAGE_SHAPE].

        Logits have to stay until the next ones are asked for. It may take more batches before it answers the first, to
        keep several requests in flight, but only from within a call for the next answer, and only so many that memory
        stays bounded. See feed.OneAtATime for the usual way.
        """


class Compiler(Protocol):
    def compile_model(self, request: CompileRequest) -> Record: ...


class InProcess(Protocol):
    def open_session(self, model: Path, options: Options) -> Session: ...


class Program(Protocol):
    def infer(self, request: RunRequest, out: Path) -> Record: ...


class Timer(Protocol):
    def measure(self, request: RunRequest, rules: PerfRules, batches: Iterator[Array]) -> Measured: ...


class Layers(Protocol):
    def tensor_names(self, model: Path) -> List[str]: ...

    def tensors(self, model: Path, images: Array, names: Sequence[str]) -> Dict[str, Array]: ...


class Profiler(Protocol):
    def profile(self, model: Path, options: Options, macs: Dict[str, int], images: Array) -> List[Record]: ...


class Finder(Protocol):
    def find(self, chips: List[str]) -> Found:
        """The chip of this host's devices, one of `chips`, the names in params.yaml."""


class Checker(Protocol):
    """What this host has for an engine. It asks other programs when it is made, all at once by `query`."""

    part: str  # the group of its rows in the JSON of make doctor

    def __init__(self, query: BackgroundQueries, options: Options, chips: List[str]) -> None:
        """`options`: the engine's LIMITS by their keys and, if make doctor was asked about a chip of this engine, the
        words of the chip's line. `chips`: the names in params.yaml; the first is the fallback."""

    def rows(self, devices: str, root: Path) -> Iterator[Row]:
        """The rows for the devices "0" or "0,1" (empty: not given). A row named as one of the machine's own rows
        (memory, CPU) extends that row."""

    def found(self) -> Found:
        """The same as find() of _find.py, without asking again."""


def constants_of(name: str, engines: Path = ENGINES) -> Constants:
    """The constants of an engine, read from its __init__.py by `ast`; exits 1 if one is missing or not a literal."""
    path = engines / name / "__init__.py"
    given: Dict[str, Any] = {}
    try:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                given[node.targets[0].id] = ast.literal_eval(node.value)
        constants = Constants(**given)
        wrong = [name for name, kind in KINDS.items() if not isinstance(getattr(constants, name), kind)]
        if wrong or not re.fullmatch(r"\w+", constants.ENDING):
            raise ValueError(f"{(wrong or ['ENDING'])[0]} is {getattr(constants, (wrong or ['ENDING'])[0])!r}")
        return constants
    except (SyntaxError, ValueError, TypeError) as error:
        die(path, f"not the constants of an engine ({error})", "see Constants in scripts/engines/__init__.py")


KINDS = {"ENDING": str, "IN_PROCESS": bool, "PACKAGES": dict, "VALUES": dict, "INT8": str}
KINDS.update({name: tuple for name in ("NEEDS", "OPTIONS", "LIMITS")})


def names_of(engines: Path = ENGINES) -> List[str]:
    """Every engine."""
    return sorted(path.parent.name for path in engines.glob("*/compile.py"))


def has(name: str, part: str) -> bool:
    """Whether an engine has an optional part: perf, layers, profile, _find or _doctor."""
    return (ENGINES / name / f"{part}.py").is_file()


def module_of(name: str, part: str) -> str:
    return f"engines.{name}.{part}"


def load(name: str, part: str) -> Any:
    """The module <name>/<part>.py of an engine. Its type is one of the protocols above."""
    return importlib.import_module(module_of(name, part))


def options_of(words: str) -> Options:
    """{name: value} of words name=value."""
    return dict(word.split("=", 1) for word in words.split())
