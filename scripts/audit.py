"""Checks that results are what they say: every file from the archive and the checkpoint to the figures.

Computes all digests again, and Top-1, confusion and McNemar's test from outputs and labels. Prints a line for each file
of the chain and for each result. Exits 1 after a line that names the first file that is not what its record says, or
what the record after it says. Builds nothing and changes nothing. Python 3.7.
"""

from __future__ import annotations

from _support import cli
from _support.cli import Refusal, die, refusals

import contextlib
import os
import re
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from auditing.chain import Chain, Checked
from auditing.figures import KINDS, Logits, check_result, remedy_of
from auditing.state import check_state
from auditing.statement import check_statement
from auditing.table import check_table, published_throughput
from auditing.tuning import check_tuning

SETTINGS: Dict[str, str] = {}
# The files of a result by kind. One of them shows that the others must be there.
FILES = {kind: [f"{kind}.json", f"{kind}.txt"] for kind in KINDS}
FILES["layers"] = ["layers.json"]
FILES["accuracy"] += ["predictions.csv", "statement.json"]
FILES["perf"] += ["perf.statement.json"]


def results_of(root: Path, chips: List[str], sizes: List[int]) -> List[Tuple[str, int]]:
    """The results of ROOT, as (chip, batch size), of these chips and batch sizes, or of all if there are none."""
    known = {name for names in FILES.values() for name in names}
    folders = {path.parent for path in root.glob("results/*/bs*/*") if path.name in known}
    sized = [folder for folder in folders if re.fullmatch("bs[1-9][0-9]?", folder.name)]
    results = {(folder.parent.name, folder.name[2:]) for folder in sized}
    return sorted(
        (chip, int(size)) for chip, size in results if chip in (chips or [chip]) and int(size) in (sizes or [int(size)])
    )


def audit(root: Path, chip: str, size: int, shared: Dict[str, Checked]) -> str:
    """Checks one result with all that it was made from and prints the files; returns the line on the result."""
    printed = {*shared}
    chain, folder = Chain(root, chip, size, shared), root / f"results/{chip}/bs{size}"
    kinds = [kind for kind, names in FILES.items() if any(os.path.lexists(folder / name) for name in names)]
    links = {kind: chain.check(kind) for kind in kinds}
    logits = Logits(chain)
    for link in links.values():
        check_result(link, logits)
        check_statement(link.path)
    for name, link in chain.links().items():
        if name not in printed:
            shown = f"{link.path.parent}/" if link.path.name == "manifest.json" else link.path
            print(f"  {link.digest[:16]}  {shown}")
    model = chain.links().get("model")
    for digest, path in check_tuning(model.path, model.record["provenance"]) if model else ():
        print(f"  {digest[:16]}  {path}")
    accuracy = links.get("accuracy")
    figure = f"Top-1 {100 * accuracy.record['top1']:.2f}% of {accuracy.record['total']} images, " if accuracy else ""
    names = f"{', '.join(kinds)} {'follows' if len(kinds) == 1 else 'follow'}"
    return f"audited: {folder}: {figure}{names} from {len(chain.links()) - len(kinds)} files"


def holds(root: Path, chip: str, size: int, check: Callable[[], str]) -> bool:
    """Prints the line that `check` returns, or the one on its fault; returns whether there was no fault."""
    try:
        with refusals():
            print(check())
        return True
    except Refusal as fault:
        with contextlib.suppress(SystemExit):
            die(fault.subject, fault.problem, remedy_of(fault, root, chip, size))
    except OSError as error:  # for example no permission; the other results may be readable
        cli.explain_exception(type(error), error, error.__traceback__)
    return False


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--chips", nargs="*", default=[], help="only results of these chips")
    parser.add_argument("--batch-sizes", nargs="*", default=[], type=int, help="only results of these batch sizes")
    parser.add_argument("--params", type=Path, required=True)
    args = parser.parse_args()
    results = results_of(args.root, args.chips, args.batch_sizes)
    if not results:
        which = f" of CHIP={args.chips[0]} BS={args.batch_sizes[0]}" if args.chips and args.batch_sizes else ""
        settings = "ROOT=, CHIP= and BS=" if which else "ROOT="
        die(args.root / "results", f"no result{which}", f"run make accuracy first, or set {settings}")
    check_state(args.root, args.params)
    shared: Dict[str, Checked] = {}
    where = [(args.root, chip, size) for chip, size in results]
    failed = [result for result in where if not holds(*result, partial(audit, *result, shared))]
    # The table of a chip, if its results hold: else it would only repeat their fault.
    published = published_throughput(args.params)
    failed_chips = {chip for _, chip, _ in failed}
    tables_hold = True
    for chip, size in dict(results).items():
        path = args.root / "results" / chip / "perf.csv"
        if chip not in failed_chips and os.path.lexists(path):
            tables_hold &= holds(args.root, chip, size, partial(check_table, path, published))
    if failed and len(results) > 1:
        die(args.root / "results", f"{len(failed)} of {len(results)} results do not hold", "see the lines above")
    if failed or not tables_hold:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
