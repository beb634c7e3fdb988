"""Plain graph + bins -> outputs of the reference engine: image_<i>_0.bin, manifest.json.

The plain graph is the export, in float32, or the user's own.
"""

from __future__ import annotations

from _support import artifact, cli, locks
from _support.artifact import needed_record
from _support.run_facts import machine_facts

from pathlib import Path

import engines
from engines.feed import Work, run_all

BATCH_SIZE = 16
FORMAT = "bin"


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--out", type=Path, required=True, help="the manifest.json to write, in the outputs' folder")
    args = parser.parse_args()
    onnx, bins = needed_record(args.onnx), needed_record(args.bins, args.bins)
    inputs = {"onnx": onnx["sha256"], "bins": bins["digest"]}
    packages = engines.constants_of(engines.REFERENCE).PACKAGES["run"]
    key = artifact.key_of(inputs, {}, packages, engines.module_of(engines.REFERENCE, "run"))
    with artifact.build_folder(args.out, key, {**onnx["provenance"], **bins["provenance"]}) as job:
        with locks.lock_cpu(shared=True):
            runner: engines.InProcess = engines.load(engines.REFERENCE, "run")
            session = runner.open_session(engines.read_model(args.onnx, onnx["sha256"]), {})
            work = Work(args.bins, bins, BATCH_SIZE, FORMAT, args.onnx)
            digest = run_all(session, work, job.path)
        job.record.update(count=bins["count"], format=FORMAT, digest=digest)
        job.record["run"] = machine_facts()
        precision = onnx.get("graph", {}).get("precision", "float32")  # a graph of the user's own may have another one
        job.record["provenance"].update(session.conditions, precision=precision, model=onnx["sha256"])


if __name__ == "__main__":
    main()
