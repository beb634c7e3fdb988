"""Computes the figures of a result again, from the outputs and the labels, and compares them. Python 3.7."""

from __future__ import annotations

from _support.artifact import COPIED, DAMAGED, SAME, Record, absence, digest, is_file, rebuild_hint
from _support.cli import Refusal, die, refusals

import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from numpy.typing import NDArray

from auditing.chain import Chain, Checked
from auditing.statement import check_statement
from formats.outputs import read_labels, read_outputs
from reporting.accuracy import accuracy_record, format_predictions
from reporting.agreement import compare_logits, format_page, reference_facts
from reporting.provenance import origins_of, source_of, without_paths
from reporting.records import CHECKS, invalid_fields, is_number
from reporting.timing import OFFLINE, SCENARIOS, SINGLE_STREAM, reasons_of, scenario_record, scenario_stability

INPUTS = ("onnx", "model", "bins", "labels", "outputs", "reference")  # what a result is made from directly
TIMES = ("throughput_images_per_s", "latency_ms")  # of perf.json, and of the device in it
LIMITS = ("drift", "spread", "others")  # of a stable measurement, in the cache key
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


def check_figures(link: Checked, computed: Record, sources: str = "outputs and labels") -> None:
    """Exits 1 if the record of a result differs from the figures that were computed again from `sources`."""
    for name, value in computed.items():
        if not is_same(link.record.get(name), value):
            path = link.path.with_suffix(".json")
            die(path, f"{name} is not what follows from {sources}", rebuild_hint(link.path))


