"""Computes HEAD and HEAD_BIAS of scripts/formats/sample.py; test_sample.py checks that the result is the same.

`PYTHONPATH=scripts python tests/formats/fit_sample_head.py` prints them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import torch

from formats import sample
from network.model import ResidualAttentionNetwork
from network.shapes import shapes

SEED, TRAIN = 20260601, 1000


def features(images: np.ndarray) -> np.ndarray:
    """The 1024 features before the last layer, float64 [n, 1024], for uint8 images [n, 3, 32, 32]."""
    network = ResidualAttentionNetwork().eval()
    network.fc = torch.nn.Identity()
    known = {name: shape for name, shape in shapes().items() if not name.startswith("fc.")}
    network.load_state_dict({name: torch.from_numpy(sample.tensor(name, shape)) for name, shape in known.items()})
    with torch.inference_mode():
        batches = [network(torch.from_numpy(part / np.float32(255))) for part in np.split(images, len(images) // 50)]
    return torch.cat(batches).numpy().astype(np.float64)


def fit(features: Callable[[np.ndarray], np.ndarray] = features) -> tuple[np.ndarray, np.ndarray]:
    """(weights int8 [10, 64], bias int [10]), in units of HEAD_UNIT: ridge regression of 16·one-hot labels."""
    images, labels = sample.draw(SEED + 1, TRAIN)  # the training part, never the test part
    x = np.c_[features(images)[:, : sample.FEATURES], np.ones(TRAIN)]
    penalty = np.diag([200.0] * sample.FEATURES + [0.0])
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ (16 * np.eye(10)[labels])).T / sample.HEAD_UNIT
    rounded = np.rint(weights).astype(int)
    return np.clip(rounded[:, :-1], -127, 127).astype(np.int8), rounded[:, -1]


if __name__ == "__main__":
    head, bias = fit()
    print(np.abs(head).max(), base64.b85encode(head.tobytes()).decode(), bias.tolist(), sep="\n")
