"""The figures of make bench: ratios of series round by round, what is wanted, what bounds them, and the page."""

from __future__ import annotations

from _build import Record

import statistics
from typing import NamedTuple

from bars import bars
from race import ratios, spread

CEILING = "the ceiling alone: bins to accuracy"  # the seconds of these images at the ceiling


class Figure(NamedTuple):
    """A ratio of two series, round by round, or one series by itself, and what is wanted of its median."""

    name: str
    above: str
    below: str = ""
    wanted: float | None = None
    limit: str = ""  # a series that `above` cannot pass, or that `below`, a time, cannot fall short of
    at_most: bool = False


FIGURES = [
    Figure("cpu-bf16 / ONNX Runtime, plain export", "cpu-bf16", "onnxruntime", 5.5, "product-bf16"),
    Figure("cpu-bf16 / benchmark_app, plain export, bf16", "cpu-bf16", "benchmark_app-bf16", 1.05, "product-bf16"),
    Figure("cpu-bf16 / bf16 matrix product", "cpu-bf16", "product-bf16", 0.78),
    Figure("cpu-int8 / cpu-bf16", "cpu-int8", "cpu-bf16", 1.3, "product-int8"),
    Figure("cpu / ONNX Runtime, plain export", "cpu", "onnxruntime", 1.05, "product-f32"),
    Figure(
        "bins to accuracy.txt: the guide's time / ours", "guide: bins to accuracy", "ours: bins to accuracy", 5, CEILING
    ),
    Figure("archive to bins: the guide's time / ours", "guide: archive to bins", "ours: archive to bins", 5),
    Figure("make accuracy with nothing to do, ms", "no-op ms", "", 50, at_most=True),
    Figure("cpu-f32 / ONNX Runtime, plain export", "cpu-f32", "onnxruntime"),
    Figure("cpu-f32 / benchmark_app, plain export, f32", "cpu-f32", "benchmark_app-f32"),
    Figure("cpu-bf16 / PyTorch eager, f32", "cpu-bf16", "torch-f32"),
    Figure("cpu-bf16 / PyTorch eager, bf16", "cpu-bf16", "torch-bf16"),
    Figure("cpu-bf16 / torch.compile, bf16", "cpu-bf16", "torch-compile"),
    Figure("cpu-int8 / int8 matrix product", "cpu-int8", "product-int8"),
]


def judge(figure: Figure, series: dict[str, list[float | None]], why: dict[str, str]) -> Record:
    """The ratio with its spread, and what to say of it; `why` tells which series do not count, or are not there."""
    names = [name for name in (figure.above, figure.below) if name]
    values = [value for value in series.get(figure.above, []) if value is not None]
    if figure.below:
        values = ratios(series.get(figure.above, []), series.get(figure.below, []))
    found: Record = {**figure._asdict(), "ratios": values, **(spread(values) if values else {})}
    if figure.limit in series and values:
        here, there = series.get(figure.above, []), series[figure.limit]
        bound = ratios(here, there) if figure.limit == CEILING else ratios(there, series.get(figure.below, []))
        found.update(bounds=bound, bound=statistics.median(bound) if bound else None)
    doubt = [f"{name}: {why[name]}" for name in names if name in why]
    if doubt or not values:
        return {**found, "counts": False, "verdict": "; ".join(doubt) or "not measured"}
    if figure.wanted is None:
        return {**found, "counts": True, "verdict": ""}
    reached = found["median"] <= figure.wanted if figure.at_most else found["median"] >= figure.wanted
    return {**found, "counts": True, "verdict": "reached" if reached else "not reached"}


def row_of(found: Record) -> str:
    """A line of the table."""
    if "median" not in found:
        return f"{found['name']:<46}{'-':>8}{'':>21}  {found['verdict']}"
    low_high = f"[{found['min']:.3g} … {found['max']:.3g}]"
    bound = f", {found['bound']:.3g} at the ceiling" if found.get("bound") and found["verdict"] else ""
    wanted = f"{'<=' if found['at_most'] else '>='} {found['wanted']:g}" if found["wanted"] is not None else ""
    return f"{found['name']:<46}{found['median']:>8.3g}{low_high:>21}  {wanted:<8}{found['verdict']}{bound}".rstrip()


def lines_of(result: Record) -> list[str]:
    """The end of the screen."""
    told = result["conditions"]
    lines = [f"{'figure':<46}{'median':>8}{'[min … max]':>21}  wanted"]
    lines += [row_of(figure) for figure in result["figures"]]
    for chip, rows in result["profile"].items():
        lines += ["", f"{chip + ', by operator':<46}{'nodes':>8}{'time':>8}{'of ceiling':>12}{'of memory':>11}"]
        for row in rows:
            if row["share"] >= 0.01:
                parts = ("-" if row[k] is None else f"{100 * row[k]:.0f}%" for k in ("of_ceiling", "of_bandwidth"))
                shares = "{:>12}{:>11}".format(*parts)
                lines.append(f"{row['operator']:<46}{row['nodes']:>8}{100 * row['share']:>7.1f}%{shares}")
    if result["whole"].get("stages"):
        lines += ["", f"{'stage, ' + result['whole']['chip']:<46}{'s':>8}{'peak MiB':>12}"]
        lines += [f"{k:<46}{v['seconds']:>8.2f}{v['peak_mib']:>12.0f}" for k, v in result["whole"]["stages"].items()]
    others = "not known" if told["others"] is None else f"{100 * told['others']:.0f}%"
    amx = "" if "amx_bf16" in told["instructions"] else "; no AMX, for which the figures wanted are meant"
    lines += ["", f"{result['made_from']}; {result['images']} images"]
    return [
        *lines,
        f"Conditions: {told['host']}, {told['threads']} threads, {' '.join(told['instructions'])}{amx}",
        f"Others kept {others} of the CPUs busy"
        + (": TOO MUCH for these figures" if (told["others"] or 0) > 0.1 else ""),
    ]


def picture(result: Record) -> str:
    rows = []
    for name, told in result["contenders"].items():
        values = [value for value in result["series"].get(name, []) if value]
        if values and not name.startswith("product"):
            counts, ours = told["gate"].get("passed", True), told["what"] == "this project"
            rows.append({"name": f"{name}, batch {told['best']}", **spread(values), "ours": ours, "counts": counts})
    rows.sort(key=lambda row: -row["median"])
    best = {name: [v for v in values if v] for name, values in result["series"].items() if name.startswith("product")}
    limits = [
        (f"{name.replace('product-', '')} matrix product", max(values)) for name, values in best.items() if values
    ]
    told = result["conditions"]
    title = f"images/s at the best batch size of each, in {told['rounds']} rounds; blue: this project"
    title += f"; {told['host']}, {told['threads']} threads"
    return bars(rows, limits, result["profile"], title)
