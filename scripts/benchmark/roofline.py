"""What bounds a chip on this machine: the multiply-accumulates of the graph, and a profile by operator.

As a program, `python -m benchmark.roofline`, it profiles one compiled model by the engine's own profile.py and writes
the rows as JSON: a process of its own, so that profiling changes nothing of what is timed.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record
from _support.cli import die

import json
from pathlib import Path

import engines
from benchmark.layout import Root
from benchmark.processes import module, run_timed
from formats.bins import some_bins

IMAGES = 64  # for a profile


def macs_of(model: Path) -> dict[str, int]:
    """{node: multiply-accumulates an image} of the convolutions and matrix products of an ONNX file; exits 1 if the
    shape of one of them cannot be inferred."""
    import onnx

    from graphs import edit

    macs = edit.macs(onnx.load(model))
    if macs is None:
        die(model, "the shapes of its convolutions are unknown", "report it")
    return macs


def images_per_s(flops_per_s: float, macs: int) -> float:
    """The speed that a limit in floating-point operations a second allows: two for each multiply-accumulate."""
    return flops_per_s / (2 * macs)


def with_shares(rows: list[Record], ceiling: float, bandwidth: float) -> list[Record]:
    """Rows of a profile, each with its share of the time, and how near it is to a ceiling in flop/s and to a memory
    bandwidth in bytes/s: 1 is there, None unknown."""
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
    """The rows by operator of a chip's compiled model, by its engine; see engines.Profiler. Raises Absent if that
    fails. `folder` is for the program's log and its JSON."""
    made = root.model_record(chip, batch_size)["provenance"]
    model = root.model(chip, batch_size, engines.constants_of(made["engine"]).ENDING)
    out = folder / f"{chip}.profile.json"
    words = ["--engine", made["engine"], "--model", model, f"--options={made['options']}", "--bins", root.bins]
    run_timed(module("benchmark.roofline", *words, "--out", out), folder / f"{chip}.profile.log")
    rows: list[Record] = json.loads(out.read_text())
    return rows


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--options", default="", help="the engine's own, as words name=value")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    profiler: engines.Profiler = engines.load(args.engine, "profile")
    options, images = engines.options_of(args.options), some_bins(args.bins, IMAGES)
    args.out.write_text(json.dumps(profiler.profile(args.model, options, macs_of(args.model), images)))


if __name__ == "__main__":
    main()
