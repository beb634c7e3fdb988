"""Which precisions this machine's CPU has instructions for, and refusal where it has none. Standard library alone."""

from __future__ import annotations

from _build import die

import platform
from pathlib import Path

# By Linux's names in /proc/cpuinfo, the fastest first; for the others OpenVINO would work in float32, or emulate.
INSTRUCTIONS = {
    "f32": ("avx512f", "avx2", "sse4_2"),
    "bf16": ("amx_bf16", "avx512_bf16"),
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni"),  # without VNNI its int8 sums saturate (onnxruntime#12854)
}


def instructions(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The fastest instructions for "f32", "bf16" or "int8", or "" where the CPU, not x86-64 perhaps, has none."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return next((name for name in INSTRUCTIONS[precision] if name in flags), "")


def needed(precision: str, subject: object) -> str:
    """The same; exits 1 where there are none."""
    found = instructions(precision)
    if found:
        return found
    able = "cpu-f32" if instructions("f32") else "cpu"
    wanted = " or ".join(INSTRUCTIONS[precision])
    die(subject, f"this CPU ({platform.machine()}) has no {wanted}, so {precision} would be slow", f"take CHIP={able}")
