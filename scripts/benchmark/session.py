"""One run of make bench, from the inputs of a ROOT to the contents of bench.json."""

from __future__ import annotations

from _support import cli, process
from _support.artifact import Record, read_record, record_of
from _support.cli import die
from _support.machine import cpu_name, threads

import contextlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Sequence

import engines
from benchmark import chips, end_to_end, others, roofline
from benchmark.end_to_end import Chain, Make, Task, Ways
from benchmark.entries import Entry, Limit, Workers
from benchmark.layout import Root
from benchmark.preparation import Preparation, Rules, read_reference
from benchmark.processes import Absent
from benchmark.ratios import TIME_AT_CEILING, Figure, judge_all
from benchmark.rounds import run_rounds
from reporting import timing
from reporting.provenance import source_line, source_of

WHOLE = "whole"  # the word of bench.contenders that asks for whole processes
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
PACKAGES = ("numpy", "torch", "onnxruntime")  # beside those of the engines
WHOLE_ROUNDS = 3  # at most; a round takes a minute
NO_OPS = 10  # at least so many times


class Plan(NamedTuple):
    """What to compare, and how long."""

    make: Make
    root: Root
    inputs: dict[str, str]  # SOURCE, ARCHIVE, WEIGHTS and others: variables of make
    chips: dict[str, str]  # {chip: engine} of params.yaml
    contenders: list[str]  # all, or names
    figures: list[Figure]  # of bench.pairs
    chip: str  # of the whole processes, if it passed its accuracy check
    rules: Rules
    batch_sizes: list[int]  # to try
    batch_size: int  # of the whole processes
    rounds: int
    seconds: float  # of each contender in a round
    images: int  # whose answers are compared, at most

    def wants(self, name: str) -> bool:
        return "all" in self.contenders or name in self.contenders

    def all_figures(self) -> list[Figure]:
        """In the order of the table: those with a wanted value first."""
        wanted = [figure for figure in self.figures if figure.wanted is not None]
        return [*wanted, *end_to_end.FIGURES, *(figure for figure in self.figures if figure.wanted is None)]


