"""The chain of files from which a result was computed, and the check that every link of it holds. Python 3.7.

Each file has a record beside it with its digest and, in the cache key, the digests of the files that it was made from.
A link holds if the record is undamaged, the file has the digest of its record, and the record names the digests of the
files from which it was made. The record of a result must also be that of its chip and batch size, and its figures those
that follow from the outputs and the labels.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record
from _support.cli import die

from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Set

import engines
from formats import held
from formats.bins import check_bins
from network.spec import NAME, UINT8
from reporting.provenance import PATHS


class Link(NamedTuple):
    """One file of the chain, or one folder of files with its manifest. Paths are below ROOT."""

    path: str  # {chip} and {size} are those of the result; the engine decides on the ending *
    record: str
    made_from: Dict[str, str]  # entry of the record's key.inputs: the link whose digest it is


LINKS = {
    "archive": Link("data/archive.tar.gz", "data/archive.json", {}),
    "checkpoint": Link("models/checkpoint.pkl", "models/checkpoint.json", {}),
    "bins": Link("data/bin/manifest.json", "data/bin/manifest.json", {"archive": "archive"}),
    "uint8_bins": Link("data/bin-uint8/manifest.json", "data/bin-uint8/manifest.json", {"archive": "archive"}),
    "labels": Link("data/labels.txt", "data/labels.json", {"archive": "archive"}),
    "calibration": Link("data/calibration.bin", "data/calibration.json", {"archive": "archive"}),
    "onnx": Link(f"models/onnx/{NAME}.onnx", f"models/onnx/{NAME}.json", {"checkpoint": "checkpoint", "bins": "bins"}),
    "optimized": Link(
        f"models/optimized/{NAME}.onnx", f"models/optimized/{NAME}.json", {"onnx": "onnx", "bins": "bins"}
    ),
    "int8": Link(
        f"models/int8/{NAME}.onnx",
        f"models/int8/{NAME}.json",
        {"onnx": "optimized", "calibration": "calibration"},
    ),
    "model": Link(f"models/om/{{chip}}/{NAME}_bs{{size}}.*", "models/om/{chip}/bs{size}.json", {"onnx": "optimized"}),
    "outputs": Link(
        "results/{chip}/bs{size}/outputs/manifest.json",
        "results/{chip}/bs{size}/outputs/manifest.json",
        {"model": "model", "bins": "bins"},
    ),
    "reference": Link(
        "results/reference/outputs/manifest.json",
        "results/reference/outputs/manifest.json",
        {"onnx": "onnx", "bins": "bins"},
    ),
    "accuracy": Link(
        "results/{chip}/bs{size}/accuracy.txt",
        "results/{chip}/bs{size}/accuracy.json",
        {"outputs": "outputs", "labels": "labels"},
    ),
    "compare": Link(
        "results/{chip}/bs{size}/compare.txt",
        "results/{chip}/bs{size}/compare.json",
        {"outputs": "outputs", "reference": "reference", "labels": "labels"},
    ),
    "perf": Link(
        "results/{chip}/bs{size}/perf.txt",
        "results/{chip}/bs{size}/perf.json",
        {"model": "model", "bins": "bins", "outputs": "outputs"},
    ),
    "layers": Link(  # only a record, without a key: its provenance names what it was made from
        "results/{chip}/bs{size}/layers.json",
        "results/{chip}/bs{size}/layers.json",
        {"model": "model", "onnx": "onnx", "bins": "bins"},
    ),
}
QUANTIZED = {"onnx": "int8", "unquantized": "optimized"}  # made_from of a model of the int8 graph
IMPORTED = ("archive", "checkpoint", "onnx", "model")  # may be the user's own
# Where else the origin of an input is recorded: the entry of a provenance, and the links that have it.
ORIGINS = {
    "archive": ("data_origin", ("bins", "outputs", "accuracy")),
    "checkpoint": ("checkpoint_origin", ("onnx", "outputs", "accuracy")),
}
ORIGIN_NAMES = {"own": "given"}  # of held.DONE, where a provenance has another word


def ancestors(name: str) -> Set[str]:
    """The names of all links that a link is or may be made from, at any distance."""
    sources = {*LINKS[name].made_from.values(), *(QUANTIZED.values() if name == "model" else ())}
    return sources.union(*map(ancestors, sources))


class Checked(NamedTuple):
    """A link that holds."""

    path: Path
    record: Record
    digest: str


class Chain:
    """The links of one result. `shared` holds the links that all results of a ROOT have in common."""

    def __init__(
        self, root: Path, chip: str, size: int, shared: Dict[str, Checked], unfollowed: Iterable[str] = ()
    ) -> None:
        self.root, self.chip, self.size = root, chip, size
        self.unfollowed = unfollowed  # links whose own sources are not checked
        self.own: Dict[str, Checked] = {}
        self.shared = shared

    def links(self) -> Dict[str, Checked]:
        """The links that were checked so far, by name."""
        return {**self.shared, **self.own}

    def check(self, name: str) -> Checked:
        """Checks a link after all links that it was made from; exits 1 at the first one that does not hold."""
        known = self.links().get(name)
        if known:
            return known
        path, record_path = self.path_of(LINKS[name].path), self.path_of(LINKS[name].record)
        remedy = self.remedy_of(name, path, record_path)
        self.check_places(name)
        record = intact_record(record_path, remedy)
        if name == "model":
            path = path.with_suffix(f".{engines.constants_of(record['provenance']['engine']).ENDING}")
        self.check_sources(name, record, record_path, remedy)
        checked = Checked(path, record, check_bytes(path, record, remedy))
        self.check_provenance(name, record["provenance"], record_path, remedy)
        (self.own if "{chip}" in LINKS[name].record else self.shared)[name] = checked
        return checked

    def remedy_of(self, name: str, path: Path, record_path: Path) -> str:
        """What to do if a link does not hold."""
        if name in held.PATHS:
            return held.remedy_of(path, self.origin_of(name, record_path))
        if name == "model" and artifact.read_json(record_path).get("origin") == "given":
            path = path.with_suffix(".om")  # only such a model can be the user's own
        return artifact.rebuild_hint(path, record_path)

    def origin_of(self, name: str, record_path: Path) -> str:
        """The origin of an input by its record. If that is lost or damaged, by what was made from the input."""
        origin = str(artifact.read_json(record_path).get("origin"))
        entry, links = ORIGINS[name]
        for link in links:
            if origin not in held.DONE:
                provenance = artifact.read_json(self.path_of(LINKS[link].record)).get("provenance")
                found = str(provenance.get(entry)) if isinstance(provenance, dict) else ""
                origin = ORIGIN_NAMES.get(found, found)
        return origin

    def check_sources(self, name: str, record: Record, record_path: Path, remedy: str) -> None:
        """Checks the links from which a link was made; exits 1 if its record names other digests than theirs."""
        if name in self.unfollowed:
            return
        key = {"inputs": record["provenance"]} if name == "layers" else record.get("key")
        inputs = key.get("inputs") if isinstance(key, dict) else None
        if name in IMPORTED and not inputs:
            return
        if not isinstance(inputs, dict):
            die(record_path, "does not name what it was made from", remedy)
        made_from = QUANTIZED if name == "model" and "unquantized" in inputs else LINKS[name].made_from
        made_from = {entry: self.source_of(source, record["provenance"]) for entry, source in made_from.items()}
        for entry, source in made_from.items():
            value = inputs.get(entry)
            expected = value.get("sha256") if isinstance(value, dict) else value
            if self.check(source).digest != expected:
                die(record_path, f"was not made from the present {self.check(source).path}", remedy)
        # The conditions of a run, which only outputs have, may be others in a measurement.
        files = [source for source in made_from.values() if source not in ("outputs", "reference")]
        self.check_inherited(record, files, record_path, remedy)

    def source_of(self, name: str, provenance: Record) -> str:
        """The link that a record with this provenance means by `name`: of the bins those of the chip's type."""
        is_uint8 = f"input={UINT8}" in str(provenance.get("options")).split()
        return "uint8_bins" if name == "bins" and is_uint8 else name

    def check_inherited(self, record: Record, sources: Iterable[str], record_path: Path, remedy: str) -> None:
        """Exits 1 if a provenance differs from that of the links from which it was made, in what it has from them."""
        inherited = record.get("inherited")
        known = {source: self.check(source).record["provenance"] for source in sources}
        for entry in map(str, inherited if isinstance(inherited, list) else ()):
            if entry in ("precision", *PATHS):  # the engine decides on the one; the others may differ for equal files
                continue
            value, stated = record["provenance"].get(entry), [name for name in known if entry in known[name]]
            if stated and value not in [known[name][entry] for name in stated]:
                other = self.path_of(LINKS[stated[0]].record)
                die(record_path, f"its {entry} is {cli.short(value)}, not as in {other}", remedy)

    def check_places(self, name: str) -> None:
        """Exits 1 if a record below the folder of this chip and batch size is that of another one. The first one in the
        order of the data flow is named: make builds the others again after it."""
        for each in ("model", "outputs", name):
            if each == name or each in ancestors(name):
                path = self.path_of(LINKS[each].record)
                provenance = artifact.read_json(path).get("provenance")
                problem = artifact.place_problem(path, provenance) if isinstance(provenance, dict) else ""
                if problem:
                    die(path, problem, self.remedy_of(each, self.path_of(LINKS[each].path), path))

    def path_of(self, text: str) -> Path:
        """A path of LINKS for this chip and batch size."""
        return self.root / text.format(chip=self.chip, size=self.size)

    def check_provenance(self, name: str, provenance: Record, record_path: Path, remedy: str) -> None:
        """Exits 1 if a provenance names other digests than those of the links that it was made from."""
        known = self.links()
        for entry in sorted(ancestors(name)):
            link = known.get(self.source_of(entry, provenance))
            if link and provenance.get(entry, link.digest) != link.digest:
                die(record_path, f"its provenance does not name the present {link.path}", remedy)


