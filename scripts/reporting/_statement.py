"""The statement of a result: which files are the result, and what they were made from, in the form of in-toto.

It is a Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) with the predicate SLSA
Provenance v1 (https://slsa.dev/spec/v1.0/provenance). It follows from the record of the result alone, so it is the same
for the same result, apart from `runDetails` and the digest of the record itself, which contains the date. It is not
signed. This module is part of no cache key: a new form of the statement invalidates no measurement. Python 3.7.
"""

from __future__ import annotations

from _support import artifact
from _support.artifact import Record, Unchanged

import base64
import contextlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILDER = "urn:residual-attention-build"
# Entries of a provenance that are digests of files, in the order of the data flow.
MATERIALS = (
    *("archive", "checkpoint", "bins", "labels", "calibration", "onnx", "optimized", "int8", "model"),
    *("outputs", "reference"),
)
INTERNAL = (
    *("runtime", "threads", "streams", "images_a_request", "instructions", "rest", "device", "driver", "host"),
    *("python", "numpy"),
)


class Kind(NamedTuple):
    """The files of a result, in its folder."""

    statement: str
    subjects: List[str]  # the record is the first


KINDS = {
    "accuracy": Kind("statement.json", ["accuracy.json", "accuracy.txt", "predictions.csv"]),
    "perf": Kind("perf.statement.json", ["perf.json", "perf.txt"]),
}


def resource(name: str, sha256: str) -> Record:
    """A ResourceDescriptor of in-toto."""
    return {"name": name, "digest": {"sha256": sha256}}


def described(name: str, facts: Record) -> Record:
    """A ResourceDescriptor of facts without a file: as its content, because the specification demands a content, a
    uri or a digest, and as annotations, which people can read."""
    content = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    encoded = base64.b64encode(content).decode()
    return {"name": name, "mediaType": "application/json", "content": encoded, "annotations": facts}


def materials(record: Record) -> List[Record]:
    """The files from which a result was made: data, models, and the scripts of its command."""
    key = record["key"]
    digests = {**key["inputs"], **record["provenance"]}
    files = [resource(name, digests[name]) for name in MATERIALS if digests.get(name)]
    return files + [resource(f"scripts/{name}", sha256) for name, sha256 in sorted(key["scripts"].items())]


def statement_of(folder: Path, kind: str, record: Record) -> Record:
    """The statement of the result in `folder` whose record is `record`."""
    provenance, run = record["provenance"], record.get("run", {})
    external: Dict[str, Any] = {
        name: provenance[name] for name in ("chip", "batch_size", "options", "resize", "opset") if name in provenance
    }
    external.update(source=record.get("source"), origins=record.get("origins"), settings=record["key"]["flags"])
    internal = {name: provenance[name] for name in ("engine", "precision", *INTERNAL) if name in provenance}
    internal["versions"] = record["key"]["versions"]
    version = {name: str(run[name]) for name in ("version", "commit") if name in run}
    if "clean" in run:
        version["clean"] = "true" if run["clean"] else "false"
    requirements = [resource("requirements.txt", run["requirements"])] if "requirements" in run else []
    return {
        "_type": TYPE,
        "subject": [resource(name, artifact.digest(folder / name)) for name in KINDS[kind].subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"{BUILDER}:{kind}:v1",
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": materials(record),
            },
            "runDetails": {
                "builder": {"id": f"{BUILDER}:make", "version": version, "builderDependencies": requirements},
                "metadata": {
                    "invocationId": record[artifact.RECORD_DIGEST],
                    **{name: run[entry] for name, entry in TIMES.items() if entry in run},
                },
                "byproducts": [described("host", {name: run[name] for name in HOST if name in run})],
            },
        },
    }


HOST = ("host_name", "cpu", "python", "packages", "at_start", "inference")  # entries of `run`
TIMES = {"startedOn": "started", "finishedOn": "date"}  # entries of the metadata and of `run`


def format_statement(statement: Record) -> str:
    return json.dumps(statement, indent=1, sort_keys=True) + "\n"


def expected_statement(page: Path) -> str:
    """The text of the statement of the result whose text page is `page`, from its record and its files."""
    record = artifact.read_record(page.with_suffix(".json"))
    return format_statement(statement_of(page.parent, page.stem, record))


def rebuild_reason(page: Path) -> str:
    """Why the result whose text page is `page` must be built again even if it is up to date: its statement is of other
    files, so the record or the statement was changed. Empty if not, and if there is no statement."""
    path = page.with_name(KINDS[page.stem].statement)
    if not artifact.is_file(path):
        return ""
    stated = artifact.read_json(path).get("subject")
    files = [page.with_name(name) for name in KINDS[page.stem].subjects]
    present = [resource(file.name, artifact.digest(file)) for file in files if artifact.is_file(file)]
    return "" if stated == present else f"{path.name} is of other files than these"


def write_statement(page: Path) -> None:
    """Writes the statement of the result whose text page is `page`, if its bytes differ from those of the file."""
    path = page.with_name(KINDS[page.stem].statement)
    text = expected_statement(page)
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        artifact.write_text(path, text)


@contextlib.contextmanager
def with_statement(page: Path) -> Iterator[None]:
    """Writes the statement of a result after the block has built it, or has found it up to date."""
    try:
        yield
    except Unchanged:
        write_statement(page)
        raise
    write_statement(page)
