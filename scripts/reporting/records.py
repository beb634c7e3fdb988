"""Reads and validates the records in results/<chip>/bs<n>/: accuracy.json, perf.json, compare.json and layers.json.

Records of one chip and batch size form one Result if they have the same inputs and conditions. Otherwise they form
several Results, so that unrelated figures never share a row.
"""

from __future__ import annotations

from _support.artifact import DAMAGED, Record, is_file, place_problem, read_record, rebuild_hint
from _support.cli import PERMISSIONS, SETTINGS_FILE, one_line

import re
from itertools import groupby
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Sequence, Tuple

from network.spec import CLASSES
from reporting.provenance import is_provenance
from reporting.timing import CHOICE, FULL, ONE, SCENARIOS

ORIGINS = ("data_origin", "checkpoint_origin", "given")
INPUTS = ("archive", "checkpoint", "optimized", "resize")  # results that differ in these can still share a table
CONDITIONS = ("runtime", "precision", "device", "driver", "threads", "host", "python", "numpy")  # shown in the report
SHARED = (*INPUTS, *CONDITIONS, "model")  # the records of one result agree in those of these that they contain
PERCENTILES = ("p50", "p90", "p99")


def is_number(value: Any) -> bool:
    """Whether `value` is an int or float from 0 to 1e12, not NaN and not a boolean."""
    return type(value) in (int, float) and bool(0 <= value < 1e12)


def is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def is_count(value: Any) -> bool:
    return type(value) is int and is_number(value)


def is_fraction(value: Any) -> bool:
    return is_number(value) and value <= 1


def is_class(value: Any) -> bool:
    return is_count(value) and value < len(CLASSES)


def is_list(value: Any, is_item: Callable[[Any], bool], length: int | None = None) -> bool:
    """Whether `value` is a list of valid items, of the given length if there is one."""
    return isinstance(value, list) and length in (None, len(value)) and all(map(is_item, value))


def is_mistake(value: Any) -> bool:
    """Whether `value` is a valid item of "mistakes" in accuracy.json."""
    return (
        isinstance(value, dict)
        and is_count(value.get("image"))
        and is_class(value.get("label"))
        and is_class(value.get("found"))
        and is_fraction(value.get("probability"))
    )


# Entries of "run" that are maps of texts.
MAPS = ("paths", "packages", "at_start", "sitecustomize", "usercustomize", "user_site", "inference")


def is_run(value: Any) -> bool:
    """Whether "run" of a record has only texts, maps of texts, and clean as a boolean."""
    return isinstance(value, dict) and all(
        is_run(entry) if name in MAPS else isinstance(entry, bool if name == "clean" else str)
        for name, entry in value.items()
    )


def has_throughput(value: Any) -> bool:
    return isinstance(value, dict) and is_positive(value.get("throughput_images_per_s"))


def has_percentiles(value: Any) -> bool:
    return isinstance(value, dict) and all(is_positive(value.get(name)) for name in PERCENTILES)


def has_rates(value: Any) -> bool:
    return has_throughput(value) and has_percentiles(value.get("latency_ms"))


def invalid_fields(record: Record, valid: dict[str, bool]) -> str:
    """The reason to reject a record, from {field: whether it is valid}; empty if all of them are."""
    valid = {**valid, "provenance": is_provenance(record.get("provenance")), "run": is_run(record.get("run", {}))}
    fields = [name for name, is_valid in valid.items() if not is_valid]
    return f"{DAMAGED} ({', '.join(fields)})" if fields else ""


ROUNDING = 1e-6  # allowed difference between figures that must be equal


def contradiction(record: Record) -> str:
    """Why the valid fields of an accuracy.json contradict each other; empty if they do not."""
    top1, correct, total, (low, high) = (record[name] for name in ("top1", "correct", "total", "wilson95"))
    if correct > total:
        return f"{correct} correct of {total} images"
    if abs(top1 - correct / total) > ROUNDING:
        return f"top1 is {top1}, but {correct} of {total} images are correct"
    if not low - ROUNDING <= top1 <= high + ROUNDING:
        return f"top1 is {top1}, but its interval is {low} to {high}"
    rows = record["confusion"]
    if (sum(map(sum, rows)), sum(row[i] for i, row in enumerate(rows))) != (total, correct):
        return f"confusion does not have {correct} correct of {total} images"
    return ""


