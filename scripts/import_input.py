"""An input that the user gives -> the file that ROOT holds.

`--what archive`: the CIFAR-10 tar.gz, a folder cifar-10-batches-py (packed into one uncompressed tar.gz), or its
parent. `--what weights`: a checkpoint file. `--what onnx`: a graph in place of the export. `--what om`: a compiled
model for a chip and a batch size; it is opaque, so whether it is for them shows when it runs.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record
from _support.cli import die

import argparse
import contextlib
import shutil
from pathlib import Path

import engines
from formats import cifar10
from formats.python2 import write_tar
from formats.user_inputs import WANTED, batch_files, digest_of_input
from network import checkpoint
from network.spec import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT

CONTAINERS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # torch's: today's, and that of 2018


def check_graph(path: Path) -> None:
    """Exits 1 unless the ONNX file is a graph that can take the export's place."""
    import onnx

    try:
        graph = onnx.load(path).graph
        found = {
            value.name: (value.type.tensor_type.elem_type, [d.dim_value for d in value.type.tensor_type.shape.dim])
            for value in (*graph.input, *graph.output)
            if value.name not in {tensor.name for tensor in graph.initializer}  # older exporters list these too
        }
    except Exception as error:  # noqa: BLE001 - a parser of another's bytes raises what it likes
        die(path, f"no ONNX file ({cli.one_line(error)[:100]})", f"give ONNX= {WANTED['onnx']}")
    if found != {INPUT: (1, [0, *IMAGE_SHAPE]), OUTPUT: (1, [0, len(CLASSES)])}:
        shown = ", ".join(f"{name} {shape}" for name, (_, shape) in found.items())
        die(path, f"its inputs and outputs are {shown}", f"give ONNX= {WANTED['onnx']}")


def check(what: str, file: Path, given: Path) -> None:
    """Exits 1 if `file`, a copy of what was given, is not what it should be."""
    if what == "archive":
        cifar10.read_batch(file, "test_batch", given)
    elif what == "onnx":
        check_graph(given)
    elif what == "om":
        if given.suffix != ".om" or not file.stat().st_size:
            die(given, "no .om", f"give OM= {WANTED['om']}")
    elif not next(artifact.blocks(file), b"").startswith(CONTAINERS):
        die(given, "not a file that torch saved", f"give WEIGHTS= {WANTED['weights']}")
    else:
        checkpoint.check(given)


def import_given(what: str, given: Path, out: Path, record_path: Path | None, made: Record) -> None:
    """Imports a given input, if it looks like one: what ROOT holds is not lost to a slip of the fingers."""
    sha256, held = digest_of_input(what, given), artifact.read_record(record_path or artifact.record_of(out))
    same = sha256 == held.get("sha256") and held.get("origin") != "sample" and "key" in held  # however they came
    key = held["key"] if same and what in ("archive", "weights") else {"given": sha256, **made}
    with contextlib.suppress(artifact.Unchanged), artifact.build_file(out, key, None, record_path) as job:
        job.time = artifact.time_after_all(artifact.root_of(out) or out.parent)  # no prerequisite tells that it changed
        job.record["origin"] = "given"
        if given.is_dir():
            files = batch_files(given)  # the test batch first: who reads it need not skip the others
            write_tar(job.path, {name: files[name].read_bytes() for name in reversed(list(files))})
        else:
            shutil.copyfile(given, job.path)
        check(what, job.path, given)
        if what in ("onnx", "om"):
            own = {"checkpoint_origin": "own", "given": f"own .{what}"}
            job.record["provenance"] = {**own, **made, "model" if what == "om" else what: sha256}


def compiled_model(args: argparse.Namespace) -> Record:
    """What to record of a given compiled model: the chip and the batch size that it is for."""
    constants = engines.constants_of(args.engine)
    if constants.ENDING != "om":
        die(f"OM={args.given}", f"chip {args.chip} runs no .om", "give CHIP= a chip whose models are .om files")
    options = " ".join(word for word in args.options.split() if word.split("=")[0] in constants.NEEDS)
    return {"chip": args.chip, "engine": args.engine, "options": options, "batch_size": args.batch_size}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--what", choices=sorted(WANTED), required=True)
    parser.add_argument("--given", type=Path, required=True, help="the path that the user gave")
    parser.add_argument("--stat", required=True, help="what make saw of it: kept beside --note once it is imported")
    parser.add_argument("--note", type=Path, required=True, help="the file under .make that tells which was given")
    for name in ("--chip", "--engine", "--options", "--limits"):
        parser.add_argument(name, default="", help="of an .om")
    parser.add_argument("--batch-size", type=int, help="of an .om")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    made: Record = {}
    record_path = None
    if args.what == "om":
        made, record_path = compiled_model(args), args.out.with_name(f"bs{args.batch_size}.json")
    import_given(args.what, args.given, args.out, record_path, made)
    artifact.write_text(args.note.with_suffix(".stat"), args.stat + "\n")


if __name__ == "__main__":
    main()
