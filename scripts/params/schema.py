"""Every setting of params.yaml and its allowed values. Python 3.7.

A check returns the normalized text of a value, or raises ValueError with a description of the allowed values.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List


def integer(low: int, high: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(r"\d{1,10}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return str(int(text))

    return check


def number(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?([eE]-?\d+)?", text) or not float(text) < 1e6:
        raise ValueError("a number from 0 to 1e6")
    return text


DECIMAL = r"\d{1,9}(?:\.\d{1,9})?"


def decimal(text: str) -> str:
    if not re.fullmatch(DECIMAL, text):
        raise ValueError("a number without sign and unit, such as 0.50")
    return text


def figure(text: str) -> str:
    if not re.fullmatch(DECIMAL, text) or not float(text):
        raise ValueError("a number above 0 without unit, such as 95.34")
    return text


def is_gate(words: List[str]) -> bool:
    """Whether the words are a reference in per cent and a smaller tolerance. 0.95 is a fraction, not a per cent."""
    if len(words) != 2 or not all(re.fullmatch(DECIMAL, word) for word in words):
        return False
    reference, tolerance = map(float, words)
    return 1 < reference <= 100 and tolerance <= reference


def gate(text: str) -> str:
    if not is_gate(text.split(" ")):
        numbers = re.findall(DECIMAL, text)
        example = " ".join(numbers) if is_gate(numbers) else "95.34 0.10"
        raise ValueError(f"a reference in per cent and a smaller tolerance, two numbers, such as {example}")
    return text


def one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(words))
        return text

    return check


def batch_sizes(text: str) -> str:
    if not text or not all(re.fullmatch(r"[1-9]|[1-5]\d|6[0-4]", word) for word in text.split()):
        raise ValueError("a list of whole numbers from 1 to 64 such as [1, 16]")
    return text


def names(text: str) -> str:
    if not text or not all(re.fullmatch(r"[\w-]+", word) for word in text.split()):
        raise ValueError("all, or a list of names such as [A, B]")
    return text


PAIR = re.compile(
    r"(?P<above>[\w-]+)/(?P<below>[\w-]+)(,wanted=(?P<wanted>\d+(\.\d+)?))?(,ceiling=(?P<ceiling>[\w-]+))?", re.ASCII
)


def pairs(text: str) -> str:
    if not text or not all(PAIR.fullmatch(word) for word in text.split()):
        raise ValueError(
            "a list of A/B, A/B,wanted=NUMBER or A/B,wanted=NUMBER,ceiling=C with names for A, B and C, one per line"
        )
    return text


def name(text: str) -> str:
    if not re.fullmatch(r"[\w-]+", text):
        raise ValueError("one name")
    return text


def urls(text: str) -> str:
    if not text or not all(re.fullmatch(r"https?://[^/]+/\S*[^/\s]", word) for word in text.split()):
        raise ValueError("http or https urls that do not end in /, such as https://host/folder, one a line after -")
    return text


def chip(text: str) -> str:
    if not re.fullmatch(r"engine=\w+( \w+=\S+)*", text):  # atc reads a-b as a_b, so one spelling is enough
        raise ValueError(
            "engine=NAME and the engine's options as words name=value with spaces between them, names with _, not -, "
            "as in the other lines of chips"
        )
    return text


def flags(text: str) -> str:
    if text != "none" and not re.fullmatch(r"\w+=\S+( \w+=\S+)*", text):
        raise ValueError("none, or words name=value without --, such as a=1 b=2")
    return text


# Values of atc's --precision_mode (docs/ascend-tools.md#atc-flags). --precision_mode_v2 can be given in atc.flags.
PRECISIONS = (
    *("default", "force_fp16", "force_fp32", "cube_fp16in_fp32out", "allow_fp32_to_fp16", "must_keep_origin_dtype"),
    *("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16", "allow_fp32_to_bf16"),
)
GATE_SOURCES = ("cifar10", "sample", "own")  # the sources of results that may have limits: keys of verify
# A `*` matches any name; all other keys are required.
SCHEMA: Dict[str, Callable[[str], str]] = {
    "download.timeout": integer(1, 3600),
    "download.tries": integer(1, 20),
    "cifar10.urls": urls,
    "upstream.urls": urls,
    "sample.seed": integer(0, 2**31 - 1),
    "sample.train_images": integer(10, 50000),
    "sample.test_images": integer(10, 10000),
    "onnx.opset": integer(11, 17),
    "onnx.check_images": integer(1, 10000),
    "onnx.tolerance": number,
    "optimize.resize": one_of("nearest", "exact", "none"),
    "optimize.check_images": integer(1, 10000),
    "optimize.tolerance": number,
    "chips.*": chip,
    "int8.images": integer(20, 50000),
    "int8.loss": decimal,
    "atc.precision_mode": one_of(*PRECISIONS),
    "atc.flags": flags,
    "atc.log": one_of("debug", "info", "warning", "error", "null"),
    "atc.time_limit": integer(1, 10**6),
    "atc.memory": integer(1, 1000),
    "ais_bench.time_limit": integer(1, 10**6),
    "batch_sizes": batch_sizes,
    "tune": one_of("yes", "no"),
    "infer.format": one_of("txt", "bin", "npy"),
    "perf.warmup": number,
    "perf.min_duration": number,
    "perf.min_queries": integer(1, 10**6),
    "perf.tolerance": number,
    "perf.drift": number,
    "perf.spread": number,
    "perf.others": number,
    "perf.search": integer(1, 10**6),
    "compare.tolerance": number,
    "bench.rounds": integer(1, 1000),
    "bench.seconds": number,
    "bench.images": integer(1, 10000),
    "bench.loss": decimal,
    "bench.contenders": names,
    "bench.chip": name,
    "bench.pairs": pairs,
    "published.accuracy.*": figure,
    "published.throughput.*.*": figure,
    "verify.*.*": gate,
}


# Keys of earlier versions of this project, which are constants of scripts/formats/official.py now.
CONSTANTS = (
    *("cifar10.bytes", "cifar10.sha256", "cifar10.test_batch_md5", "upstream.model_92_sgd"),
    *("upstream.basic_layers", "upstream.attention_module", "upstream.residual_attention_network"),
)
# Below which key a line is missing, and an example of it: {key of SCHEMA: example}. CHIP stands for a chip of the file.
EXAMPLES = {
    "chips.*": "NAME: engine=NAME",
    "published.accuracy.*": "DEVICE: 95.34",
    "published.throughput.*.*": "16: 3533.76",
    "verify.*.*": "CHIP: 93.10 0.20",
}


def starts_with(parts: List[str], pattern: List[str]) -> bool:
    return all(p in ("*", q) for p, q in zip(pattern, parts))


def shorter_key(key: str) -> str | None:
    """The key of SCHEMA that is a beginning of `key`: the setting below which `key` was written by mistake."""
    parts = key.split(".")
    lines = [line for line in SCHEMA if line.count(".") + 1 < len(parts)]
    return next((line for line in lines if starts_with(parts, line.split("."))), None)


def longer_keys(key: str) -> List[str]:
    """The keys of SCHEMA of which `key` is a beginning: a map that was written as a value."""
    parts = key.split(".")
    return [line for line in SCHEMA if line.count(".") + 1 > len(parts) and starts_with(parts, line.split("."))]


def schema_key(key: str) -> str | None:
    """The key of SCHEMA that matches `key`, where `*` matches one part; None if no key matches."""
    parts = key.split(".")
    for line in SCHEMA:
        pattern = line.split(".")
        if len(pattern) == len(parts) and starts_with(parts, pattern):
            return line
    return None
