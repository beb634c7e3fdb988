"""Runs `python3 -m ais_bench` of CANN's interpreter, either generation, and checks what it wrote. Python 3.7.

ais_bench gets one file for each batch and writes one output for each (batches.py), because each file costs it time.
Each run has a new private folder, so output of an earlier run cannot be taken for a result. Checked are: the status, a
summary of this run, and one output of this run for each batch. The devices are locked meanwhile. Arguments, files and
messages of ais_bench: docs/ascend-tools.md#ais-bench-arguments and the sections after it.
"""

from __future__ import annotations

from _support import artifact, locks, process
from _support.artifact import Record, digest
from _support.cli import die
from _support.progress import Progress

import contextlib
import json
import math
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from engines import RunRequest, options_of
from engines.ascend import _cann, _npu_smi, _versions
from engines.ascend._reasons import MEMORY, explain_ais_bench
from engines.ascend.batches import FORMAT, output_name
from formats.bins import FORMS, Form

LARGEST = 1e12  # ms and numbers in a summary; larger ones are damage
RETRY = "check the device with npu-smi info, then run the same make command again"


def is_accepted(path: Path) -> bool:
    """Whether the newer ais_bench accepts a file or folder as input (docs/ascend-tools.md#ais-bench-paths).

    It must not be a link, must belong to this user or one of the user's groups, and nobody else may write to it.
    """
    status = path.lstat()
    is_own = status.st_uid == os.geteuid() or status.st_gid in os.getgroups()
    return is_own and not stat.S_ISLNK(status.st_mode) and not status.st_mode & 0o022 and bool(status.st_mode & 0o400)


def device_load(number: int) -> float | None:
    """The load of a device's AI cores now, 0 to 1; None if npu-smi does not show it."""
    try:
        aicores = [device.aicore for device in _npu_smi.list_devices()[1] if device.number == number]
    except _npu_smi.NO_DEVICES:
        aicores = []
    return int(aicores[0]) / 100 if aicores and aicores[0] else None


def check_devices(numbers: Sequence[int], soc_version: str) -> Tuple[Dict[str, str], Dict[int, str]]:
    """Checks that the devices exist and are of the chip `soc_version`; exits 1 if not.

    Returns (the record of the devices, {device number: a name that is the same for all runs on this host}). Without
    npu-smi, as in many containers, it prints that nothing was checked.
    """
    text = ",".join(map(str, numbers))
    try:
        driver, shown = _npu_smi.list_devices()
    except _npu_smi.NO_DEVICES as reason:
        print(f"  {_npu_smi.sentence(reason)}: not checked whether device {text} is {soc_version}")
        return {"device": text}, {}
    devices = {device.number: device for device in shown}
    for number in numbers:
        if number not in devices:
            known = ", ".join(f"{i} ({device.name})" for i, device in sorted(devices.items())) or "none"
            problem = f"device {number} does not exist, npu-smi shows {known}"
            die(f"DEVICE={text}", problem, "set DEVICE= to one of these")
        check_device(f"DEVICE={text}", devices[number], soc_version, shown)
    names = [f"{number} ({devices[number].name})" for number in numbers]
    lock_names = {number: f"npu-{device.npu}-{device.chip}" for number, device in devices.items()}
    return {"device": ", ".join(names), "driver": driver}, lock_names


def check_device(subject: str, device: _npu_smi.Device, soc_version: str, shown: Sequence[_npu_smi.Device]) -> None:
    """Exits 1 if a device is not of the chip `soc_version`; prints what else npu-smi shows. `shown`: all devices."""
    chip = soc_version.replace("Ascend", "", 1)
    if device.name != chip and not _npu_smi.may_be(device.name, chip):
        fitting = " or ".join(str(other.number) for other in sorted(shown) if other.name == chip)
        other = "" if _npu_smi.is_vague(device.name) else device.name
        remedy = f"set CHIP={other or ' to the chip of the device'}" + (f", or DEVICE={fitting}" if fitting else "")
        die(subject, f"device {device.number} is a {device.name}, the model is for {soc_version}", remedy)
    if _npu_smi.virtual_base(device.name):
        print(f"  device {device.number}: {device.name} is {_npu_smi.VIRTUAL_NOTE}")
    if device.health != "OK":
        health = f"npu-smi shows health {device.health}; run npu-smi info -t health -i {device.npu}"
        print(f"  device {device.number}: {health}")


