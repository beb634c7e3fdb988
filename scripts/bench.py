"""Compares this project with baselines on the same checkpoint and images, in interleaved rounds.

First make builds the inputs and the models. Then every contender tries its batch sizes, and its outputs are compared
with the reference outputs. A contender whose Top-1 drops too much is excluded. Then all run in interleaved rounds, and
each ratio is computed within one round. Whole processes, make with everything up to date, the stages and a profile by
operator follow. Writes bench.json with every raw figure, and bench.svg. During the run this project runs nothing else
on the CPU of this host.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die

import argparse
from pathlib import Path
from typing import Collection, Iterable

from benchmark import others, session
from benchmark.end_to_end import Make
from benchmark.layout import Root
from benchmark.preparation import Rules
from benchmark.ratios import Figure, figure_of
from benchmark.session import Plan
from benchmark.summary import format_report, picture
from engines import options_of

SETTINGS = {
    "batch_sizes": "batch_sizes",
    "rounds": "bench.rounds",
    "seconds": "bench.seconds",
    "images": "bench.images",
    "contenders": "bench.contenders",
    "pairs": "bench.pairs",
    "chip": "bench.chip",
    "loss": "bench.loss",
    "loss_int8": "int8.loss",
}
SHORTEST_TRY = 0.05  # s


def arguments() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--make", required=True, help="the make program")
    parser.add_argument("--python", default="", help="make's PYTHON")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--inputs", nargs="*", default=[], help="make's SOURCE=, ARCHIVE= and WEIGHTS=")
    parser.add_argument("--chips", nargs="+", required=True, help="chip=engine …")
    parser.add_argument("--int8", nargs="*", default=[], help="the chips that take the quantized graph")
    parser.add_argument("--batch-sizes", nargs="+", type=int, required=True, help="batch sizes to try")
    parser.add_argument("--batch-size", type=int, default=16, help="batch size of whole processes")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="duration of each contender in a round")
    parser.add_argument("--images", type=int, required=True, help="maximum number of images for the accuracy check")
    parser.add_argument("--contenders", nargs="+", default=["all"], help="all, or names; whole: whole processes")
    parser.add_argument("--pairs", nargs="+", required=True, help="above/below,wanted=1.5,ceiling=name …")
    parser.add_argument("--chip", required=True, help="chip of whole processes, if it passes its accuracy check")
    parser.add_argument("--loss", type=float, required=True, help="largest allowed drop of Top-1, per cent")
    parser.add_argument("--loss-int8", type=float, required=True, help="the same for the chips of --int8")
    parser.add_argument("--out", type=Path, required=True, help="bench.json; bench.svg is written beside it")
    return parser.parse_args()


def check_names(setting: str, names: Iterable[str], known: Collection[str]) -> None:
    """Exits 1 if a name in this setting of params.yaml is unknown."""
    for name in names:
        if name not in known:
            die(setting, f"{name}: unknown chip or contender", f"use names of {', '.join(sorted(known))}")


def figures_of(pairs: Iterable[str], known: Collection[str]) -> list[Figure]:
    """The figures of bench.pairs; exits 1 if a pair is malformed or contains an unknown name."""
    figures = []
    for pair in pairs:
        try:
            figures.append(figure_of(pair))
        except ValueError:
            die("bench.pairs", f"{pair}: not a pair", "write A/B, optionally with ,wanted=NUMBER and ,ceiling=NAME")
    names = [name for figure in figures for name in (figure.above, figure.below, figure.ceiling) if name]
    check_names("bench.pairs", names, known)
    return figures


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan of this run; exits 1 on a name that is neither a chip of params.yaml nor a contender."""
    chips, words = options_of(" ".join(args.chips)), {*others.NAMES, "all", session.WHOLE}
    for name in words.intersection(chips):
        die(f"chips.{name}", "make bench uses this name for a baseline or a keyword", "give the chip another name")
    check_names("bench.contenders", args.contenders, {*chips, *words})
    check_names("bench.chip", [args.chip], chips)
    seconds = max(args.seconds / 2, SHORTEST_TRY)
    return Plan(
        make=Make(args.make, args.python),
        root=Root(args.root),
        inputs={name: value for name, value in (word.split("=", 1) for word in args.inputs) if value},
        chips=chips,
        contenders=args.contenders,
        figures=figures_of(args.pairs, {*chips, *others.NAMES}),
        chip=args.chip,
        rules=Rules(seconds, args.batch_size, args.loss, args.loss_int8, frozenset(args.int8)),
        batch_sizes=args.batch_sizes,
        batch_size=args.batch_size,
        rounds=args.rounds,
        seconds=args.seconds,
        images=args.images,
    )


def main() -> None:
    args = arguments()
    plan = plan_of(args)
    cli.raise_on_termination()
    path = args.root / ".make/bench"
    with artifact.locked(path), artifact.temporary(path) as folder:
        folder.mkdir()
        result = session.run(plan, folder)
    if not any(figure["counts"] for figure in result["figures"]):
        reasons = ", ".join(map(": ".join, result["left_out"].items()))
        die("bench", f"nothing was measured ({reasons})", "nothing was written; resolve these reasons")
    svg = args.out.with_suffix(".svg")
    artifact.write_text(svg, picture(result))
    artifact.write_record(args.out, result)
    print("", *format_report(result), f"Full report: {args.out}, {svg}", sep="\n")


if __name__ == "__main__":
    main()
