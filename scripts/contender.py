"""One contender of the bench, in a process of its own: answers requests on stdin, a line of JSON each, on stdout.

{"do": "load", "batch": n} readies it for batches of n images, {"do": "run", "seconds": s} runs as long and tells images
and seconds, {"do": "answers", "images": n, "out": path} saves its logits of the first n images. Loading is in no time.
"""

from __future__ import annotations

import _build
from _build import Record

import importlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
from engines.threads import threads
from numpy.typing import NDArray
from reference import read_bin

Run = Callable[[NDArray[Any]], Any]
KEPT = 256  # images in memory, taken in turns


class Absent(Exception):
    """Why a contender cannot take part."""


def ours(args: Any, batch: int) -> tuple[Run, Record]:
    """A chip of this project: the model that make compiled, run as make runs it."""
    engine = importlib.import_module(f"engines.{args.engine}_run")
    options = dict(word.split("=", 1) for word in args.options.split())
    run, conditions = engine.load(Path(args.model.replace("%", str(batch))), options)
    return run, conditions


def onnxruntime(args: Any, batch: int) -> tuple[Run, Record]:
    """ONNX Runtime with its defaults, as its first page shows it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": images})[0], {
        "runtime": f"ONNX Runtime {onnxruntime.__version__}"
    }


def openvino(args: Any, batch: int) -> tuple[Run, Record]:
    """What benchmark_app runs, for its answers: it does not give them itself."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(args.model)
    graph.reshape([batch, 3, 32, 32])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": args.options})
    return lambda images: compiled([images])[0], {"runtime": f"OpenVINO {openvino.get_version().split('-')[0]}"}


def torch(args: Any, batch: int) -> tuple[Run, Record]:
    """PyTorch on the checkpoint: float32 as it is loaded, or bfloat16 and channels last, compiled or not."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no processes beside this one
    import torch
    from network import load_checkpoint

    words = args.options.split()
    if "compile" in words and not any(map(shutil.which, ("g++", "clang++", "c++", os.environ.get("CXX", "g++")))):
        raise Absent("no C++ compiler, which torch.compile needs")
    torch.set_num_threads(threads())
    kind = torch.bfloat16 if "bf16" in words else torch.float32
    network: Any = load_checkpoint(Path(args.model)).to(kind)
    if "bf16" in words:
        network = network.to(memory_format=torch.channels_last)
    if "compile" in words:
        network = torch.compile(network)

    def run(images: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            given = torch.from_numpy(images).to(kind)
            if "bf16" in words:
                given = given.contiguous(memory_format=torch.channels_last)
            answer: NDArray[Any] = network(given).float().numpy()
        return answer

    return run, {"runtime": f"torch {torch.__version__}", "threads": threads()}


def product(args: Any, order: int) -> tuple[Run, Record]:
    """The machine's ceiling: a square matrix product of this order. An "image" is one floating-point operation."""
    import torch

    torch.set_num_threads(threads())
    a, b = (torch.randint(-127, 127, (order, order), dtype=torch.int8) for _ in range(2))
    if args.options == "int8":
        return lambda images: torch._int_mm(a, b), {"threads": threads()}
    kind = {"bf16": torch.bfloat16, "f32": torch.float32}[args.options]
    a, b = a.to(kind), b.to(kind)
    return lambda images: torch.mm(a, b), {"threads": threads()}


def copy(args: Any, order: int) -> tuple[Run, Record]:
    """The memory's ceiling: arrays copied by as many threads as ours. An "image" is one byte, read or written."""
    from concurrent.futures import ThreadPoolExecutor

    parts = [(np.ones(order << 17), np.empty(order << 17)) for _ in range(threads())]  # of `order` MiB each
    pool = ThreadPoolExecutor(threads())
    return lambda images: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts)), {"threads": threads()}


KINDS = {kind.__name__: kind for kind in (ours, onnxruntime, openvino, torch, product, copy)}
ANY_SIZE = ("onnxruntime", "torch")  # once loaded, for every batch size
WORK = {"product": lambda n: 2 * n**3, "copy": lambda n: 2 * threads() * (n << 20)}  # of a call, where no images are


def batches_of(bins: Path, count: int, size: int) -> list[NDArray[Any]]:
    """The first `count` images in batches; the last one is filled up from the front."""
    images = np.stack([read_bin(bins.with_name(f"image_{i}.bin")) for i in range(count)])
    starts = range(0, count, size)
    return [np.ascontiguousarray(np.take(images, range(i, i + size), 0, mode="wrap")) for i in starts]


def timed(run: Run, batches: list[NDArray[Any]], seconds: float, work: int) -> Record:
    """Runs for so long, a batch after the other; the last call is finished."""
    times: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    while not times or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run(batches[len(times) % len(batches)])
        times.append(time.perf_counter() - start)
    whole = time.perf_counter() - begin
    found = {"images": work * len(times), "seconds": whole, "calls": len(times), "fastest_call_s": min(times)}
    return {**found, "cpu_seconds": time.process_time() - cpu}


def serve(args: Any, asked: Any, said: Any) -> None:
    run: Run = lambda images: images  # noqa: E731 - until it is loaded
    size, work = 0, 0
    batches: list[NDArray[Any]] = []
    told: Record = {}
    for line in asked:
        request: Record = json.loads(line)
        answer: Record = {"did": request["do"]}
        try:
            if request["do"] == "load":
                size = request["batch"]
                work = WORK.get(args.kind, lambda n: n)(size)
                if args.kind not in ANY_SIZE or not batches:
                    run, told = KINDS[args.kind](args, size)
                answer["conditions"] = told
                batches = [np.empty(0)]
                if args.kind not in WORK:
                    batches = batches_of(args.bins, min(args.count, max(KEPT, size)), size)
                for batch in (batches * 2)[:2]:
                    run(batch)
            elif request["do"] == "run":
                answer = timed(run, batches, request["seconds"], work)
            else:
                answers = [np.array(run(batch)) for batch in batches_of(args.bins, request["images"], size)]
                np.save(request["out"], np.concatenate(answers)[: request["images"]])
        except Absent as reason:
            answer = {"absent": str(reason)}
        except SystemExit:
            answer = {"absent": "see above"}  # die() has said why, on stderr
        except Exception as error:  # noqa: BLE001 - another's library failed: that contender is left out
            answer = {"absent": _build.plain(f"{type(error).__name__}: {error}")[:200]}
        said.write(json.dumps(answer) + "\n")
        said.flush()


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--model", default="", help="its file; %% stands for the batch size")
    parser.add_argument("--engine", default="")
    parser.add_argument("--options", default="")
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--count", type=int, required=True, help="of the bins")
    args = parser.parse_args()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    serve(args, sys.stdin, said)


if __name__ == "__main__":
    main()
