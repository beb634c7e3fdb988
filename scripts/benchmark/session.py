"""Runs make bench once, from the inputs of a ROOT to the contents of bench.json."""

from __future__ import annotations

from _support import cli, locks, process
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
from benchmark.end_to_end import Chain, GuideComparison, Make, Task
from benchmark.entries import Entry, Limit, Workers
from benchmark.layout import Root
from benchmark.preparation import Preparation, Rules, read_reference
from benchmark.processes import Unavailable
from benchmark.ratios import TIME_AT_CEILING, Figure, judge_all
from benchmark.rounds import run_rounds
from reporting import timing
from reporting.provenance import labels_of, source_line, without_paths

WHOLE = "whole"  # the name in bench.contenders that selects whole processes
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
PACKAGES = ("numpy", "torch", "onnxruntime")  # recorded in addition to those of the engines
WHOLE_ROUNDS = 3  # maximum number of rounds of whole processes; a round takes a minute
NO_OPS = 10  # minimum number of runs of make with everything up to date


class Plan(NamedTuple):
    """The contenders to compare, and the durations."""

    make: Make
    root: Root
    inputs: dict[str, str]  # SOURCE, ARCHIVE, WEIGHTS and others: variables of make
    chips: dict[str, str]  # {chip: engine} of params.yaml
    contenders: list[str]  # names, or "all"
    figures: list[Figure]  # from bench.pairs
    chip: str  # for the whole processes, if it passed its accuracy check
    rules: Rules
    batch_sizes: list[int]  # to try
    batch_size: int  # for the whole processes
    rounds: int
    seconds: float  # duration of each contender in a round
    images: int  # maximum number of images for the accuracy check

    def wants(self, name: str) -> bool:
        return "all" in self.contenders or name in self.contenders

    def all_figures(self) -> list[Figure]:
        """All figures in the order of the table: those with a wanted value first."""
        with_target = [figure for figure in self.figures if figure.wanted is not None]
        return [*with_target, *end_to_end.FIGURES, *(figure for figure in self.figures if figure.wanted is None)]


def chip_for_processes(entries: Sequence[Entry], preferred: str) -> Entry | None:
    """The chip that runs the whole processes: `preferred` if it passed its accuracy check, else the first that did."""
    passed = [entry for entry in entries if entry.contender.engine and entry.gate["passed"]]
    return next((entry for entry in passed if entry.name == preferred), passed[0] if passed else None)


