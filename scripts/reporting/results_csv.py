"""results.csv: a row for each chip and batch size, with accuracy, speed, and what the figures are of."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import one_line

import csv
import io
from typing import Any

from reporting.gate import References, judge_accuracy
from reporting.provenance import CONDITIONS, LABELS, label_cells
from reporting.records import PERCENTILES, Result
from reporting.timing import OFFLINE, SINGLE_STREAM, scenario_text

OF_ROW = ("chip", "batch_size")
ACCURACY = ("top1", "correct", "total", "wilson95_low", "wilson95_high", "gate")
COMPARE = ("agreement",)
PERF = (
    *("throughput_images_per_s", "p50_ms", "p90_ms", "p99_ms", "end_to_end_images_per_s", "queries", "stable"),
    *("throughput_scenario", "latency_scenario"),
)
DATES = ("accuracy_date", "perf_date")
OF_RESULT = (*(name for name in CONDITIONS if name not in OF_ROW), "model")
COLUMNS = (*OF_ROW, *ACCURACY, *COMPARE, *PERF, *DATES, *OF_RESULT, *LABELS)


def date_of(record: Record | None) -> str:
    return str(((record or {}).get("run") or {}).get("date", ""))


def newest(records: list[Record]) -> Record:
    """The record with the latest date."""
    return max(records, key=date_of)


def accuracy_values(result: Result, references: References) -> list[Any]:
    accuracy = result.records.get("accuracy")
    if not accuracy:
        return [""] * len(ACCURACY)
    verdict = judge_accuracy(accuracy, result.chip, references)
    return [accuracy["top1"], accuracy["correct"], accuracy["total"], *accuracy["wilson95"], verdict.outcome]


def perf_values(result: Result) -> list[Any]:
    perf = result.records.get("perf")
    if not perf:
        return [""] * len(PERF)
    times = [perf["latency_ms"][name] for name in PERCENTILES]
    end_to_end = perf.get("end_to_end", {}).get("throughput_images_per_s", "")
    scenarios = [scenario_text(perf, name) for name in (OFFLINE, SINGLE_STREAM)]
    return [
        *(perf["throughput_images_per_s"], *times, end_to_end, perf["queries"], str(perf["stable"]).lower()),
        *scenarios,
    ]


def row_of(result: Result, references: References) -> list[Any]:
    """The cells of COLUMNS; empty where nothing was measured. The labels are those of the newest record."""
    records = result.records
    row = [result.chip, result.batch, *accuracy_values(result, references)]
    row += [records["compare"]["agreement"] if "compare" in records else "", *perf_values(result)]
    row += [date_of(records.get("accuracy")), date_of(records.get("perf"))]
    row += [result.provenance.get(name, "") for name in OF_RESULT]
    return row + label_cells(newest(list(records.values())))


def format_results(results: list[Result], references: References) -> str:
    """The text of results.csv."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        cells = row_of(result, references)
        writer.writerow([one_line(cell) if isinstance(cell, str) else cell for cell in cells])
    return stream.getvalue()
