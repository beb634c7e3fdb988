"""How many threads this process may really use, and how a batch is shared out to them."""

from __future__ import annotations

import math
import os
from pathlib import Path

CHUNK = 8  # images a request, as fast as 4 and 16 within 4 % on both engines; 1 and 64 are up to 15 % slower


def quota_of(folder: Path) -> float:
    """CPUs that one cgroup allows (cpu.max of version 2, cpu.cfs_* of version 1); infinite where it sets none."""
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
    """The smallest quota of this process's cgroup and of those above it."""
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
    """The smaller of affinity mask and cgroup quota, at least 1; never the host's count (onnxruntime#29510)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(min(quota(), 1 << 16))))


def shares(batch_size: int, streams: int) -> tuple[int, int]:
    """(streams to use, images a request): a batch in equal parts, as many a stream, of at most CHUNK images.

    A stream has threads of its own: two threads on one request wait for each other after every layer.
    """
    streams = min(streams, batch_size)
    parts = streams * math.ceil(batch_size / (streams * CHUNK))
    return streams, math.ceil(batch_size / parts)
