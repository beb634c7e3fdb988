"""Damaged records, files of cgroups and any texts in messages: what is read is what was written, or nothing."""

from __future__ import annotations

from _support import artifact, cli, machine
from _support.artifact import RECORD_DIGEST, format_record, needed_record, read_record

import builtins
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from damage import HOSTILE, Damage, JsonEdit, damages, edited, entries_of, json_edits, outcome
from formats import held

RECORD: dict[str, Any] = {
    "key": {"inputs": {"archive": "a" * 64}, "flags": {"n": 1}, "scripts": {}, "versions": {"numpy": "2"}},
    "sha256": hashlib.sha256(b"data").hexdigest(),
    **{"digest": "b" * 64, "count": 3, "format": "txt", "origin": "sample", "path": "ä/\ud800"},
    "provenance": {"archive": "a" * 64, "chip": "cpu", "batch_size": 4, "engine": "x", "options": "", "precision": ""},
    "engine": {"precision": "f32"},
    "graph": {"opset": 11},
}
FILES = {
    "record": format_record(RECORD).encode(),
    "earlier": json.dumps(RECORD, indent=1).encode(),
    "list": b"[1, 2]",
    "deep": b"[" * 9999,
    "large": b'{"a": ' + b"9" * 9999 + b"}",
}


@given(damages(*FILES))
@example(Damage("deep", []))
@example(Damage("large", []))
def test_a_damaged_record_is_the_one_of_its_digest_or_missing(scratch: Path, damage: Damage) -> None:
    path, data = scratch / "record.json", damage.of(FILES)
    path.write_bytes(data)
    record = outcome(lambda: read_record(path))
    assert isinstance(record, dict)
    if RECORD_DIGEST in record:
        assert format_record(record).encode() == data == FILES["record"]


@given(json_edits, st.sampled_from(["data.bin", "manifest.json"]), st.booleans())
def test_what_a_command_reads_of_an_edited_record_is_valid_or_refused(
    scratch: Path, edits: list[JsonEdit], name: str, has_digest: bool
) -> None:
    """What it does not contain is refused when it is read."""
    folder = scratch / "needed"
    folder.mkdir(exist_ok=True)
    (folder / "data.bin").write_bytes(b"data")
    path, record = folder / ("data.json" if name == "data.bin" else name), edited(RECORD, edits)
    path.write_text(format_record(record) if has_digest else json.dumps(record))

    def read() -> Any:
        read = needed_record(folder / name, path)
        provenance = read["provenance"]
        return provenance["batch_size"], provenance["chip"], read["sha256"], read["count"], read["digest"]

    values = outcome(read)
    if values is not None:
        size, chip, sha256, count, digest = values
        assert type(size) is int and size > 0 and isinstance(chip, str)
        if name == "data.bin":
            assert sha256 == RECORD["sha256"]
        else:
            assert type(count) is int and count > 0 and isinstance(digest, str)


ORIGIN = [key for _, key in entries_of(RECORD)].index("origin")


@given(json_edits, st.sampled_from(["archive.tar.gz", "checkpoint.pkl", "labels.txt"]), st.binary(max_size=3))
@example([JsonEdit("replace", ORIGIN, HOSTILE.index([[]]))], "labels.txt", b"")
def test_a_file_that_is_not_what_its_record_says_has_no_origin(
    scratch: Path, edits: list[JsonEdit], name: str, content: bytes
) -> None:
    path = scratch / name
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    record = edited({**RECORD, "sha256": sha256}, edits)
    artifact.record_of(path).write_text(format_record(record))
    origin = outcome(lambda: held.origin_of(path, sha256))
    assert origin != "official" and (origin is None or origin == record.get("origin"))
    assert outcome(lambda: held.recorded_origin(path, was_sample=False)) in ("given", "sample", "official")


# The machine

OPEN = open
CGROUP = {
    "cpu.max": b"150000 100000\n",
    "cpu.cfs_quota_us": b"150000\n",
    "cpu.cfs_period_us": b"100000\n",
    "memory.max": b"2000000000\n",
    "memory.current": b"1000000\n",
    "memory.stat": b"anon 1\ninactive_file 300000\n",
    "memory.limit_in_bytes": b"max",
    "own": b"0::/job/task\n9:memory,cpu:/job\n",
    "cpuinfo": b"processor : 0\nmodel name\t: A CPU @ 2 GHz\nflags : fpu\n",
}


@given(st.dictionaries(st.sampled_from([*CGROUP]), damages(*CGROUP), max_size=4))
@example({"cpu.max": Damage(b"100 0", [])})
@example({"cpuinfo": Damage(b"model name\t:\nModel\t: x\n", [])})
@example({"cpuinfo": Damage(b"model name\t: \n", [])})
@example({"cpu.max": Damage(b"1" * 400 + b" 100000", [])})
@example({"own": Damage(b"0::/\xff\0\n1:cpu\n", [])})
def test_any_files_of_the_kernel_give_a_number_of_threads_and_bytes(scratch: Path, files: dict[str, Damage]) -> None:
    folder = scratch / "cgroup"
    places = ("", "cpu", "memory", "job", "job/task")
    if not folder.exists():
        for place in places:
            (folder / place).mkdir(parents=True)
            for name, data in CGROUP.items():
                (folder / place / name).write_bytes(data)

    def read() -> Any:
        with (
            mock.patch.object(machine, "quota", lambda quota=machine.quota: quota(folder, folder / "own")),
            mock.patch.object(machine.platform, "processor", lambda: "CPU"),  # it asks another program
            mock.patch.object(builtins, "open", lambda *_, **more: OPEN(folder / "cpuinfo", **more)),
        ):
            return machine.threads(), machine.cpu_name(), machine.memory(folder, folder / "own")

    try:
        for name, damage in files.items():
            (folder / "job" / name).write_bytes(damage.of(CGROUP))
            (folder / name).write_bytes(damage.of(CGROUP))
        values = outcome(read)
    finally:
        for name in files:
            (folder / "job" / name).write_bytes(CGROUP[name])
            (folder / name).write_bytes(CGROUP[name])
    assert values is not None
    threads, name, memory = values
    assert type(threads) is int and threads >= 1
    assert name and 0 <= memory.available <= memory.total < math.inf


# Messages


@given(st.text(), st.text(), st.text())
def test_every_message_is_one_line(subject: str, problem: str, remedy: str) -> None:
    outcome(lambda: cli.die(f"a{subject}", f"b{problem}", f"c{remedy}"))
    assert cli.one_line(subject).isprintable() and len(cli.short(subject)) <= 61


def test_a_record_that_would_fill_the_memory_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "bs4.json"
    path.touch()
    os.truncate(path, 1 << 40)
    assert read_record(path) == {}
