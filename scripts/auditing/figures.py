"""Computes the figures of a result again, from the outputs and the labels, and compares them. Python 3.7."""

from __future__ import annotations

from _support.artifact import DAMAGED, SAME, Record, digest, is_count, is_file, rebuild_hint
from _support.cli import Refusal, die, refusals

import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from numpy.typing import NDArray

from auditing.chain import Chain, Checked, intact_record
from auditing.statement import check_statement
from formats.outputs import read_labels, read_outputs
from reporting.accuracy import accuracy_record, format_predictions
from reporting.agreement import compare_logits
from reporting.records import invalid_fields, is_list, is_positive
from reporting.timing import latency

INPUTS = ("model", "bins", "labels", "outputs", "reference")  # what a result is made from directly
PRECISION = 1e-9  # relative; exp() and sums of numpy differ in the last digits between CPUs


def is_same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are equal, floats to PRECISION."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=PRECISION, abs_tol=PRECISION)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and bool(one == other)


def check_figures(link: Checked, computed: Record) -> None:
    """Exits 1 if the record of a result differs from the figures that were computed again."""
    for name, value in computed.items():
        if not is_same(link.record.get(name), value):
            path = link.path.with_suffix(".json")
            die(path, f"{name} is not what follows from outputs and labels", rebuild_hint(link.path))


class Logits:
    """The logits and labels of a result, which are read once. Exits 1 unless each folder of outputs has one for each
    label, and the digest of its manifest."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.labels: NDArray[Any] = read_labels(chain.check("labels").path)
        self.outputs = self.read("outputs")

    def read(self, name: str) -> NDArray[Any]:
        """The logits of a folder of outputs, float64 [images, classes]."""
        link = self.chain.check(name)
        return read_outputs(link.path, link.record, len(self.labels))


def check_accuracy(link: Checked, logits: Logits) -> None:
    """Top-1, interval, classes, confusion and mistakes of accuracy.json, and the rows of predictions.csv."""
    record = link.record
    missing = [name for name in ("model", "labels") if name not in record["provenance"]]
    if missing:
        die(link.path.with_suffix(".json"), f"{DAMAGED} ({', '.join(missing)})", rebuild_hint(link.path))
    computed = accuracy_record(logits.outputs, logits.labels, "", record["provenance"])
    check_figures(link, {name: value for name, value in computed.items() if name not in ("published", "provenance")})
    path = link.path.with_name("predictions.csv")
    stated = record.get("predictions_sha256")  # earlier versions did not record it
    if stated and is_file(path) and digest(path) != stated:
        die(path, "its digest differs from the one in accuracy.json", rebuild_hint(link.path))
    if not same_rows(path, format_predictions(logits.outputs, logits.labels)):
        die(path, "missing, or not what follows from outputs and labels", rebuild_hint(link.path))


def same_rows(path: Path, expected: str) -> bool:
    """Whether a CSV file has the expected text, apart from the last digits of numbers."""
    if not is_file(path):
        return False
    try:
        lines: List[str] = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError:
        return False
    pairs = [(line, other) for line, other in zip(lines, expected.split("\n")) if line != other]
    return len(lines) == expected.count("\n") + 1 and all(same_cells(line, other) for line, other in pairs)


def same_cells(one: str, other: str) -> bool:
    """Whether two rows have the same cells, numbers to 8 digits."""
    try:
        pairs = [(float(a), float(b)) for a, b in zip(one.split(","), other.split(",")) if a != b]
    except ValueError:
        return False
    return one.count(",") == other.count(",") and all(math.isclose(a, b, rel_tol=1e-8) for a, b in pairs)


def check_compare(link: Checked, logits: Logits) -> None:
    """The figures of compare.json: agreement, McNemar's test, errors of the logits."""
    check_figures(link, compare_logits(logits.outputs, logits.read("reference"), logits.labels))


def check_perf(link: Checked, logits: Logits) -> None:
    """The figures of perf.json that follow from its times."""
    record = link.record
    times = record.get("times_ms")
    if not times or not is_list(times, is_positive) or not is_count(record.get("images")):
        die(link.path.with_suffix(".json"), f"{DAMAGED} (times_ms, images)", rebuild_hint(link.path))
    throughput = 1000 * record["images"] / sum(times)
    computed = {"throughput_images_per_s": throughput, "latency_ms": latency(times), "queries": len(times)}
    check_figures(link, computed)


KINDS: Dict[str, Callable[[Checked, Logits], None]] = {
    "accuracy": check_accuracy,
    "compare": check_compare,
    "perf": check_perf,
}


def check_result(link: Checked, logits: Logits) -> None:
    """Exits 1 if the record of a result has an invalid provenance or run, or figures that do not follow from outputs
    and labels."""
    reason = invalid_fields(link.record, {})
    if reason:
        die(link.path.with_suffix(".json"), reason, rebuild_hint(link.path))
    KINDS[link.path.stem](link, logits)


def remedy_of(fault: Refusal, root: Path, chip: str, size: int) -> str:
    """The remedy of a fault for commands that build nothing: it names the command that builds the file again."""
    file = Path(str(fault.subject))
    goal = {"compare": "compare", "perf": "perf", "layers": "compare LAYERS=1"}.get(file.name.split(".")[0], "accuracy")
    if file.parts[len(root.parts) :][:2] == ("results", "reference"):
        goal = "compare"
    where = "" if root == Path() else f" ROOT={root}"
    return fault.remedy.replace(SAME, f"make {goal} CHIP={chip} BS={size}{where}")


class Auditor:
    """Audits single results without what they were made from: records, chip and batch size, figures from outputs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shared: Dict[str, Checked] = {}
        self.logits: Dict[Tuple[str, int], Logits] = {}  # of the result that was audited last

    def has_outputs(self, chip: str, size: int) -> bool:
        """Whether the outputs of a result are in ROOT. Without them its figures cannot be computed again."""
        return is_file(self.root / f"results/{chip}/bs{size}/outputs/manifest.json")

    def fault(self, chip: str, size: int, kind: str) -> Refusal | None:
        """Why accuracy, compare or perf of a result is not what it says; None if it is. Of layers, only the record is
        checked, because its tensors are nowhere on the disk."""
        try:
            with refusals():
                if kind == "layers":
                    path = self.root / f"results/{chip}/bs{size}/layers.json"
                    intact_record(path, rebuild_hint(path))
                    return None
                chain = Chain(self.root, chip, size, self.shared, unfollowed=INPUTS)
                if not self.has_outputs(chip, size):
                    chain.unfollowed = (*INPUTS, kind)
                link = chain.check(kind)
                if self.has_outputs(chip, size):
                    if (chip, size) not in self.logits:
                        self.logits = {(chip, size): Logits(chain)}
                    check_result(link, self.logits[chip, size])
                    check_statement(link.path)
        except Refusal as fault:
            return fault
        return None
