"""The baselines of a bench: other libraries with the same checkpoint, and the limits of this machine."""

from __future__ import annotations

from typing import Callable, Sequence

from benchmark.entries import BenchmarkApp, Contender, Entry, Limit, Workers
from benchmark.layout import Root

APP = "OpenVINO's benchmark_app on the plain export"
PRODUCT = "torch's square matrix product, flop/s"
LIBRARIES = (
    Contender(
        "onnxruntime", "onnxruntime", "float32", "ONNX Runtime's defaults on the plain export", note="plain export"
    ),
    Contender("torch-f32", "torch", "float32", "PyTorch, eager", note="eager"),
    Contender("torch-bf16", "torch", "bfloat16", "PyTorch, eager, channels last", "bf16", note="eager"),
    Contender(
        name="torch-compile",
        kind="torch",
        precision="bfloat16",
        what="torch.compile, at the best batch size of PyTorch eager",
        options="bf16 compile",
        note="bf16",
        size_from="torch-bf16",
    ),
    Contender("benchmark_app-f32", "benchmark_app", "float32", APP, "f32", note="plain export"),
    Contender("benchmark_app-bf16", "benchmark_app", "bfloat16", APP, "bf16", note="plain export"),
)
PRODUCTS = (
    Contender("product-f32", "product", "float32", PRODUCT, "f32", note="matrix product"),
    Contender("product-bf16", "product", "bfloat16", PRODUCT, "bf16", note="matrix product"),
    Contender("product-int8", "product", "int8", PRODUCT, "int8", note="matrix product"),
)
COPY = Contender("copy", "copy", "", "copies in memory, bytes/s")
OTHERS = (*LIBRARIES, *PRODUCTS, COPY)
NAMES = tuple(contender.name for contender in OTHERS)
NOTES = {contender.name: contender.note for contender in OTHERS}
PRODUCT_NAMES = tuple(contender.name for contender in PRODUCTS)
ORDERS = (1024, 2048, 3072)  # of the matrices
MEBIBYTES = (64, 256)  # size of the array of each thread
APP_SIZES = (1, 16, 64)  # batch sizes of benchmark_app; each is tried with three hints


def product_of(precision: str) -> str:
    """The name of the matrix product that bounds a chip of this precision, or ""."""
    return next((contender.name for contender in PRODUCTS if contender.precision == precision), "")


def entries_of(root: Root, sizes: Sequence[int], wants: Callable[[str], bool], workers: Workers) -> list[Entry]:
    """An entry for each of OTHERS for which `wants` returns True."""

    def entry_of(contender: Contender) -> Entry:
        if contender.kind == "benchmark_app":
            return BenchmarkApp(contender, [n for n in sizes if n in APP_SIZES] or sizes[:1], root.onnx, workers)
        if contender.kind == "product":
            return Limit(contender, ORDERS, workers.start(contender))
        if contender.kind == "copy":
            return Limit(contender, MEBIBYTES, workers.start(contender))
        model = root.weights if contender.kind == "torch" else root.onnx
        return Entry(contender, sizes, workers.start(contender, model))

    return [entry_of(contender) for contender in OTHERS if wants(contender.name)]