class Session:
    """The parts of one run, in the order in which they are called."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """`folder` is for logs and for whatever else is removed at the end."""
        self.plan, self.folder, self.root = plan, folder, plan.root
        self.reasons: dict[str, str] = {}  # of each series that is missing or does not count
        self.series: dict[str, list[float | None]] = {}
        self.macs = 0  # multiply-accumulates an image
        self.limits: dict[str, float] = {}  # {limit of the machine: units a second}

    def build(self) -> dict[str, list[int]]:
        """Everything that make builds: {chip that takes part: its batch sizes}."""
        plan, able = self.plan, chips.take_part(self.plan.chips)
        chain = Chain(plan.make, self.root, self.folder / "make.log", plan.inputs)
        first = next(iter({**able, **plan.chips}))
        print("  inputs, both graphs, and the reference engine's answers", flush=True)
        try:
            chips.build_inputs(chain, first)
        except Absent as reason:
            die(f"ROOT={self.root.path}", str(reason), f"make accuracy CHIP={first} shows more")
        built: dict[str, list[int]] = {}
        for chip in filter(plan.wants, able):
            print(f"  {chip}: models and answers", flush=True)
            try:
                built[chip] = chips.build_chip(chain, chip, plan.batch_sizes, plan.batch_size)
            except Absent as reason:
                self.reasons[chip] = f"left out: {reason}"
                print(f"  {chip}: {self.reasons[chip]}", flush=True)
        return built

    def measure(self, built: dict[str, list[int]]) -> list[Entry]:
        """Prepares all entries and runs the rounds; fills series and limits."""
        plan = self.plan
        with contextlib.ExitStack() as stack:
            workers = Workers(self.root.bins, self.root.images(), self.folder, stack)
            entries = [chips.entry_of(self.root, chip, sizes, workers) for chip, sizes in built.items()]
            entries += others.entries_of(self.root, plan.batch_sizes, plan.wants, workers)
            reference = read_reference(self.root, plan.images)
            entries = Preparation(plan.rules, reference, self.folder, self.reasons).prepare(entries)
            run_rounds(entries, plan.rounds, plan.seconds)
        self.macs = sum(roofline.macs_of(self.root.optimized).values())
        for entry in entries:
            self.add_series(entry)
        return entries

    def add_series(self, entry: Entry) -> None:
        """images/s of each round. Of a matrix product: what the network could reach at its speed."""
        rates = entry.rates()
        if isinstance(entry, Limit):
            self.limits[entry.name] = max([rate for rate in rates if rate], default=0.0)
            rates = [roofline.images_per_s(rate, self.macs) if rate else None for rate in rates]
        if entry.name != others.COPY.name:
            self.series[entry.name] = rates

    def profiles(self, entries: Sequence[Entry]) -> dict[str, list[Record]]:
        """{chip: rows by operator}, of the chips whose engine can tell."""
        profiles = {}
        for entry in entries:
            engine = entry.contender.engine
            if not engine or not engines.has(engine, "profile"):
                continue
            try:
                rows = roofline.profile(self.root, entry.name, entry.best, self.folder)
            except Absent as reason:
                print(f"  {entry.name}: no profile: {reason}", file=sys.stderr)
                continue
            ceiling = self.limits.get(others.product_of(entry.contender.precision), 0.0)
            profiles[entry.name] = roofline.with_shares(rows, ceiling, self.limits.get(others.COPY.name, 0.0))
        return profiles

    def whole_processes(self, entries: Sequence[Entry]) -> Record:
        """Stages, no-op and both ways, of one chip in a ROOT of its own; adds their series. {}: not asked for."""
        passed = [entry for entry in entries if entry.contender.engine and entry.gate["passed"]]
        if not passed or not self.plan.wants(WHOLE):
            return {}
        chosen = next((entry for entry in passed if entry.name == self.plan.chip), passed[0])
        print(f"  whole processes, {chosen.name} at batch size {self.plan.batch_size}", flush=True)
        int8 = next((entry.name for entry in entries if entry.name in self.plan.rules.int8), "")
        try:
            stages = self.run_whole(Task(self.own_chain(), chosen.name, self.plan.batch_size), int8)
        except Absent as reason:
            print(f"  whole processes: failed: {reason}", flush=True)
            self.reasons.update({name: f"failed: {reason}" for name in end_to_end.SERIES if name not in self.series})
            return {"chip": chosen.name, "failed": str(reason)}
        speeds = self.series.get(others.product_of(chosen.contender.precision), [])
        speed = max((rate or 0 for rate in speeds), default=0)
        if speed:
            seconds = self.root.images() / speed
            self.series[TIME_AT_CEILING] = [seconds] * len(self.series[end_to_end.OUR_ACCURACY])
        return {"chip": chosen.name, "batch_size": self.plan.batch_size, "stages": stages}

    def run_whole(self, task: Task, int8_chip: str) -> Record:
        """Runs all whole processes: the usage of each stage."""
        stages = {name: usage._asdict() for name, usage in task.stages(int8_chip).items()}
        self.series[end_to_end.NOTHING_TO_DO] = list(task.nothing_to_do(max(NO_OPS, self.plan.rounds)))
        ways = Ways(task, self.folder / "guide").run_rounds(min(WHOLE_ROUNDS, self.plan.rounds))
        self.series.update({name: list(seconds) for name, seconds in ways.items()})
        return stages

    def own_chain(self) -> Chain:
        """make in a new ROOT, with the inputs that this ROOT holds."""
        locks = self.folder / "locks"
        locks.mkdir()
        inputs = {
            name: value for name, value in self.plan.inputs.items() if name not in ("SOURCE", "ARCHIVE", "WEIGHTS")
        }
        if read_record(record_of(self.root.archive)).get("origin") == "sample":
            inputs["SOURCE"] = "sample"
        else:
            inputs.update(ARCHIVE=str(self.root.archive.absolute()), WEIGHTS=str(self.root.weights.absolute()))
        return Chain(self.plan.make, Root(self.folder / "root"), self.folder / "whole.log", inputs, locks)


def run(plan: Plan, folder: Path) -> Record:
    """Runs the bench; the contents of bench.json. Exits 1 if the inputs cannot be made."""
    session = Session(plan, folder)
    built = session.build()
    with process.lock_cpu():
        busy = timing.CpuLoad()
        entries = session.measure(built)
        profiles, whole = session.profiles(entries), session.whole_processes(entries)
        load = busy.others()
    root = plan.root
    made = {**read_record(record_of(root.optimized))["provenance"], **read_record(root.bins)["provenance"]}
    return {
        "conditions": {**conditions(), "others": load, "rounds": plan.rounds, "seconds": plan.seconds},
        "source": source_of(made),
        "made_from": source_line(made),
        "images": root.images(),
        "provenance": made,
        "macs_an_image": session.macs,
        "contenders": {entry.name: entry.record() for entry in entries},
        "left_out": session.reasons,
        "series": session.series,
        "figures": judge_all(plan.all_figures(), session.series, session.reasons),
        "whole": whole,
        "profile": profiles,
    }


def conditions() -> Record:
    """The machine, the versions and this tree."""
    flags: list[str] = []
    with contextlib.suppress(OSError):
        flags = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("flags")), "").split()
    packages = [name for engine in engines.names_of() for name in engines.constants_of(engine).PACKAGES.get("run", ())]
    versions = {}
    for name in (*PACKAGES, *packages):
        with contextlib.suppress(metadata.PackageNotFoundError):  # not every package exists for every machine
            versions[name] = metadata.version(name)
    tree = str(cli.SCRIPTS.parent)
    status, commit = process.ask_program(["git", "-C", tree, "rev-parse", "HEAD"], dict(os.environ))
    changed = "" if status else process.ask_program(["git", "-C", tree, "status", "--porcelain"], dict(os.environ))[1]
    state = "no git" if status else commit.strip() + (", changed" if changed.strip() else "")
    return {
        "host": cpu_name(),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
        "threads": threads(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "commit": state,
    }
