"""This project's chips as entries of a bench: make builds their models, outputs and comparison first."""

from __future__ import annotations

from typing import Sequence

import engines
from benchmark.end_to_end import Chain
from benchmark.entries import THIS_PROJECT, Contender, Entry, Workers
from benchmark.layout import Root
from benchmark.processes import Absent


def take_part(chips: dict[str, str]) -> dict[str, str]:
    """Those of {chip: engine} whose engine runs in this project's process, so on this machine's CPU."""
    return {chip: engine for chip, engine in chips.items() if engines.constants_of(engine).IN_PROCESS}


def build_inputs(chain: Chain, chip: str) -> None:
    """Makes what all contenders need: bins, labels, both graphs, and the reference engine's outputs; raises Absent."""
    root = chain.root
    chain.run(root.bins, root.labels, root.optimized, root.reference, CHIP=chip)


def build_chip(chain: Chain, chip: str, batch_sizes: Sequence[int], batch_size: int) -> list[int]:
    """Compiles a chip's models, and compares its outputs at `batch_size`, or at the last one that can be compiled. The
    batch sizes that can; raises Absent if none can, or if the comparison fails."""
    compiled: list[int] = []
    problem = Absent("no batch sizes")
    for size in batch_sizes:
        try:
            chain.run("om", CHIP=chip, BS=size)
            compiled.append(size)
        except Absent as reason:
            problem = reason
    if not compiled:
        raise problem
    chain.run("compare", CHIP=chip, BS=batch_size if batch_size in compiled else compiled[-1])
    return compiled


def entry_of(root: Root, chip: str, batch_sizes: Sequence[int], workers: Workers) -> Entry:
    """The entry of a chip whose models are compiled."""
    record = root.model_record(chip, batch_sizes[0])
    made = record["provenance"]
    precision = record.get("engine", {}).get("precision", "")
    contender = Contender(chip, "ours", precision, THIS_PROJECT, made["options"], made["engine"])
    model = root.model(chip, "%", engines.constants_of(made["engine"]).ENDING)
    return Entry(contender, batch_sizes, workers.start(contender, model))
