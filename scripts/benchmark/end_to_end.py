"""Whole processes, timed by the wall clock in a new ROOT with the same inputs.

These are each stage of the chain, make when everything is up to date, and the guide's steps interleaved with those of
this project: from the dataset archive to the bins, and from the bins to the accuracy.
"""

from __future__ import annotations

from _support import artifact, cli
from _support import locks as host_locks
from _support.artifact import read_record

import os
import re
import time
from pathlib import Path
from typing import Mapping, NamedTuple

from benchmark.layout import Root
from benchmark.processes import Program, Unavailable, Usage, module, plain_seconds, run_timed
from benchmark.ratios import TIME_AT_CEILING, Figure

UP_TO_DATE = "no-op ms"
GUIDE_BINS, OUR_BINS = "guide: archive to bins", "ours: archive to bins"  # s
GUIDE_ACCURACY, OUR_ACCURACY = "guide: bins to accuracy", "ours: bins to accuracy"  # s
SERIES = (UP_TO_DATE, GUIDE_BINS, OUR_BINS, GUIDE_ACCURACY, OUR_ACCURACY)
FIGURES = (
    Figure("bins to accuracy, time of guide / this project", GUIDE_ACCURACY, OUR_ACCURACY, 4, TIME_AT_CEILING),
    Figure("archive to bins, time of guide / this project", GUIDE_BINS, OUR_BINS, 5),
    Figure("make accuracy, everything up to date, ms", UP_TO_DATE, wanted=25, at_most=True),
)
STAGES = ("bin", "onnx", "optimized", "om", "infer", "accuracy")
BUDGET = 240.0  # s; no further round starts after this time
POINTS = 1.0  # percentage points by which Top-1 of the guide's steps may differ from ours
# Variables of the outer make that the inner one must not inherit. PYTHON and the inputs are on its command line.
OUTER = {"BS", "CHIP", "ROOT", "SOURCE", "ARCHIVE", "WEIGHTS", "ONNX", "OM", "PYTHON"}
OUTER |= {"DEPS", "V", "WHY", "FRESH", "LAYERS", "LAUNCH", "T"}


class Make(NamedTuple):
    """How make is called."""

    program: str
    python: str  # PYTHON=; empty: make's own


class Chain:
    """Runs make in one ROOT, independently of the make that runs the bench."""

    def __init__(self, make: Make, root: Root, log: Path, inputs: Mapping[str, str], locks: Path | None = None) -> None:
        """`inputs` are variables of make; empty ones are omitted.

        `locks` is a folder that replaces the one with the locks of this host. It is needed while this process holds
        them, because make would wait for them forever.
        """
        self.root, self.log = root, log
        outer = re.compile(r"MAKE|MFLAGS|GNUMAKE")
        environment = {k: v for k, v in os.environ.items() if k not in OUTER and not outer.match(k)}
        self.environment = {**environment, **({host_locks.VARIABLE: str(locks)} if locks else {})}
        variables = {"ROOT": str(root.path), "PYTHON": make.python, **inputs}
        self.command = [make.program, "-C", str(cli.SCRIPTS.parent), "--no-print-directory"]
        self.command += [f"{name}={value}" for name, value in variables.items() if value]

    def program(self, *goals: str | Path, **variables: str | int) -> Program:
        """The make of targets, or of files of this ROOT."""
        words = [f"{name}={value}" for name, value in variables.items()]
        names = [os.path.normpath(goal) for goal in goals]  # make's spelling of its files
        return Program([*self.command, *names, *words], self.environment)

    def run(self, *goals: str | Path, **variables: str | int) -> Usage:
        """Builds targets or files; raises Unavailable with make's last message if that fails."""
        return run_timed(self.program(*goals, **variables), self.log)


