"""Ascend NPU: compiles the graph to an .om by CANN's atc (docs/ascend-tools.md#atc-flags). Needs no NPU.

Every option except soc_version is a flag of atc. A run counts only if its status is 0, it printed the success line and
it wrote a file (docs/ascend-tools.md#atc-exit).
"""

from __future__ import annotations

from _support import artifact, cli, locks, machine, process
from _support.artifact import Record
from _support.cli import SETTINGS_FILE, die

import contextlib
import os
import re
import sys
import time

import engines
from engines import CompileRequest
from engines.ascend import _cann, _versions
from engines.ascend._reasons import explain_atc
from engines.ascend.graph import refusal
from network.spec import FLOAT32, IMAGE_SHAPE, INPUT, UINT8

RESERVED = (
    "framework",
    "model",
    "output",
    "input_format",
    "input_shape",
    "soc_version",
    "log",
    "mode",
    "auto_tune_mode",
)
AIPP = "aipp.cfg"  # the name of AIPP's settings in the folder in which atc runs
SUCCESS, FAILED = "ATC run success", "ATC run failed"


def aipp_settings() -> str:
    """AIPP's settings for bins of type uint8 (docs/ascend-tools.md#aipp): it divides by 255, in fp16."""
    channels, height, width = IMAGE_SHAPE
    lines = ["aipp_mode: static", "related_input_rank: 0", "input_format: RGB888_U8"]
    lines += [f"src_image_size_w: {width}", f"src_image_size_h: {height}"]
    lines += [f"{name}: false" for name in ("crop", "padding", "csc_switch", "rbuv_swap_switch")]
    for channel in range(channels):
        lines += [f"mean_chn_{channel}: 0", f"min_chn_{channel}: 0.0", f"var_reci_chn_{channel}: {1 / 255:.15f}"]
    return "\n".join(["aipp_op {", *(f"    {line}" for line in lines), "}", ""])


def arguments(request: CompileRequest, log: str) -> list[str]:
    """The arguments of atc: those of ModelZoo's guide with a fixed batch, and the chip's options. It runs in the
    folder of the graph, and adds .om to the output `model`. Exits 1 if an option is one that this function sets."""
    flags = dict(request.options)
    soc_version = flags.pop("soc_version")
    if flags.pop("input", FLOAT32) == UINT8:
        if any(flag.startswith("insert_op") for flag in flags):
            remedy = "remove one of them; input=uint8 sets --insert_op_conf"
            die(SETTINGS_FILE, "a chip's line has input=uint8, and atc.flags or that line has insert_op_conf", remedy)
        flags["insert_op_conf"] = AIPP
    wrong = [name for name in flags if any(flag.startswith(name) for flag in RESERVED)]  # atc accepts abbreviations
    if wrong:
        remedy = "remove it; atc.log sets --log, the others follow from the graph, CHIP and BS"
        die(SETTINGS_FILE, f"{', '.join(wrong)} cannot be set in atc.flags or a chip's line", remedy)
    if flags.get("precision_mode") == "default" or "precision_mode_v2" in flags:  # one excludes the other
        flags.pop("precision_mode", None)
    shape = ",".join(map(str, (request.batch_size, *IMAGE_SHAPE)))
    return [
        "--framework=5",
        f"--model={request.model.path.name}",
        "--output=model",
        "--input_format=NCHW",
        f"--input_shape={INPUT}:{shape}",
        f"--log={log}",
        f"--soc_version={soc_version}",
        *(f"--{name}={os.path.abspath(value) if os.path.isfile(value) else value}" for name, value in flags.items()),
    ]


