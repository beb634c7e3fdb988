"""Whole processes in turns, by the wall clock, in a fresh ROOT of the same inputs: each stage of the chain, make with
nothing to do, and the two ways from the archive to the bins and from the bins to accuracy.txt, the guide's and ours."""

from __future__ import annotations

import _build
from _build import Record

import os
import re
import shutil
import sys
import time
from pathlib import Path

from race import Absent, whole

STAGES = ("bin", "onnx", "optimized", "om", "infer", "accuracy")
LONG = 240.0  # s: a turn that takes longer is not taken thrice
INPUTS = ("BS", "CHIP", "ROOT", "SOURCE", "ARCHIVE", "WEIGHTS", "ONNX", "OM", "PYTHON")


class Chain:
    """make in one ROOT, by itself: nothing of a make above it but the interpreter."""

    def __init__(self, make: str, python: str, root: Path, log: Path, locks: Path | None = None, **inputs: str) -> None:
        self.root, self.log = root, log
        ours = re.compile(r"MAKE|MFLAGS|GNUMAKE|DEPS$|V$")
        self.environment = {k: v for k, v in os.environ.items() if not ours.match(k) and k not in INPUTS}
        if locks:  # the host's lock is ours already, and a child would wait for it for ever
            self.environment["TMPDIR"] = str(locks)
        self.command = [make, "-C", str(_build.SCRIPTS.parent), "--no-print-directory", f"ROOT={root}"]
        self.command += [f"PYTHON={python}"] * bool(python) + [f"{name}={value}" for name, value in inputs.items()]

    def file(self, name: str) -> str:
        """make's own name of a file of this ROOT."""
        return os.path.normpath(self.root / name)

    def run(self, *goals: str, **variables: str | int) -> Record:
        words = [f"{name}={value}" for name, value in variables.items()]
        return whole([*self.command, *goals, *words], self.log, self.environment)


def stages(chain: Chain, chip: str, batch_size: int, int8_chip: str) -> dict[str, Record]:
    """Seconds and peak memory of each stage, one make each, in a ROOT that has the inputs alone."""
    chain.run(chain.file("data/archive.tar.gz"), chain.file("models/checkpoint.pkl"), CHIP=chip)
    found = {}
    for stage in STAGES:
        found[stage] = chain.run(stage, CHIP=chip, BS=batch_size)
        if stage == "optimized" and int8_chip:
            found["int8"] = chain.run(chain.file("models/int8/3d_attention_net.onnx"), CHIP=int8_chip)
    return found


def nothing_to_do(chain: Chain, chip: str, batch_size: int, times: int) -> list[float]:
    """ms of `make accuracy` where all is there."""
    return [1000 * float(chain.run("accuracy", CHIP=chip, BS=batch_size)["seconds"]) for _ in range(times)]


class Ways:
    """The guide's way and ours, each from the same to the same."""

    def __init__(self, chain: Chain, chip: str, batch_size: int, folder: Path) -> None:
        self.chain, self.chip, self.batch_size, self.folder = chain, chip, batch_size, folder
        self.archive = chain.root / "data/archive.tar.gz"
        folder.mkdir(parents=True, exist_ok=True)

    def step(self, *words: object) -> float:
        command = [sys.executable, str(_build.SCRIPTS / "guide_way.py"), *map(str, words)]
        return float(whole(command, self.chain.log)["seconds"])

    def guide_bins(self) -> float:
        """tar, and the guide's preprocess."""
        for name in ("data", "bins"):
            _build.remove(self.folder / name)
        (self.folder / "data").mkdir()
        begin = time.perf_counter()
        whole(["tar", "xzf", str(self.archive), "-C", str(self.folder / "data")], self.chain.log)
        self.step("preprocess", "--data", self.folder / "data", "--out", self.folder / "bins")
        return time.perf_counter() - begin

    def our_bins(self) -> float:
        """make, with preprocess.py, from the archive to data/bin."""
        _build.remove(self.chain.root / "data/bin")
        return float(self.chain.run(self.chain.file("data/bin/manifest.json"), CHIP=self.chip)["seconds"])

    def guide_accuracy(self) -> float:
        """The guide's inference and postprocess."""
        _build.remove(self.folder / "outputs")
        onnx = self.chain.root / "models/onnx/3d_attention_net.onnx"
        model = ("--onnx", onnx, "--batch-size", self.batch_size)
        seconds = self.step("infer", "--bins", self.folder / "bins", *model, "--out", self.folder / "outputs")
        given = ("--data", self.folder / "data", "--outputs", self.folder / "outputs")
        return seconds + self.step("postprocess", *given, "--out", self.folder / "result.txt")

    def our_accuracy(self) -> float:
        """make, with infer.py and postprocess.py, on the compiled model that is there."""
        results = self.chain.root / f"results/{self.chip}/bs{self.batch_size}"
        for name in ("outputs", "accuracy.txt", "accuracy.json"):
            _build.remove(results / name)
        return float(self.chain.run("accuracy", CHIP=self.chip, BS=self.batch_size)["seconds"])

    def must_agree(self) -> None:
        """Raises Absent unless the guide's bins are ours, byte for byte, and so is its Top-1 but for a point."""
        count = _build.read_record(self.chain.root / "data/bin/manifest.json")["count"]
        for i in range(count):
            name = f"image_{i}.bin"
            if (self.folder / "bins" / name).read_bytes() != (self.chain.root / "data/bin" / name).read_bytes():
                raise Absent(f"the guide's {name} is not ours")
        ours = (self.chain.root / f"results/{self.chip}/bs{self.batch_size}/accuracy.txt").read_text()
        figures = [float(text.split("inference: ")[1].split("%")[0]) for text in (ours, self.result())]
        if abs(figures[0] - figures[1]) > 1:
            raise Absent(f"Top-1 is {figures[0]} % here and {figures[1]} % by the guide's way")

    def result(self) -> str:
        return (self.folder / "result.txt").read_text()

    def race(self, rounds: int) -> dict[str, list[float]]:
        """Seconds of each way and round, in turns."""
        turns = {
            "guide: archive to bins": self.guide_bins,
            "ours: archive to bins": self.our_bins,
            "guide: bins to accuracy": self.guide_accuracy,
            "ours: bins to accuracy": self.our_accuracy,
        }
        found: dict[str, list[float]] = {name: [] for name in turns}
        begin = time.perf_counter()
        for i in range(rounds):
            for name, turn in turns.items():
                found[name].append(turn())
            if not i:
                self.must_agree()
            print(f"  whole processes: round {i + 1} of {rounds}", flush=True)
            if time.perf_counter() - begin > LONG:
                break
        shutil.rmtree(self.folder)
        return found
