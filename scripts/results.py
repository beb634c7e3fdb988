"""What lies in results/<chip>/bs<n>/: accuracy.json, perf.json and compare.json, each judged before it is believed.

Records of one chip and batch size are one Result if they were made from the same things under the same conditions,
else several, so that no figure stands beside one that it does not belong to.
"""

from __future__ import annotations

from _build import Record, plain, read_record

import re
from itertools import groupby
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

from outputs import CLASSES

ORIGINS = ("data_origin", "checkpoint_origin", "given")
ALIKE = ("archive", "checkpoint", "optimized", "resize")  # what results may differ in and still share a table
CONDITIONS = ("runtime", "precision", "device", "driver", "threads", "host", "python", "numpy")
SAME = (*ALIKE, *CONDITIONS, "model")  # what the records of one result may not differ in, where both tell it


def number(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e12  # type: ignore[operator]  # not NaN either


def positive(value: object) -> bool:
    return number(value) and value != 0


def whole(value: object) -> bool:
    return type(value) is int and number(value)


def text(value: object) -> bool:
    return isinstance(value, str)


def a_class(value: object) -> bool:
    return whole(value) and value in range(len(CLASSES))


TIMES = {name: positive for name in ("p50", "p90", "p99")}
RATES = {"throughput_images_per_s": positive, "latency_ms": TIMES}
MADE = {name: lambda value: value in ("official", "own", "sample") for name in ORIGINS[:2]}
MADE["given?"] = text
MISTAKE = {"image": whole, "label": a_class, "found": a_class, "probability": number}
SHAPES: dict[str, Any] = {  # what the page reads of each record; a name with ? may be missing
    "accuracy": {
        **{"top1": number, "correct": whole, "total": positive, "wilson95": (number, number), "provenance": MADE},
        **{"source": ("cifar10", "sample").__contains__, "confusion": ((whole,) * 10,) * 10, "mistakes?": [MISTAKE]},
    },
    "perf": {
        **{**RATES, "queries": whole, "stable": (True, False).__contains__, "provenance": MADE, "device?": RATES},
        **{"end_to_end?": {"throughput_images_per_s": positive}, "stability?": {}},
    },
    "compare": {name: number for name in ("agreement", "mended", "broken", "other", "mcnemar_p")}
    | {"provenance": MADE},
}


def fits(value: Any, shape: Any) -> bool:
    """Whether JSON has a shape: a dict of needed names, a list of any length, a tuple of this one, or a question."""
    if isinstance(shape, dict):
        present = isinstance(value, dict)
        return present and all(
            (name[-1] == "?" and name[:-1] not in value) or fits(value.get(name.rstrip("?")), inner)
            for name, inner in shape.items()
        )
    if isinstance(shape, (list, tuple)):
        inners = shape * len(value) if isinstance(shape, list) and isinstance(value, list) else shape
        return isinstance(value, list) and len(value) == len(inners) and all(map(fits, value, inners))
    try:
        return bool(shape(value))
    except TypeError:  # a list or a dict where a word is due
        return False


class Result(NamedTuple):
    """What one chip did at one batch size: its records by kind, and the provenance that they share."""

    chip: str
    batch: int
    made: dict[str, str]
    records: dict[str, Record]

    def group(self) -> tuple[str, ...]:
        return tuple(self.made.get(name, "") for name in ORIGINS)


def what_is_wrong(path: Path, record: Record) -> str:
    """Why the record of results/<chip>/bs<n>/<kind>.json is not believed; nothing if it is."""
    if not fits(record, SHAPES[path.stem]):
        return "damaged, or not a record of this version"
    made, (chip, folder) = record["provenance"], path.parts[-3:-1]
    if (made.get("chip", chip), f"bs{made.get('batch_size', folder[2:])}") != (chip, folder):
        return "it tells of another chip or batch size than its folder's"
    return ""


def add(found: list[Result], path: Path, record: Record) -> None:
    """Puts a record to the result that it belongs to, or begins a new one with it."""
    made = {k: plain(v) for k, v in record["provenance"].items() if isinstance(v, (str, int, float))}
    here = Result(path.parts[-3], int(path.parts[-2][2:]), made, {path.stem: record})
    for other in found:
        known = other.made
        alike = here.group() == other.group() and all(made[k] == known[k] for k in SAME if k in made and k in known)
        if (other.chip, other.batch) == (here.chip, here.batch) and alike and path.stem not in other.records:
            other.records.update(here.records)
            other.made.update(made)
            return
    found.append(here)


def collect(folder: Path, chips: list[str]) -> tuple[list[Result], list[str]]:
    """All results below `folder`, those of `chips` first, and a line for each file that is left out."""
    found: list[Result] = []
    left_out = []
    for path in sorted(folder.glob("*/bs*/*.json")):
        if path.stem in SHAPES and path.parts[-3] != "reference" and re.fullmatch(r"bs[1-9]\d{0,3}", path.parts[-2]):
            record = read_record(path)
            if not path.with_suffix(".txt").is_file():  # removed, to have it made anew
                continue
            wrong = what_is_wrong(path, record)
            if wrong:
                left_out.append(f"{plain('/'.join(path.parts[-3:]))} is left out: {wrong}")
            else:
                add(found, path, record)
    order = {chip: i for i, chip in enumerate(chips)}
    return sorted(found, key=lambda r: (order.get(r.chip, len(order)), r.chip, r.batch)), left_out


def rows_of(results: list[Result], kinds: set[str], sizes: list[int]) -> Iterator[tuple[str, int, Result | None]]:
    """Each chip's batch sizes, the listed ones and others, with what of these kinds was measured, or None."""
    for chip, run in groupby(results, lambda result: result.chip):
        there = [result for result in run if kinds & result.records.keys()]
        for batch in sorted({*sizes, *(result.batch for result in there)}):
            measured: list[Result | None] = [result for result in there if result.batch == batch]
            for result in measured or [None]:
                yield chip, batch, result


def unlike(results: list[Result], names: Sequence[str] = ALIKE) -> list[str]:
    """In which of the inputs these results differ."""
    return [name for name in names if len({result.made.get(name, "") for result in results} - {""}) > 1]
