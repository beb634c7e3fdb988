"""The section of the report about bench.json: ratios to other tools, and images/s of each."""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import one_line

import statistics

from reporting.tables import Table


def ratio_row(figure: Record) -> list[str]:
    median = f"{figure['median']:.3g}" if "median" in figure else "–"
    spread = f"{figure['min']:.3g} to {figure['max']:.3g}" if "median" in figure else "–"
    wanted = "–" if figure["wanted"] is None else f"{'≤' if figure['at_most'] else '≥'} {figure['wanted']:g}"
    return [one_line(figure["name"]), median, spread, wanted, one_line(figure["verdict"]) or "–"]


def contender_row(name: str, contender: Record, rates: list[float]) -> list[str]:
    speeds = [f"{statistics.median(rates):.2f}", f"{min(rates):.2f} to {max(rates):.2f}"]
    return [one_line(name), one_line(contender["what"]), one_line(contender["best"]), *speeds]


def bench_tables(bench: Record) -> list[Table]:
    """The tables of bench.json; raises KeyError, TypeError, ValueError or AttributeError if it is damaged."""
    ratios = [ratio_row(figure) for figure in bench["figures"]]
    head = ["ratio of images/s, or a duration in s or ms", "median", "min to max", "wanted", "verdict"]
    tables = [Table("Figures, in interleaved rounds", head, ratios, "lrrrl", keys=1)] if ratios else []
    rows = []
    for name, contender in bench["contenders"].items():
        rates = [float(rate) for rate in bench["series"].get(name, []) if rate]
        rows += [contender_row(name, contender, rates)] if rates else []
    head = ["name", "what it is", "best batch size", "images/s, median", "min to max"]
    return [*tables, Table("Images/s of each, at its best batch size", head, rows, "lllrr", keys=1)]


def bench_notes(bench: Record) -> list[str]:
    """What the figures are of, where and when they were measured; raises as bench_tables()."""
    machine, run = bench["conditions"], bench.get("run", {})
    load = "unknown" if machine["others"] is None else f"{100 * machine['others']:.0f} % of the CPUs"
    counts = f"{machine['threads']} threads, {bench['images']} images, {machine['rounds']} rounds"
    load = f"load from other processes {load}"
    notes = [bench["made_from"], f"Measured on {machine['host']}, {counts}; {load}."]
    notes += [f"Date: {run['date']}, host {run['host_name']}."] if {"date", "host_name"} <= run.keys() else []
    notes += [f"Not compared: {name}: {reason}." for name, reason in bench["left_out"].items()]
    return [one_line(note) for note in notes]
