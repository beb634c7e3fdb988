"""Parses the arguments `name=value` with which make passes settings that have free names (a `*` in SETTINGS).

The functions are types for argparse: an argument of another form is a usage error. Published figures stay strings,
because pages quote them exactly as published.
"""

from __future__ import annotations

import argparse
import re
from typing import Dict, Iterable, Tuple, TypeVar

from reporting.gate import Reference

NAME = r"([^=:,]+)"
FIGURE = r"(\d+(?:\.\d+)?)"
Value = TypeVar("Value")


def split_word(word: str, pattern: str, form: str) -> Tuple[str, ...]:
    """The groups of `pattern`, a regular expression for `form`; raises ArgumentTypeError if `word` does not match."""
    match = re.fullmatch(pattern, word)
    if not match:
        raise argparse.ArgumentTypeError(f"{word!r} does not have the form {form}")
    return match.groups("")


def published_accuracy(word: str) -> Tuple[str, str]:
    """device=Top-1, in per cent."""
    device, figure = split_word(word, f"{NAME}={FIGURE}", "DEVICE=PERCENT")
    return device, figure


def published_throughput(word: str) -> Tuple[str, str, str]:
    """device:batch size=images/s."""
    device, batch, figure = split_word(word, rf"{NAME}:([1-9]\d*)={FIGURE}", "DEVICE:BATCH=IMAGES_PER_SECOND")
    return device, batch, figure


def reference(word: str) -> Tuple[str, str, Reference]:
    """source:chip=Top-1,tolerance, in per cent."""
    pattern, form = f"{NAME}:{NAME}={FIGURE},{FIGURE}", "SOURCE:CHIP=PERCENT,TOLERANCE"
    source, chip, top1, tolerance = split_word(word, pattern, form)
    return source, chip, Reference(float(top1), float(tolerance))


def quoted_device(word: str) -> Tuple[str, str]:
    """chip=device,Top-1: the device whose published accuracy is quoted for a chip; chip= for none. Drops Top-1."""
    chip, device = split_word(word, f"{NAME}=(?:{NAME},{FIGURE})?", "CHIP=DEVICE,PERCENT or CHIP=")[:2]
    return chip, device


def by_names(words: Iterable[Tuple[str, str, Value]]) -> Dict[str, Dict[str, Value]]:
    """{first name: {second name: value}}, in the order of the words."""
    values: Dict[str, Dict[str, Value]] = {}
    for first, second, value in words:
        values.setdefault(first, {})[second] = value
    return values