class Session:
    """The parts of one run; methods are called in the order in which they are defined."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        """`folder` is for logs and temporary files, which are removed at the end."""
        self.plan, self.folder, self.root = plan, folder, plan.root
        self.reasons: dict[str, str] = {}  # why a series is missing or excluded, by its name
        self.series: dict[str, list[float | None]] = {}
        self.macs = 0  # multiply-accumulates per image
        self.limits: dict[str, float] = {}  # {limit of the machine: units per second}

    def build(self) -> dict[str, list[int]]:
        """Builds the inputs and the models with make; returns {chip that takes part: its batch sizes}."""
        plan, candidates = self.plan, chips.chips_in_process(self.plan.chips)
        chain = Chain(plan.make, self.root, self.folder / "make.log", plan.inputs)
        first = next(iter({**candidates, **plan.chips}))
        print("  building the inputs, both graphs and the reference outputs")
        try:
            chips.build_inputs(chain, first)
        except Unavailable as reason:
            die(f"ROOT={self.root.path}", str(reason), f"run make accuracy CHIP={first} for details")
        built: dict[str, list[int]] = {}
        for chip in filter(plan.wants, candidates):
            print(f"  {chip}: building models and outputs")
            try:
                built[chip] = chips.build_chip(chain, chip, plan.batch_sizes, plan.batch_size)
            except Unavailable as reason:
                self.reasons[chip] = f"left out: {reason}"
                print(f"  {chip}: {self.reasons[chip]}")
        return built

    def measure(self, built: dict[str, list[int]]) -> list[Entry]:
        """Prepares all entries and runs the rounds; fills `series` and `limits`."""
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
        """Adds the images/s of each round. For a matrix product, these are the images/s at its speed."""
        rates = entry.rates()
        if isinstance(entry, Limit):
            self.limits[entry.name] = max([rate for rate in rates if rate], default=0.0)
            rates = [roofline.images_per_s(rate, self.macs) if rate else None for rate in rates]
        if entry.name != others.COPY.name:
            self.series[entry.name] = rates

    def profiles(self, entries: Sequence[Entry]) -> dict[str, list[Record]]:
        """{chip: rows by operator} for the chips whose engine has a profiler."""
        profiles = {}
        for entry in entries:
            engine = entry.contender.engine
            if not engine or not engines.has(engine, "profile"):
                continue
            try:
                rows = roofline.profile(self.root, entry.name, entry.best, self.folder)
            except Unavailable as reason:
                print(f"  {entry.name}: no profile: {reason}", file=sys.stderr)
                continue
            ceiling = self.limits.get(others.product_of(entry.contender.precision), 0.0)
            profiles[entry.name] = roofline.with_shares(rows, ceiling, self.limits.get(others.COPY.name, 0.0))
        return profiles

    def whole_processes(self, entries: Sequence[Entry]) -> Record:
        """Runs the whole processes of one chip in a new ROOT and adds their series.

        Returns {chip, batch_size, stages}, or {} if bench.contenders does not select them.
        """
        chosen = chip_for_processes(entries, self.plan.chip)
        if not chosen or not self.plan.wants(WHOLE):
            return {}
        print(f"  whole processes, {chosen.name} at batch size {self.plan.batch_size}")
        int8 = next((entry.name for entry in entries if entry.name in self.plan.rules.int8), "")
        try:
            stages = self.run_whole(Task(self.own_chain(), chosen.name, self.plan.batch_size), int8)
        except Unavailable as reason:
            print(f"  whole processes failed: {reason}")
            self.reasons.update({name: f"failed: {reason}" for name in end_to_end.SERIES if name not in self.series})
            return {"chip": chosen.name, "failed": str(reason)}
        speeds = self.series.get(others.product_of(chosen.contender.precision), [])
        speed = max((rate or 0 for rate in speeds), default=0)
        if speed:
            seconds = self.root.images() / speed
            self.series[TIME_AT_CEILING] = [seconds] * len(self.series[end_to_end.OUR_ACCURACY])
        return {"chip": chosen.name, "batch_size": self.plan.batch_size, "stages": stages}

    def run_whole(self, task: Task, int8_chip: str) -> Record:
        """Runs all whole processes and returns the usage of each stage."""
        stages = {name: usage._asdict() for name, usage in task.stages(int8_chip).items()}
        self.series[end_to_end.UP_TO_DATE] = list(task.up_to_date(max(NO_OPS, self.plan.rounds)))
        comparison = GuideComparison(task, self.folder / "guide")
        series = comparison.run_rounds(min(WHOLE_ROUNDS, self.plan.rounds))
        self.series.update({name: list(seconds) for name, seconds in series.items()})
        return stages

    def own_chain(self) -> Chain:
        """make in a new ROOT, with the inputs of this ROOT."""
        own_locks = self.folder / "locks"
        own_locks.mkdir()
        inputs = {
            name: value for name, value in self.plan.inputs.items() if name not in ("SOURCE", "ARCHIVE", "WEIGHTS")
        }
        if read_record(record_of(self.root.archive)).get("origin") == "sample":
            inputs["SOURCE"] = "sample"
        else:
            inputs.update(ARCHIVE=str(self.root.archive.absolute()), WEIGHTS=str(self.root.weights.absolute()))
        return Chain(self.plan.make, Root(self.folder / "root"), self.folder / "whole.log", inputs, own_locks)


def run(plan: Plan, folder: Path) -> Record:
    """Runs the bench and returns the contents of bench.json; exits 1 if the inputs cannot be built."""
    session = Session(plan, folder)
    built = session.build()
    with locks.lock_cpu():
        load = timing.CpuLoad()
        entries = session.measure(built)
        profiles, whole = session.profiles(entries), session.whole_processes(entries)
        others_load = load.others()
    root = plan.root
    provenance = {**read_record(record_of(root.optimized))["provenance"], **read_record(root.bins)["provenance"]}
    return {
        "conditions": {**conditions(), "others": others_load, "rounds": plan.rounds, "seconds": plan.seconds},
        **labels_of(provenance),
        "made_from": source_line(provenance),
        "images": root.images(),
        "provenance": without_paths(provenance),
        "macs_an_image": session.macs,
        "contenders": {entry.name: entry.record() for entry in entries},
        "left_out": session.reasons,
        "series": session.series,
        "figures": judge_all(plan.all_figures(), session.series, session.reasons),
        "whole": whole,
        "profile": profiles,
    }


def conditions() -> Record:
    """The conditions of the run: the machine, the versions and the commit of this tree."""
    flags: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "").split()
    packages = [name for engine in engines.names_of() for name in engines.constants_of(engine).PACKAGES.get("run", ())]
    versions = {}
    for name in (*PACKAGES, *packages):
        with contextlib.suppress(metadata.PackageNotFoundError):  # some packages do not exist for every machine
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
