"""Optimized ONNX + training images -> its int8 form: QuantizeLinear and DequantizeLinear around Conv and Gemm (QDQ).

Weights: int8, symmetric, a scale for each output channel. Inputs of Conv and Gemm: one scale, by the largest value on
the calibration images; uint8 from 0 where nothing is negative (after Relu), else symmetric int8, so that no zero point
costs work (Jacob et al., arXiv:1712.05877; ONNX QuantizeLinear). All else stays as it was.
Half of the training images calibrate, the other half judges: past `--loss` nothing is written.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.artifact import needed_record
from _support.cli import die

import hashlib
from pathlib import Path

import onnx

from formats import cifar10
from graphs.int8 import quantize, top1

SETTINGS = {"loss": "int8.loss"}


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--loss", type=float, required=True, help="of Top-1, in per cent, against the graph before")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    before, training = needed_record(args.onnx), needed_record(args.calibration)
    inputs = {"onnx": before["sha256"], "calibration": training["sha256"]}
    key = artifact.key_of(inputs, cli.settings_of(args, SETTINGS), ("onnx", "onnxruntime"))
    with artifact.build_file(args.out, key, {**before["provenance"], "calibration": training["sha256"]}) as job:
        images, labels = cifar10.read_rows(args.calibration)
        model = onnx.load(args.onnx)
        wanted = top1(model, images[1::2], labels[1::2])
        model = quantize(model, images[::2])
        found = top1(model, images[1::2], labels[1::2], optimized=False)
        judged = f"on {len(images[1::2])} training images Top-1 {found:.2f}%, in float32 {wanted:.2f}%"
        if round(wanted - found, 6) > args.loss:
            remedy = "nothing was written; give CHIP= a chip of another precision, or see int8.loss"
            die(args.out, f"int8 loses too much: {judged}", remedy)
        print(f"  calibrated on {len(images[::2])} training images; {judged}")
        data = model.SerializeToString(deterministic=True)
        job.path.write_bytes(data)
        job.record["check"] = {"images": len(images[1::2]), "top1": found, "float32_top1": wanted}
        job.record["provenance"]["int8"] = hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
