"""Measures in which precision a runtime computes, by a small convolution or matrix product. Python 3.7.

A runtime can report float32 and still compute in less, for example by oneDNN's ONEDNN_DEFAULT_FPMATH_MODE. All inputs
are 1 + 2^-bits, and all weights are 1, so in float32 the sums are exact. A type with fewer bits rounds the inputs to 1.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
from numpy.typing import NDArray

REMEDY = "unset what changes oneDNN, OpenMP or BLAS (make doctor), or report it with the CPU's name"
IMAGE = (1, 64, 8, 8)  # of the convolution, with 64 filters of 3 x 3 without padding
FILTERS = (64, 64, 3, 3)
TAPS = 64 * 3 * 3  # products in a sum
BITS = {"float32": 12, "tf32 or float16": 9}  # digits after the point that only this type, and larger ones, keep


def weights() -> NDArray[Any]:
    return np.ones(FILTERS, np.float32)


def precision_of(convolve: Callable[[NDArray[Any]], NDArray[Any]]) -> str:
    """float32, `tf32 or float16`, or `bfloat16` for less. `convolve` returns the convolution of an image with
    weights(), of the shapes above."""
    kept: Dict[str, bool] = {}
    for name, bits in BITS.items():
        sums = convolve(np.full(IMAGE, 1 + 2.0**-bits, np.float32)) / TAPS
        kept[name] = bool(np.abs((sums - 1) * 2.0**bits - 1).max() < 0.25)
    return next((name for name in BITS if kept[name]), "bfloat16")
