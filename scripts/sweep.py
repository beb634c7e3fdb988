"""Measures batch sizes one after the other by calling make, prints a table row for each, and writes perf.csv.

First come the batch sizes of --sizes. With --search, others from 1 to 64 follow, within --search-limit seconds. The
search does not assume that throughput grows with the batch size: by the published figures, one NPU is fastest at 16,
not at 64. A result that is up to date is not measured again, except with FRESH=1. The accuracy of each batch size is
written too, because its outputs are needed anyway.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record, needed_record, rebuild_hint
from _support.cli import die

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator, List

from reporting import words
from reporting.provenance import source_line
from reporting.records import validation_error
from reporting.speeds import Perfs, Throughput, comparable_perfs, fastest, format_csv, ratios, speeds_of

SETTINGS = {"sizes": "batch_sizes", "published": "published.throughput.*.*", "search_limit": "perf.search"}


def make_target(make: str, size: int, target: Path, *settings: str) -> None:
    """Builds `target` for this batch size with make, one job at a time; exits 1 if make fails."""
    flags = re.sub(r"(^| )(-j\d*|--jobserver-\w+=\S+)", "", os.environ.get("MAKEFLAGS", ""))
    command = [make, "--no-print-directory", str(target), f"BS={size}", *settings]
    environment = {**os.environ, "MAKEFLAGS": flags}
    if subprocess.run([*command, "-q"], env=environment, capture_output=True).returncode == 0:
        return
    with subprocess.Popen(command, env=environment) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # make then stops its own child processes
        status = process.wait()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if status:
        raise SystemExit(1)  # make has printed the reason


def next_size(speeds: dict[int, float]) -> int | None:
    """The next batch size to try, or None if all are measured.

    It alternates between the middle of the widest gap between measured sizes, and the middle of the wider gap next to
    the fastest size. 0 and 65 count as measured.
    """
    edges = sorted({0, 65, *speeds})
    gaps = [(high - low, low, high) for low, high in zip(edges, edges[1:]) if high - low > 1]
    best = max(speeds, key=lambda size: speeds[size], default=0)
    beside = [gap for gap in gaps if best in gap[1:]]
    if not gaps:
        return None
    _, low, high = max(beside if len(speeds) % 2 and beside else gaps)
    return (low + high) // 2


def sizes_to_measure(sizes: List[int], limit: float | None, perfs: Perfs) -> Iterator[int]:
    """The batch sizes to measure: `sizes`, then, if there is a `limit` in seconds, those of the search.

    The caller must add the result of each size to `perfs` before it requests the next one. The search ends before a
    size that would exceed the limit if it took as long as the slowest one so far.
    """
    begin, slowest = time.monotonic(), 0.0
    pending = sorted(set(sizes))
    while pending:
        started = time.monotonic()
        if limit is not None and perfs and started - begin + slowest > limit:
            print(f"  time limit reached (perf.search: {limit:.0f} s); run the same command again to continue")
            return
        yield pending.pop(0)
        slowest = max(slowest, time.monotonic() - started)
        following = next_size(speeds_of(perfs)) if limit is not None and not pending else None
        pending += [following] if following else []


def format_head(published: Throughput) -> str:
    """The header line of the printed table."""
    columns = "".join(f"{'/' + device:>10}" for device in published)
    return f"{'batch':>6}{'images/s':>11}{'p50 ms':>10}{'p99 ms':>10}{columns}"


def format_row(perf: Record, published: Throughput, note: str) -> str:
    """A line of the printed table, followed by `note`."""
    times = perf["latency_ms"]
    text = f"{perf['batch_size']:>6}{perf['throughput_images_per_s']:>11.2f}{times['p50']:>10.2f}{times['p99']:>10.2f}"
    text += "".join(f"{'-' if ratio is None else f'{ratio:.4f}':>10}" for ratio in ratios(perf, published).values())
    return text + ("" if perf["stable"] else "  not stable") + note


def needed_perf(page: Path) -> Record:
    """The record of perf.txt; exits 1 if it is missing or invalid."""
    record, path = needed_record(page), page.with_suffix(".json")
    problem = validation_error(path, record)
    if problem:
        die(path, problem, rebuild_hint(page))
    return record


def print_summary(perfs: Perfs, published: Throughput, best: int, out: Path) -> None:
    """Prints the complete table, the best batch size and its source."""
    rows = (format_row(perfs[size], published, "  best" if size == best else "") for size in sorted(perfs))
    print("", format_head(published), *rows, sep="\n")
    speed, warning = speeds_of(perfs)[best], "" if perfs[best]["stable"] else ", not stable"
    print(f"Best: batch size {best}, {speed:.2f} images/s ({len(perfs)} batch sizes measured){warning}")
    print(source_line(perfs[best]["provenance"]))
    if published:
        columns = ", ".join(f"/{device}" for device in published)
        print(f"Columns {columns}: throughput relative to published figures, which were not measured here")
    print(f"Full report: {out}")


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--make", required=True)
    parser.add_argument("--sizes", nargs="+", type=int, required=True)
    parser.add_argument("--search", action="store_true", help="try other batch sizes too")
    parser.add_argument("--search-limit", type=float, required=True, help="seconds for all batch sizes, with --search")
    parser.add_argument(
        "--published", nargs="*", default=[], type=words.published_throughput, help="DEVICE:BATCH=RATE …"
    )
    parser.add_argument("--out", type=Path, required=True, help="perf.csv in the chip's folder of results")
    args = parser.parse_args()
    published: Throughput = words.by_names(args.published)
    perfs: Perfs = {}
    print(format_head(published))
    for size in sizes_to_measure(args.sizes, args.search_limit if args.search else None, perfs):
        page = args.out.with_name(f"bs{size}") / "perf.txt"
        make_target(args.make, size, page.with_name("accuracy.txt"), "FRESH=")  # for measurements only
        make_target(args.make, size, page)
        baseline = perfs[size] = needed_perf(page)
        is_best = len(perfs) > 1 and size == fastest(perfs)
        print(format_row(baseline, published, "  best so far" if is_best else ""))
    perfs, left_out = comparable_perfs(args.out.parent, baseline)
    for line in left_out:
        print(f"  {line}")
    best = fastest(perfs)
    artifact.write_text(args.out, format_csv(perfs, published, best))
    print_summary(perfs, published, best, args.out)


if __name__ == "__main__":
    main()
