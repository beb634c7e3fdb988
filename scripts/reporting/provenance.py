"""The lines of result pages that state the inputs and the conditions of a result. Python 3.7."""

from __future__ import annotations

from _support.artifact import DAMAGED, Record, needed_record, rebuild_hint
from _support.cli import die
from _support.run_facts import run_facts

from pathlib import Path
from typing import Any, Dict, List

CONDITIONS = (
    *("chip", "batch_size", "resize", "precision", "rest", "instructions"),
    *("runtime", "threads", "streams", "images_a_request", "device", "driver", "host"),
)
ORIGIN_WORDS = {"sample": "built-in sample", "official": "official", "own": "own"}  # by data_origin of a record
PARTS = ("data", "checkpoint", "graph", "model")
PATHS = tuple(f"{part}_path" for part in PARTS)  # where an own input was imported from, as the user passed it
SOURCES = {"official": "cifar10", "sample": "sample"}  # source of a result by the origin that all its parts have


def is_provenance(value: Any) -> bool:
    """Whether the provenance of a result has the origins of its parts."""
    return (
        isinstance(value, dict)
        and all(
            isinstance(value.get(name), str) and value[name] in ORIGIN_WORDS
            for name in ("data_origin", "checkpoint_origin")
        )
        and isinstance(value.get("given", ""), str)
    )


def needed_outputs(manifest: Path) -> Record:
    """The record of outputs; exits 1 if it is missing or invalid."""
    record = needed_record(manifest, manifest)
    if not is_provenance(record["provenance"]):
        die(manifest, f"{DAMAGED} (provenance)", rebuild_hint(manifest))
    return record


def origins_of(provenance: Record) -> Dict[str, str]:
    """The origin (official, sample or own) of each of PARTS: of the file itself, or of what it was made from.

    Graph and model are made from the checkpoint. For a graph or model that the user passed, the checkpoint is "own".
    """
    checkpoint = provenance["checkpoint_origin"]
    return {part: provenance["data_origin"] if part == "data" else checkpoint for part in PARTS}


def source_of(provenance: Record) -> str:
    """The source of a result: "cifar10" if all parts are official, "sample" if all are of the built-in sample, "own" if
    one is the user's own, else "mixed"."""
    origins = {*origins_of(provenance).values(), *(["own"] if provenance.get("given") else [])}
    origins.add(str(provenance.get("calibration_origin", provenance["data_origin"])))  # of the training images for int8
    if "own" in origins:
        return "own"
    return SOURCES[origins.pop()] if len(origins) == 1 else "mixed"


def without_paths(provenance: Record) -> Record:
    """The provenance without the paths of own inputs, for cache keys and for the part of a record that is the same on
    every machine."""
    return {name: value for name, value in provenance.items() if name not in PATHS}


def labels_of(provenance: Record, inference: Record | None = None) -> Record:
    """What a result is of, for its record: source, origins, and under "run" all that differs when it is computed again:
    date, machine, version and commit of this project, paths of own inputs. `inference`: the record of the outputs, with
    the machine on which they were computed."""
    paths = {part: provenance[f"{part}_path"] for part in PARTS if provenance.get(f"{part}_path")}
    run = {**run_facts(), "paths": paths}
    machine = (inference or {}).get("run")
    if isinstance(machine, dict):
        run["inference"] = machine
    return {"source": source_of(provenance), "origins": origins_of(provenance), "run": run}


def model_name(provenance: Record) -> str:
    """What the model was made from: own .onnx, own .om, or a checkpoint with its origin."""
    return str(provenance.get("given") or f"{provenance['checkpoint_origin']} checkpoint")


def source_line(provenance: Record) -> str:
    """The line that states the origin of the data and of the model."""
    if provenance["data_origin"] == provenance["checkpoint_origin"] == "sample":
        return "Source: built-in sample, not CIFAR-10. This figure only shows that the pipeline runs."
    model = provenance.get("given") or f"{ORIGIN_WORDS[provenance['checkpoint_origin']]} checkpoint"
    training = ", own training images for int8" if provenance.get("calibration_origin") == "own" else ""
    return f"Source: {ORIGIN_WORDS[provenance['data_origin']]} data, {model}{training}"


def conditions_line(provenance: Record) -> str:
    """The line that states the conditions that the provenance contains."""
    known = (f"{name.replace('_', ' ')} {provenance[name]}" for name in CONDITIONS if name in provenance)
    return "Conditions: " + ", ".join(known)


def provenance_lines(provenance: Record) -> List[str]:
    """The last lines of a page: every entry of the provenance that is not empty."""
    entries = [f"  {name:<18}{value}" for name, value in sorted(provenance.items()) if value != ""]
    return ["", "provenance", *entries]


RUN = ("date", "host_name", "cpu", "version", "commit", "clean")
LABELS = ("source", *(f"{part}_origin" for part in PARTS), *PATHS, *RUN)  # columns of CSV files


def label_cells(record: Record) -> List[str]:
    """The cells of LABELS; empty where the record, of an earlier version, does not know."""
    provenance, run = record["provenance"], record.get("run", {})
    origins, paths = origins_of(provenance), run.get("paths", {})
    facts = [str(run.get(name, "")) for name in RUN]
    cells = [source_of(provenance), *(origins[part] for part in PARTS), *(paths.get(part, "") for part in PARTS)]
    return [*cells, *facts[:-1], facts[-1].lower()]  # clean: true or false
