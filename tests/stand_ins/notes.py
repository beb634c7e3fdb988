"""Logs calls of the stand-ins: a JSON line at the start and one at the end of each, in the file STAND_IN_LOG."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

VARIABLES = ("TE_PARALLEL_COMPILER", "LD_LIBRARY_PATH", "ASCEND_TOOLKIT_HOME")


def note(tool: str, **what: Any) -> None:
    if os.environ.get("STAND_IN_LOG"):
        line = json.dumps({"tool": tool, "pid": os.getpid(), "time": time.time(), **what})
        with open(os.environ["STAND_IN_LOG"], "a") as stream:
            stream.write(line + "\n")


def begin(tool: str) -> None:
    note(
        tool,
        argv=sys.argv[1:],
        cwd=os.getcwd(),
        env={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def end(tool: str) -> None:
    note(tool, end=True)