class Task(NamedTuple):
    """The task of the whole processes: make accuracy for a chip and a batch size."""

    chain: Chain
    chip: str
    batch_size: int

    def make(self, *goals: str | Path) -> Usage:
        return self.chain.run(*goals, CHIP=self.chip, BS=self.batch_size)

    def stages(self, int8_chip: str) -> dict[str, Usage]:
        """{stage: usage} of one make for each stage, in a ROOT that contains only the inputs.

        The stage int8 is included if there is a chip that takes the quantized graph.
        """
        root = self.chain.root
        self.make(root.archive, root.weights)
        usages = {}
        for stage in STAGES:
            usages[stage] = self.make(stage)
            if stage == "optimized" and int8_chip:
                usages["int8"] = self._replace(chip=int8_chip).make(root.int8)
        return usages

    def up_to_date(self, times: int) -> list[float]:
        """The times, in ms, of make accuracy when everything is up to date."""
        program = self.chain.program("accuracy", CHIP=self.chip, BS=self.batch_size)
        return [1000 * plain_seconds(program) for _ in range(times)]


class GuideComparison:
    """The guide's steps and those of this project, from the same inputs to the same results.

    Each step is a method that returns its time in seconds.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        """`folder` is for the files of the guide's steps."""
        self.task, self.root, self.folder = task, task.chain.root, folder
        folder.mkdir(parents=True, exist_ok=True)

    def run_guide(self, *words: object) -> float:
        return run_timed(module("benchmark.guide_baseline", *words), self.task.chain.log).seconds

    def guide_bins(self) -> float:
        """tar and the guide's preprocess."""
        for name in ("data", "bins"):
            artifact.remove(self.folder / name)
        (self.folder / "data").mkdir()
        begin = time.perf_counter()
        words = ["tar", "xzf", str(self.root.archive), "-C", str(self.folder / "data")]
        run_timed(Program(words), self.task.chain.log)
        self.run_guide("preprocess", "--data", self.folder / "data", "--out", self.folder / "bins")
        return time.perf_counter() - begin

    def our_bins(self) -> float:
        """make with preprocess.py, from the archive to data/bin."""
        artifact.remove(self.root.bins.parent)
        return self.task.make(self.root.bins).seconds

    def guide_accuracy(self) -> float:
        """The guide's inference and postprocess."""
        artifact.remove(self.folder / "outputs")
        model = ("--onnx", self.root.onnx, "--batch-size", self.task.batch_size)
        seconds = self.run_guide("infer", "--bins", self.folder / "bins", *model, "--out", self.folder / "outputs")
        files = ("--data", self.folder / "data", "--outputs", self.folder / "outputs")
        return seconds + self.run_guide("postprocess", *files, "--out", self.folder / "result.txt")

    def our_accuracy(self) -> float:
        """make with infer.py and postprocess.py, with the existing compiled model."""
        results = self.root.results(self.task.chip, self.task.batch_size)
        for name in ("outputs", "accuracy.txt", "accuracy.json"):
            artifact.remove(results / name)
        return self.task.make("accuracy").seconds

    def check_agreement(self) -> None:
        """Raises Unavailable unless the guide's bins match ours and Top-1 differs by at most POINTS."""
        for i in range(self.root.images()):
            name = f"image_{i}.bin"
            if (self.folder / "bins" / name).read_bytes() != self.root.bins.with_name(name).read_bytes():
                raise Unavailable(f"the guide's {name} differs from ours")
        accuracy = read_record(self.root.results(self.task.chip, self.task.batch_size) / "accuracy.json")
        ours, text = 100 * accuracy["top1"], (self.folder / "result.txt").read_text()
        guide = float(text.split("inference: ")[1].split("%")[0])
        if abs(ours - guide) > POINTS:
            raise Unavailable(f"Top-1 is {ours:.2f}%, but {guide:.2f}% with the guide's steps")

    def run_rounds(self, rounds: int) -> dict[str, list[float]]:
        """{series: seconds of each round}, interleaved; fewer rounds if they take longer than BUDGET."""
        steps = {
            GUIDE_BINS: self.guide_bins,
            OUR_BINS: self.our_bins,
            GUIDE_ACCURACY: self.guide_accuracy,
            OUR_ACCURACY: self.our_accuracy,
        }
        series: dict[str, list[float]] = {name: [] for name in steps}
        begin = time.perf_counter()
        for i in range(rounds):
            for name, step in steps.items():
                series[name].append(step())
            if i == 0:
                self.check_agreement()
            print(f"  whole processes: round {i + 1} of {rounds}")
            if time.perf_counter() - begin > BUDGET:
                break
        artifact.remove(self.folder)
        return series
