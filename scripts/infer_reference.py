"""Plain export + bins -> the answers of the reference engine, float32 ONNX Runtime: image_<i>_0.bin, manifest.json."""

from __future__ import annotations

import _build
from _build import needed_record

from pathlib import Path

import _tool
from infer import answer_all

BATCH_SIZE = 16
FORM = "bin"


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    from engines import onnxruntime_run

    onnx, bins = needed_record(args.onnx), needed_record(args.bins, args.bins)
    inputs = {"onnx": onnx["sha256"], "bins": bins["digest"]}
    key = _build.key_of(inputs, {}, onnxruntime_run.PACKAGES, "engines.onnxruntime_run")
    with _build.build_folder(args.out, key, {**onnx["provenance"], **bins["provenance"]}) as job:
        with _tool.one_of([_tool.shared_lock("cpu")], "this machine's CPU", shared=True):
            run, conditions = onnxruntime_run.load(args.onnx, {})
            digest = answer_all(run, args.bins, bins, BATCH_SIZE, args.onnx, FORM, job.path)
        job.record.update(count=bins["count"], format=FORM, digest=digest)
        job.record["provenance"].update(conditions, precision="float32", model=onnx["sha256"])


if __name__ == "__main__":
    main()
