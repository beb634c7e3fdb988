"""Prepares entries for the rounds: finds the best batch size of each and checks the accuracy of its outputs."""

from __future__ import annotations

from _support.artifact import Record, needed_record, read_record

import contextlib
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.entries import Entry, Limit
from benchmark.layout import Root
from benchmark.processes import Unavailable
from formats.outputs import read_labels, read_outputs
from reporting.agreement import compare_logits

KEPT = ("images", "top1", "agreement", "mended", "broken", "other", "mcnemar_p")  # figures copied to bench.json


class Reference(NamedTuple):
    """The labels and reference outputs of the images on which the entries are compared."""

    labels: NDArray[Any]  # int [n]
    logits: NDArray[Any]  # float64 [n, classes], of the reference engine


class Rules(NamedTuple):
    """The settings for preparing entries."""

    seconds: float  # duration of a try
    batch_size: int  # for an entry that uses the best batch size of another one, if that one is left out
    loss: float  # largest allowed drop of Top-1 against the reference engine, per cent of the images
    loss_int8: float  # the same for the chips in `int8`
    int8: frozenset[str]  # chips that take the quantized graph

    def loss_of(self, name: str) -> float:
        return self.loss_int8 if name in self.int8 else self.loss


def read_reference(root: Root, images: int) -> Reference:
    """The labels and reference outputs of the first `images` images."""
    labels = read_labels(root.labels, needed_record(root.labels)["sha256"])
    logits = read_outputs(root.reference, read_record(root.reference), len(labels))
    return Reference(labels[:images], logits[:images])


def check_accuracy(logits: NDArray[Any], reference: Reference, loss: float) -> Record:
    """The comparison with the reference engine, image by image.

    It is passed if the broken predictions, minus the fixed ones, are at most `loss` per cent of the images.
    """
    if logits.shape != reference.logits.shape or not np.isfinite(logits).all():
        expected = list(reference.logits.shape)
        return {"passed": False, "why": f"outputs of shape {list(logits.shape)}, not {expected}, or not all finite"}
    comparison = compare_logits(logits.astype(np.float64), reference.logits, reference.labels)
    lost = 100 * (comparison["broken"] - comparison["mended"]) / len(reference.labels)
    result = {name: comparison[name] for name in KEPT}
    result.update(labels_changed=len(comparison["flips"]), relative_error=comparison["logits"]["relative_error"])
    passed = lost <= loss
    why = "" if passed else f"Top-1 is {lost:.2f}% below the reference engine (limit {loss:g}%)"
    return {**result, "lost": lost, "may_lose": loss, "passed": passed, "why": why}


class Preparation:
    """Prepares entries, and collects the reasons why some are left out or excluded."""

    def __init__(self, rules: Rules, reference: Reference, folder: Path, reasons: dict[str, str]) -> None:
        """`folder` is for outputs. This object adds to `reasons`, {name: reason}."""
        self.rules, self.reference, self.folder, self.reasons = rules, reference, folder, reasons

    @contextlib.contextmanager
    def leaving_out(self, name: str) -> Iterator[None]:
        """Catches Unavailable, prints it and adds it to the reasons."""
        try:
            yield
        except Unavailable as reason:
            self.reasons[name] = f"left out: {reason}"
            print(f"  {name}: {self.reasons[name]}")

    def prepare(self, entries: list[Entry]) -> list[Entry]:
        """The entries that can take part, loaded with their best batch size."""
        for entry in entries:
            with self.leaving_out(entry.name):
                entry.try_choices(self.rules.seconds, [] if entry.contender.size_from else entry.choices())
        best: dict[str, str] = {}
        for entry in entries:
            if entry.name not in self.reasons:
                with self.leaving_out(entry.name):
                    self.choose(entry, best.get(entry.contender.size_from, ""))
                    best[entry.name] = entry.best
        return [entry for entry in entries if entry.name in best]

    def choose(self, entry: Entry, size: str) -> None:
        """Chooses the best batch size of an entry and checks its accuracy.

        `size` is the batch size of an entry that uses that of another one; empty: that one is left out.
        """
        if entry.contender.size_from:
            entry.sizes = [int(size or self.rules.batch_size)]
        entry.choose_best(self.rules.seconds)
        rate = entry.tried[entry.best]
        if isinstance(entry, Limit):
            print(f"  {entry.name}: {rate / 1e9:.0f} G/s")
            return
        logits = entry.logits(len(self.reference.labels), self.folder / f"{entry.name}.npy")
        entry.gate = check_accuracy(logits, self.reference, self.rules.loss_of(entry.name))
        verdict = ""
        if not entry.gate["passed"]:
            self.reasons[entry.name] = f"excluded: {entry.gate['why']}"
            verdict = f"; {self.reasons[entry.name]}"
        print(f"  {entry.name}: best batch size {entry.best}, {rate:.1f} images/s{verdict}")
