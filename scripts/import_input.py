"""Copies a user's file or folder into ROOT, after checking it.

`--what archive`: the CIFAR-10 tar.gz, a folder cifar-10-batches-py (packed into an uncompressed tar.gz), or its parent.
`--what weights`: a checkpoint file. `--what onnx`: a graph that replaces the export. `--what om`: a compiled model for
a chip and a batch size; its content is not checked, so a wrong chip or batch size only shows at inference.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record
from _support.cli import die

import argparse
import contextlib
import os
import shutil
from pathlib import Path

import engines
from formats import cifar10
from formats.python2 import write_tar
from formats.user_inputs import EXPECTED, batch_files, digest_of_input
from network import checkpoint
from network.spec import CLASSES, IMAGE_SHAPE, INPUT, OUTPUT

CONTAINERS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")  # of torch: zip and legacy


def check_graph(path: Path) -> None:
    """Exits 1 unless the ONNX file has the inputs and outputs of the export."""
    import onnx

    try:
        graph = onnx.load(path).graph
        values = {
            value.name: (value.type.tensor_type.elem_type, [d.dim_value for d in value.type.tensor_type.shape.dim])
            for value in (*graph.input, *graph.output)
            if value.name not in {tensor.name for tensor in graph.initializer}  # older exporters list initializers too
        }
    except Exception as error:  # noqa: BLE001 - protobuf raises many kinds of errors
        die(path, f"not an ONNX file ({cli.one_line(error)[:100]})", f"set ONNX= to {EXPECTED['onnx']}")
    if values != {INPUT: (1, [0, *IMAGE_SHAPE]), OUTPUT: (1, [0, len(CLASSES)])}:
        shown = ", ".join(f"{name} {shape}" for name, (_, shape) in values.items())
        die(path, f"its inputs and outputs are {shown}", f"set ONNX= to {EXPECTED['onnx']}")


def check(what: str, file: Path, source: Path) -> None:
    """Exits 1 if `file`, a copy of the user's file `source`, is not a valid input."""
    if what == "archive":
        cifar10.read_batch(file, "test_batch", source)
    elif what == "onnx":
        check_graph(source)
    elif what == "om":
        if source.suffix != ".om" or not file.stat().st_size:
            die(source, "not an .om file", f"set OM= to {EXPECTED['om']}")
    elif not next(artifact.blocks(file), b"").startswith(CONTAINERS):
        die(source, "not a file saved by torch", f"set WEIGHTS= to {EXPECTED['weights']}")
    else:
        checkpoint.check(source)


def import_file(what: str, source: Path, out: Path, record_path: Path | None, target: Record) -> None:
    """Imports the user's file or folder `source`. If it is not valid, the file in ROOT is kept.

    `target` describes for what a compiled model is: see compiled_model().
    """
    sha256, record = digest_of_input(what, source), artifact.read_record(record_path or artifact.record_of(out))
    is_same = sha256 == record.get("sha256") and record.get("origin") != "sample" and "key" in record
    key = record["key"] if is_same and what in ("archive", "weights") else {"given": sha256, **target}
    with contextlib.suppress(artifact.Unchanged), artifact.build_file(out, key, None, record_path) as job:
        job.time = artifact.time_after_all(artifact.root_of(out) or out.parent)  # no prerequisite shows that it changed
        job.record["origin"] = "given"
        # As passed, also if it is not valid UTF-8. Not in the key: the same bytes from another path rebuild nothing.
        job.record["path"] = os.fsencode(source).decode("utf-8", "backslashreplace")
        if source.is_dir():
            files = batch_files(source)  # the test batch first, so that reading it skips nothing
            write_tar(job.path, {name: files[name].read_bytes() for name in reversed(list(files))})
        else:
            shutil.copyfile(source, job.path)
        check(what, job.path, source)
        if what in ("onnx", "om"):
            own = {"checkpoint_origin": "own", "given": f"own .{what}"}
            path = {"model_path" if what == "om" else "graph_path": job.record["path"]}
            job.record["provenance"] = {**own, **target, "model" if what == "om" else what: sha256, **path}


def compiled_model(args: argparse.Namespace) -> Record:
    """What to record of a user's compiled model: the chip and the batch size that it is for."""
    constants = engines.constants_of(args.engine)
    if constants.ENDING != "om":
        die(f"OM={args.given}", f"chip {args.chip} does not run .om files", "set CHIP= to a chip that does")
    options = " ".join(word for word in args.options.split() if word.split("=")[0] in constants.NEEDS)
    return {"chip": args.chip, "engine": args.engine, "options": options, "batch_size": args.batch_size}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--what", choices=sorted(EXPECTED), required=True)
    parser.add_argument("--given", type=Path, required=True, help="the path that the user passed")
    parser.add_argument(
        "--stat", required=True, help="make's text of its inode, size and time, stored beside --note after the import"
    )
    parser.add_argument(
        "--note", type=Path, required=True, help="the file under .make with the digest of the imported input"
    )
    for name in ("--chip", "--engine", "--options", "--limits"):
        parser.add_argument(name, default="", help="of an .om")
    parser.add_argument("--batch-size", type=int, help="of an .om")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    target: Record = {}
    record_path = None
    if args.what == "om":
        target, record_path = compiled_model(args), args.out.with_name(f"bs{args.batch_size}.json")
    import_file(args.what, args.given, args.out, record_path, target)
    artifact.write_text(args.note.with_suffix(".stat"), args.stat + "\n")


if __name__ == "__main__":
    main()