def check_accuracy(record: Record) -> str:
    """Why an accuracy.json is rejected; empty if it is valid."""

    def is_row(value: Any) -> bool:
        return is_list(value, is_count, len(CLASSES))

    reason = invalid_fields(
        record,
        {
            "top1": is_fraction(record.get("top1")),
            "correct": is_count(record.get("correct")),
            "total": is_count(record.get("total")) and record["total"] > 0,
            "wilson95": is_list(record.get("wilson95"), is_fraction, 2),
            "source": record.get("source") in ("cifar10", "sample", "own", "mixed"),
            "confusion": is_list(record.get("confusion"), is_row, len(CLASSES)),
            "mistakes": is_list(record.get("mistakes", []), is_mistake),
        },
    )
    contradicts = "" if reason else contradiction(record)
    return f"{DAMAGED}: {contradicts}" if contradicts else reason


def is_text_list(value: Any) -> bool:
    return is_list(value, lambda item: isinstance(item, str))


def is_scenario(value: Any) -> bool:
    """Whether `value` is a valid entry of "scenarios" in perf.json."""
    if not isinstance(value, dict) or not isinstance(value.get("stability"), dict):
        return False
    others = value["stability"].get("others")
    return (
        value.get("queue") in (ONE, FULL)
        and all(is_count(value[name]) for name in CHOICE if name in value)
        and has_throughput(value)
        and is_count(value.get("images"))
        and is_list(value.get("times_ms"), is_number)
        and sum(value["times_ms"]) > 0
        and is_text_list(value["stability"].get("why"))
        and (others is None or is_number(others))
    )


def has_scenarios(value: Any) -> bool:
    return isinstance(value, dict) and all(is_scenario(value.get(name)) for name in SCENARIOS)


EARLIER = "measured by an earlier version, which did not know the scenarios SingleStream and Offline"


def check_perf(record: Record) -> str:
    """Why a perf.json is rejected; empty if it is valid."""
    if "scenarios" not in record and "times_ms" in record:
        return EARLIER
    return invalid_fields(
        record,
        {
            "batch_size": is_count(record.get("batch_size")) and record["batch_size"] > 0,
            "throughput_images_per_s": has_throughput(record),
            "latency_ms": has_percentiles(record.get("latency_ms")),
            "queries": is_count(record.get("queries")),
            "stable": isinstance(record.get("stable"), bool),
            "device": "device" not in record or has_rates(record["device"]),
            "end_to_end": "end_to_end" not in record or has_throughput(record["end_to_end"]),
            "scenarios": has_scenarios(record.get("scenarios")),
        },
    )


def check_compare(record: Record) -> str:
    """Why a compare.json is rejected; empty if it is valid."""
    valid = {name: is_fraction(record.get(name)) for name in ("agreement", "mcnemar_p")}
    valid.update({name: is_count(record.get(name)) for name in ("mended", "broken", "other")})
    return invalid_fields(record, valid)


def is_error(value: Any) -> bool:
    """Whether `value` is the error of a tensor, which may be infinite or not a number."""
    return isinstance(value, float) or is_number(value)


def check_layers(record: Record) -> str:
    """Why a layers.json is rejected; empty if it is valid."""
    errors, first = record.get("errors"), record.get("first")
    return invalid_fields(
        record,
        {
            "tolerance": is_number(record.get("tolerance")),
            "tensors": is_count(record.get("tensors")),
            "errors": isinstance(errors, dict) and all(map(is_error, errors.values())),
            "first": "first" in record and isinstance(errors, dict) and first in (None, *errors),
        },
    )


CHECKS = {"accuracy": check_accuracy, "perf": check_perf, "compare": check_compare, "layers": check_layers}


class Result(NamedTuple):
    """The records of one chip and batch size by kind, and the provenance that they share."""

    chip: str
    batch: int
    provenance: dict[str, str]
    records: dict[str, Record]

    def group(self) -> tuple[str, ...]:
        """Results of different groups share neither a table nor a figure."""
        return tuple(self.provenance.get(name, "") for name in ORIGINS)


def validation_error(path: Path, record: Record) -> str:
    """Why the record of results/<chip>/bs<n>/<kind>.json is rejected; empty if it is valid."""
    return CHECKS[path.stem](record) or place_problem(path, record["provenance"])


