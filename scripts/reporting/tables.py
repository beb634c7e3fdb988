"""The tables of report.html and report.md, from results and from published figures.

Published and measured figures never share a column. A cell without a measurement contains "not measured".
"""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import one_line

import re
from itertools import groupby
from typing import Any, Iterable, Iterator, NamedTuple

import numpy as np

from network.spec import CLASSES
from reporting.gate import References, judge_accuracy
from reporting.records import CONDITIONS, PERCENTILES, Result, different_inputs, rows_of
from reporting.timing import OFFLINE, SINGLE_STREAM, reasons_of

NONE = "not measured"
DIGESTS = ("archive", "checkpoint", "onnx", "optimized", "model", "bins", "labels", "outputs", "predictions")
SHOWN_BATCH = 16  # the batch size whose confusion matrix and mistakes are shown, if it was measured


class Published(NamedTuple):
    """The published figures, as texts."""

    accuracy: dict[str, str]  # Top-1 in per cent by device
    throughput: dict[str, dict[str, str]]  # images/s by device and batch size
    devices: dict[str, str]  # by chip, the device whose Top-1 is quoted; empty: none


class Cell(NamedTuple):
    """A cell of the page; `full` is the digest that the text abbreviates, `shade` the intensity of the colour."""

    text: str
    css: str = ""
    span: int = 1
    full: str = ""
    shade: str = ""


