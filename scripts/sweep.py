"""Measures batch sizes one after the other, each by make, and prints the table as it grows; writes perf.csv.

--sizes are those to measure; with --search others of 1 to 64 follow, within so many seconds. No curve is assumed to be
monotone: published, 310P is fastest at 16, not at 64. What is measured already, and not stale, costs nothing.
"""

from __future__ import annotations

import _build
from _build import Record, needed_record, read_record

import csv
import io
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from provenance import CONDITIONS, made_from
from results import what_is_wrong

# What has to be the same for two results to stand in one table.
ALIKE = ("checkpoint", "onnx", "optimized", "bins", "options", "precision", "runtime", "threads", "device", "host")


def by_make(make: str, size: int, target: Path) -> None:
    """make's own file `target` for this batch size, without other jobs beside it; exits as make does."""
    flags = re.sub(r"(^| )(-j\d*|--jobserver-\w+=\S+)", "", os.environ.get("MAKEFLAGS", ""))
    command, environment = [make, "--no-print-directory", str(target), f"BS={size}"], {**os.environ, "MAKEFLAGS": flags}
    if subprocess.run([*command, "-q"], env=environment, capture_output=True).returncode == 0:
        return
    with subprocess.Popen(command, env=environment) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # make ends what it started, if it is told
        status = process.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if status:
        raise SystemExit(1)  # make has said why


def next_size(speeds: dict[int, float]) -> int | None:
    """The next batch size to try, by turns in the middle of the widest gap between measured ones, 0 and 65 counting
    as such, and of the wider gap beside the best; None if no size of that kind is left."""
    edges = sorted({0, 65, *speeds})
    gaps = [(high - low, low, high) for low, high in zip(edges, edges[1:]) if high - low > 1]
    best = max(speeds, key=lambda size: speeds[size], default=0)
    beside = [gap for gap in gaps if best in gap[1:]]
    if not gaps:
        return None
    _, low, high = max(beside if len(speeds) % 2 and beside else gaps)
    return (low + high) // 2


def published_figures(words: list[str]) -> dict[str, dict[int, float]]:
    """{device: {batch size: images/s}} of words device:size=figure."""
    found: dict[str, dict[int, float]] = {}
    for word in words:
        name, figure = word.split("=")
        device, size = name.split(":")
        found.setdefault(device, {})[int(size)] = float(figure)
    return found


def ratios(perf: Record, published: dict[str, dict[int, float]]) -> dict[str, float | None]:
    """Throughput by the published one of each device at this batch size; None where there is none to compare with,
    as for a graph or model of the user's own."""
    own = perf["provenance"].get("given")
    figures = {device: None if own else sizes.get(perf["batch_size"]) for device, sizes in published.items()}
    return {device: perf["throughput_images_per_s"] / figure if figure else None for device, figure in figures.items()}


def row(perf: Record, published: dict[str, dict[int, float]], best: str) -> str:
    """One line of the table on the screen; `best` is what to say of it."""
    times, shown = perf["latency_ms"], ratios(perf, published).values()
    text = f"{perf['batch_size']:>6}{perf['throughput_images_per_s']:>11.2f}{times['p50']:>10.2f}{times['p99']:>10.2f}"
    text += "".join(f"{'-' if ratio is None else f'{ratio:.4f}':>10}" for ratio in shown)
    return text + ("" if perf["stable"] else "  not stable") + best


def table(perfs: dict[int, Record], published: dict[str, dict[int, float]], best: int) -> str:
    """perf.csv: a row a batch size, first the figures, then what they were taken under."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figures = ["batch_size", "throughput_images_per_s", "p50_ms", "p90_ms", "p99_ms", "end_to_end_images_per_s"]
    ratio_names = [f"ratio_to_published_{device}" for device in published]
    conditions = [name for name in CONDITIONS if name != "batch_size"]
    writer.writerow([*figures, "queries", "stable", "best", *ratio_names, "source", *conditions, "model"])
    for size, perf in sorted(perfs.items()):
        times, made = perf["latency_ms"], perf["provenance"]
        line = [size, perf["throughput_images_per_s"], times["p50"], times["p90"], times["p99"]]
        line += [perf["end_to_end"]["throughput_images_per_s"], perf["queries"]]
        line += [str(perf["stable"]).lower(), str(size == best).lower()]
        line += ["" if ratio is None else ratio for ratio in ratios(perf, published).values()]
        writer.writerow([*line, perf["source"], *(made.get(name, "") for name in conditions), made["model"]])
    return stream.getvalue()


def alike(results: Path, like: Record) -> dict[int, Record]:
    """The results that may stand in a table with `like`, itself among them; says which may not, and why."""
    found = {}
    for text in sorted(results.glob("bs*/perf.txt")):
        path = text.with_suffix(".json")
        perf = read_record(path)
        wrong = what_is_wrong(path, perf)
        if not wrong:
            differ = [name for name in ALIKE if perf["provenance"].get(name) != like["provenance"].get(name)]
            differ += [name for name in ("flags", "scripts") if perf["key"].get(name) != like["key"].get(name)]
            wrong = f"measured with another {' and '.join(differ)}" if differ else ""
        if wrong:
            print(f"  {text}: left out, {wrong}; remove it to have it measured anew")
        else:
            found[perf["batch_size"]] = perf
    return found


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--make", required=True)
    parser.add_argument("--sizes", nargs="+", type=int, required=True)
    parser.add_argument("--search", type=float, default=0, help="seconds for other sizes")
    parser.add_argument("--published", nargs="*", default=[], help="as device:size=images/s")
    parser.add_argument("--out", type=Path, required=True, help="perf.csv in the chip's folder of results")
    args = parser.parse_args()
    published = published_figures(args.published)
    begin, longest = time.monotonic(), 0.0
    perfs: dict[int, Record] = {}
    todo = sorted(set(args.sizes))
    head = f"{'batch':>6}{'images/s':>11}{'p50 ms':>10}{'p99 ms':>10}" + "".join(f"{'/' + d:>10}" for d in published)
    print(head)
    while todo:
        size, started = todo.pop(0), time.monotonic()
        if args.search and perfs and started - begin + longest > args.search:
            print(f"  the {args.search:.0f} s of perf.search are over; type the same command again to go on")
            break
        by_make(args.make, size, args.out.with_name(f"bs{size}") / "perf.txt")
        longest = max(longest, time.monotonic() - started)
        perf = perfs[size] = needed_record(args.out.with_name(f"bs{size}") / "perf.txt")
        speeds = {n: found["throughput_images_per_s"] for n, found in perfs.items()}
        fastest = len(perfs) > 1 and size == max(speeds, key=lambda n: speeds[n])
        print(row(perf, published, "  best so far" if fastest else ""), flush=True)
        following = next_size(speeds) if args.search and not todo else None
        todo += [following] if following else []
    perfs = alike(args.out.parent, perf)
    best = max(perfs, key=lambda n: float(perfs[n]["throughput_images_per_s"]))
    _build.write_text(args.out, table(perfs, published, best))
    print("", head, *(row(perfs[n], published, "  best" if n == best else "") for n in sorted(perfs)), sep="\n")
    speed, doubt = perfs[best]["throughput_images_per_s"], "" if perfs[best]["stable"] else ", though not stable"
    print(f"Best: batch size {best}, {speed:.2f} images/s of {len(perfs)} measured{doubt}")
    print(made_from(perfs[best]["provenance"]))
    print(f"/310 … are ratios to published figures, quoted, not measured here. All of it: {args.out}")


if __name__ == "__main__":
    main()