def agree(one: Result, other: Result) -> bool:
    """Whether two results have the same chip, batch size, inputs and conditions, in all entries that both contain."""
    shared = [name for name in SHARED if name in one.provenance and name in other.provenance]
    return (
        (one.chip, one.batch) == (other.chip, other.batch)
        and one.group() == other.group()
        and all(one.provenance[name] == other.provenance[name] for name in shared)
    )


def add_record(results: list[Result], path: Path, record: Record) -> None:
    """Adds a record to the result that it belongs to, or a new result with it."""
    texts = {name: one_line(v) for name, v in record["provenance"].items() if isinstance(v, (str, int, float))}
    new = Result(path.parts[-3], int(path.parts[-2][2:]), texts, {path.stem: record})
    for result in results:
        if agree(new, result) and path.stem not in result.records:
            result.records.update(new.records)
            result.provenance.update(texts)
            return
    results.append(new)


class Fault(NamedTuple):
    """Why a record is not shown, and what to do."""

    problem: str
    remedy: str


NotJudged = Tuple[str, int, Fault]  # chip, batch size and fault of an accuracy.json that is left out


class Collected(NamedTuple):
    """What is below a folder of results."""

    results: list[Result]
    left_out: list[str]  # a line for each file, or chip, that is left out
    not_judged: list[NotJudged]


def fault_of(path: Path, record: Record, audit: Callable[[Path], Fault | None]) -> Fault | None:
    """Why results/<chip>/bs<n>/<kind>.json, with this record, is not shown; None if it is."""
    fault = audit(path)
    reason = "" if fault else validation_error(path, record)
    return Fault(reason, rebuild_hint(path.with_suffix(".txt"))) if reason else fault


def collect_results(
    folder: Path, chips: list[str], audit: Callable[[Path], Fault | None] = lambda _: None
) -> Collected:
    """All results of `chips` below `folder`. `audit` returns why a record is not what it says; None if it is."""
    results: list[Result] = []
    left_out: list[str] = []
    not_judged: list[NotJudged] = []
    gone: dict[str, str] = {}  # reasons by chip
    pages = [path.with_suffix(".json") for path in folder.glob("*/bs*/*.txt")]
    for path in sorted({*folder.glob("*/bs*/*.json"), *pages}):
        is_result = path.stem in CHECKS and path.parts[-3] != "reference"
        if not is_result or not re.fullmatch(r"bs[1-9]\d{0,3}", path.parts[-2]):
            continue
        # Without its page, the user wants make to build the result again. layers.json goes with the page of compare.
        page = path.with_name("compare.txt") if path.stem == "layers" else path.with_suffix(".txt")
        chip = path.parts[-3]
        if chip not in chips:
            gone[chip] = f"it is not a chip of {SETTINGS_FILE}"
            continue
        try:
            if not is_file(page):
                continue
            record = read_record(path)
            fault = fault_of(path, record, audit)
        except PermissionError as error:  # written by another user of this ROOT
            record, fault = {}, Fault(f"it cannot be read ({(error.strerror or '').lower()})", PERMISSIONS)
        if fault and path.stem == "accuracy":
            not_judged.append((chip, int(path.parts[-2][2:]), fault))
        if fault:
            left_out.append(f"{one_line('/'.join(path.parts[-3:]))} is left out of the report: {'; '.join(fault)}")
        else:
            add_record(results, path, record)
    order = {chip: i for i, chip in enumerate(chips)}
    results.sort(key=lambda result: (order[result.chip], result.batch))
    left_out += [f"{one_line(chip)} is left out of the report: {reason}" for chip, reason in gone.items()]
    return Collected(results, left_out, not_judged)


def rows_of(results: list[Result], kinds: set[str], sizes: list[int]) -> Iterator[tuple[str, int, Result | None]]:
    """(chip, batch size, result) for each chip, and each batch size that is in `sizes` or has a record of these kinds.

    The result is None if there is no such record.
    """
    for chip, members in groupby(results, lambda result: result.chip):
        measured = [result for result in members if kinds & result.records.keys()]
        for batch in sorted({*sizes, *(result.batch for result in measured)}):
            rows: list[Result | None] = [result for result in measured if result.batch == batch]
            for row in rows or [None]:
                yield chip, batch, row


def different_inputs(results: list[Result], names: Sequence[str] = INPUTS) -> list[str]:
    """The names of the inputs in which these results differ."""
    return [name for name in names if len({result.provenance.get(name, "") for result in results} - {""}) > 1]
