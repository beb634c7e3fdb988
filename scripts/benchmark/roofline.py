"""The limits of a chip on this machine: the multiply-accumulates of the graph, and a profile by operator.

As a program (`python -m benchmark.roofline`) it profiles one compiled model with the profile.py of its engine and
writes the rows as JSON. It is a separate process so that profiling does not affect the timed runs.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record, needed_record
from _support.cli import die

import json
from pathlib import Path

import engines
from benchmark.layout import Root, bins_of
from benchmark.processes import module, run_timed
from formats.bins import some_bins

IMAGES = 64  # for a profile


def macs_of(model: Path) -> dict[str, int]:
    """{node: multiply-accumulates per image} of the convolutions and matrix products of an ONNX file.

    Exits 1 if the shape of one of them cannot be inferred.
    """
    import onnx

    from graphs import edit

    macs = edit.macs(onnx.load(model))
    if macs is None:
        die(model, "the shapes of its convolutions are unknown", "report it")
    return macs


def images_per_s(flops_per_s: float, macs: int) -> float:
    """The images/s at a limit in floating-point operations per second; a multiply-accumulate is two operations."""
    return flops_per_s / (2 * macs)


def with_shares(rows: list[Record], ceiling: float, bandwidth: float) -> list[Record]:
    """The rows of a profile with {share, of_ceiling, of_bandwidth} added, all fractions.

    share: of the time; of_ceiling: of `ceiling`, flop/s; of_bandwidth: of `bandwidth`, bytes/s; None: unknown.
    """
    total = sum(row["ms"] for row in rows)
    return [
        {
            **row,
            "share": row["ms"] / total if total else 0.0,
            "of_ceiling": 2000 * row["macs"] / row["ms"] / ceiling if row["ms"] and ceiling else None,
            "of_bandwidth": 1000 * row["bytes"] / row["ms"] / bandwidth if row["ms"] and bandwidth else None,
        }
        for row in rows
    ]


def profile(root: Root, chip: str, batch_size: str, folder: Path) -> list[Record]:
    """The rows by operator of a chip's compiled model, from its engine (see engines.Profiler).

    `folder` is for the log and the JSON of the profiling process. Raises Unavailable if that process fails.
    """
    provenance = root.model_record(chip, batch_size)["provenance"]
    engine, options = provenance["engine"], provenance["options"]
    model = root.model(chip, batch_size, engines.constants_of(engine).ENDING)
    out = folder / f"{chip}.profile.json"
    words = ["--engine", engine, "--model", model, f"--options={options}", "--bins", bins_of(root.bins, options)]
    run_timed(module("benchmark.roofline", *words, "--out", out), folder / f"{chip}.profile.log")
    rows: list[Record] = json.loads(out.read_text())
    return rows


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--options", default="", help="options of the engine, as words name=value")
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    profiler: engines.Profiler = engines.load(args.engine, "profile")
    options, bins = engines.options_of(args.options), needed_record(args.bins, args.bins)
    images = some_bins(args.bins, bins, IMAGES)
    args.out.write_text(json.dumps(profiler.profile(args.model, options, macs_of(args.model), images)))


if __name__ == "__main__":
    main()
