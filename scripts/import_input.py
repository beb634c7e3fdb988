"""Copies a user's file or folder into ROOT, after checking it.

`--what archive`: the CIFAR-10 tar.gz, a folder cifar-10-batches-py (packed into an uncompressed tar.gz), or its parent.
`--what weights`: a checkpoint file. `--what onnx`: a graph that replaces the export, with its data files; it is also
judged by the engine of --chip. `--what om`: a compiled model for a chip and a batch size; its content is not checked,
so a wrong chip or batch size only shows at inference.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import Record
from _support.cli import die

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import engines
from formats import cifar10
from formats.python2 import write_tar
from formats.user_inputs import EXPECTED, batch_files, check_size, digest_of_input, require_file
from network import checkpoint

if TYPE_CHECKING:
    from graphs import own


def check(what: str, file: Path, source: Path) -> None:
    """Exits 1 if `file`, a copy of the user's file `source`, is not a valid input."""
    if what == "archive":
        cifar10.check_archive(file, source)
        cifar10.read_batch(file, "test_batch", source)
    elif what == "om":
        if source.suffix != ".om" or not file.stat().st_size:
            die(source, "not an .om file", f"set OM= to {EXPECTED['om']}")
    else:
        checkpoint.check(source)


def path_text(path: Path) -> str:
    """A path as the user passed it, also if it is not valid UTF-8. It is in no key: the same bytes from another path
    rebuild nothing."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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
        job.record["path"] = path_text(source)
        if source.is_dir():
            files = batch_files(source)  # the test batch first, so that reading it skips nothing
            write_tar(job.path, {name: files[name].read_bytes() for name in reversed(list(files))})
        else:
            shutil.copyfile(source, job.path)
        check(what, job.path, source)
        if digest_of_input(what, source) != sha256 or not (source.is_dir() or artifact.digest(job.path) == sha256):
            artifact.die_changed(source)
        if what == "om":
            own = {"checkpoint_origin": "own", "given": "own .om"}
            job.record["provenance"] = {**own, **target, "model": sha256, "model_path": job.record["path"]}


def stat_of(source: Path, files: list[Path]) -> str:
    """make's text of inode, size and time of the user's graph and of its data files."""
    command = ["sh", str(cli.SCRIPTS / "make/stat_of.sh"), str(source)]
    return subprocess.run(command, input="\n".join(map(str, files)), stdout=subprocess.PIPE, text=True).stdout


def import_graph(args: argparse.Namespace) -> None:
    """Imports the user's graph, with its data files in one file. If it cannot be used, nothing in ROOT changes."""
    from graphs import own, trial  # here, because the other inputs do not need onnx
    from graphs.external_data import Fault

    source, data_note = args.given, args.note.with_suffix(".data")
    require_file("onnx", source)
    check_size("onnx", source)
    size = source.stat().st_size
    try:
        files: list[Path] = trial.run(partial(own.files_of, source), trial.memory_to_read(size))
        stat = stat_of(source, files)  # before the files are read, so that the next make notices later changes
        size += sum(file.stat().st_size for file in files)
        with tempfile.TemporaryDirectory() as folder:
            graph: own.OwnGraph = trial.run(partial(judge, args, Path(folder)), trial.memory_for(size))
    except Fault as fault:
        die(f"ONNX={source}", fault.problem, fault.remedy or f"set it to {EXPECTED['onnx']}")
    key = {"given": graph.digest, "graph": graph.description}
    with contextlib.suppress(artifact.Unchanged), artifact.build_file(args.out, key) as job:
        job.time = artifact.time_after_all(artifact.root_of(args.out) or args.out.parent)
        job.path.write_bytes(graph.content)
        for change in graph.changes:
            print(f"  {change}")
        changes = {"onnx_changes": ", ".join(graph.changes)} if graph.changes else {}
        own_graph = {"checkpoint_origin": "own", "given": "own .onnx", "graph_path": path_text(source)}
        job.record["provenance"] = {**own_graph, "onnx": graph.digest, **changes}
        job.record.update(origin="given", path=path_text(source), graph=graph.description)
    artifact.write_text(data_note, "".join(f"{file}\n" for file in files))
    artifact.write_text(args.note.with_suffix(".stat"), stat)


def judge(args: argparse.Namespace, folder: Path) -> own.OwnGraph:
    """The user's graph, if it can replace the export and the chip can run it; raises Fault. Writes into `folder`."""
    from graphs import own
    from graphs.external_data import Fault

    graph = own.read_own(args.given)
    path = folder / "own.onnx"
    path.write_bytes(graph.content)
    problem = refusal(args, path, graph.description)
    if problem:
        raise Fault(*problem)
    return graph


def refusal(args: argparse.Namespace, path: Path, description: Record) -> tuple[str, str] | None:
    """Why the chip cannot run the graph at `path`, and the remedy; None if nothing is known against it."""
    options, constants = engines.options_of(args.options), engines.constants_of(args.engine)
    if constants.INT8 and constants.INT8 in args.options.split():
        import onnx

        from graphs import int8

        problem = int8.refusal(onnx.load(path))
        if problem:
            return problem
    if not engines.has(args.engine, "graph"):
        return None
    engine: engines.GraphJudge = engines.load(args.engine, "graph")
    return engine.refusal(description, path, options)


def compiled_model(args: argparse.Namespace) -> Record:
    """What to record of a user's compiled model: the chip and the batch size that it is for."""
    constants = engines.constants_of(args.engine)
    if constants.ENDING != "om":
        die(f"OM={args.given}", f"chip {args.chip} does not run .om files", "set CHIP= to a chip that does")
    kept = (*constants.NEEDS, "input")  # what a compiled model depends on
    options = " ".join(word for word in args.options.split() if word.split("=")[0] in kept)
    return {"chip": args.chip, "engine": args.engine, "options": options, "batch_size": args.batch_size}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--what", choices=sorted(EXPECTED), required=True)
    parser.add_argument("--given", type=Path, required=True, help="the path that the user passed")
    parser.add_argument(
        "--stat", default="", help="make's text of its inode, size and time, stored beside --note after the import"
    )
    parser.add_argument(
        "--note", type=Path, required=True, help="the file under .make with the digest of the imported input"
    )
    for name in ("--chip", "--engine", "--options", "--limits"):
        parser.add_argument(name, default="", help="of a graph or an .om")
    parser.add_argument("--batch-size", type=int, help="of an .om")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.what == "onnx":
        import_graph(args)
        return
    target: Record = {}
    record_path = None
    if args.what == "om":
        target, record_path = compiled_model(args), args.out.with_name(f"bs{args.batch_size}.json")
    import_file(args.what, args.given, args.out, record_path, target)
    artifact.write_text(args.note.with_suffix(".stat"), args.stat + "\n")


if __name__ == "__main__":
    main()