def memory_of(numbers: Sequence[int]) -> str:
    """The memory that npu-smi shows for the devices, for a message; empty if it shows none."""
    try:
        shown = [device for device in _npu_smi.list_devices()[1] if device.number in numbers and device.memory]
    except _npu_smi.NO_DEVICES:
        shown = []
    texts = ", ".join(f"device {device.number} {device.memory} MB" for device in shown)
    return f" (npu-smi shows now: {texts})" if texts else ""


def check_version(request: RunRequest, version: str) -> None:
    """Exits 1 if the model is of a newer CANN than `version`, that of the run time; prints if it is of a very old one.

    The version of a user's own model is unknown (docs/ascend-tools.md#atc-versions).
    """
    compiled = request.record.get("engine", {}).get("CANN", "unknown")
    problem, is_newer = _versions.model_problem(compiled, version)
    if is_newer:
        newer = f"install CANN {compiled} or newer, or set SET_ENV= to it"
        die(request.model, problem, f"{newer}, or rm {request.model} and make om with this CANN")
    if problem:
        print(f"  {request.model}: {problem}; if it fails, remove it and run make om")


def is_newer_generation(command: List[str], environment: Dict[str, str]) -> bool:
    """Whether ais_bench is of the newer generation, by its help page; the version is 0.0.2 in both
    (docs/ascend-tools.md#ais-bench-aclruntime). Exits 1 if it does not start or is another tool."""
    status, text = process.ask_program([*command, "--help"], environment, 120)
    if status:
        reason, remedy = explain_ais_bench(text, status)
        die(" ".join(command), f"does not start: {reason}", remedy)
    if "--output_dirname" not in text:
        remedy = (
            "install ais_bench and aclruntime for CANN's python3 (make doctor), or set AIS_BENCH= to another command"
        )
        die(" ".join(command), "is not the inference tool but another program of that name", remedy)
    return "--divide_input" in text


def is_log_of_newer(output: str) -> bool:
    """Whether ais_bench is of the newer generation, by its output of a run on one device
    (docs/ascend-tools.md#ais-bench-summary)."""
    return "end to reset device is" not in output


class Expected(NamedTuple):
    """What one run has to write."""

    begin: int  # ns, by the clock of the file system; older files are of an earlier run
    devices: int
    batches: int  # one output for each
    loop: int  # times that each batch runs


