"""The chips of this project as entries of a bench; make builds their models, outputs and comparison first."""

from __future__ import annotations

from typing import Sequence

import engines
from benchmark.end_to_end import Chain
from benchmark.entries import THIS_PROJECT, Contender, Entry, Workers
from benchmark.layout import Root
from benchmark.processes import Unavailable


def chips_in_process(chips: dict[str, str]) -> dict[str, str]:
    """Those of {chip: engine} whose engine runs in the process of the command, so on this machine's CPU."""
    return {chip: engine for chip, engine in chips.items() if engines.constants_of(engine).IN_PROCESS}


def build_inputs(chain: Chain, chip: str) -> None:
    """Builds the inputs of all contenders: bins, labels, both graphs and the reference outputs.

    Raises Unavailable if that fails.
    """
    root = chain.root
    chain.run(root.bins, root.labels, root.optimized, root.reference, CHIP=chip)


def build_chip(chain: Chain, chip: str, batch_sizes: Sequence[int], batch_size: int) -> list[int]:
    """Compiles the models of a chip and compares its outputs with the reference outputs.

    Returns the batch sizes that could be compiled. The comparison uses `batch_size`, or the last one that could be
    compiled. Raises Unavailable if none could, or if the comparison fails.
    """
    compiled: list[int] = []
    problem = Unavailable("no batch sizes")
    for size in batch_sizes:
        try:
            chain.run("om", CHIP=chip, BS=size)
            chain.root.prepare(chip, size)
            compiled.append(size)
        except Unavailable as reason:
            problem = reason
    if not compiled:
        raise problem
    chain.run("compare", CHIP=chip, BS=batch_size if batch_size in compiled else compiled[-1])
    return compiled


def entry_of(root: Root, chip: str, batch_sizes: Sequence[int], workers: Workers) -> Entry:
    """The entry of a chip whose models are compiled."""
    record = root.model_record(chip, batch_sizes[0])
    options, engine = record["provenance"]["options"], record["provenance"]["engine"]
    precision = record.get("engine", {}).get("precision", "")
    contender = Contender(chip, "ours", precision, THIS_PROJECT, options, engine)
    model = root.model(chip, "%", engines.constants_of(engine).ENDING)
    return Entry(contender, batch_sizes, workers.start(contender, model))
