"""The machine that this process runs on: CPU threads, memory, CPU name, interpreters. Python 3.7, standard library."""

from __future__ import annotations

from _support import VERSIONS

import contextlib
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def cgroup_folders(controller: str, root: Path = CGROUPS, own: Path = OWN_CGROUP) -> List[Path]:
    """The folders of this process's cgroup and of all above it, for version 2 and for a controller of version 1."""
    try:
        lines = [line.split(":", 2) for line in own.read_text("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    folders = [root, root / controller]
    for _, controllers, path in (line for line in lines if len(line) == 3):
        tree = root / controller if controller in controllers.split(",") else root
        folders += [tree.joinpath(*Path(path).parts[1:depth]) for depth in range(2, len(Path(path).parts) + 1)]
    return folders


def quota_of(folder: Path) -> float:
    """CPUs that one cgroup allows (cpu.max of version 2, cpu.cfs_* of version 1); infinite if it has no quota."""
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return math.inf if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ArithmeticError):  # a period of 0, or more digits than a float has
        pass
    try:
        limit_us = int((folder / "cpu.cfs_quota_us").read_text())
        return limit_us / int((folder / "cpu.cfs_period_us").read_text()) if limit_us > 0 else math.inf
    except (OSError, ValueError, ArithmeticError):
        return math.inf


def quota(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> float:
    """The smallest quota, in CPUs, of this process's cgroup and those above it."""
    return min(quota_of(folder) for folder in cgroup_folders("cpu", root, own))


def threads() -> int:
    """Threads to use: the smaller of CPU affinity and cgroup quota, at least 1.

    The host's CPU count is not used: in a container it is too high (onnxruntime#29510).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(min(quota(), 1 << 16))))


def number_in(path: Path, name: str = "") -> float:
    """The number in a file, or after `name` at the beginning of one of its lines; infinite if there is none."""
    with contextlib.suppress(OSError, ValueError):
        text = path.read_text()
        match = re.search(rf"^{name} *(\d{{1,30}})\b", text, re.MULTILINE | re.ASCII)
        return int(match[1]) if match else math.inf
    return math.inf


class Memory(NamedTuple):
    """Memory in GB."""

    total: float  # that this process may use: the machine's, or the smallest limit of its cgroups
    available: float  # what is free of it, with file caches that the kernel can drop


def memory(root: Path = CGROUPS, own: Path = OWN_CGROUP) -> Memory:
    """The memory of this process's machine, within the limits of its cgroup and of those above it."""
    total: float = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = min(total, 1024 * number_in(Path("/proc/meminfo"), "MemAvailable:"))
    for folder in cgroup_folders("memory", root, own):
        for limit_file, used_file, cache in (
            ("memory.max", "memory.current", "inactive_file"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ):
            limit, used = number_in(folder / limit_file), number_in(folder / used_file)
            dropped = number_in(folder / "memory.stat", cache)
            if limit < math.inf:
                total = min(total, limit)
                in_use = 0 if used == math.inf else used - (0 if dropped == math.inf else dropped)
                available = min(available, limit - max(0, in_use))
    return Memory(total / 1e9, max(0, min(total, available)) / 1e9)


def memory_gb() -> float:
    """Memory, in GB, that this process may use."""
    return memory().total


def cpu_name() -> str:
    """The CPU's model name, of /proc/cpuinfo if it has one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            names = [line.partition(":")[2].strip() for line in stream if line.startswith(("model name", "Model"))]
    except OSError:
        names = []
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> List[str]:
    """The instruction sets and features of the first CPU in /proc/cpuinfo; empty if it does not list them."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].split() for line in lines if re.match(r"(flags|Features)\b", line)), [])


def supported_python() -> str | None:
    """The path of a Python of a supported version that has venv: this interpreter, else the newest of python3.14 to
    python3.10 on PATH; None if all are missing."""
    probe = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for name in (sys.executable, *(f"python{version}" for version in VERSIONS)):
        path = shutil.which(name)
        if path:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                command = [path, "-c", probe]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
                if done.stdout.decode("ascii", "replace").strip() in VERSIONS:
                    return path
    return None
