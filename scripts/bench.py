"""This project against what a user would do instead, on the same weights and images, in turns of one run.

First make builds what is needed. Then every contender tries its batch sizes, answers the images, and is held against
the reference engine: one that loses labels is marked, and its speed counts for nothing. Then they run in turns, and a
ratio is that of one round. Whole processes, make's no-op, the stages and a profile by operator follow. Writes
results/bench.json, with every raw figure, and bench.svg. Nothing else runs on this host's CPU meanwhile, of ours.
"""

from __future__ import annotations

import _build
from _build import Record, die, read_record

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Iterator

import _tool
import numpy as np
import timing
from compare import compared
from engines.threads import threads
from figures import CEILING, FIGURES, Figure, judge, lines_of, picture
from measure import host
from outputs import read_labels, read_outputs
from provenance import made_from, source_of
from race import Absent, App, Ceiling, Entry, Worker, last_line, race
from roofline import images_per_s, judged, macs_of
from whole_way import Chain, Ways, nothing_to_do, stages

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
OTHERS = (
    *("onnxruntime", "torch-f32", "torch-bf16", "torch-compile", "benchmark_app-f32", "benchmark_app-bf16"),
    *("product-f32", "product-bf16", "product-int8", "copy"),
)
PACKAGES = ("torch", "onnxruntime", "openvino", "numpy")
GRAPH = "3d_attention_net"


