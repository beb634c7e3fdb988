"""requirements.txt -> .venv, which every target but help, doctor, clean and distclean makes by itself when needed.

`--dev` adds requirements-dev.txt. A copy of the pins inside .venv is written last, so that a broken installation is
begun anew; the same pins install nothing. Which torch build pip takes is set by pip's own variables (see README.md).
"""

from __future__ import annotations

from _support import artifact, cli, machine, process
from _support.cli import die

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import IO


def run(command: list[str], remedy: str, held: IO[str]) -> None:
    """Runs a step of the installation. `held` is its stdin for the lock on it alone: what a killed step has started
    may go on for a while, and inherits it, so that the next installation waits for that too."""
    print("  " + " ".join(command), flush=True)
    status = subprocess.run(command, stdin=held, preexec_fn=process.prepare_child).returncode
    if status:
        die(command[0], f"failed with status {status}", remedy)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the virtual environment's folder")
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--dev", action="store_true", help="add the requirements to an environment that is there")
    args = parser.parse_args()
    stamp = args.out / args.requirements.name
    wanted = args.requirements.read_text("utf-8")
    if not os.access(args.out if args.out.is_dir() else args.out.absolute().parent, os.W_OK):  # a read-only tree
        if stamp.is_file() and stamp.read_text("utf-8") == wanted:
            return
        remedy = "run make setup where this tree can be written, or give PYTHON="
        die(args.out, "not made from today's pins, and this folder cannot be written", remedy)
    base = machine.supported_python()
    if base is None:
        problem = f"it is {sys.version.split()[0]}, and no python3.10 to python3.12 is on PATH"
        die("python3", problem, "install one, or give PYTHON=")
    with artifact.locked(args.out, beside=True), open(args.requirements) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text("utf-8") == wanted):
            artifact.remove(stamp)
            python = str(args.out / "bin" / "python")
            if not args.dev:
                run([base, "-m", "venv", "--clear", str(args.out)], "on Debian: apt install python3-venv", held)
            remedy = "see pip's message above; pip's own variables name a mirror or a folder of wheels (README.md)"
            pip = [python, "-m", "pip", "--disable-pip-version-check", "install"]
            run([*pip, "--requirement", str(args.requirements)], remedy, held)
            artifact.write_text(stamp, wanted)
        artifact.renew(stamp)


if __name__ == "__main__":
    main()
