"""The machine that this process runs on: CPU threads, memory, CPU name, interpreters. Python 3.7, standard library."""

from __future__ import annotations

from _support import VERSIONS

import contextlib
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path


def quota_of(folder: Path) -> float:
    """CPUs that one cgroup allows (cpu.max of version 2, cpu.cfs_* of version 1); infinite if it has no quota."""
    try:
        limit, period = (folder / "cpu.max").read_text().split()
        return math.inf if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int((folder / "cpu.cfs_quota_us").read_text())
        return limit_us / int((folder / "cpu.cfs_period_us").read_text()) if limit_us > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """The smallest quota, in CPUs, of this process's cgroup and its parents."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    folders = [root, root / "cpu"]
    for _, controllers, path in lines:
        tree = root / "cpu" if "cpu" in controllers.split(",") else root
        folders += [tree.joinpath(*Path(path).parts[1:depth]) for depth in range(2, len(Path(path).parts) + 1)]
    return min(quota_of(folder) for folder in folders)


def threads() -> int:
    """Threads to use: the smaller of CPU affinity and cgroup quota, at least 1.

    The host's CPU count is not used: in a container it is too high (onnxruntime#29510).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(min(quota(), 1 << 16))))


def memory_gb() -> float:
    """Memory, in GB, that this process may use: the machine's, or its cgroup's limit if that is smaller."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(sizes) / 1e9


def cpu_name() -> str:
    """The CPU's model name, of /proc/cpuinfo if it has one."""
    try:
        with open("/proc/cpuinfo") as stream:
            names = [line.partition(":")[2].strip() for line in stream if line.startswith(("model name", "Model"))]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


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