def gate(found: Any, wanted: Any, labels: Any, loss: float) -> Record:
    """The paired comparison with the reference engine; passed if on balance at most `loss` % of Top-1 are lost."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return {"passed": False, "why": f"answers {list(found.shape)}, or some that are not finite"}
    told = compared(found.astype(np.float64), wanted, labels)
    lost = 100 * (told["broken"] - told["mended"]) / len(labels)
    result = {name: told[name] for name in ("images", "top1", "agreement", "mended", "broken", "other", "mcnemar_p")}
    result.update(labels_changed=len(told["flips"]), relative_error=told["logits"]["relative_error"])
    passed = lost <= loss
    why = "" if passed else f"it loses {lost:.2f}% of Top-1 against the reference engine, {loss:g}% may be"
    return {**result, "lost": lost, "may_lose": loss, "passed": passed, "why": why}


class Bench:
    def __init__(self, args: Any, folder: Path, stack: contextlib.ExitStack) -> None:
        self.args, self.folder, self.stack = args, folder, stack
        self.bins = args.root / "data/bin/manifest.json"
        self.why: dict[str, str] = {}  # of each series that is not there, or does not count
        self.entries: list[Entry] = []
        self.series: dict[str, list[float | None]] = {}
        inputs = {name: value for name, value in (word.split("=", 1) for word in args.inputs) if value}
        self.chain = Chain(args.make, args.python, args.root, folder / "make.log", **inputs)

    def wants(self, name: str) -> bool:
        return "all" in self.args.contenders or name in self.args.contenders

    def build(self) -> dict[str, list[int]]:
        """By make: outputs and compare.txt of each chip, and its compiled models; {chip: batch sizes that it can}."""
        found: dict[str, list[int]] = {}
        print("  inputs, the plain graph, and the reference engine's answers", flush=True)
        try:
            self.chain.run(self.chain.file("results/reference/outputs/manifest.json"), "bin", "optimized", CHIP="cpu")
        except Absent as reason:
            die(f"ROOT={self.args.root}", str(reason), "make accuracy CHIP=cpu shows more")
        for word in self.args.chips:
            chip, engine = word.split("=")
            if not self.wants(chip) or "\ndef load(" not in (_build.SCRIPTS / f"engines/{engine}_run.py").read_text():
                continue
            print(f"  {chip}: models and answers", flush=True)
            for size in self.args.sizes:
                try:
                    self.chain.run("om", CHIP=chip, BS=size)
                    found.setdefault(chip, []).append(size)
                except Absent as reason:
                    self.why[chip] = str(reason)
            if chip in found:
                size = self.args.batch_size if self.args.batch_size in found[chip] else found[chip][-1]
                self.why.pop(chip, None)
                try:
                    self.chain.run("compare", CHIP=chip, BS=size)
                except Absent as reason:
                    self.why[chip] = str(reason)
                    del found[chip]
            if chip not in found:
                self.why[chip] = f"left out: {self.why[chip]}"
                print(f"  {chip}: {self.why[chip]}", flush=True)
        return found

    def worker(self, name: str, *words: object) -> Worker:
        fixed = ["--bins", str(self.bins), "--count", str(read_record(self.bins)["count"])]
        log = self.folder / f"{name}.log"
        log.touch()
        return Worker([*map(str, words), *fixed], log, self.stack)

    def enter(self, chips: dict[str, list[int]]) -> None:
        """Every contender and ceiling that is wanted."""
        root, sizes = self.args.root, self.args.sizes
        plain, weights = root / f"models/onnx/{GRAPH}.onnx", root / "models/checkpoint.pkl"
        for chip, able in chips.items():
            made = read_record(root / f"models/om/{chip}/bs{able[0]}.json")["provenance"]
            ending = next((root / f"models/om/{chip}").glob(f"{GRAPH}_bs{able[0]}.*")).suffix
            model = root / f"models/om/{chip}/{GRAPH}_bs%{ending}"
            words = ("--engine", made["engine"], f"--options={made['options']}")
            worker = self.worker(chip, "--kind", "ours", "--model", model, *words)
            self.entries.append(Entry(chip, "this project", made.get("precision", ""), able, worker))
        others = [
            ("onnxruntime", "onnxruntime", plain, "", "float32", "ONNX Runtime's defaults on the plain export"),
            ("torch-f32", "torch", weights, "", "float32", "PyTorch, eager"),
            ("torch-bf16", "torch", weights, "bf16", "bfloat16", "PyTorch, eager, channels last"),
            (
                "torch-compile",
                "torch",
                weights,
                "bf16 compile",
                "bfloat16",
                "torch.compile, at eager's best batch size",
            ),
        ]
        for name, kind, model, options, precision, what in others:
            if self.wants(name):
                worker = self.worker(name, "--kind", kind, "--model", model, f"--options={options}")
                self.entries.append(Entry(name, what, precision, sizes, worker))
        for precision in ("f32", "bf16"):
            name, what = f"benchmark_app-{precision}", "OpenVINO's benchmark_app on the plain export"
            if self.wants(name):
                some = [size for size in sizes if size in (1, 16, 64)] or sizes[:1]
                self.entries.append(App(name, what, precision, some, plain, self.folder / f"{name}.log"))
        for kind, options, orders in (
            *(("product", precision, (1024, 2048, 3072)) for precision in ("f32", "bf16", "int8")),
            ("copy", "", (64, 256)),
        ):
            name = f"{kind}-{options}" if options else kind
            if self.wants(name):
                what = "torch's square matrix product, flop/s" if options else "copies in memory, bytes/s"
                worker = self.worker(name, "--kind", kind, f"--options={options}")
                self.entries.append(Ceiling(name, what, options, orders, worker))

    def prepare(self) -> None:
        """Best sizes, and answers held against the reference engine's. Who cannot is left out, with the reason."""
        args = self.args
        labels, reference = (
            read_labels(args.root / "data/labels.txt"),
            args.root / "results/reference/outputs/manifest.json",
        )
        wanted = read_outputs(reference, read_record(reference), len(labels))
        count = min(len(labels), args.images)
        short = max(args.seconds / 2, 0.05)
        for entry in list(self.entries):
            with self.or_left_out(entry):
                entry.attempt(short, [] if entry.name == "torch-compile" else entry.choices())
        for entry in list(self.entries):
            with self.or_left_out(entry):
                if entry.name == "torch-compile":  # a minute's work for each size: it gets eager's best
                    eager = [other.best for other in self.entries if other.name == "torch-bf16" and other.best]
                    entry.sizes = [int(eager[0])] if eager else [args.batch_size]
                entry.settle(short)
                if isinstance(entry, Ceiling):
                    print(f"  {entry.name}: {entry.tried[entry.best] / 1e9:.0f} G/s", flush=True)
                    continue
                loss = args.loss_int8 if entry.precision == "int8" else args.loss
                entry.gate = gate(self.answers(entry, count), wanted[:count], labels[:count], loss)
                if not entry.gate["passed"]:
                    self.why[entry.name] = f"does not count: {entry.gate['why']}"
                shown = "" if entry.gate["passed"] else f"; {self.why[entry.name]}"
                print(
                    f"  {entry.name}: best at {entry.best}, {entry.tried[entry.best]:.1f} images/s{shown}", flush=True
                )

    @contextlib.contextmanager
    def or_left_out(self, entry: Entry) -> Iterator[None]:
        try:
            yield
        except Absent as reason:
            self.entries.remove(entry)
            self.why[entry.name] = f"left out: {reason}"
            print(f"  {entry.name}: {self.why[entry.name]}", flush=True)

    def answers(self, entry: Entry, count: int) -> Any:
        worker, out = entry.worker, self.folder / f"{entry.name}.npy"
        with contextlib.ExitStack() as own:
            if isinstance(entry, App):  # it shows no answers: its runtime, graph and precision, by themselves
                words = ["--kind", "openvino", "--model", str(entry.model), f"--options={entry.precision}"]
                worker = Worker([*words, "--bins", str(self.bins), "--count", str(count)], entry.log, own)
                worker.ask(do="load", batch=16)
            assert worker
            worker.ask(do="answers", images=count, out=str(out))
        return np.load(out)

    def processes(self, chip: str) -> Record:
        """Stages, no-op and whole ways, in a ROOT of their own."""
        args, root, locks = self.args, self.folder / "root", self.folder / "locks"
        locks.mkdir()
        inputs = {"SOURCE": "sample"}
        if read_record(args.root / "data/archive.json").get("origin") != "sample":
            inputs = {
                "ARCHIVE": str((args.root / "data/archive.tar.gz").absolute()),
                "WEIGHTS": str((args.root / "models/checkpoint.pkl").absolute()),
            }
        chain = Chain(args.make, args.python, root, self.folder / "whole.log", locks, **inputs)
        print(f"  whole processes, {chip} at batch size {args.batch_size}", flush=True)
        try:
            found: Record = {"chip": chip, "batch_size": args.batch_size}
            found["stages"] = stages(
                chain, chip, args.batch_size, next((e.name for e in self.entries if e.name in args.int8), "")
            )
            self.series["no-op ms"] = list(nothing_to_do(chain, chip, args.batch_size, max(10, args.rounds)))
            ways = Ways(chain, chip, args.batch_size, self.folder / "guide")
            self.series.update({name: list(values) for name, values in ways.race(min(3, args.rounds)).items()})
            speed = max((rate or 0 for rate in self.series.get("product-bf16", [])), default=0)
            if chip == "cpu-bf16" and speed:
                count = read_record(self.bins)["count"]
                self.series[CEILING] = [count / speed] * len(self.series["ours: bins to accuracy"])
            return found
        except Absent as reason:
            print(f"  whole processes: failed: {reason}", flush=True)
            for name in (name for figure in FIGURES for name in (figure.above, figure.below)):
                if name.startswith(("guide", "ours", "no-op")) and name not in self.series:
                    self.why[name] = f"failed: {reason}"
            return {"chip": chip, "failed": str(reason)}

    def profiles(self, limits: dict[str, float]) -> Record:
        """By operator, of each chip of ours that shows it; `limits` are the ceilings in units a second."""
        found: Record = {}
        for entry in self.entries:
            words = dict(word.split("=") for word in self.args.chips)
            if words.get(entry.name) != "openvino":
                continue
            model = self.args.root / f"models/om/{entry.name}/{GRAPH}_bs{entry.best}.onnx"
            options = read_record(self.args.root / f"models/om/{entry.name}/bs{entry.best}.json")["provenance"][
                "options"
            ]
            out, log = self.folder / "profile.json", self.folder / "profile.log"
            command = [
                sys.executable,
                str(_build.SCRIPTS / "roofline.py"),
                "--model",
                str(model),
                f"--options={options}",
            ]
            done = subprocess.run(
                [*command, "--bins", str(self.bins), "--out", str(out)], capture_output=True, text=True
            )
            log.write_text(done.stderr)
            if done.returncode:
                print(f"  {entry.name}: no profile: {last_line(log)}", file=sys.stderr)
                continue
            ceiling = limits.get(f"product-{options.partition('precision=')[2].split()[0]}", 0.0)
            found[entry.name] = judged(json.loads(out.read_text()), ceiling, limits.get("copy", 0.0))
        return found

    def run(self) -> Record:
        args = self.args
        self.enter(self.build())
        with _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU"):
            busy = timing.Busy()
            self.prepare()
            race(self.entries, args.rounds, args.seconds)
            macs = sum(macs_of(args.root / f"models/optimized/{GRAPH}.onnx").values())
            limits: dict[str, float] = {}
            for entry in self.entries:
                rates = entry.rates()
                if isinstance(entry, Ceiling):
                    limits[entry.name] = max([rate for rate in rates if rate], default=0.0)
                    rates = [images_per_s(rate, macs) if rate else None for rate in rates]
                if entry.name != "copy":
                    self.series[entry.name] = rates
            profiles = self.profiles(limits)
            for entry in self.entries:
                if entry.worker:
                    entry.worker.process.kill()
                    entry.worker.process.wait()
            ours = [entry.name for entry in self.entries if entry.what == "this project" and entry.gate["passed"]]
            chip = "cpu-bf16" if "cpu-bf16" in ours else ours[0] if ours else ""
            whole = self.processes(chip) if chip and self.wants("whole") else {}
            others = busy.others()
        figures = [judge(figure, self.series, self.why) for figure in FIGURES if self.asked(figure)]
        made = read_record(args.root / f"models/optimized/{GRAPH}.json")["provenance"]
        made = {**made, **read_record(self.bins)["provenance"]}
        return {
            "conditions": {**conditions(), "others": others, "rounds": args.rounds, "seconds": args.seconds},
            "source": source_of(made),
            "made_from": made_from(made),
            "images": read_record(self.bins)["count"],
            "provenance": made,
            "macs_an_image": macs,
            "contenders": {entry.name: entry.record() for entry in self.entries},
            "left_out": self.why,
            "series": self.series,
            "figures": figures,
            "whole": whole,
            "profile": profiles,
        }

    def asked(self, figure: Figure) -> bool:
        names = [name for name in (figure.above, figure.below) if name]
        return all(name in self.series or name in self.why for name in names)


