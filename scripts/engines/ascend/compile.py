"""Ascend NPU, by CANN's atc: the compiled model is an .om (contract, section 1). It needs no NPU.

Every option but soc_version is a flag of atc. The status, the success line and a fresh file are checked, all three.
"""

from __future__ import annotations

from _support import artifact, cli, machine, process
from _support.artifact import Record
from _support.cli import die

import contextlib
import os
import re
import sys
import time

from engines import CompileRequest
from engines.ascend import _cann
from network.spec import IMAGE_SHAPE, INPUT

OURS = ("framework", "model", "output", "input_format", "input_shape", "soc_version", "log", "mode", "auto_tune_mode")
SUCCESS, FAILED = "ATC run success", "ATC run failed"
CODE = re.compile(r"\b(E[A-Z0-9]\d{4})\b")
# Contract 1.6: the beginning of an error code, and what mostly helps.
CAUSES = {
    ("E10016", "E10017"): f"is the graph's input named {INPUT}?",
    ("E10",): "a flag is wrong: see atc.* and the chip's line in params.yaml, and whether this CANN knows the chip",
    ("E13",): "atc cannot read or write a file: see disk space and permissions (make doctor)",
    (
        "E16",
        "E19010",
    ): "this CANN lacks an operator of the graph: keep onnx.opset 11, try another optimize.resize",
    ("E19",): "the reason stands in CANN's own log alone: set atc.log: debug, try again, look into ~/ascend/log",
    ("EC0010",): "a Python module is missing for the python3 that atc takes from PATH: make doctor names it",
    ("EZ",): "no engine of this chip has an operator: try another optimize.resize, precision_mode or CANN",
    ("E2", "E4"): "an operator does not compile: see memory (atc.memory, -j) and Python modules (make doctor)",
    ("EL", "EE"): "the driver or runtime is at fault: make doctor",
}
STATUSES = {
    124: "raise atc.time_limit, or look into the log for where it stands",
    127: "CANN's libraries are not found: make doctor, or give SET_ENV= its set_env.sh",
    137: "killed, mostly for want of memory: free some, or let fewer run at once (raise atc.memory, or a smaller -j)",
}


def arguments(request: CompileRequest, log: str) -> list[str]:
    """atc's arguments: the guide's, with the batch fixed, and the chip's. atc adds .om to the output `model`.
    Exits 1 on an option that is ours to set."""
    flags = dict(request.options)
    soc_version = flags.pop("soc_version")
    wrong = [name for name in flags if any(own.startswith(name) for own in OURS)]  # atc knows them shortened too
    if wrong:
        remedy = "remove it; atc.log sets --log, all others follow from the graph, CHIP and BS"
        die("params.yaml", f"{', '.join(wrong)} is not to be set in atc.flags or a chip's line", remedy)
    if flags.get("precision_mode") == "default" or "precision_mode_v2" in flags:  # one excludes the other
        flags.pop("precision_mode", None)
    shape = ",".join(map(str, (request.batch_size, *IMAGE_SHAPE)))
    return [
        "--framework=5",
        f"--model={request.model.resolve()}",
        "--output=model",
        "--input_format=NCHW",
        f"--input_shape={INPUT}:{shape}",
        f"--log={log}",
        f"--soc_version={soc_version}",
        *(f"--{name}={os.path.abspath(value) if os.path.isfile(value) else value}" for name, value in flags.items()),
    ]


def at_once(need: float) -> tuple[int, int]:
    """(how many atc may run at once, TE_PARALLEL_COMPILER for each): by memory, of which one takes `need` GB, and by
    CPUs, of which CANN's documents allow 80 %, 1 to 32, to the workers of all."""
    most = max(1, min(int(machine.memory_gb() // need), machine.threads()))
    jobs = re.search(r"(?:^| )-?\w*j(\d*)", os.environ.get("MAKEFLAGS", "").split(" -- ")[0])
    asked = int(jobs.group(1) or most) if jobs else 1
    return most, max(1, min(32, int(0.8 * machine.threads()) // min(most, asked)))


def explained(text: str, status: int) -> tuple[str, str]:
    """(what went wrong, what to do) by what atc said and its status: the code after its failed line before all."""
    if status == 124:
        return "its time limit has passed", STATUSES[124]
    if status == 127 and "libascend_hal.so" in text:
        return "libascend_hal.so, the driver's, is not found", "add the toolkit's devlib folder to LD_LIBRARY_PATH"
    if "command line flag" in text:
        flag = next(line for line in text.splitlines() if "command line flag" in line)
        return flag.strip(), "see atc.flags and the chip's line in params.yaml"
    lines = [line.strip() for line in (text.partition(FAILED)[2] + "\n" + text).splitlines() if line.strip(" .")]
    coded = next((line for line in lines if CODE.search(line)), "")
    if not coded:
        said = [line for line in lines if "ERROR" in line] or lines[-1:] or ["nothing said"]
        return f"status {status}, {said[0][:300]}", STATUSES.get(status, "make doctor, or set atc.log: debug")
    code = CODE.findall(coded)[0]
    cause = next((CAUSES[starts] for starts in CAUSES if code.startswith(starts)), "set atc.log: debug and try again")
    return coded[coded.index(code) :][:300], cause


def compile_model(request: CompileRequest) -> Record:
    """Writes the .om for inputs [batch_size, *IMAGE_SHAPE], and the log, all that atc said; exits 1 if it fails."""
    _cann.must_be_plain(request.model)
    options, limits, log = request.options, request.limits, request.log
    environment = _cann.environment(compiler=True)
    most, workers = at_once(float(limits["atc.memory"]))
    environment.setdefault("TE_PARALLEL_COMPILER", str(workers))
    folder = request.out.parent.absolute()
    places = [process.lock_path(f"atc-{i}") for i in range(most)]
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(process.lock_one_of(places, f"all places for {most} atc (atc.memory, CPUs)"))
        work = stack.enter_context(artifact.temporary(folder / f"bs{request.batch_size}"))
        work.mkdir()
        flags = arguments(request, limits["atc.log"])
        command = [*process.command_from_env("ATC", "atc"), *flags]
        limit, begin = int(limits["atc.time_limit"]), time.monotonic()
        program = process.Program(command, work, environment, log, limit)
        status = process.run(program, [place], Ticker(request.batch_size))
        said = process.log_text(log)
        if status or SUCCESS not in said or FAILED in said:
            what, remedy = explained(said, status)
            die(log, f"atc failed: {what}", remedy)
        made = sorted(work.glob("model*.om"), key=lambda path: path.stat().st_mtime_ns)  # maybe _linux_<arch>
        if not made or not made[-1].stat().st_size:
            die(log, "atc says success, but left no file", "make doctor, or set atc.log: debug")
        made[-1].replace(request.out)
    warnings = [cli.one_line(line) for line in said.splitlines() if re.search(r"\bW\d{5}\b", line)]
    for line in warnings:
        print(f"  {line}")
    print(f"  atc of CANN {_cann.version(environment)} for {options['soc_version']}: {time.monotonic() - begin:.0f} s")
    flags[1] = f"--model={request.model.name}"
    precision = options.get("precision_mode_v2") or options.get("precision_mode", "default")
    return {"arguments": flags, "CANN": _cann.version(environment), "warnings": warnings, "precision": precision}


class Ticker:
    """A plain line a minute: atc takes minutes a batch size and says nothing meanwhile."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.shown = batch_size, 0

    def __call__(self, seconds: float) -> None:
        if seconds // 60 > self.shown:
            self.shown = int(seconds // 60)
            print(f"  batch size {self.batch_size}: atc at work for {self.shown} min", file=sys.stderr)
