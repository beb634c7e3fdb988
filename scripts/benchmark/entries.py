"""Entries of a bench: a contender's description, its process, the batch sizes that it tried and its laps."""

from __future__ import annotations

from _support.artifact import Record

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.processes import Absent, Program, last_line, module, run_timed, started
from network.spec import IMAGE_SHAPE

THIS_PROJECT = "this project"  # Contender.what of a chip
ANSWER_BATCH = 16  # images in a batch, for the answers of what benchmark_app times


class Contender(NamedTuple):
    """The description of a contender."""

    name: str  # in params.yaml, in bench.json and on the screen
    kind: str  # a key of contender.KINDS
    precision: str  # float32, bfloat16 or int8, or as the chip's record has it; empty: none
    what: str
    options: str = ""  # for its kind; of a chip, those of its engine
    engine: str = ""  # of a chip
    note: str = ""  # what the table of figures adds to its name
    size_from: str = ""  # the contender whose best batch size it takes, because each size would cost a minute


class Worker:
    """A process that keeps a contender loaded; see contender.py for its requests."""

    def __init__(self, program: Program, log: Path, stack: contextlib.ExitStack) -> None:
        log.touch()
        self.process, self.log = stack.enter_context(started(program, log, pipes=True)), log
        self.conditions: Record = {}

    def ask(self, **request: object) -> Record:
        """The answer to a request; raises Absent if the contender cannot or its process died."""
        size = self.log.stat().st_size
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer: Record = json.loads(self.process.stdout.readline() or "{}")
        except (BrokenPipeError, ValueError):
            answer = {}
        if not answer:
            raise Absent("its process died")
        if "absent" in answer:
            raise Absent(answer["absent"] or last_line(self.log, size))
        self.conditions = answer.get("conditions", self.conditions)
        return answer

    def answers(self, count: int, out: Path) -> NDArray[Any]:
        """The logits of the first `count` images, float [count, classes], by way of the file `out`."""
        self.ask(do="answers", images=count, out=str(out))
        logits: NDArray[Any] = np.load(out)
        return logits


class Workers(NamedTuple):
    """Starts the processes of contenders; they end with `stack`."""

    bins: Path  # their manifest.json
    images: int  # how many bins there are
    folder: Path  # for logs and answers
    stack: contextlib.ExitStack

    def start(self, contender: Contender, model: Path | str = "") -> Worker:
        """`model` is a file, or a name in which % is replaced by the batch size."""
        words = ["--kind", contender.kind, f"--options={contender.options}", f"--engine={contender.engine}"]
        words += [f"--model={model}", f"--bins={self.bins}", f"--images={self.images}"]
        return Worker(module("benchmark.contender", *words), self.log(contender.name), self.stack)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


class Entry:
    """A contender that takes part. A choice is what it is loaded with: a batch size."""

    def __init__(self, contender: Contender, sizes: Sequence[int], worker: Worker | None) -> None:
        self.contender, self.sizes, self.worker = contender, list(sizes), worker
        self.name = contender.name
        self.tried: dict[str, float] = {}  # {choice: rate of its faster try}
        self.best = ""  # the choice that the rounds use
        self.laps: list[Record | None] = []  # a round each
        self.gate: Record = {}

    def choices(self) -> list[str]:
        return [str(size) for size in self.sizes]

    def load(self, choice: str) -> None:
        """Prepares a choice to run; this time is part of no lap."""
        assert self.worker
        self.worker.ask(do="load", batch=int(choice))

    def lap(self, seconds: float) -> Record:
        """Runs for so long: at least images and seconds."""
        assert self.worker
        return self.worker.ask(do="run", seconds=seconds)

    def answers(self, count: int, out: Path) -> NDArray[Any]:
        """The logits of the first `count` images, as a worker answers them."""
        assert self.worker
        return self.worker.answers(count, out)

    def attempt(self, seconds: float, choices: Sequence[str]) -> None:
        """Times each choice. Of several tries of one the fastest counts, since other processes only slow it down."""
        for choice in choices:
            self.load(choice)
            self.tried[choice] = max(self.tried.get(choice, 0.0), self.rate(self.lap(seconds)))

    def choose(self, seconds: float) -> None:
        """Times the three best choices once more, later than the first time, and loads the fastest one."""
        order = sorted(self.choices(), key=lambda choice: -self.tried.get(choice, 0.0))
        self.attempt(seconds, order[:3])
        self.best = max(self.tried, key=lambda choice: self.tried[choice])
        self.load(self.best)

    def rate(self, lap: Record | None) -> float:
        """Images a second."""
        return float(lap["images"] / lap["seconds"]) if lap else 0.0

    def rates(self) -> list[float | None]:
        return [self.rate(lap) if lap else None for lap in self.laps]

    def record(self) -> Record:
        """What bench.json says of it."""
        about, conditions = self.contender, self.worker.conditions if self.worker else {}
        tries = {"best": self.best, "tried": self.tried, "gate": self.gate, "laps": self.laps}
        return {"what": about.what, "precision": about.precision, "conditions": conditions, **tries}


