"""Runs one contender of the bench in a separate process; requests on stdin and replies on stdout are lines of JSON.

{"do": "load", "batch": n} prepares it for batches of n images. {"do": "run", "seconds": s} runs it for s seconds; the
reply contains images and seconds. {"do": "outputs", "images": n, "out": path} saves its logits of the first n images.
Loading is not timed. The reply {"unavailable": reason} means that the contender cannot do it; an empty reason stands
for the last line of its log.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record, read_record
from _support.machine import threads

import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO, Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.processes import Unavailable
from engines import Session, tuning
from engines.feed import OneAtATime
from formats.bins import read_bins
from network.spec import IMAGE_SHAPE, INPUT

Array = NDArray[Any]
KEPT = 256  # images in memory, which are used repeatedly in the same order
WARM_UP = 2  # batches


class Job(NamedTuple):
    """The contender that this process runs."""

    kind: str  # a key of KINDS
    model: str  # path of its model; % stands for the batch size
    engine: str  # of a chip; otherwise empty
    options: str
    bins: Path  # manifest.json of the bins
    images: int  # number of bins


def ours(job: Job, batch: int) -> Session:
    """A chip of this project: the model that make compiled, run by the engine's run.py as make infer does."""
    path = Path(job.model.replace("%", str(batch)))
    record = read_record(path.with_name(f"bs{batch}.json"))
    return tuning.open_session(path, record, tuning.stored(path, record))


def onnxruntime(job: Job, batch: int) -> Session:
    """ONNX Runtime with its default settings, as in its quick start."""
    import onnxruntime

    session = onnxruntime.InferenceSession(job.model, providers=["CPUExecutionProvider"])
    conditions = {"runtime": f"ONNX Runtime {onnxruntime.__version__}"}
    return OneAtATime(lambda images: session.run(None, {INPUT: images})[0], conditions)


def benchmark_app(job: Job, batch: int) -> Session:
    """The model as OpenVINO's benchmark_app runs it, to get the logits, which benchmark_app does not write."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(job.model)
    graph.reshape([batch, *IMAGE_SHAPE])
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": job.options})
    conditions = {"runtime": f"OpenVINO {openvino.get_version().split('-')[0]}"}
    return OneAtATime(lambda images: compiled([images])[0], conditions)


def torch(job: Job, batch: int) -> Session:
    """PyTorch on the checkpoint: float32 as loaded, or bfloat16 with channels last, optionally torch.compile."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # otherwise it starts additional processes
    import torch

    from network.load import load_checkpoint

    words = job.options.split()
    if "compile" in words and not any(map(shutil.which, ("g++", "clang++", "c++", os.environ.get("CXX", "g++")))):
        raise Unavailable("torch.compile needs a C++ compiler, and none is installed")
    torch.set_num_threads(threads())
    kind = torch.bfloat16 if "bf16" in words else torch.float32
    layout = torch.channels_last if "bf16" in words else torch.contiguous_format
    network: Any = load_checkpoint(Path(job.model))
    network = network.to(kind).to(memory_format=layout)
    if "compile" in words:
        network = torch.compile(network)

    def run(images: Array) -> Array:
        with torch.inference_mode():
            tensor = torch.from_numpy(images).to(kind).contiguous(memory_format=layout)
            logits: Array = network(tensor).float().numpy()
        return logits

    return OneAtATime(run, {"runtime": f"torch {torch.__version__}", "threads": threads()})


def product(job: Job, order: int) -> Session:
    """A square matrix product of this order, which measures the arithmetic speed of the machine."""
    import torch

    torch.set_num_threads(threads())
    a, b = (torch.randint(-127, 127, (order, order), dtype=torch.int8) for _ in range(2))
    if job.options == "int8":
        return repeated(lambda: torch._int_mm(a, b))
    kind = {"bf16": torch.bfloat16, "f32": torch.float32}[job.options]
    left, right = a.to(kind), b.to(kind)
    return repeated(lambda: torch.mm(left, right))


def copy(job: Job, mebibytes: int) -> Session:
    """Copies of arrays of this size with as many threads as the chips use, which measure the memory bandwidth."""
    from concurrent.futures import ThreadPoolExecutor

    parts = [(np.ones(mebibytes << 17), np.empty(mebibytes << 17)) for _ in range(threads())]  # 8 bytes a value
    pool = ThreadPoolExecutor(threads())
    return repeated(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts)))


