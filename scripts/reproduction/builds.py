"""Two builds of the sample from two copies of the project, under conditions that must not change a byte."""

from __future__ import annotations

from _support.cli import SCRIPTS

import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from benchmark.end_to_end import OUTER
from benchmark.processes import Program, run_timed

COPIED = ("Makefile", "requirements.txt", "scripts", "patches")  # of the project; the settings are copied too


class Conditions(NamedTuple):
    """What differs between the builds besides the time."""

    folder: str  # of the copy of the project
    root: str  # ROOT
    umask: str
    jobs: int
    environment: dict[str, str]


CONDITIONS = (
    Conditions("one", ".", "022", 1, {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0"}),
    Conditions(
        "zweite Kopie, größer",
        "données",
        "077",
        4,
        {"TZ": "Asia/Kathmandu", "LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "4711"},
    ),
)


class Build:
    """One copy of the project, with a ROOT below it."""

    def __init__(self, conditions: Conditions, folder: Path, make: str, params: Path) -> None:
        self.conditions = conditions
        self.tree = folder / conditions.folder
        self.root = self.tree / conditions.root
        self.log = folder / f"{conditions.folder}.log"
        self.make = make
        self.tree.mkdir()
        for name in COPIED:
            source = SCRIPTS.parent / name
            if source.is_dir():
                shutil.copytree(source, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, self.tree / name)
        # The choice of tuning is a measurement, which may differ between builds. It is in the conditions of results.
        settings = re.sub(r"\btune(: *|=)yes\b", r"tune\1no", params.read_text("utf-8"))
        (self.tree / "params.yaml").write_text(settings, "utf-8")

    def accuracy(self, chip: str, batch_size: int) -> None:
        """Runs make accuracy on the sample; raises Unavailable with make's last message if it fails."""
        ignored = re.compile(r"MAKE|MFLAGS|GNUMAKE")
        outer = {k: v for k, v in os.environ.items() if k not in {*OUTER, "PARAMS"} and not ignored.match(k)}
        make = [self.make, "-C", str(self.tree), "--no-print-directory", f"-j{self.conditions.jobs}", "accuracy"]
        make += ["SOURCE=sample", f"ROOT={self.conditions.root}", f"CHIP={chip}", f"BS={batch_size}"]
        shell = ["sh", "-c", f'umask {self.conditions.umask}; exec "$@"', "sh"]
        words = [*shell, *make, f"PYTHON={sys.executable}"]
        run_timed(Program(words, {**outer, **self.conditions.environment}), self.log)
