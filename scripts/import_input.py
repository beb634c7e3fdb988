"""An input that the user gives -> the file that ROOT holds.

`--what archive`: the CIFAR-10 tar.gz, a folder cifar-10-batches-py (packed into one uncompressed tar.gz), or its
parent. `--what weights`: a checkpoint file. `--what onnx`: a graph in place of the export. `--what om`: a compiled
model for a chip and a batch size; it is opaque, so whether it is for them shows when it runs.
"""

from __future__ import annotations

import _build
from _build import die, digest

import contextlib
import hashlib
import shutil
from pathlib import Path

import checkpoint
import preprocess
from official_formats import FOLDER, write_tar

MEMBERS = ["batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
ZIP, LEGACY = (
    b"PK\x03\x04",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
)  # torch's containers: today's, and that of 2018
VARIABLE = {"archive": "ARCHIVE", "weights": "WEIGHTS", "onnx": "ONNX", "om": "OM"}
WANTED = {
    "archive": f"cifar-10-python.tar.gz, a folder {FOLDER}, or its parent",
    "weights": "a checkpoint file such as model_92_sgd.pkl",
    "onnx": "a graph with input image, float32 [N, 3, 32, 32], and output class, float32 [N, 10], N being dynamic",
    "om": "what atc made for that chip and batch size",
}


def batch_files(path: Path) -> dict[str, Path]:
    """{member name: file} of an extracted folder or of its parent; empty if it is neither."""
    for folder in (path, path / FOLDER):
        if (folder / "test_batch").is_file():
            return {name: folder / name for name in MEMBERS if (folder / name).is_file()}
    return {}


def digest_of_given(what: str, path: Path) -> str:
    """The sha256 of a given file, or over names and digests of a given folder's members; exits 1 if it is no input."""
    if path.is_file():
        return digest(path)
    files = batch_files(path) if what == "archive" else {}
    if not files:
        problem = "no such file" if not path.exists() else "no test_batch in it" if what == "archive" else "a folder"
        die(f"{VARIABLE[what]}={path}", problem, f"give {WANTED[what]}")
    text = "".join(f"{name} {digest(file)}\n" for name, file in files.items())
    return hashlib.sha256(text.encode()).hexdigest()


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
        die(path, f"no ONNX file ({_build.plain(error)[:100]})", f"give ONNX= {WANTED['onnx']}")
    if found != {"image": (1, [0, 3, 32, 32]), "class": (1, [0, 10])}:
        shown = ", ".join(f"{name} {shape}" for name, (_, shape) in found.items())
        die(path, f"its inputs and outputs are {shown}", f"give ONNX= {WANTED['onnx']}")


def check(what: str, file: Path, given: Path) -> None:
    """Exits 1 if `file`, a copy of what was given, is not what it should be."""
    if what == "archive":
        preprocess.read_batch(file, "test_batch", given)
    elif what == "onnx":
        check_graph(given)
    elif what == "om":
        if given.suffix != ".om" or not file.stat().st_size:
            die(given, "no .om", f"give OM= {WANTED['om']}")
    elif not next(_build.blocks(file), b"").startswith((ZIP, LEGACY)):
        die(given, "not a file that torch saved", f"give WEIGHTS= {WANTED['weights']}")
    else:
        checkpoint.check(given)


def bring(what: str, given: Path, out: Path, record_path: Path | None, made: _build.Record) -> None:
    """Imports a given input, if it looks like one: what ROOT holds is not lost to a slip of the fingers."""
    found, held = digest_of_given(what, given), _build.read_record(record_path or _build.record_of(out))
    same = found == held.get("sha256") and held.get("origin") != "sample" and "key" in held  # however they came
    key = held["key"] if same and what in ("archive", "weights") else {"given": found, **made}
    with contextlib.suppress(_build.Unchanged), _build.build_file(out, key, None, record_path) as job:
        job.record["origin"] = "given"
        if given.is_dir():
            files = batch_files(given)  # the test batch first: who reads it need not skip the others
            write_tar(job.path, {name: files[name].read_bytes() for name in reversed(list(files))})
        else:
            shutil.copyfile(given, job.path)
        check(what, job.path, given)
        if what in ("onnx", "om"):
            own = {"checkpoint_origin": "own", "given": f"own .{what}"}
            job.record["provenance"] = {**own, **made, "model" if what == "om" else what: found}


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--what", choices=sorted(WANTED), required=True)
    parser.add_argument("--given", type=Path, required=True, help="the path that the user gave")
    parser.add_argument("--stat", required=True, help="what make saw of it: kept beside --note once it is imported")
    parser.add_argument("--note", type=Path, required=True, help="the file under .make that tells which was given")
    for name in ("--chip", "--engine", "--options"):
        parser.add_argument(name, default="", help="of an .om")
    parser.add_argument("--batch-size", type=int, help="of an .om")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    made, record_path = {}, None
    if args.what == "om":
        if not args.out.name.endswith(".om"):
            die(f"OM={args.given}", f"chip {args.chip} runs no .om", "give CHIP= a chip of engine ascend")
        args.options = " ".join(word for word in args.options.split() if word.startswith("soc_version="))
        made = {name: getattr(args, name) for name in ("chip", "engine", "options", "batch_size")}
        record_path = args.out.with_name(f"bs{args.batch_size}.json")
    bring(args.what, args.given, args.out, record_path, made)
    _build.write_text(args.note.with_suffix(".stat"), args.stat + "\n")


if __name__ == "__main__":
    main()
