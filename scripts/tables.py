"""The tables of report.html and report.md, from results and from quotations.

Published and measured figures never share a column, and a cell that was not measured says so.
"""

from __future__ import annotations

from _build import Record, plain

import re
from itertools import groupby
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple

import numpy as np
from outputs import CLASSES
from results import CONDITIONS, TIMES, Result, rows_of, unlike
from verify import judged

NONE = "not measured"
DIGESTS = ("archive", "checkpoint", "onnx", "optimized", "model", "bins", "labels", "outputs", "predictions")
References = Dict[str, Dict[str, List[float]]]  # by chip and source: reference and tolerance, in per cent


class Quoted(NamedTuple):
    """The published figures, as texts: Top-1 by device, images/s by device and batch size; a chip's device."""

    accuracy: dict[str, str]
    throughput: dict[str, dict[str, str]]
    chips: dict[str, str]


class Cell(NamedTuple):
    text: str
    css: str = ""
    span: int = 1
    full: str = ""
    shade: str = ""


class Table(NamedTuple):
    """A table; `keys` columns name a row, `align` has a letter a column (l or r), `shades` a share a cell."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    align: str
    keys: int = 2
    short: bool = False  # digests: on the page 12 characters
    shades: Any = None

    def css(self, row: int, column: int) -> str:
        """How a cell looks: by what it says, else by its column."""
        text, name = self.rows[row][column], self.head[column]
        if self.shades is not None and column:
            return ("hit" if row == column - 1 else "miss") + (" none" if text == "0" else "")
        if text in (NONE, "–"):
            return "none"
        if name in ("gate", "stable"):
            looks = {"passed": "good", "yes": "good", "no reference": "none"}
            return looks.get(text, "bad") + (" long" if len(text) > 20 else "")
        if name == "made from":
            return "inputs"
        return ("number" if self.align[column] == "r" else "") + (" quote" if name.startswith("published") else "")

    def cells(self) -> Iterator[list[Cell]]:
        """What the page shows; neighbours that were not measured become one cell."""
        for i, row in enumerate(self.rows):
            runs = groupby(range(len(row)), lambda j: NONE if row[j] == NONE else j)  # noqa: B023 - used at once
            places = [list(run) for _, run in runs]
            yield [self.cell(i, run[0], len(run)) for run in places]

    def cell(self, i: int, j: int, span: int) -> Cell:
        text, short = self.rows[i][j], self.short and j >= self.keys
        shade = f"{self.shades[i][j - 1]:.3f}" if self.shades is not None and j else ""
        return Cell(text[:12] if short else text, self.css(i, j), span, text if short else "", shade)


def with_inputs(table: Table, rows: list[Result | None], results: list[Result]) -> Table:
    """The table with a column that tells unlike results apart, if there are any."""
    names = unlike(results)
    if not names:
        return table
    inputs = [", ".join(f"{k} {r.made.get(k, '–')[:12]}" for k in names) if r else NONE for r in rows]
    wider = [[*row, cell] for row, cell in zip(table.rows, inputs)]
    return table._replace(head=[*table.head, "made from"], rows=wider, align=table.align + "l")


def accuracy_cells(result: Result | None, chip: str, references: References) -> list[str]:
    """Top-1, interval, correct, gate, agreement, flips and p, as far as they were measured."""
    found, compared = (result.records.get(kind) if result else None for kind in ("accuracy", "compare"))
    cells = [NONE] * 7
    if found:
        top1, low, high = (100 * share for share in (found["top1"], *found["wilson95"]))
        cells[:3] = f"{top1:.2f}", f"{low:.2f} to {high:.2f}", f"{found['correct']}/{found['total']}"
        cells[3] = judged(found, chip, references.get(chip, {}))[0]
    if compared:
        flips = " / ".join(str(compared[name]) for name in ("mended", "broken", "other"))
        cells[4:] = f"{100 * compared['agreement']:.2f}", flips, f"{compared['mcnemar_p']:.3g}"
    return cells


def accuracy_table(results: list[Result], sizes: list[int], references: References, quoted: Quoted | None) -> Table:
    """A row a chip and batch size; the published accuracy in a column of its own, for the official group alone."""
    rows = list(rows_of(results, {"accuracy", "compare"}, sizes))
    head = ["chip", "batch", "Top-1 %", "Wilson 95 % interval", "correct", "gate", "agreement %"]
    head += ["mended / broken / other", "McNemar p"]
    body = [[plain(chip), str(batch), *accuracy_cells(result, chip, references)] for chip, batch, result in rows]
    table = Table("Accuracy", head, body, "lrrrrlrrr")
    table = with_inputs(table, [result for _, _, result in rows], results)
    if quoted and quoted.accuracy:
        devices = [quoted.chips.get(chip, "") for chip, _, _ in rows]
        quotes = [f"{quoted.accuracy[d]} ({d})" if d in quoted.accuracy else "none" for d in devices]
        wider = [[*row, quote] for row, quote in zip(table.rows, quotes)]
        table = table._replace(head=[*table.head, "published Top-1 %, quoted"], rows=wider, align=table.align + "r")
    return table


def device_rates(result: Result) -> Record:
    """The device's own throughput and latencies, in which neither files nor preparation count."""
    perf = result.records["perf"]
    rates: Record = perf.get("device", perf)
    return rates


