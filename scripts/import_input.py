"""An input that the user gives -> the file that ROOT holds.

`--what archive`: the CIFAR-10 tar.gz, a folder cifar-10-batches-py (packed into one uncompressed tar.gz), or its
parent. `--what weights`: a checkpoint file.
"""

from __future__ import annotations

import _build
from _build import die, digest

import contextlib
import hashlib
import shutil
from pathlib import Path

import preprocess
from official_formats import FOLDER, write_tar

MEMBERS = ["batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
ZIP, LEGACY = (
    b"PK\x03\x04",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
)  # torch's containers: today's, and that of 2018
VARIABLE = {"archive": "ARCHIVE", "weights": "WEIGHTS"}
WANTED = {
    "archive": f"cifar-10-python.tar.gz, a folder {FOLDER}, or its parent",
    "weights": "a checkpoint file such as model_92_sgd.pkl",
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


def bring(what: str, given: Path, out: Path) -> None:
    """Imports a given input, if it looks like one: what ROOT holds is not lost to a slip of the fingers."""
    found, held = digest_of_given(what, given), _build.read_record(_build.record_of(out))
    same = found == held.get("sha256") and held.get("origin") != "sample" and "key" in held  # however they came
    key = held["key"] if same else {"given": found}
    with contextlib.suppress(_build.Unchanged), _build.build_file(out, key) as job:
        job.record["origin"] = "given"
        if given.is_dir():
            write_tar(job.path, {name: file.read_bytes() for name, file in batch_files(given).items()})
        else:
            shutil.copyfile(given, job.path)
        if what == "archive":
            preprocess.read_batch(job.path, "test_batch", given)
        elif not next(_build.blocks(job.path), b"").startswith((ZIP, LEGACY)):
            die(given, "not a file that torch saved", f"give WEIGHTS= {WANTED[what]}")
        else:
            import network

            network.load_checkpoint(given)


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--what", choices=sorted(WANTED), required=True)
    parser.add_argument("--given", type=Path, required=True, help="the path that the user gave")
    parser.add_argument("--stat", required=True, help="what make saw of it: kept beside --note once it is imported")
    parser.add_argument("--note", type=Path, required=True, help="the file under .make that tells which was given")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    bring(args.what, args.given, args.out)
    _build.write_text(args.note.with_suffix(".stat"), args.stat + "\n")


if __name__ == "__main__":
    main()
