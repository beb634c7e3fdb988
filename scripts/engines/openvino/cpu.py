"""Detects the precisions for which this machine's CPU has instructions. Python 3.7, standard library only."""

from __future__ import annotations

from _support.cli import die
from _support.machine import cpu_flags

import platform
from pathlib import Path

# Names in /proc/cpuinfo, the fastest first. Without any of them OpenVINO uses float32 instead, or emulates.
INSTRUCTIONS = {
    "f32": ("avx512f", "avx2", "sse4_2"),
    "bf16": ("amx_bf16", "avx512_bf16"),
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni"),  # without VNNI, sums of int8 products saturate (onnxruntime#12854)
}


def instructions(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's fastest instructions for "f32", "bf16" or "int8"; empty if it has none, for example if not x86-64."""
    flags = cpu_flags(cpuinfo)
    return next((name for name in INSTRUCTIONS[precision] if name in flags), "")


def require_instructions(precision: str, subject: object) -> str:
    """The CPU's fastest instructions for a precision; exits 1 if it has none."""
    name = instructions(precision)
    if name:
        return name
    alternative = "a chip of precision=f32" if instructions("f32") else "a chip of another engine"
    names = " or ".join(INSTRUCTIONS[precision])
    problem = f"this CPU ({platform.machine()}) lacks {names}, so {precision} would be slow"
    die(subject, problem, f"set CHIP= to {alternative}")