def conditions() -> Record:
    """The machine, the versions and this tree."""
    flags: list[str] = []
    with contextlib.suppress(OSError):
        flags = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("flags")), "").split()
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):  # OpenVINO is for x86-64 alone
            versions[name] = metadata.version(name)
    tree = str(_build.SCRIPTS.parent)
    status, commit = _tool.ask(["git", "-C", tree, "rev-parse", "HEAD"], dict(os.environ))
    changed = "" if status else _tool.ask(["git", "-C", tree, "status", "--porcelain"], dict(os.environ))[1]
    told = {"host": host(), "instructions": [flag for flag in FLAGS if flag in flags], "threads": threads()}
    told.update(python=platform.python_version(), system=platform.platform(), versions=versions)
    return {**told, "commit": (commit.strip() + (", changed" if changed.strip() else "")) if not status else "no git"}


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--make", required=True)
    parser.add_argument("--python", default="", help="PYTHON as make has it")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--inputs", nargs="*", default=[], help="SOURCE=, ARCHIVE= and WEIGHTS= as make has them")
    parser.add_argument("--chips", nargs="+", required=True, help="as chip=engine")
    parser.add_argument("--int8", nargs="*", default=[], help="those of them that take the quantized graph")
    parser.add_argument("--sizes", nargs="+", type=int, required=True, help="batch sizes to try")
    parser.add_argument("--batch-size", type=int, default=16, help="of whole processes")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of each contender in a round")
    parser.add_argument(
        "--images", type=int, required=True, help="at most so many are held against the reference engine"
    )
    parser.add_argument(
        "--contenders", nargs="+", default=["all"], help="all, or names of the JSON; whole: the processes"
    )
    for name in ("loss", "loss-int8"):
        parser.add_argument(f"--{name}", type=float, required=True, help="per cent of Top-1 that may be lost")
    parser.add_argument("--out", type=Path, required=True, help="bench.json; bench.svg lies beside it")
    args = parser.parse_args()
    known = {word.split("=")[0] for word in args.chips} | {"all", "whole", *OTHERS}
    unknown = [name for name in args.contenders if name not in known]
    if unknown:
        die(
            "params.yaml", f"bench.contenders: {unknown[0]} is none", f"give all, or some of {', '.join(sorted(known))}"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is started ends, and the folder goes
    place = args.root / ".make/bench"
    with _build.locked(place), _build.temporary(place) as folder, contextlib.ExitStack() as stack:
        folder.mkdir()
        result = Bench(args, folder, stack).run()
    if not any(figure["counts"] for figure in result["figures"]):
        die("bench", "; ".join(map(": ".join, result["left_out"].items())), "nothing was measured, nor written")
    svg = args.out.with_suffix(".svg")
    _build.write_text(svg, picture(result))
    _build.write_record(args.out, result)
    print("", *lines_of(result), f"All of it: {args.out}, {svg}", sep="\n")


if __name__ == "__main__":
    main()