def series_of(results: list[Result]) -> list[tuple[str, list[Result], int]]:
    """(label, results, best batch size) of each chip, graph and precision: what a curve may join. The best is the
    fastest, as in perf.csv; of one result there is no best."""
    found: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if "perf" in result.records:
            key = (result.chip, result.made.get("precision", ""), result.made.get("optimized", ""))
            found.setdefault(key, []).append(result)
    lines = []
    for (chip, *other), members in found.items():
        alone = sum(key[0] == chip for key in found) == 1
        label = plain(chip) if alone else ", ".join([plain(chip), *(text[:12] for text in other if text)])
        rank = [(device_rates(r)["throughput_images_per_s"], r.batch) for r in members]
        lines.append((label, members, max(rank)[1] if len(rank) > 1 else 0))
    return lines


def perf_table(results: list[Result], sizes: list[int]) -> Table:
    """A row a chip and batch size: device and end-to-end figures, each in a column of its own."""
    best = {id(r) for _, members, batch in series_of(results) for r in members if r.batch == batch}
    rows, body = list(rows_of(results, {"perf"}, sizes)), []
    for chip, batch, result in rows:
        cells = [NONE] * 7
        if result:
            perf, rates = result.records["perf"], device_rates(result)
            whole_way = perf.get("end_to_end", {}).get("throughput_images_per_s")
            why = perf.get("stability", {}).get("why")
            reasons = "; ".join(map(plain, why if isinstance(why, list) else [])) or "no reason given"
            cells[0] = ("best " if id(result) in best else "") + f"{rates['throughput_images_per_s']:.2f}"
            cells[1] = f"{whole_way:.2f}" if whole_way else NONE
            cells[2:5] = [f"{rates['latency_ms'][name]:.3f}" for name in TIMES]
            cells[5:] = str(perf["queries"]), "yes" if perf["stable"] else f"no: {reasons}"
        body.append([plain(chip), str(batch), *cells])
    head = [
        "chip",
        "batch",
        "images/s, device",
        "images/s, end to end",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "queries",
        "stable",
    ]
    table = Table("Throughput and device latency", head, body, "lrrrrrrrl")
    return with_inputs(table, [result for _, _, result in rows], results)


def chosen(results: list[Result]) -> Result | None:
    """The result whose confusion and mistakes are shown: the first of batch size 16, else the first."""
    judged_ones = [result for result in results if "accuracy" in result.records]
    return next((result for result in judged_ones if result.batch == 16), judged_ones[0] if judged_ones else None)


def confusion_table(result: Result) -> Table:
    """Rows true, columns predicted; a cell's shade is the root of its share of the row, so that few are seen too."""
    counts = np.array(result.records["accuracy"]["confusion"])
    shades = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1)).tolist()
    caption = f"Confusion on {plain(result.chip)} at batch size {result.batch}"
    rows = [[name, *map(str, row)] for name, row in zip(CLASSES, counts.tolist())]
    return Table(caption, ["true ↓ said →", *CLASSES], rows, "l" + "r" * len(CLASSES), keys=1, shades=shades)


def made_tables(results: list[Result]) -> list[Table]:
    """What was measured where, and the digests: a row a result."""
    keys = [[plain(r.chip), str(r.batch)] for r in results]
    kinds = [", ".join(sorted(r.records)) for r in results]
    where = [[*key, kind, *(r.made.get(k, "–") for k in CONDITIONS)] for key, kind, r in zip(keys, kinds, results)]
    digests = [name for name in DIGESTS if any(name in r.made for r in results)]
    head = ["chip", "batch", "records", *CONDITIONS]
    return [
        Table("What was measured where", head, where, "lr" + "l" * (len(head) - 2)),
        Table(
            "sha256 of what it was made from",
            ["chip", "batch", *digests],
            [[*key, *(r.made.get(name, "–") for name in digests)] for key, r in zip(keys, results)],
            "lr" + "l" * len(digests),
            short=True,
        ),
    ]


def published_rows(throughput: dict[str, dict[str, str]], sizes: Iterable[int], first: str = "batch") -> Table:
    rows = [[str(n), *(row.get(str(n), "none") for row in throughput.values())] for n in sizes]
    return Table("Published throughput, images/s", [first, *throughput], rows, "r" * (1 + len(throughput)), keys=1)


def published_table(throughput: dict[str, dict[str, str]], sizes: Iterable[int], first: str = "batch") -> str:
    """The published throughput, images/s by batch size and device, as markdown; `first` heads its first column."""
    return markdown_table(published_rows(throughput, sizes, first))


def escaped(text: str) -> str:
    """`text` in markdown, as itself."""
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def markdown_table(table: Table) -> str:
    lines = [table.head, *table.rows]
    shown = ["| " + " | ".join(map(escaped, line)) + " |" for line in lines]
    shown.insert(1, "|" + "|".join({"r": "---:", "l": "---"}[letter] for letter in table.align) + "|")
    return "\n".join(shown)