def parallelism(memory: float) -> tuple[int, int]:
    """Returns (how many atc may run at once, TE_PARALLEL_COMPILER for each).

    One atc needs `memory` GB. The workers of all together use 80 % of the CPUs, 1 to 32 for each atc
    (docs/ascend-tools.md#atc-flags).
    """
    most = max(1, min(int(machine.memory_gb() // memory), machine.threads()))
    jobs = re.search(r"(?:^| )-?\w*j(\d*)", os.environ.get("MAKEFLAGS", "").split(" -- ")[0])
    requested = int(jobs.group(1) or most) if jobs else 1
    return most, max(1, min(32, int(0.8 * machine.threads()) // min(most, requested)))


def lacks_ops(environment: dict[str, str]) -> bool:
    """Whether CANN needs the package of operators, and its record is missing (docs/ascend-tools.md#set-env)."""
    home, version = _cann.toolkit(environment), _cann.version(environment, "compiler")
    return home is not None and _versions.minor(version) >= _versions.OPS_PACKAGE and not _cann.ops_package(home)


def compile_model(request: CompileRequest) -> Record:
    """Writes the .om for inputs [batch_size, *IMAGE_SHAPE], and the output of atc to the log.

    Exits 1 if atc cannot compile the graph, before it runs, or if atc fails.
    """
    model = request.model.path
    fault = refusal(request.graph, model, request.options)
    if fault:
        die(model, *fault)
    _cann.check_path(model)
    options, limits, log = request.options, request.limits, request.log
    environment = _cann.environment(compiler=True)
    most, workers = parallelism(float(limits["atc.memory"]))
    environment.setdefault("TE_PARALLEL_COMPILER", str(workers))
    folder = request.out.parent.absolute()
    slots = [locks.lock_path(f"atc-{i}") for i in range(most)]
    with contextlib.ExitStack() as stack:
        slot = stack.enter_context(locks.lock_one_of(slots, f"all {most} slots for atc (atc.memory, CPUs)"))
        work = stack.enter_context(artifact.temporary(folder / f"bs{request.batch_size}"))
        work.mkdir()
        (work / model.name).write_bytes(request.model.data)  # a copy that no other make can replace
        if engines.input_of(options) == UINT8:
            (work / AIPP).write_text(aipp_settings())
        flags = arguments(request, limits["atc.log"])
        command = [*process.command_from_env("ATC", "atc"), *flags]
        limit, begin = int(limits["atc.time_limit"]), time.monotonic()
        program = process.Program(command, work, environment, log, limit)
        status = process.run(program, [slot], Ticker(request.batch_size))
        output = process.log_text(log)
        if status or SUCCESS not in output or FAILED in output:
            reason, remedy = explain_atc(output, status, lacks_ops(environment))
            die(log, f"atc failed: {reason}", remedy)
        models = sorted(work.glob("model*.om"), key=lambda path: path.stat().st_mtime_ns)  # it may add _linux_<arch>
        if not models or not models[-1].stat().st_size:
            die(log, "atc reports success, but wrote no model", "make doctor, or set atc.log: debug")
        models[-1].replace(request.out)
    warnings = [cli.one_line(line) for line in output.splitlines() if re.search(r"\bW\d{5}\b", line)]
    size = f"batch size {request.batch_size}"  # jobs of make -j print at the same time
    for line in warnings:
        print(f"  {size}: {line}")
    version, others = _cann.version(environment, "compiler"), _cann.others(environment)
    print(f"  {size}: atc of CANN {version} for {options['soc_version']}, {time.monotonic() - begin:.0f} s")
    if others:
        print(f"  also installed: CANN {others}; set SET_ENV= to use another one")
    precision = options.get("precision_mode_v2") or options.get("precision_mode", "default")
    aipp = {"aipp": aipp_settings()} if engines.input_of(options) == UINT8 else {}
    return {"arguments": flags, **aipp, "CANN": version, "warnings": warnings, "precision": precision}


class Ticker:
    """Prints a line each minute: atc takes minutes for a batch size and prints nothing meanwhile."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size, self.shown = batch_size, 0

    def __call__(self, seconds: float) -> None:
        if seconds // 60 > self.shown:
            self.shown = int(seconds // 60)
            print(f"  batch size {self.batch_size}: atc has run for {self.shown} min", file=sys.stderr)
