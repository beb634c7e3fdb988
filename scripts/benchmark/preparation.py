"""Before the rounds: every entry finds its best batch size, and the accuracy of its answers is checked."""

from __future__ import annotations

from _support.artifact import Record, read_record

import contextlib
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.entries import Entry, Limit
from benchmark.layout import Root
from benchmark.processes import Absent
from formats.outputs import read_labels, read_outputs
from reporting.agreement import compare_logits

KEPT = ("images", "top1", "agreement", "mended", "broken", "other", "mcnemar_p")  # of a comparison, in bench.json


class Reference(NamedTuple):
    """The images on which answers are compared."""

    labels: NDArray[Any]  # int [n]
    logits: NDArray[Any]  # float64 [n, classes], of the reference engine


class Rules(NamedTuple):
    """How entries are prepared."""

    seconds: float  # of a try
    batch_size: int  # of an entry that takes another one's best batch size, where that one is left out
    loss: float  # per cent of Top-1 that may be lost against the reference engine
    loss_int8: float  # the same, of the chips in `int8`
    int8: frozenset[str]  # chips that take the quantized graph

    def loss_of(self, name: str) -> float:
        return self.loss_int8 if name in self.int8 else self.loss


def read_reference(root: Root, images: int) -> Reference:
    """Labels and the reference engine's logits of at most so many images."""
    labels = read_labels(root.labels)
    logits = read_outputs(root.reference, read_record(root.reference), len(labels))
    return Reference(labels[:images], logits[:images])


def check_accuracy(logits: NDArray[Any], reference: Reference, loss: float) -> Record:
    """The comparison with the reference engine, image by image. It is passed if images that became wrong, less those
    that became right, are at most `loss` per cent."""
    if logits.shape != reference.logits.shape or not np.isfinite(logits).all():
        return {"passed": False, "why": f"its answers are {list(logits.shape)}, or not all finite"}
    comparison = compare_logits(logits.astype(np.float64), reference.logits, reference.labels)
    lost = 100 * (comparison["broken"] - comparison["mended"]) / len(reference.labels)
    result = {name: comparison[name] for name in KEPT}
    result.update(labels_changed=len(comparison["flips"]), relative_error=comparison["logits"]["relative_error"])
    passed = lost <= loss
    why = "" if passed else f"it loses {lost:.2f}% of Top-1 against the reference engine, {loss:g}% is allowed"
    return {**result, "lost": lost, "may_lose": loss, "passed": passed, "why": why}


class Preparation:
    """Entries that are ready for the rounds, and reasons why others are left out or do not count."""

    def __init__(self, rules: Rules, reference: Reference, folder: Path, reasons: dict[str, str]) -> None:
        """`folder` is for answers; `reasons` {name: reason} is added to."""
        self.rules, self.reference, self.folder, self.reasons = rules, reference, folder, reasons

    @contextlib.contextmanager
    def or_left_out(self, name: str) -> Iterator[None]:
        """Turns Absent into a reason."""
        try:
            yield
        except Absent as reason:
            self.reasons[name] = f"left out: {reason}"
            print(f"  {name}: {self.reasons[name]}", flush=True)

    def prepare(self, entries: list[Entry]) -> list[Entry]:
        """The entries that can take part, loaded with their best batch size."""
        for entry in entries:
            with self.or_left_out(entry.name):
                entry.attempt(self.rules.seconds, [] if entry.contender.size_from else entry.choices())
        best: dict[str, str] = {}
        for entry in entries:
            if entry.name not in self.reasons:
                with self.or_left_out(entry.name):
                    self.choose(entry, best.get(entry.contender.size_from, ""))
                    best[entry.name] = entry.best
        return [entry for entry in entries if entry.name in best]

    def choose(self, entry: Entry, size: str) -> None:
        """Finds an entry's best batch size, `size` for one that takes another one's, and checks its accuracy."""
        if entry.contender.size_from:
            entry.sizes = [int(size or self.rules.batch_size)]
        entry.choose(self.rules.seconds)
        rate = entry.tried[entry.best]
        if isinstance(entry, Limit):
            print(f"  {entry.name}: {rate / 1e9:.0f} G/s", flush=True)
            return
        logits = entry.answers(len(self.reference.labels), self.folder / f"{entry.name}.npy")
        entry.gate = check_accuracy(logits, self.reference, self.rules.loss_of(entry.name))
        verdict = ""
        if not entry.gate["passed"]:
            self.reasons[entry.name] = f"does not count: {entry.gate['why']}"
            verdict = f"; {self.reasons[entry.name]}"
        print(f"  {entry.name}: best at {entry.best}, {rate:.1f} images/s{verdict}", flush=True)