class Logits:
    """The logits and labels of a result, which are read once. Exits 1 unless each folder of outputs has the number and
    the digest of its manifest, and an output for each label."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        outputs = chain.check("outputs")
        self.outputs = read_outputs(outputs.path, outputs.record, outputs.record["count"])
        self.digest, self.provenance = outputs.digest, without_paths(outputs.record["provenance"])
        self.known_labels: NDArray[Any] | None = None

    def labels(self) -> NDArray[Any]:
        """The labels, int [images]. A measurement needs none."""
        if self.known_labels is None:
            self.known_labels = read_labels(self.chain.check("labels").path)
            if len(self.known_labels) != len(self.outputs):
                self.read("outputs", len(self.known_labels))
        return self.known_labels

    def read(self, name: str, count: int) -> NDArray[Any]:
        """The logits of a folder of outputs, float64 [count, classes]; exits 1 if it has another number."""
        link = self.chain.check(name)
        return read_outputs(link.path, link.record, count)


def check_accuracy(link: Checked, logits: Logits) -> None:
    """Top-1, interval, classes, confusion and mistakes of accuracy.json, and the rows of predictions.csv."""
    record = link.record
    missing = [name for name in ("model", "labels") if name not in record["provenance"]]
    if missing:
        die(link.path.with_suffix(".json"), f"{DAMAGED} ({', '.join(missing)})", rebuild_hint(link.path))
    origin = {**logits.provenance, "labels": record["provenance"]["labels"]}
    computed = accuracy_record(logits.outputs, logits.labels(), "", origin)
    check_figures(link, {name: value for name, value in computed.items() if name != "published"})
    path = link.path.with_name("predictions.csv")
    remedy = rebuild_hint(link.path, None, path)
    stated = record.get("predictions_sha256")  # earlier versions did not record it
    if not is_file(path):
        die(path, absence(path), remedy)
    if stated and digest(path) != stated:
        die(path, "its digest differs from the one in accuracy.json", remedy)
    if not same_rows(path, format_predictions(logits.outputs, logits.labels())):
        die(path, "not what follows from outputs and labels", remedy)


def same_rows(path: Path, expected: str) -> bool:
    """Whether a CSV file has the expected text, apart from the last digits of numbers."""
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
    """The figures of compare.json: agreement, McNemar's test, errors of the logits; what it says of the reference; and
    compare.txt, which shows all of it."""
    check_figures(link, compare_logits(logits.outputs, logits.read("reference", len(logits.labels())), logits.labels()))
    reference = logits.chain.check("reference")
    origin = {**logits.provenance, "outputs": logits.digest, "reference": reference.digest}
    stated = {"reference": reference_facts(reference.record["provenance"]), "provenance": origin}
    check_figures(link, stated, "the manifest.json of the outputs and of the reference outputs")
    if link.path.read_bytes() != "\n".join([*format_page(link.record), ""]).encode():
        die(link.path, "differs from what compare.json contains", rebuild_hint(link.path))


def check_perf(link: Checked, logits: Logits) -> None:
    """The figures of perf.json that follow from the times of its scenarios, and from the limits in its cache key."""
    record = link.record
    reason = CHECKS["perf"](record)
    if reason:
        die(link.path.with_suffix(".json"), reason, rebuild_hint(link.path))
    limits = limits_of(link)
    scenarios = {name: check_scenario(link, name, limits) for name in SCENARIOS}
    throughput = scenarios[OFFLINE]["throughput_images_per_s"]
    single_stream = scenarios[SINGLE_STREAM]
    computed = {"throughput_images_per_s": throughput, "latency_ms": single_stream["latency_ms"]}
    check_figures(link, {**computed, "queries": single_stream["queries"]}, "its times")
    check_figures(link, {"batch_size": record["provenance"].get("batch_size")}, "its provenance")
    device = record.get("device")
    if isinstance(device, dict):
        times_of_device = {name: computed[name] for name in TIMES if name in device}
        check_figures(link, {"device": {**device, **times_of_device}}, "its times")
    check_figures(link, {"stable": not reasons_of(scenarios)}, "its times and limits")


def limits_of(link: Checked) -> Dict[str, float]:
    """The limits of a stable measurement in the cache key of perf.json; exits 1 if they are not there."""
    key = link.record.get("key")
    flags = key.get("flags") if isinstance(key, dict) else None
    limits = {name: flags[name] for name in LIMITS if is_number(flags.get(name))} if isinstance(flags, dict) else {}
    if len(limits) != len(LIMITS):
        die(link.path.with_suffix(".json"), f"{DAMAGED} (key)", rebuild_hint(link.path))
    return limits


def check_scenario(link: Checked, name: str, limits: Dict[str, float]) -> Record:
    """The entry of a scenario in perf.json; exits 1 if its figures do not follow from its times and `limits`."""
    scenario: Record = link.record["scenarios"][name]
    times, others = scenario["times_ms"], scenario["stability"].get("others")
    computed = {
        **scenario_record(name, times, len(times) * link.record["batch_size"]),
        "stability": scenario_stability(name, times, others, limits),
    }
    if not is_same({**scenario, **computed}, scenario):
        path = link.path.with_suffix(".json")
        die(path, f"scenario {name} is not what follows from its times and limits", rebuild_hint(link.path))
    return scenario


def check_layers(link: Checked, logits: Logits) -> None:
    """Which tensor of layers.json is the first above the tolerance. The tensors themselves are nowhere on the disk."""
    record = link.record
    above = (name for name, error in record["errors"].items() if error > record["tolerance"])
    check_figures(link, {"first": next(above, None)}, "its errors")


KINDS: Dict[str, Callable[[Checked, Logits], None]] = {
    "accuracy": check_accuracy,
    "compare": check_compare,
    "perf": check_perf,
    "layers": check_layers,
}


def check_result(link: Checked, logits: Logits) -> None:
    """Exits 1 if the record of a result has an invalid provenance or run, or figures that do not follow from outputs
    and labels."""
    reason = CHECKS["layers"](link.record) if link.path.stem == "layers" else invalid_fields(link.record, {})
    if reason:
        die(link.path.with_suffix(".json"), reason, rebuild_hint(link.path))
    provenance = link.record["provenance"]
    check_figures(link, {"source": source_of(provenance), "origins": origins_of(provenance)}, "its provenance")
    KINDS[link.path.stem](link, logits)


def remedy_of(fault: Refusal, root: Path, chip: str, size: int) -> str:
    """The remedy of a fault for commands that build nothing: it names the command that builds the file again."""
    file = Path(str(fault.subject))
    goal = {"compare": "compare", "perf": "perf", "layers": "compare LAYERS=1"}.get(file.name.split(".")[0], "accuracy")
    if file.parts[len(root.parts) :][:2] == ("results", "reference"):
        goal = "compare"
    where = "" if root == Path() else f" ROOT={root}"
    command = f"make {goal} CHIP={chip} BS={size}{where}"
    if file.name == "perf.csv":
        command = f"make perf-all CHIP={chip}{where}"
    if fault.problem.endswith(COPIED):  # perhaps to a chip for which this host cannot build
        command += f" (to remove the copy instead: rm -r {root / 'results' / chip / f'bs{size}'})"
    return fault.remedy.replace(SAME, command)


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
        """Why accuracy, compare, perf or layers of a result is not what it says; None if it is."""
        try:
            with refusals():
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
