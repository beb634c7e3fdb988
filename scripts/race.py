"""Contenders in turns: in each round each runs once, alone, and a ratio is that of one round, under one load and clock.

What is said of ratios: their median, and the least and the largest of the rounds.
"""

from __future__ import annotations

import _build
from _build import Record

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

import _tool


class Absent(Exception):
    """Why a contender is left out."""


def spread(values: Sequence[float]) -> Record:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(above: Sequence[float | None], below: Sequence[float | None]) -> list[float]:
    """Round by round, where both ran: never a figure of one round by that of another."""
    return [a / b for a, b in zip(above, below) if a is not None and b]


@contextlib.contextmanager
def started(command: Sequence[str], log: Path, pipes: bool, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A program in a group of its own, which is killed at the end, and when this process ends, however that comes."""
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else stream,
            stderr=stream,
            text=True,
            start_new_session=True,
            preexec_fn=_tool.bound_to_us,
            **more,
        )
    guard = subprocess.Popen(
        ["sh", "-c", 'read _; kill -s KILL -- "-$1" 2> /dev/null', "guard", str(process.pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        guard.communicate()
        with contextlib.suppress(BrokenPipeError):
            process.__exit__(None, None, None)


def whole(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> Record:
    """Runs a program: its wall clock's seconds, and the largest memory of it or of what it ran, in MiB. Raises Absent
    with what it said last if it fails."""
    begin, size = time.perf_counter(), log.stat().st_size if log.exists() else 0
    with started(command, log, False, env=environment, cwd=cwd) as process:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Absent(last_line(log, size) or f"{command[0]} exits {process.returncode}")
    return {"seconds": seconds, "peak_mib": usage.ru_maxrss / 1024}


def last_line(log: Path, size: int = 0) -> str:
    """What a program said last, but for what make adds."""
    lines = log.read_bytes()[size:].decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return next((_build.plain(line) for line in reversed(lines) if line.strip() and not re.match(r"make\b", line)), "")


class Worker:
    """A contender that stays loaded: see contender.py."""

    def __init__(self, words: Sequence[str], log: Path, stack: contextlib.ExitStack) -> None:
        command = [sys.executable, str(_build.SCRIPTS / "contender.py"), *words]
        self.process, self.log = stack.enter_context(started(command, log, True)), log
        self.conditions: Record = {}

    def ask(self, **request: object) -> Record:
        size = self.log.stat().st_size
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer: Record = json.loads(self.process.stdout.readline() or "{}")
        except (BrokenPipeError, ValueError):
            answer = {}
        if "absent" in answer or not answer:
            said = answer.get("absent", "its process died")
            raise Absent(last_line(self.log, size) or said if said == "see above" else said)
        self.conditions = answer.get("conditions", self.conditions)
        return answer


class Entry:
    """Who takes part: loaded with `load`, timed with `lap`, which tells at least images and seconds."""

    def __init__(self, name: str, what: str, precision: str, sizes: Sequence[int], worker: Worker | None) -> None:
        self.name, self.what, self.precision, self.sizes, self.worker = name, what, precision, sizes, worker
        self.tried: dict[str, float] = {}
        self.best = ""
        self.laps: list[Record | None] = []
        self.gate: Record = {}

    def choices(self) -> list[str]:
        return [str(size) for size in self.sizes]

    def load(self, choice: str) -> None:
        assert self.worker
        self.worker.ask(do="load", batch=int(choice))

    def lap(self, seconds: float) -> Record:
        assert self.worker
        return self.worker.ask(do="run", seconds=seconds)

    def attempt(self, seconds: float, choices: Sequence[str]) -> None:
        """Tries some sizes for a short time; what others take from the machine only slows, so the faster try counts."""
        for choice in choices:
            self.load(choice)
            self.tried[choice] = max(self.tried.get(choice, 0.0), self.rate(self.lap(seconds)))

    def settle(self, seconds: float) -> None:
        """Tries the three best sizes once more, later than the first time, and stays loaded with the fastest."""
        order = sorted(self.choices(), key=lambda choice: -self.tried.get(choice, 0.0))
        self.attempt(seconds, order[:3])
        self.best = max(self.tried, key=lambda choice: self.tried[choice])
        self.load(self.best)

    def rate(self, lap: Record | None) -> float:
        return float(lap["images"] / lap["seconds"]) if lap else 0.0

    def rates(self) -> list[float | None]:
        return [self.rate(lap) if lap else None for lap in self.laps]

    def record(self) -> Record:
        told = {
            "what": self.what,
            "precision": self.precision,
            "best": self.best,
            "tried": self.tried,
            "gate": self.gate,
        }
        return {**told, "conditions": self.worker.conditions if self.worker else {}, "laps": self.laps}


class Ceiling(Entry):
    """Of the machine: what counts is its fastest call."""

    def rate(self, lap: Record | None) -> float:
        return float(lap["images"] / lap["calls"] / lap["fastest_call_s"]) if lap else 0.0


class App(Entry):
    """OpenVINO's benchmark_app, which loads, warms up and times itself; a choice is a batch size and a hint."""

    HINTS = ("throughput", "latency", "none")

    def __init__(self, name: str, what: str, precision: str, sizes: Sequence[int], model: Path, log: Path) -> None:
        super().__init__(name, what, precision, sizes, None)
        self.model, self.log = model, log
        self.program = Path(sys.executable).with_name("benchmark_app")

    def choices(self) -> list[str]:
        return [f"{size} {hint}" for size in self.sizes for hint in self.HINTS]

    def load(self, choice: str) -> None:
        self.best = choice

    def lap(self, seconds: float) -> Record:
        size, hint = self.best.split()
        command = [
            str(self.program),
            "-m",
            str(self.model),
            "-d",
            "CPU",
            "-hint",
            hint,
            "-t",
            str(max(1, round(seconds))),
        ]
        command += ["-infer_precision", self.precision, "-shape", f"[{size},3,32,32]"]
        if not self.program.is_file():
            raise Absent(f"no benchmark_app beside {sys.executable}")
        begin = self.log.stat().st_size if self.log.exists() else 0
        whole(command, self.log)
        return app_figures(self.log.read_bytes()[begin:].decode("utf-8", "replace"), int(size))


def app_figures(text: str, size: int) -> Record:
    """images and seconds of what benchmark_app printed; raises Absent if it printed no result."""
    found = {name: re.search(rf"{name}:\s+([\d.]+)", text) for name in ("Count", "Duration", "Throughput")}
    count, duration, throughput = (float(match[1]) if match else 0 for match in found.values())
    if not count or not duration or abs(count * size / duration * 1000 / (throughput or 1) - 1) > 0.02:
        raise Absent("benchmark_app printed no throughput, or one that is not its count by its duration")
    return {"images": int(count) * size, "seconds": duration / 1000, "calls": int(count), "said_fps": throughput}


def race(entries: list[Entry], rounds: int, seconds: float) -> None:
    """Every entry once a round, in an order that moves on; one that fails is None from there on in no ratio."""
    for i in range(rounds):
        start = i % max(1, len(entries))
        for entry in entries[start:] + entries[:start]:
            try:
                lap: Record | None = entry.lap(seconds)
            except Absent as reason:
                print(f"  {entry.name}: no figure in round {i + 1}: {reason}", file=sys.stderr)
                lap = None
            entry.laps.append(lap)
        print(f"  round {i + 1} of {rounds}", flush=True)
