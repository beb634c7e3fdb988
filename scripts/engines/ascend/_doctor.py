"""Rows of make doctor for chips of engine ascend. Changes nothing. Python 3.7, standard library only.

A Checker asks npu-smi, CANN and ais_bench in the background; the rows are functions of the answers.
"""

from __future__ import annotations

from _support import machine
from _support.query import BackgroundQueries, Fault

import os
from pathlib import Path
from typing import Iterator, List

from engines import COMPILE, RUN, Found, Options, Row
from engines.ascend import _cann, _find, _npu_smi
from engines.ascend._cann_rows import blocker, cann_rows, compiler_row, environment_row, interpreter_rows, runner_rows
from engines.ascend._device_rows import Npus, device_rows, query_npus
from engines.ascend._tools import Tools, query_tools

MEMORY = 8  # GB that one atc may need, if params.yaml does not have atc.memory


class Checker:
    """The rows for chips of engine ascend; see engines.Checker."""

    part = "Ascend"

    def __init__(self, query: BackgroundQueries, options: Options, chips: List[str]) -> None:
        self.soc_version, self.chips = options.get("soc_version", ""), chips
        memory = options.get("atc.memory", "")
        self.memory = int(memory) if memory.isdigit() else MEMORY
        self.npus = query.ask(lambda: query_npus(0.7 * query.limit, chips))
        self.tools = query.ask(lambda: query_tools(query, self.soc_version))

    def rows(self, devices: str, root: Path) -> Iterator[Row]:
        """The rows; a single one if the host has neither CANN nor npu-smi and CHIP= is not a chip of this engine."""
        npus, tools = self.npus_or_reason(), self.tools()
        if tools is None and npus.problem == _npu_smi.NOT_ON_PATH and not self.soc_version:
            fallback = f"; use CHIP={self.chips[0]}" if self.chips else ""
            yield Row("Ascend", f"no CANN, {npus.problem}{fallback}")
            return
        if tools is None:
            remedy = "install CANN's toolkit, or set SET_ENV= to its set_env.sh"
            yield Row("CANN", "not found; no set_env.sh in the usual places", remedy, (blocker("CANN", RUN, COMPILE),))
        elif isinstance(tools, Fault):
            yield environment_row(tools)
        else:
            yield from cann_rows(tools, self.soc_version)
            yield compiler_row(tools.compiler)
            yield from interpreter_rows(tools)
            yield from runner_rows(tools.runner)
        if (self.soc_version or isinstance(tools, Tools)) and machine.memory_gb() < self.memory:
            fix = f"atc may need {self.memory} GB: compile on a host with more, or lower atc.memory and try"
            yield Row("memory", "", fix)
        yield from device_rows(npus, devices, self.soc_version, self.chips)
        yield from root_rows(root)

    def npus_or_reason(self) -> Npus:
        """The devices, or the reason that none is shown."""
        npus = self.npus()
        if not isinstance(npus, Fault):
            return npus
        found = _find.unclear(f"gives no result ({npus.text})", self.chips)
        remedy = _npu_smi.HANGS if npus.late else ""
        return Npus(problem=f"npu-smi: {npus.text}", unclear=npus.late, remedy=remedy, found=found)

    def found(self) -> Found:
        """The chip of the devices."""
        return self.npus_or_reason().found


def root_rows(root: Path) -> Iterator[Row]:
    """Problems that CANN's tools have with the path of ROOT or with permissions."""
    characters = _cann.unsupported_characters(root)
    if characters:
        remedy = "set ROOT= to a path that has only letters, digits and . _ - /"
        blocks = (blocker("a ROOT path that CANN's tools accept", RUN, COMPILE),)
        yield Row("path of ROOT", f"contains {characters}, which CANN's tools reject", remedy, blocks)
    mask = os.umask(0o077)
    os.umask(mask)
    notes = [] if mask & 0o022 == 0o022 else [f"umask {mask:04o} lets other users write"]
    notes += ["ROOT belongs to another user"] if root.exists() and root.stat().st_uid != os.geteuid() else []
    if notes:
        yield Row("permissions", f"{', '.join(notes)}; ais_bench gets private copies of its inputs")