def intact_record(path: Path, remedy: str) -> Record:
    """The record at `path`; exits 1 unless it exists and has exactly the bytes that this project wrote."""
    if not artifact.is_file(path):
        die(path, artifact.absence(path), remedy)
    record = artifact.read_json(path)
    if record and artifact.RECORD_DIGEST not in record:
        die(path, "damaged, or written by an earlier version, without a digest of itself", remedy)
    if not artifact.is_intact(path, record) or not isinstance(record.get("provenance"), dict):
        die(path, f"damaged: {artifact.RECORD_DIGEST} in it is not the digest of its other entries", remedy)
    return record


def check_bytes(path: Path, record: Record, remedy: str) -> str:
    """The digest of a link's file or folder; exits 1 if it is not the one in its record."""
    if path.name == "manifest.json":
        return check_folder(path, record, remedy)
    if path.name == "layers.json":  # its own record
        return artifact.digest(path)
    if not artifact.is_file(path):
        die(path, artifact.absence(path), remedy)
    sha256 = artifact.digest(path)
    if sha256 != record.get("sha256"):
        die(path, "its digest differs from the one in its record", remedy)
    return sha256


def check_folder(manifest: Path, record: Record, remedy: str) -> str:
    """The digest of a folder's files in order. Exits 1 if bins are not those that their manifest describes; outputs are
    checked when their logits are read: see Logits."""
    is_outputs = manifest.parent.name == "outputs"
    wrong = [name for name, is_valid in artifact.MANIFEST.items() if not is_valid(record.get(name))]
    wrong += ["format"] if is_outputs and not artifact.is_text(record.get("format")) else []
    if wrong:
        die(manifest, f"{artifact.DAMAGED} ({', '.join(wrong)})", remedy)
    if not is_outputs:
        present = {entry.name for entry in manifest.parent.iterdir()} - {manifest.name}
        extra = sorted(present.difference(f"image_{i}.bin" for i in range(record["count"])))
        if extra:
            die(manifest.parent / extra[0], f"an unexpected file, {len(extra)} in all", remedy)
        check_bins(manifest, record)
    return str(record["digest"])