def repeated(work: Callable[[], Any]) -> Session:
    """The session of a machine limit, which does the same `work` for every batch."""
    return OneAtATime(lambda images: work(), {"threads": threads()})


KINDS = {kind.__name__: kind for kind in (ours, onnxruntime, benchmark_app, torch, product, copy)}
ANY_SIZE = ("onnxruntime", "torch")  # loaded once, then used for all batch sizes
# The work of one call of a machine limit, counted in place of images: floating-point operations; bytes read or written.
WORK = {"product": lambda n: 2 * n**3, "copy": lambda n: 2 * threads() * (n << 20)}


def batches_of(bins: Path, count: int, size: int) -> list[Array]:
    """The first `count` images in batches, [size, *shape of a bin]; the first images fill up the last batch."""
    images = read_bins(bins, read_record(bins), range(count))
    starts = range(0, count, size)
    return [np.ascontiguousarray(np.take(images, range(i, i + size), 0, mode="wrap")) for i in starts]


def timed(session: Session, batches: Sequence[Array], seconds: float, work: int) -> Record:
    """Runs the batches repeatedly in order for `seconds`, at least one batch, and waits for the last output.

    The time of a call is that between two outputs. Each call does `work`, in images.
    """
    times: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()

    def feed() -> Iterator[Array]:
        for batch in itertools.cycle(batches):
            if times and time.perf_counter() - begin >= seconds:
                return
            yield batch

    last = begin
    for _ in session.stream(feed()):
        now = time.perf_counter()
        times.append(now - last)
        last = now
    result = {"images": work * len(times), "seconds": last - begin, "calls": len(times), "fastest_call_s": min(times)}
    return {**result, "cpu_seconds": time.process_time() - cpu}


class Contender:
    """A loaded contender, and its replies to requests."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.session: Session | None = None
        self.size = self.work = 0  # images per batch, or the size of the arrays of a machine limit; work per call
        self.batches: list[Array] = []

    def load(self, size: int) -> Record:
        kind = self.job.kind
        self.size, self.work = size, WORK.get(kind, lambda n: n)(size)
        if self.session is None or kind not in ANY_SIZE:
            self.session = KINDS[kind](self.job, size)
        self.batches = [np.empty(0)]
        if kind not in WORK:
            self.batches = batches_of(self.job.bins, min(self.job.images, max(KEPT, size)), size)
        for _ in self.session.stream(itertools.islice(itertools.cycle(self.batches), WARM_UP)):
            pass
        return {"conditions": self.session.conditions}

    def save_outputs(self, count: int, out: str) -> Record:
        assert self.session
        outputs = map(np.array, self.session.stream(batches_of(self.job.bins, count, self.size)))
        np.save(out, np.concatenate(list(outputs))[:count])
        return {}

    def reply(self, request: Record) -> Record:
        if request["do"] == "load":
            return self.load(request["batch"])
        if request["do"] == "outputs":
            return self.save_outputs(request["images"], request["out"])
        assert self.session
        return timed(self.session, self.batches, request["seconds"], self.work)


def serve(job: Job, requests: IO[str], replies: IO[str]) -> None:
    """Replies to every request until `requests` ends."""
    contender = Contender(job)
    for line in requests:
        request: Record = json.loads(line)
        try:
            reply = {"did": request["do"], **contender.reply(request)}
        except Unavailable as reason:
            reply = {"unavailable": str(reason)}
        except SystemExit:
            reply = {"unavailable": ""}  # die() has written the reason to the log
        except Exception as error:  # noqa: BLE001 - another library failed, so this contender is left out
            reply = {"unavailable": cli.one_line(f"{type(error).__name__}: {error}")[:200]}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--model", default="", help="path of the model; %% stands for the batch size")
    parser.add_argument("--engine", default="", help="engine of a chip")
    parser.add_argument("--options", default="", help="options of the kind, or of the chip's engine")
    parser.add_argument("--bins", type=Path, required=True, help="manifest.json of the bins")
    parser.add_argument("--images", type=int, required=True, help="number of bins")
    args = parser.parse_args()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # text that libraries print must not mix with the replies
    serve(Job(args.kind, args.model, args.engine, args.options, args.bins, args.images), sys.stdin, replies)


if __name__ == "__main__":
    main()