class Table(NamedTuple):
    """A table; the first `keys` columns name a row, `align` has a letter per column (l or r)."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    align: str
    keys: int = 2
    abbreviated: bool = False  # the page shows 12 characters of each digest
    shades: Any = None  # of a confusion matrix: 0 to 1 for each cell but the first column

    def css(self, row: int, column: int) -> str:
        """The CSS classes of a cell, by its text or its column."""
        text, name = self.rows[row][column], self.head[column]
        if self.shades is not None and column:
            return ("hit" if row == column - 1 else "miss") + (" none" if text == "0" else "")
        if text in (NONE, "–"):
            return "none"
        if name in ("gate", "stable"):
            classes = {"passed": "good", "yes": "good", "no reference": "none"}
            return classes.get(text, "bad") + (" long" if len(text) > 20 else "")
        if name == "inputs":
            return "inputs"
        return ("number" if self.align[column] == "r" else "") + (" quote" if name.startswith("published") else "")

    def is_unmeasured(self, row: list[str]) -> bool:
        """Whether a row has no measurement: NONE in every column but those of quoted figures."""
        own = [text for text, name in zip(row[self.keys :], self.head[self.keys :]) if not name.startswith("published")]
        return bool(own) and all(text == NONE for text in own)

    def unmeasured(self) -> list[tuple[str, str]]:
        """(chip, its batch sizes) of the rows without a measurement, which the page folds."""
        names = [(row[0], row[1]) for row in self.rows if self.is_unmeasured(row)]
        return [(chip, ", ".join(size for _, size in run)) for chip, run in groupby(names, lambda pair: pair[0])]

    def cells(self) -> Iterator[list[Cell]]:
        """The rows of the page that have a measurement; adjacent cells without one are merged."""
        for i, row in enumerate(self.rows):
            if self.is_unmeasured(row):
                continue
            runs = groupby(range(len(row)), lambda j: NONE if row[j] == NONE else j)  # noqa: B023 - used at once
            columns = [list(run) for _, run in runs]
            yield [self.cell(i, run[0], len(run)) for run in columns]

    def cell(self, row: int, column: int, span: int) -> Cell:
        text, is_digest = self.rows[row][column], self.abbreviated and column >= self.keys
        shade = f"{self.shades[row][column - 1]:.3f}" if self.shades is not None and column else ""
        return Cell(text[:12] if is_digest else text, self.css(row, column), span, text if is_digest else "", shade)


def add_column(table: Table, name: str, cells: list[str], align: str) -> Table:
    rows = [[*row, cell] for row, cell in zip(table.rows, cells)]
    return table._replace(head=[*table.head, name], rows=rows, align=table.align + align)


def with_inputs(table: Table, rows: list[Result | None], results: list[Result]) -> Table:
    """The table with an additional column "inputs" if the results have different inputs."""
    names = different_inputs(results)
    if not names:
        return table
    inputs = [", ".join(f"{name} {r.provenance.get(name, '–')[:12]}" for name in names) if r else NONE for r in rows]
    return add_column(table, "inputs", inputs, "l")


def accuracy_cells(result: Result | None, chip: str, references: References) -> list[str]:
    """The cells of Top-1, interval, correct, gate, agreement, changed predictions and p."""
    records = result.records if result else {}
    cells = [NONE] * 7
    if "accuracy" in records:
        accuracy = records["accuracy"]
        top1, low, high = (100 * share for share in (accuracy["top1"], *accuracy["wilson95"]))
        cells[:3] = f"{top1:.2f}", f"{low:.2f} to {high:.2f}", f"{accuracy['correct']}/{accuracy['total']}"
        cells[3] = judge_accuracy(accuracy, chip, references).outcome
    if "compare" in records:
        agreement = records["compare"]
        flips = " / ".join(str(agreement[name]) for name in ("mended", "broken", "other"))
        cells[4:] = f"{100 * agreement['agreement']:.2f}", flips, f"{agreement['mcnemar_p']:.3g}"
    return cells


def accuracy_table(
    results: list[Result], sizes: list[int], references: References, published: Published | None
) -> Table:
    """A row per chip and batch size; the published accuracy, if there is any, is a separate column."""
    rows = list(rows_of(results, {"accuracy", "compare"}, sizes))
    head = ["chip", "batch", "Top-1 %", "Wilson 95 % interval", "correct", "gate", "agreement %"]
    head += ["fixed / broken / other", "McNemar p"]
    body = [[one_line(chip), str(batch), *accuracy_cells(result, chip, references)] for chip, batch, result in rows]
    table = Table("Accuracy", head, body, "lrrrrlrrr")
    table = with_inputs(table, [result for _, _, result in rows], results)
    if published and published.accuracy:
        devices = [published.devices.get(chip, "") for chip, _, _ in rows]
        figures = [f"{published.accuracy[d]} ({d})" if d in published.accuracy else "none" for d in devices]
        table = add_column(table, "published Top-1 %, quoted", figures, "r")
    return table


def device_rates(result: Result) -> Record:
    """The throughput and latency of the device alone, without reading, preparing and writing files."""
    perf = result.records["perf"]
    rates: Record = perf.get("device", perf)
    return rates


class Series(NamedTuple):
    """The results of one curve. `best` is the batch size of the fastest, as in perf.csv; 0 if there is only one."""

    label: str
    results: list[Result]
    best: int


def series_of(results: list[Result]) -> list[Series]:
    """One series per chip, precision and graph."""
    members: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if "perf" in result.records:
            key = (result.chip, result.provenance.get("precision", ""), result.provenance.get("optimized", ""))
            members.setdefault(key, []).append(result)
    series = []
    for (chip, *variant), run in members.items():
        is_only = sum(key[0] == chip for key in members) == 1
        label = one_line(chip) if is_only else ", ".join([one_line(chip), *(text[:12] for text in variant if text)])
        rank = [(device_rates(result)["throughput_images_per_s"], result.batch) for result in run]
        series.append(Series(label, run, max(rank)[1] if len(rank) > 1 else 0))
    return series


def perf_cells(result: Result | None, is_best: bool) -> list[str]:
    """The cells of device and end-to-end throughput, percentiles, queries and stability."""
    cells = [NONE] * 7
    if result:
        perf, rates = result.records["perf"], device_rates(result)
        end_to_end = perf.get("end_to_end", {}).get("throughput_images_per_s")
        reasons = "; ".join(map(one_line, reasons_of(perf["scenarios"]))) or "no reason given"
        cells[0] = ("best " if is_best else "") + f"{rates['throughput_images_per_s']:.2f}"
        cells[1] = f"{end_to_end:.2f}" if end_to_end else NONE
        cells[2:5] = [f"{rates['latency_ms'][name]:.3f}" for name in PERCENTILES]
        cells[5:] = str(perf["queries"]), "yes" if perf["stable"] else f"no: {reasons}"
    return cells


def perf_table(results: list[Result], sizes: list[int]) -> Table:
    """A row per chip and batch size, with device and end-to-end figures."""
    best = {id(result) for series in series_of(results) for result in series.results if result.batch == series.best}
    rows = list(rows_of(results, {"perf"}, sizes))
    body = [[one_line(chip), str(batch), *perf_cells(result, id(result) in best)] for chip, batch, result in rows]
    head = ["chip", "batch", f"images/s, {OFFLINE}", "images/s, end to end"]
    head += [f"{name} ms, {SINGLE_STREAM}" for name in PERCENTILES]
    table = Table("Throughput and latency", [*head, "queries", "stable"], body, "lrrrrrrrl")
    return with_inputs(table, [result for _, _, result in rows], results)


def layers_table(results: list[Result]) -> Table | None:
    """The first intermediate tensor above the tolerance, a row for each layers.json; None if there is none."""
    rows = []
    for result in results:
        layers = result.records.get("layers")
        if layers:
            first, errors = layers["first"], layers["errors"]
            largest = f"{max(errors.values()):.2e}" if errors else "–"
            where = [one_line(first), f"{errors[first]:.2e}"] if first else ["none", largest]
            rows.append([one_line(result.chip), str(result.batch), f"{layers['tolerance']:g}", *where])
    head = ["chip", "batch", "tolerance", "first tensor above it", "relative error"]
    return Table("Intermediate tensors (make compare LAYERS=1)", head, rows, "lrrlr") if rows else None


def shown_result(results: list[Result]) -> Result | None:
    """The result whose confusion matrix and mistakes are shown: the first of SHOWN_BATCH, else the first."""
    judged = [result for result in results if "accuracy" in result.records]
    return next((result for result in judged if result.batch == SHOWN_BATCH), judged[0] if judged else None)


def confusion_table(result: Result) -> Table:
    """The confusion matrix: rows are true classes, columns are predictions.

    A cell's shade is the square root of its share of the row, so that small counts are visible.
    """
    counts = np.array(result.records["accuracy"]["confusion"])
    shades = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1)).tolist()
    caption = f"Confusion matrix of {one_line(result.chip)} at batch size {result.batch}"
    rows = [[name, *map(str, row)] for name, row in zip(CLASSES, counts.tolist())]
    return Table(caption, ["true ↓ predicted →", *CLASSES], rows, "l" + "r" * len(CLASSES), keys=1, shades=shades)


OF_CPU = ("instructions", "rest", "streams", "images_a_request")  # conditions that only some engines record


def provenance_tables(results: list[Result]) -> list[Table]:
    """The conditions and the digests of all results, a row per result."""

    def entries(result: Result, names: Iterable[str]) -> list[str]:
        return [result.provenance.get(name, "–") for name in names]

    keys = [[one_line(result.chip), str(result.batch)] for result in results]
    kinds = [", ".join(sorted(result.records)) for result in results]
    digests = [name for name in DIGESTS if any(name in result.provenance for result in results)]
    of_cpu = [name for name in OF_CPU if any(name in result.provenance for result in results)]
    names = [*CONDITIONS, *of_cpu]
    return [
        Table(
            "Conditions",
            ["chip", "batch", "records", *(name.replace("_", " ") for name in names)],
            [[*key, kind, *entries(result, names)] for key, kind, result in zip(keys, kinds, results)],
            "lrl" + "l" * len(names),
        ),
        Table(
            "SHA-256 digests",
            ["chip", "batch", *digests],
            [[*key, *entries(result, digests)] for key, result in zip(keys, results)],
            "lr" + "l" * len(digests),
            abbreviated=True,
        ),
    ]


def published_rows(throughput: dict[str, dict[str, str]], sizes: Iterable[int], first: str = "batch") -> Table:
    """The published throughput, images/s: a row per batch size, a column per device. `first` is the first header."""
    rows = [[str(size), *(row.get(str(size), "none") for row in throughput.values())] for size in sizes]
    return Table("Published throughput, images/s", [first, *throughput], rows, "r" * (1 + len(throughput)), keys=1)


def published_table(throughput: dict[str, dict[str, str]], sizes: Iterable[int], first: str = "batch") -> str:
    """The same as markdown, for the readmes."""
    return markdown_table(published_rows(throughput, sizes, first))


def escaped(text: str) -> str:
    """`text` with all characters escaped that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def markdown_table(table: Table) -> str:
    rows = [table.head, *table.rows]
    lines = ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join({"r": "---:", "l": "---"}[letter] for letter in table.align) + "|")
    return "\n".join(lines)
