"""Entries of a bench: the description of a contender, its process, the batch sizes it tried and its runs."""

from __future__ import annotations

from _support.artifact import Record

import contextlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.layout import bins_of
from benchmark.processes import Program, Unavailable, last_line, module, run_timed, started
from network.spec import IMAGE_SHAPE

THIS_PROJECT = "this project"  # Contender.what of a chip
OUTPUT_BATCH = 16  # images in a batch, for the outputs of the model that benchmark_app times


class Contender(NamedTuple):
    """The description of a contender."""

    name: str  # in params.yaml, in bench.json and on the screen
    kind: str  # a key of contender.KINDS
    precision: str  # float32, bfloat16 or int8, or as in the record of the chip's model; empty: none
    what: str
    options: str = ""  # options of its kind; for a chip, those of its engine
    engine: str = ""  # of a chip; otherwise empty
    note: str = ""  # added to its name in the table of figures
    size_from: str = ""  # the contender whose best batch size it uses, because trying a size takes a minute


class Worker:
    """A process that keeps a contender loaded; contender.py describes the requests."""

    def __init__(self, program: Program, log: Path, stack: contextlib.ExitStack) -> None:
        log.touch()
        self.process, self.log = stack.enter_context(started(program, log, pipes=True)), log
        self.conditions: Record = {}

    def ask(self, **request: object) -> Record:
        """The reply to a request; raises Unavailable if the contender cannot do it, or if its process died."""
        size = self.log.stat().st_size
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            reply: Record = json.loads(self.process.stdout.readline() or "{}")
        except (BrokenPipeError, ValueError):
            reply = {}
        if not reply:
            raise Unavailable("its process died")
        if "unavailable" in reply:
            raise Unavailable(reply["unavailable"] or last_line(self.log, size))
        self.conditions = reply.get("conditions", self.conditions)
        return reply

    def logits(self, count: int, out: Path) -> NDArray[Any]:
        """The logits of the first `count` images, float [count, classes]; the process saves them as the file `out`."""
        self.ask(do="outputs", images=count, out=str(out))
        logits: NDArray[Any] = np.load(out)
        return logits


class Workers(NamedTuple):
    """Starts the processes of contenders; closing `stack` ends them."""

    bins: Path  # manifest.json of the float32 bins
    images: int  # number of bins
    folder: Path  # for logs and outputs
    stack: contextlib.ExitStack

    def start(self, contender: Contender, model: Path | str = "") -> Worker:
        """Starts a contender. `model` is a path in which % is replaced by the batch size."""
        words = ["--kind", contender.kind, f"--options={contender.options}", f"--engine={contender.engine}"]
        bins = bins_of(self.bins, contender.options) if contender.engine else self.bins
        words += [f"--model={model}", f"--bins={bins}", f"--images={self.images}"]
        return Worker(module("benchmark.contender", *words), self.log(contender.name), self.stack)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