def summary_problem(summary: Path, expected: Expected, files: int) -> str:
    """The problem of the summary of a run over `files` batches, or an empty text."""
    if not summary.is_file() or summary.stat().st_mtime_ns < expected.begin:
        return f"this run did not write {summary.name}"
    try:
        content = json.loads(summary.read_text("utf-8"))
        times = content["npu_compute_time_list"]
        count = len(times)
        inputs = sum(len(slot["infiles"]) for slot in content["filesinfo"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{summary.name} is incomplete"
    if not all(type(ms) in (int, float) and 0 < ms < LARGEST for ms in times):
        return f"{summary.name} contains invalid times"
    runs = files * expected.loop
    if (count, inputs) != (runs, files):
        return f"{summary.name} reports {count} runs over {inputs} inputs, expected {runs} runs over {files}"
    return ""


def find_outputs(out: Path, expected: Expected, log: Path) -> List[Path]:
    """The outputs in the order of the batches, from the folders of all devices below `out`.

    Exits 1 if an output is missing, exists twice or belongs to no batch.
    """
    folders = device_folders(out, expected.devices)
    paths: Dict[str, Path] = {}
    for folder in folders:
        for name in sorted(os.listdir(str(folder))):
            if name in paths:
                die(log, f"{name} exists twice, in {paths[name].parent.name} and {folder.name}", RETRY)
            paths[name] = folder / name
    names = [output_name(k) for k in range(expected.batches)]
    missing = [name for name in names if name not in paths]
    extra = sorted(set(paths).difference(names))
    if missing:
        die(log, f"{len(missing)} of {expected.batches} outputs are missing, the first {missing[0]}", RETRY)
    if extra:
        die(log, f"{extra[0]} is an output of no batch", RETRY)
    return [paths[name] for name in names]


def device_folders(out: Path, devices: int) -> List[Path]:
    """The folders with outputs: `out`, or with several devices one folder of each below it."""
    return [out] if devices == 1 else sorted(path for path in out.glob("device*") if path.is_dir())


def check_outputs(out: Path, expected: Expected, log: Path) -> List[Path]:
    """Checks the summary and the outputs of a run, and returns the outputs in the order of the batches.

    Exits 1 if an output is missing, exists twice or is older than the run, or if a summary is missing or contradicts
    the run. The values are checked where they are read (batches.read_logits).
    """
    outputs = find_outputs(out, expected, log)
    for folder in device_folders(out, expected.devices):
        summary, files = folder.with_name(f"{folder.name}_summary.json"), len(os.listdir(str(folder)))
        problem = summary_problem(summary, expected, files)
        if problem:
            die(log, problem, RETRY)
    for path in outputs:
        if path.stat().st_mtime_ns < expected.begin:
            die(log, f"{path.name} is older than this run", RETRY)
    return outputs


def check_batch(output: str, form: Form, batch_size: int, log: Path, hint: str) -> None:
    """Exits 1 if the model's input does not have the bytes of `batch_size` images, by the line in which ais_bench
    prints them (docs/ascend-tools.md#ais-bench-arguments). `hint` is added to the remedy."""
    for digits in re.findall(r"tensor(?:0size:|size: )(\d{1,18})\b", output):
        found, size, expected = int(digits), int(digits) / form.size(), form.size() * batch_size
        if found == expected:
            continue
        types = [name for name, other in FORMS.items() if other.size() * batch_size == found]
        remedies = [f"set BS={size:.0f}"] if size.is_integer() else []
        remedies += [f"set input={name} in the chip's line if the model's input is {name}" for name in types]
        problem = f"the model's input has {found} bytes, not {expected}"
        if size.is_integer():
            problem = f"the model's batch size is {size:.0f}, not {batch_size}"
        remedy = ", or ".join(remedies) or f"use a model for {batch_size} {form.dtype} images"
        die(log, problem, f"{remedy}{hint}")


def copy_private(source: Path, target: Path) -> Path:
    """Copies a file so that the newer ais_bench accepts it with any umask; returns `target`."""
    shutil.copyfile(str(source), str(target))
    target.chmod(0o600)
    return target


def devices_needed(batches: int, devices: int) -> int:
    """How many devices get a batch: each gets equally many but the last, and ais_bench fails if one gets none
    (docs/ascend-tools.md#ais-bench-devices)."""
    return math.ceil(batches / math.ceil(batches / devices))


class Run(NamedTuple):
    """One call of ais_bench."""

    name: str  # of its folder below the session's private one
    inputs: Path  # a folder with the files of the batches, which nobody else may write to
    batches: int  # number of files
    flags: Sequence[str] = ()
    loop: int = 1  # times that each batch runs


class Session:
    """ais_bench on some devices. `conditions` is what to record about the runs; it is complete after the first one."""

    def __init__(self, request: RunRequest) -> None:
        self.request, self.model, self.log = request, request.model, request.log
        model = request.record["provenance"]
        self.limit, self.size = int(request.limits["ais_bench.time_limit"]), int(model["batch_size"])
        numbers = sorted({int(word) for word in (request.devices or "0").split(",")})
        self.numbers = numbers[: devices_needed(math.ceil(request.images / self.size), len(numbers))]
        devices, self.lock_names = check_devices(self.numbers, options_of(model["options"])["soc_version"])
        self.conditions: Record = dict(devices)
        _cann.check_path(self.log.parent)
        self.environment = _cann.environment(compiler=False)
        self.version = _cann.version(self.environment, "runtime")
        check_version(request, self.version)
        self.remedy = f"{RETRY}; log: {self.log}"  # for damaged outputs
        self.command = process.command_from_env("AIS_BENCH", "python3 -m ais_bench")
        # Only the flags for several devices differ. For one device its output tells it, without one more start.
        self.newer = len(self.numbers) > 1 and is_newer_generation(self.command, self.environment)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Path]:
        """Makes the private folder of the runs, until the end of the block."""
        with artifact.temporary(self.log.parent.resolve() / "ais_bench") as self.work:
            self.work.mkdir(mode=0o700)
            yield self.work

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the devices until the end of the block, which is within one of opened()."""
        # With several devices ais_bench loads the model on device 0 first (docs/ascend-tools.md#ais-bench-devices).
        used = {0, *self.numbers} if len(self.numbers) > 1 else {*self.numbers}
        with contextlib.ExitStack() as stack:
            # One lock of a chip, of which a soft partition shows several devices.
            names = {self.lock_names.get(number, f"device-{number}"): number for number in used}
            # In the order of their names: two runs may number the devices differently, and must not deadlock.
            self.held = [
                stack.enter_context(locks.lock_one_of([locks.lock_path(name)], f"device {number}"))
                for name, number in sorted(names.items())
            ]
            if not is_accepted(self.model):
                self.model = copy_private(self.model, self.work / "model.om")
            yield

    def check_model(self) -> None:
        """Exits 1 if the file that ais_bench has read does not have the digest in the model's record: it may have
        changed while the run waited for the locks."""
        if digest(self.model) != self.request.record["sha256"]:
            artifact.die_changed(self.request.model)

    def run(self, run: Run) -> Tuple[List[Path], Record]:
        """Runs ais_bench once; returns (the output of each batch, the summary of device 0). Exits 1 on any failure."""
        folder = self.work / run.name
        folder.mkdir(mode=0o700)  # if the processes of two devices made it, one of them could fail
        begin = folder.stat().st_mtime_ns  # by the clock of the file system, which may be another host's
        progress, hint = Progress(run.batches * self.size, "images"), self.own_model_hint()

        def tick(_: float) -> None:
            check_batch(process.log_text(self.log), self.request.form, self.size, self.log, hint)
            written = sum(1 for _ in folder.rglob(f"*.{FORMAT.lower()}"))
            progress.update(min(written, run.batches - 1) * self.size)

        program = process.Program(self.arguments(run), self.work, self.environment, self.log, self.limit)
        status = process.run(program, self.held, tick)
        self.check_model()  # first, because it may be why ais_bench failed
        text = process.log_text(self.log)
        check_batch(text, self.request.form, self.size, self.log, hint)
        if "[INFO]" not in text:
            is_newer_generation(self.command, self.environment)  # it may be another tool, or not start at all
        if status:
            progress.close()
            reason, remedy = explain_ais_bench(text, status)
            memory = memory_of(self.numbers) if remedy == MEMORY else ""
            die(self.log, f"ais_bench failed: {reason}{memory}", remedy + hint)
        outputs = check_outputs(folder, Expected(begin, len(self.numbers), run.batches, run.loop), self.log)
        progress.update(run.batches * self.size)
        if len(self.numbers) == 1:
            self.newer = is_log_of_newer(text)
        self.conditions["runtime"] = f"ais_bench ({'newer' if self.newer else 'older'}), CANN {self.version}"
        return outputs, artifact.read_json(self.work / f"{run.name}_summary.json")

    def arguments(self, run: Run) -> List[str]:
        """The command line of one run."""
        command = [*self.command, "--model", str(self.model.resolve()), "--input", str(run.inputs.resolve())]
        command += ["--output", str(self.work), "--output_dirname", run.name, "--batchsize", str(self.size)]
        command += ["--outfmt", FORMAT, "--device", ",".join(map(str, self.numbers)), *run.flags]
        command += ["--divide_input", "1"] if self.newer and len(self.numbers) > 1 else []
        return command + (["--loop", str(run.loop)] if run.loop > 1 else [])

    def own_model_hint(self) -> str:
        """An addition to remedies if the model is the user's own; otherwise empty."""
        is_own = self.request.record["provenance"].get("given") == "own .om"
        return f", or rm {self.request.model}, your own .om, to have it compiled from the graph" if is_own else ""
