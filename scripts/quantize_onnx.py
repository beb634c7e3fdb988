"""Converts the optimized graph to int8 with training images; see graphs/int8.py.

One half of the training images is used for calibration, the other half for the check: if Top-1 drops there by more than
`--loss`, nothing is written.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import needed_record
from _support.cli import die

import hashlib
from pathlib import Path

from formats import cifar10

SETTINGS = {"loss": "int8.loss"}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument(
        "--loss", type=float, required=True, help="allowed drop of Top-1 in percentage points against the float32 graph"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    optimized, training = needed_record(args.onnx), needed_record(args.calibration)
    inputs = {"onnx": optimized["sha256"], "calibration": training["sha256"]}
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), ("onnx", "onnxruntime"))
    upstream = {**optimized["provenance"], **training["provenance"], "calibration": training["sha256"]}
    with artifact.build_file(args.out, key, upstream) as job:
        import onnx  # here, because a host without onnx may use the graph that another host built

        from graphs import int8
        from graphs.description import description_of

        images, labels = cifar10.read_rows(artifact.read_verified(args.calibration, training["sha256"]))
        model = onnx.load_from_string(artifact.read_verified(args.onnx, optimized["sha256"]))
        problem = int8.refusal(model)
        if problem:
            die(args.onnx, *problem)
        float_top1 = int8.top1(model, images[1::2], labels[1::2])
        model = int8.quantize(model, images[::2])
        int8_top1 = int8.top1(model, images[1::2], labels[1::2], optimized=False)
        judged = f"on {len(images[1::2])} training images Top-1 {int8_top1:.2f}%, in float32 {float_top1:.2f}%"
        if round(float_top1 - int8_top1, 6) > args.loss:
            remedy = "nothing was written; set CHIP= to a chip with another precision, or see int8.loss"
            die(args.out, f"int8 loses too much: {judged}", remedy)
        print(f"  calibrated on {len(images[::2])} training images; {judged}")
        data = model.SerializeToString(deterministic=True)
        job.path.write_bytes(data)
        job.record["check"] = {"images": len(images[1::2]), "top1": int8_top1, "float32_top1": float_top1}
        job.record["graph"] = description_of(model)
        job.record["provenance"]["int8"] = hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
