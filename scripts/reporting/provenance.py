"""How pages state what a result was made from and under which conditions. Python 3.7."""

from __future__ import annotations

from _support.artifact import Record

from typing import List

CONDITIONS = (
    *("chip", "batch_size", "resize", "precision", "rest", "instructions"),
    *("runtime", "threads", "streams", "device", "driver", "host"),
)
ORIGIN_WORDS = {"sample": "THE BUILT-IN SAMPLE'S", "official": "official", "own": "own"}  # by the records' data_origin


def source_of(provenance: Record) -> str:
    """ "sample" if the data or the checkpoint are those of the built-in sample, else "cifar10"."""
    return "sample" if "sample" in (provenance["data_origin"], provenance["checkpoint_origin"]) else "cifar10"


def made_from(provenance: Record) -> str:
    """The line that states the origin of the data and of the model."""
    if provenance["data_origin"] == provenance["checkpoint_origin"] == "sample":
        return "Made from: THE BUILT-IN SAMPLE, not CIFAR-10: this figure only shows that the pipeline runs"
    model = provenance.get("given") or f"{ORIGIN_WORDS[provenance['checkpoint_origin']]} checkpoint"
    return f"Made from: {ORIGIN_WORDS[provenance['data_origin']]} data, {model}"


def conditions(provenance: Record) -> str:
    """The line that states the conditions, as far as they are known."""
    known = (f"{name.replace('_', ' ')} {provenance[name]}" for name in CONDITIONS if name in provenance)
    return "Conditions: " + ", ".join(known)


def digests(provenance: Record) -> List[str]:
    """The last lines of a page: every entry of the provenance that is not empty."""
    entries = [f"  {name:<18}{value}" for name, value in sorted(provenance.items()) if value != ""]
    return ["", "made from", *entries]
