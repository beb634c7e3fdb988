"""What this process may use of its machine: memory."""

from __future__ import annotations

from _support import machine

import math
from pathlib import Path

import pytest

INFINITE_V1 = str(2**63 - 4096)  # what version 1 shows for no limit


def plant(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


JOB = "system.slice/slurmstepd.scope/job_7"


@pytest.mark.parametrize(
    ("own", "files", "total"),
    [
        ("0::/", {"memory.max": "2000000000\n"}, 2),
        ("0::/", {"memory.max": "max\n"}, math.inf),
        (f"0::/{JOB}/step_0/user", {f"{JOB}/memory.max": "2000000000\n", f"{JOB}/step_0/memory.max": "max\n"}, 2),
        (f"0::/{JOB}", {f"{JOB}/memory.max": "2000000000\n", "memory.max": "1000000000\n"}, 1),
        ("0::/../other", {}, math.inf),
        ("9:memory:/", {"memory/memory.limit_in_bytes": "2000000000\n"}, 2),
        ("9:memory:/a/b", {"memory/a/memory.limit_in_bytes": "2000000000", "memory/a/b/memory.limit_in_bytes": "x"}, 2),
        ("9:cpu,memory:/a\n0::/a", {"memory/a/memory.limit_in_bytes": "2000000000\n"}, 2),
        ("9:memory:/a", {"memory/memory.limit_in_bytes": INFINITE_V1, "memory/a/memory.limit_in_bytes": ""}, math.inf),
        ("9:memory:/docker/1", {"memory/memory.limit_in_bytes": "2000000000"}, 2),  # the path is that of the host
        ("garbage", {}, math.inf),
    ],
)
def test_memory_is_the_smallest_limit_of_the_cgroups_of_this_process_and_above(
    tmp_path: Path, own: str, files: dict[str, str], total: float
) -> None:
    plant(tmp_path, {"own": own + "\n"})
    plant(tmp_path / "cgroup", files)
    memory = machine.memory(tmp_path / "cgroup", tmp_path / "own")
    if total < math.inf:
        assert memory.total == total
    else:
        assert memory.total == machine.memory(tmp_path / "none", tmp_path / "none").total
    assert 0 <= memory.available <= memory.total


@pytest.mark.parametrize(
    ("prefix", "names", "cache"),
    [
        ("", ("memory.max", "memory.current"), "inactive_file"),
        ("memory/", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
def test_available_memory_is_what_a_limit_leaves_with_caches_that_can_be_dropped(
    tmp_path: Path, prefix: str, names: tuple[str, str], cache: str
) -> None:
    plant(tmp_path, {"own": "0::/job/task\n9:memory:/job/task\n"})
    limit, used = names
    plant(tmp_path / "cgroup" / prefix / "job", {limit: "500000000\n", used: "450000000\n"})
    memory = machine.memory(tmp_path / "cgroup", tmp_path / "own")
    assert (memory.total, memory.available) == (0.5, pytest.approx(0.05))
    plant(tmp_path / "cgroup" / prefix / "job", {"memory.stat": f"anon 1\n{cache} 300000000\n"})
    assert machine.memory(tmp_path / "cgroup", tmp_path / "own").available == pytest.approx(0.35)


def test_without_a_limit_available_memory_is_that_of_the_machine(tmp_path: Path) -> None:
    memory = machine.memory(tmp_path, tmp_path)
    assert 0 < memory.available <= memory.total == machine.memory(tmp_path, tmp_path).total
