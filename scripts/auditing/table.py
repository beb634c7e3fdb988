"""Checks perf.csv, the table of a chip's measurements, against the perf.json of each batch size. Python 3.7."""

from __future__ import annotations

from _support.artifact import SAME, Record, absence, digest, is_file, read_record, removal
from _support.cli import die

from pathlib import Path
from typing import Dict, Iterator

from params.read import read_params
from reporting.records import validation_error
from reporting.speeds import Throughput, comparable_perfs, fastest, format_csv


def published_throughput(params_file: Path) -> Throughput:
    """The published images/s by device and batch size, as texts, in the order of params.yaml."""
    published: Dict[str, Dict[str, str]] = {}
    for key, figure in read_params(params_file).items():
        words = key.split(".")
        if words[:2] == ["published", "throughput"]:
            published.setdefault(words[2], {})[words[3]] = figure
    return published


def measured(path: Path, text: str) -> Iterator[Record]:
    """The valid perf.json of each row of the table at `path`."""
    for line in text.split("\n")[1:]:
        size = line.split(",")[0]
        if size.isdecimal() and len(size) <= 2:
            record_path = path.with_name(f"bs{size}") / "perf.json"
            record = read_record(record_path)
            if not validation_error(record_path, record):
                yield record


def check_table(path: Path, published: Throughput) -> str:
    """The line of audit on perf.csv; exits 1 unless make perf-all would write the same from the perf.json files.

    All rows were measured under the same conditions, so each of them says which results belong into the table.
    """
    remedy = f"type: {removal(path)}, then {SAME}"
    if not is_file(path):
        die(path, absence(path), remedy)
    text = path.read_bytes().decode("utf-8", "replace")
    baseline = next(measured(path, text), None)
    perfs = comparable_perfs(path.parent, baseline)[0] if baseline else {}
    if not perfs or text != format_csv(perfs, published, fastest(perfs)):
        problem = "differs from the perf.json of its batch sizes: it was changed, or one was measured after it"
        die(path, problem, remedy)
    return f"  {digest(path)[:16]}  {path}"
