"""Plain export + bins -> the answers of the reference engine, float32 ONNX Runtime: image_<i>_0.bin, manifest.json."""

from __future__ import annotations

import _build
from _build import needed_record

import hashlib
from pathlib import Path

import _tool
from engines import onnxruntime_run
from infer import answers, check_bins
from outputs import encode, name_of

BATCH_SIZE = 16
FORM = "bin"


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    onnx, bins = needed_record(args.onnx), needed_record(args.bins, args.bins)
    inputs = {"onnx": onnx["sha256"], "bins": bins["digest"]}
    key = _build.key_of(inputs, {}, onnxruntime_run.PACKAGES, "engines.onnxruntime_run")
    with _build.build_folder(args.out, key, {**onnx["provenance"], **bins["provenance"]}) as job:
        check_bins(args.bins, bins)
        with _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU", shared=True):
            run, conditions = onnxruntime_run.load(args.onnx, {})
            found = hashlib.sha256()
            for i, row in enumerate(answers(run, args.bins, bins, BATCH_SIZE, args.onnx)):
                data = encode(row, FORM)
                found.update(data)
                (job.path / name_of(i, FORM)).write_bytes(data)
        job.record.update(count=bins["count"], format=FORM, digest=found.hexdigest())
        job.record["provenance"].update(conditions, precision="float32", model=onnx["sha256"])


if __name__ == "__main__":
    main()
