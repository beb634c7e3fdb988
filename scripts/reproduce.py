"""Builds the sample twice under different conditions and compares every artifact byte for byte.

The builds have their own copy of the project, another ROOT, umask, time zone, language, hash seed and number of jobs.
A chip that this CPU cannot run is left out with its reason. Prints a line for each artifact; exits 1 at the end if one
differs, and names the tensor, node, field, line or image. Both builds are removed.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die

from pathlib import Path

from benchmark.chips import chips_in_process
from benchmark.processes import Unavailable
from engines import options_of
from reproduction.builds import CONDITIONS, Build
from reproduction.differences import Compared, compare

SETTINGS: dict[str, str] = {}


def build_all(builds: tuple[Build, Build], chips: list[str], batch_size: int) -> dict[str, str]:
    """Builds every chip in both builds; returns {chip: why it is not compared}."""
    left_out: dict[str, str] = {}
    for build, number in zip(builds, ("first", "second")):
        for chip in chips:
            if chip in left_out:
                continue
            print(f"  {number} build: {chip}")
            try:
                build.accuracy(chip, batch_size)
            except Unavailable as reason:
                if number == "second":
                    die(f"CHIP={chip}", f"built once, but not again ({reason})", "run the same command again")
                left_out[chip] = str(reason)
                print(f"  left out: {chip}: {reason}")
    return left_out


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--make", required=True, help="the make program")
    parser.add_argument("--root", type=Path, required=True, help="both builds are below its .make")
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--chips", nargs="+", required=True, help="chip=engine …")
    parser.add_argument("--batch-size", type=int, required=True)
    args = parser.parse_args()
    chips = list(chips_in_process(options_of(" ".join(args.chips))))
    cli.raise_on_termination()
    path = args.root / ".make/reproduce"
    with artifact.locked(path), artifact.temporary(path) as folder:
        folder.mkdir()
        first, second = (Build(conditions, folder, args.make, args.params) for conditions in CONDITIONS)
        left_out = build_all((first, second), chips, args.batch_size)
        if len(left_out) == len(chips):
            die("reproduce", f"no chip could be built ({'; '.join(left_out.values())})", "see docs/troubleshooting.md")
        rows = []
        for row in compare(first.root, second.root):
            rows.append(row)
            print(f"  {row.digest[:16]:<16}  {'different' if row.difference else 'same':<9}  {row.name}")
            if row.difference:
                print(f"  {'':<16}  {row.difference}")
    different: list[Compared] = [row for row in rows if row.difference]
    if different:
        count = f"{len(different)} of {len(rows)} artifacts differ"
        die(different[0].name, f"{different[0].difference}; {count}", "see the lines above, and report them")
    built = ", ".join(chip for chip in chips if chip not in left_out)
    print(f"reproduced: {len(rows)} artifacts are the same in two builds ({built}, batch size {args.batch_size})")


if __name__ == "__main__":
    main()