class Limit(Entry):
    """A limit of this machine, of which the fastest call counts; a choice is the size of its arrays."""

    def rate(self, lap: Record | None) -> float:
        """Units of contender.WORK a second."""
        return float(lap["images"] / lap["calls"] / lap["fastest_call_s"]) if lap else 0.0


class BenchmarkApp(Entry):
    """OpenVINO's benchmark_app, which loads, warms up and times itself; a choice is a batch size and a hint."""

    HINTS = ("throughput", "latency", "none")

    def __init__(self, contender: Contender, sizes: Sequence[int], model: Path, workers: Workers) -> None:
        super().__init__(contender, sizes, None)
        self.model, self.workers, self.log = model, workers, workers.log(contender.name)
        self.program = Path(sys.executable).with_name("benchmark_app")

    def choices(self) -> list[str]:
        return [f"{size} {hint}" for size in self.sizes for hint in self.HINTS]

    def load(self, choice: str) -> None:
        self.best = choice

    def lap(self, seconds: float) -> Record:
        if not self.program.is_file():
            raise Absent(f"no benchmark_app beside {sys.executable}")
        size, hint = self.best.split()
        shape = ",".join(map(str, (size, *IMAGE_SHAPE)))
        command = [str(self.program), "-m", str(self.model), "-d", "CPU", "-hint", hint]
        command += ["-t", str(max(1, round(seconds)))]  # whole seconds
        command += ["-infer_precision", self.contender.options, "-shape", f"[{shape}]"]
        begin = self.log.stat().st_size if self.log.exists() else 0
        run_timed(Program(command), self.log)
        return app_lap(self.log.read_bytes()[begin:].decode("utf-8", "replace"), int(size))

    def answers(self, count: int, out: Path) -> NDArray[Any]:
        """Those of its runtime, graph and precision in another process, because benchmark_app does not show them."""
        with contextlib.ExitStack() as stack:
            worker = self.workers._replace(stack=stack).start(self.contender, self.model)
            worker.ask(do="load", batch=ANSWER_BATCH)
            return worker.answers(count, out)


def app_lap(text: str, size: int) -> Record:
    """images, seconds and calls by what benchmark_app printed; raises Absent if it printed no consistent result."""
    matches = {name: re.search(rf"{name}:\s+([\d.]+)", text) for name in ("Count", "Duration", "Throughput")}
    count, duration, throughput = (float(match[1]) if match else 0 for match in matches.values())
    if not count or not duration or abs(count * size / duration * 1000 / (throughput or 1) - 1) > 0.02:
        raise Absent("benchmark_app printed no throughput, or one that differs from its count by its duration")
    return {"images": int(count) * size, "seconds": duration / 1000, "calls": int(count), "said_fps": throughput}
