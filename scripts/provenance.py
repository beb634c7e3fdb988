"""The words in which a page tells what its figures were made from and under which conditions. Python 3.7."""

from __future__ import annotations

from _build import Record

from typing import List

CONDITIONS = (
    *("chip", "batch_size", "resize", "precision", "rest", "instructions"),
    *("runtime", "threads", "streams", "device", "driver", "host"),
)
WORDS = {"sample": "THE BUILT-IN SAMPLE'S", "official": "official", "own": "own"}


def source_of(made: Record) -> str:
    """ "sample" as soon as the sample has a part in it, else "cifar10"."""
    return "sample" if "sample" in (made["data_origin"], made["checkpoint_origin"]) else "cifar10"


def made_from(made: Record) -> str:
    if made["data_origin"] == made["checkpoint_origin"] == "sample":
        return "Made from: THE BUILT-IN SAMPLE, not CIFAR-10: this figure shows that the chain works, no more"
    model = made.get("given") or f"{WORDS[made['checkpoint_origin']]} checkpoint"
    return f"Made from: {WORDS[made['data_origin']]} data, {model}"


def conditions(made: Record) -> str:
    return "Conditions: " + ", ".join(f"{k.replace('_', ' ')} {made[k]}" for k in CONDITIONS if k in made)


def digests(made: Record) -> List[str]:
    """Every line of a provenance, for a page's end."""
    return ["", "made from"] + [f"  {name:<18}{value}" for name, value in sorted(made.items()) if value != ""]
