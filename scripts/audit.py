"""Checks that results are what they say: every file from the archive and the checkpoint to the figures.

Computes all digests again, and Top-1, confusion and McNemar's test from outputs and labels. Prints a line for each file
of the chain and for each result. Exits 1 after a line that names the first file that is not what its record says, or
what the record after it says. Builds nothing and changes nothing. Python 3.7.
"""

from __future__ import annotations

from _support import cli
from _support.cli import die

from pathlib import Path
from typing import Dict, List, Tuple

from auditing.chain import Chain, Checked
from auditing.figures import KINDS, Logits, check_result
from auditing.state import check_state
from auditing.statement import check_statement

SETTINGS: Dict[str, str] = {}


def results_of(root: Path, chips: List[str], sizes: List[int]) -> List[Tuple[str, int]]:
    """The results of ROOT, as (chip, batch size), of these chips and batch sizes, or of all if there are none."""
    folders = [path.parent for path in root.glob("results/*/bs*/*.json") if path.stem in KINDS]
    results = {(folder.parent.name, folder.name[2:]) for folder in folders}
    return sorted(
        (chip, int(size))
        for chip, size in results
        if size.isdigit() and chip in (chips or [chip]) and int(size) in (sizes or [int(size)])
    )


def audit(root: Path, chip: str, size: int, shared: Dict[str, Checked]) -> str:
    """Checks one result with all that it was made from and prints the files; returns the line on the result."""
    printed = {*shared}
    chain, folder = Chain(root, chip, size, shared), root / f"results/{chip}/bs{size}"
    kinds = [kind for kind in KINDS if (folder / f"{kind}.json").exists() or (folder / f"{kind}.txt").exists()]
    links = {kind: chain.check(kind) for kind in kinds}
    logits = Logits(chain)
    for link in links.values():
        check_result(link, logits)
        check_statement(link.path)
    for name, link in chain.links().items():
        if name not in printed:
            print(f"  {link.digest[:16]}  {link.path}")
    accuracy = links.get("accuracy")
    figure = f"Top-1 {100 * accuracy.record['top1']:.2f}% of {accuracy.record['total']} images, " if accuracy else ""
    return f"audited: {folder}: {figure}{', '.join(kinds)} follow from {len(chain.links()) - len(kinds)} files"


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
        die(args.root / "results", f"no result{which}", "run make accuracy first, or set ROOT=, CHIP= and BS=")
    check_state(args.root, args.params)
    shared: Dict[str, Checked] = {}
    failed = 0
    for chip, size in results:
        try:
            print(audit(args.root, chip, size, shared), flush=True)
        except SystemExit:
            if len(results) == 1:
                raise
            failed += 1
    if failed:
        die(args.root / "results", f"{failed} of {len(results)} results do not hold", "see the lines above")


if __name__ == "__main__":
    main()
