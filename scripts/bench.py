"""This project against what a user would do instead: the same weights and images, interleaved in one run.

First make builds what is needed. Then every contender tries its batch sizes and answers the images, which are compared
with the reference engine's answers: the speed of a contender that loses too many labels does not count. Then they run
in rounds, and a ratio is that of one round. Whole processes, make with nothing to do, the stages and a profile by
operator follow. Writes bench.json, with every raw figure, and bench.svg. Meanwhile this project runs nothing else on
the CPU of this host.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die

import argparse
import signal
import sys
from pathlib import Path
from typing import Collection, Iterable

from benchmark import others, session
from benchmark.end_to_end import Make
from benchmark.layout import Root
from benchmark.preparation import Rules
from benchmark.ratios import Figure, figure_of
from benchmark.session import Plan
from benchmark.summary import lines_of, picture
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
SHORTEST = 0.05  # s of a try


def arguments() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--make", required=True, help="the program")
    parser.add_argument("--python", default="", help="PYTHON as make has it")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--inputs", nargs="*", default=[], help="SOURCE=, ARCHIVE= and WEIGHTS= as make has them")
    parser.add_argument("--chips", nargs="+", required=True, help="as chip=engine")
    parser.add_argument("--int8", nargs="*", default=[], help="those of them that take the quantized graph")
    parser.add_argument("--batch-sizes", nargs="+", type=int, required=True, help="to try")
    parser.add_argument("--batch-size", type=int, default=16, help="of whole processes")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="of each contender in a round")
    parser.add_argument("--images", type=int, required=True, help="whose answers are compared, at most")
    parser.add_argument("--contenders", nargs="+", default=["all"], help="all, or names; whole: the processes")
    parser.add_argument("--pairs", nargs="+", required=True, help="as above/below,wanted=1.5,ceiling=name")
    parser.add_argument("--chip", required=True, help="of whole processes, if it passes its accuracy check")
    parser.add_argument("--loss", type=float, required=True, help="per cent of Top-1 that may be lost")
    parser.add_argument("--loss-int8", type=float, required=True, help="the same, of the chips of --int8")
    parser.add_argument("--out", type=Path, required=True, help="bench.json; bench.svg is written beside it")
    return parser.parse_args()


def check_names(setting: str, names: Iterable[str], known: Collection[str]) -> None:
    """Exits 1 if a name in this setting of params.yaml is unknown."""
    for name in names:
        if name not in known:
            die(setting, f"{name}: unknown chip or contender", f"give some of {', '.join(sorted(known))}")


def figures_of(pairs: Iterable[str], known: Collection[str]) -> list[Figure]:
    """The figures of bench.pairs; exits 1 if a pair is malformed or names what is unknown."""
    figures = []
    for pair in pairs:
        try:
            figures.append(figure_of(pair))
        except ValueError:
            die("bench.pairs", f"{pair}: not a pair", "give A/B, then ,wanted=NUMBER and ,ceiling=NAME as needed")
    names = [name for figure in figures for name in (figure.above, figure.below, figure.ceiling) if name]
    check_names("bench.pairs", names, known)
    return figures


def plan_of(args: argparse.Namespace) -> Plan:
    """What to do; exits 1 on a name that is neither a chip of params.yaml nor a contender."""
    chips, words = options_of(" ".join(args.chips)), {*others.NAMES, "all", session.WHOLE}
    for name in words.intersection(chips):
        die(f"chips.{name}", "make bench uses this name for something else", "give the chip another name")
    check_names("bench.contenders", args.contenders, {*chips, *words})
    check_names("bench.chip", [args.chip], chips)
    seconds = max(args.seconds / 2, SHORTEST)
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends by the usual way, which stops programs and cleans up
    place = args.root / ".make/bench"
    with artifact.locked(place), artifact.temporary(place) as folder:
        folder.mkdir()
        result = session.run(plan, folder)
    if not any(figure["counts"] for figure in result["figures"]):
        die("bench", "; ".join(map(": ".join, result["left_out"].items())), "nothing was measured, nothing was written")
    svg = args.out.with_suffix(".svg")
    artifact.write_text(svg, picture(result))
    artifact.write_record(args.out, result)
    print("", *lines_of(result), f"Full report: {args.out}, {svg}", sep="\n")


if __name__ == "__main__":
    main()