class Entry:
    """A contender that takes part. A choice is the configuration to load: a batch size."""

    def __init__(self, contender: Contender, sizes: Sequence[int], worker: Worker | None) -> None:
        self.contender, self.sizes, self.worker = contender, list(sizes), worker
        self.name = contender.name
        self.tried: dict[str, float] = {}  # {choice: rate of its fastest try}
        self.best = ""  # the choice that the rounds use
        self.laps: list[Record | None] = []  # the run of each round
        self.gate: Record = {}  # the result of the accuracy check

    def choices(self) -> list[str]:
        return [str(size) for size in self.sizes]

    def load(self, choice: str) -> None:
        """Prepares a choice to run; this is not timed."""
        assert self.worker
        self.worker.ask(do="load", batch=int(choice))

    def run_for(self, seconds: float) -> Record:
        """Runs for `seconds` and returns at least {images, seconds}."""
        assert self.worker
        return self.worker.ask(do="run", seconds=seconds)

    def logits(self, count: int, out: Path) -> NDArray[Any]:
        """The logits of the first `count` images, as from Worker.logits()."""
        assert self.worker
        return self.worker.logits(count, out)

    def try_choices(self, seconds: float, choices: Sequence[str]) -> None:
        """Times each choice. The fastest try of a choice counts, because other processes can only slow it down."""
        for choice in choices:
            self.load(choice)
            self.tried[choice] = max(self.tried.get(choice, 0.0), self.rate(self.run_for(seconds)))

    def choose_best(self, seconds: float) -> None:
        """Times the three best choices again at a later time, and loads the fastest one."""
        order = sorted(self.choices(), key=lambda choice: -self.tried.get(choice, 0.0))
        self.try_choices(seconds, order[:3])
        self.best = max(self.tried, key=lambda choice: self.tried[choice])
        self.load(self.best)

    def rate(self, lap: Record | None) -> float:
        """Images per second of a run."""
        return float(lap["images"] / lap["seconds"]) if lap else 0.0

    def rates(self) -> list[float | None]:
        return [self.rate(lap) if lap else None for lap in self.laps]

    def record(self) -> Record:
        """The entry in bench.json."""
        contender, conditions = self.contender, self.worker.conditions if self.worker else {}
        tries = {"best": self.best, "tried": self.tried, "gate": self.gate, "laps": self.laps}
        return {"what": contender.what, "precision": contender.precision, "conditions": conditions, **tries}


class Limit(Entry):
    """A limit of this machine, for which the fastest call counts; a choice is the size of its arrays."""

    def rate(self, lap: Record | None) -> float:
        """Units of contender.WORK per second."""
        return float(lap["images"] / lap["calls"] / lap["fastest_call_s"]) if lap else 0.0


class BenchmarkApp(Entry):
    """OpenVINO's benchmark_app, which loads, warms up and times itself; a choice is a batch size and a hint."""

    HINTS = ("throughput", "latency", "none")

    def __init__(self, contender: Contender, sizes: Sequence[int], model: Path, workers: Workers) -> None:
        super().__init__(contender, sizes, None)
        self.model, self.workers, self.log = model, workers, workers.log(contender.name)

    def choices(self) -> list[str]:
        return [f"{size} {hint}" for size in self.sizes for hint in self.HINTS]

    def load(self, choice: str) -> None:
        self.best = choice

    def run_for(self, seconds: float) -> Record:
        size, hint = self.best.split()
        shape = ",".join(map(str, (size, *IMAGE_SHAPE)))
        words = ["-m", str(self.model), "-d", "CPU", "-hint", hint]
        words += ["-t", str(max(1, round(seconds)))]  # whole seconds
        words += ["-infer_precision", self.contender.options, "-shape", f"[{shape}]"]
        begin = self.log.stat().st_size if self.log.exists() else 0
        run_timed(module("benchmark.app", *words), self.log)
        return parse_benchmark_app(self.log.read_bytes()[begin:].decode("utf-8", "replace"), int(size))

    def logits(self, count: int, out: Path) -> NDArray[Any]:
        """The logits from the same runtime, graph and precision, because benchmark_app does not write them."""
        with contextlib.ExitStack() as stack:
            worker = self.workers._replace(stack=stack).start(self.contender, self.model)
            worker.ask(do="load", batch=OUTPUT_BATCH)
            return worker.logits(count, out)


def parse_benchmark_app(text: str, size: int) -> Record:
    """{images, seconds, calls, said_fps} from the output of benchmark_app.

    Raises Unavailable if the throughput is missing, or differs from its count / duration by more than 2 %.
    """
    matches = {name: re.search(rf"{name}:\s+([\d.]+)", text) for name in ("Count", "Duration", "Throughput")}
    count, duration, throughput = (float(match[1]) if match else 0 for match in matches.values())
    if not count or not duration or abs(count * size / duration * 1000 / (throughput or 1) - 1) > 0.02:
        raise Unavailable("benchmark_app printed no throughput, or one that does not match its count and duration")
    return {"images": int(count) * size, "seconds": duration / 1000, "calls": int(count), "said_fps": throughput}
