"""The lines of result pages that state the inputs and the conditions of a result. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record

from typing import List

CONDITIONS = (
    *("chip", "batch_size", "resize", "precision", "rest", "instructions"),
    *("runtime", "threads", "streams", "device", "driver", "host"),
)
ORIGIN_WORDS = {"sample": "built-in sample", "official": "official", "own": "own"}  # by data_origin of a record


def source_of(provenance: Record) -> str:
    """Returns "sample" if the data or the checkpoint are those of the built-in sample, else "cifar10"."""
    return "sample" if "sample" in (provenance["data_origin"], provenance["checkpoint_origin"]) else "cifar10"


def source_line(provenance: Record) -> str:
    """The line that states the origin of the data and of the model."""
    if provenance["data_origin"] == provenance["checkpoint_origin"] == "sample":
        return "Source: built-in sample, not CIFAR-10. This figure only shows that the pipeline runs."
    model = provenance.get("given") or f"{ORIGIN_WORDS[provenance['checkpoint_origin']]} checkpoint"
    return f"Source: {ORIGIN_WORDS[provenance['data_origin']]} data, {model}"


def conditions_line(provenance: Record) -> str:
    """The line that states the conditions that the provenance contains."""
    known = (f"{name.replace('_', ' ')} {provenance[name]}" for name in CONDITIONS if name in provenance)
    return "Conditions: " + ", ".join(known)


def provenance_lines(provenance: Record) -> List[str]:
    """The last lines of a page: every entry of the provenance that is not empty."""
    entries = [f"  {name:<18}{value}" for name, value in sorted(provenance.items()) if value != ""]
    return ["", "provenance", *entries]
