"""perf.csv: the table of the batch sizes of a chip that were measured under the same conditions. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record, read_record

import csv
import io
from pathlib import Path
from typing import Dict, List, Tuple

from reporting.provenance import CONDITIONS, LABELS, label_cells
from reporting.records import validation_error
from reporting.timing import OFFLINE, SINGLE_STREAM, scenario_text

# All results in one table have the same values in these entries of their provenance.
SHARED = ("checkpoint", "onnx", "optimized", "bins", "options", "precision", "runtime", "threads", "device", "host")

Throughput = Dict[str, Dict[str, str]]  # published images/s by device and batch size
Perfs = Dict[int, Record]  # perf.json by batch size


def speeds_of(perfs: Perfs) -> dict[int, float]:
    """Images/s by batch size."""
    return {size: float(perf["throughput_images_per_s"]) for size, perf in perfs.items()}


def fastest(perfs: Perfs) -> int:
    """The batch size with the highest throughput."""
    speeds = speeds_of(perfs)
    return max(speeds, key=lambda size: speeds[size])


def ratios(perf: Record, published: Throughput) -> dict[str, float | None]:
    """{device: throughput relative to its published throughput at this batch size}.

    None if no figure was published, and for a graph or model of the user's own.
    """
    is_own, speed = perf["provenance"].get("given"), perf["throughput_images_per_s"]
    figures = {device: float(row.get(str(perf["batch_size"]), 0)) for device, row in published.items()}
    return {device: speed / figure if figure and not is_own else None for device, figure in figures.items()}


def format_csv(perfs: Perfs, published: Throughput, best: int) -> str:
    """The text of perf.csv: a row per batch size, first the figures, then the conditions."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figures = ["batch_size", "throughput_images_per_s", "p50_ms", "p90_ms", "p99_ms", "end_to_end_images_per_s"]
    ratio_names = [f"ratio_to_published_{device}" for device in published]
    conditions = [name for name in CONDITIONS if name != "batch_size"]
    scenarios = ["throughput_scenario", "latency_scenario"]
    writer.writerow([*figures, "queries", "stable", *scenarios, "best", *ratio_names, *conditions, "model", *LABELS])
    for size, perf in sorted(perfs.items()):
        times, provenance = perf["latency_ms"], perf["provenance"]
        line = [size, perf["throughput_images_per_s"], times["p50"], times["p90"], times["p99"]]
        line += [perf.get("end_to_end", {}).get("throughput_images_per_s", ""), perf["queries"]]
        line += [str(perf["stable"]).lower(), *(scenario_text(perf, name) for name in (OFFLINE, SINGLE_STREAM))]
        line += [str(size == best).lower()]
        line += ["" if ratio is None else ratio for ratio in ratios(perf, published).values()]
        line += [*(provenance.get(name, "") for name in conditions), provenance.get("model", ""), *label_cells(perf)]
        writer.writerow(line)
    return stream.getvalue()


def differences(perf: Record, baseline: Record) -> list[str]:
    """The names of the conditions in which two results differ; if there are any, they must not share a table."""
    names = [name for name in SHARED if perf["provenance"].get(name) != baseline["provenance"].get(name)]
    key, other = perf.get("key"), baseline.get("key")
    if not isinstance(key, dict) or not isinstance(other, dict):
        return [*names, "key"]
    return names + [name for name in ("flags", "scripts") if key.get(name) != other.get(name)]


def comparable_perfs(results: Path, baseline: Record) -> Tuple[Perfs, List[str]]:
    """The results below `results` that can share a table with `baseline`, including itself; a line for each other."""
    perfs: Perfs = {}
    left_out = []
    for page in sorted(results.glob("bs*/perf.txt")):
        path = page.with_suffix(".json")
        perf = read_record(path)
        reason = validation_error(path, perf)
        if not reason:
            names = differences(perf, baseline)
            reason = f"measured with different {', '.join(names)}" if names else ""
        if reason:
            left_out.append(f"{page}: not in the table: {reason}; to measure it again, run make perf with its BS=")
        else:
            perfs[perf["batch_size"]] = perf
    return perfs, left_out
