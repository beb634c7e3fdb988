"""How many threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """CPUs that the cgroup allows (cpu.max of version 2, cpu.cfs_* of version 1); infinite where none is set."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
        return math.inf if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        return limit_us / int((root / "cpu/cpu.cfs_period_us").read_text()) if limit_us > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def threads() -> int:
    """The smaller of affinity mask and cgroup quota, at least 1; never the host's count (onnxruntime#29510)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(min(quota(), 1 << 16))))
