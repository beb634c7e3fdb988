"""The results of a bench for readers: the printed tables, and the picture bench.svg."""

from __future__ import annotations

from _support.artifact import Record

from typing import Iterator

from benchmark.chart import Bar, bars
from benchmark.entries import THIS_PROJECT
from benchmark.others import PRODUCT_NAMES
from benchmark.rounds import spread

SMALL = 0.01  # share of the time below which an operator is not shown
OTHERS_LIMIT = 0.1  # largest load from other processes with which the figures are reliable


def row_of(figure: Record) -> str:
    """A line of the table of figures."""
    if "median" not in figure:
        return f"{figure['name']:<46}{'-':>8}{'':>21}  {figure['verdict']}"
    low_high = f"[{figure['min']:.3g} … {figure['max']:.3g}]"
    bound = f", {figure['bound']:.3g} at the ceiling" if figure.get("bound") and figure["verdict"] else ""
    wanted = f"{'<=' if figure['at_most'] else '>='} {figure['wanted']:g}" if figure["wanted"] is not None else ""
    row = f"{figure['name']:<46}{figure['median']:>8.3g}{low_high:>21}  {wanted:<8}{figure['verdict']}{bound}"
    return row.rstrip()


def profile_lines(chip: str, rows: list[Record]) -> Iterator[str]:
    """The table of a chip's operators: share of the time, of the matrix product and of the memory bandwidth."""
    yield f"{chip + ', by operator':<46}{'nodes':>8}{'time':>8}{'of ceiling':>12}{'of memory':>11}"
    for row in rows:
        if row["share"] >= SMALL:
            parts = ["-" if row[k] is None else f"{100 * row[k]:.0f}%" for k in ("of_ceiling", "of_bandwidth")]
            yield f"{row['operator']:<46}{row['nodes']:>8}{100 * row['share']:>7.1f}%{parts[0]:>12}{parts[1]:>11}"


def stage_lines(whole: Record) -> Iterator[str]:
    """The table of the time and peak memory of each stage of the chain."""
    yield f"{'stage, ' + whole['chip']:<46}{'s':>8}{'peak MiB':>12}"
    for name, usage in whole["stages"].items():
        yield f"{name:<46}{usage['seconds']:>8.2f}{usage['peak_mib']:>12.0f}"


def condition_lines(result: Record) -> Iterator[str]:
    """The source of the figures, the machine, and the load from other processes."""
    machine = result["conditions"]
    amx = "" if "amx_bf16" in machine["instructions"] else "; the wanted values are for a CPU with AMX"
    yield result["made_from"]
    yield (
        f"Conditions: {result['images']} images, {machine['host']}, {machine['threads']} threads, "
        f"{' '.join(machine['instructions'])}{amx}"
    )
    load = "unknown" if machine["others"] is None else f"{100 * machine['others']:.0f}% of the CPUs"
    warning = ", TOO HIGH for reliable figures" if (machine["others"] or 0) > OTHERS_LIMIT else ""
    yield f"Load from other processes: {load}{warning}"


def format_report(result: Record) -> list[str]:
    """The lines that are printed at the end: figures, profiles, stages, conditions."""
    lines = [f"{'figure':<46}{'median':>8}{'[min … max]':>21}  wanted", *map(row_of, result["figures"])]
    for chip, rows in result["profile"].items():
        lines += ["", *profile_lines(chip, rows)]
    if result["whole"].get("stages"):
        lines += ["", *stage_lines(result["whole"])]
    return [*lines, "", *condition_lines(result)]


def picture(result: Record) -> str:
    """The text of bench.svg: bars of images/s, the matrix products as lines, and the profiles."""
    rows, limits = [], []
    for name, contender in result["contenders"].items():
        values = [value for value in result["series"].get(name, []) if value]
        if values and name in PRODUCT_NAMES:
            limits.append((f"{name.split('-')[1]} matrix product", max(values)))
        elif values:
            ours, counts = contender["what"] == THIS_PROJECT, contender["gate"].get("passed", True)
            rows.append(Bar(f"{name}, batch {contender['best']}", **spread(values), ours=ours, counts=counts))
    rows.sort(key=lambda row: -row.median)
    machine = result["conditions"]
    title = f"images/s of each at its best batch size, {machine['rounds']} rounds; blue: {THIS_PROJECT}"
    title += f"; {machine['host']}, {machine['threads']} threads"
    return bars(rows, limits, result["profile"], title)
