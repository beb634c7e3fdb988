"""A checkpoint file -> the network with its weights, by torch."""

from __future__ import annotations

from _support.cli import die

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from network.checkpoint import REMEDY, check_faults, text
from network.model import ResidualAttentionNetwork


def fits(value: object, wanted: Tensor) -> bool:
    """Whether `value` is a plain tensor of the shape of `wanted` whose numbers can stand for its own."""
    if type(value) not in (Tensor, nn.Parameter) or not isinstance(value, Tensor):
        return False
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.shape == wanted.shape
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return plain and (value.dtype in floats if wanted.is_floating_point() else value.dtype == torch.int64)


def load_checkpoint(path: Path, remedy: str = REMEDY) -> ResidualAttentionNetwork:
    """The network, in evaluation mode, with the float32 weights of a checkpoint file.

    Reads today's zip container and the legacy one of torch 0.3 and 0.4 (byte-string keys, CUDA storages), always with
    weights_only. Exits 1 unless every tensor is used, every shape fits and every value is finite; only the counters
    num_batches_tracked, which torch 0.3 did not have, may be absent.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch raises errors of every kind on a file that is none
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it asks for {asked[1]}" if asked else f"{type(error).__name__}, damaged or something else"
        die(path, f"not a checkpoint that may be loaded: {reason}", remedy)
    if not isinstance(loaded, dict):
        die(path, f"holds a {type(loaded).__name__}, not a state_dict", remedy)
    network = ResidualAttentionNetwork().eval()
    wanted = network.state_dict()
    found: dict[str, Any] = {}
    faults: dict[str, list[str]] = {"twice": [], "not of this network": [], "of another shape or type": []}
    for key, value in loaded.items():
        name = text(key) if isinstance(key, (str, bytes)) else str(key)
        if name in found:
            faults["twice"].append(name)
        elif name not in wanted:
            faults["not of this network"].append(name)
        elif not fits(value, wanted[name]):
            shown = [*value.shape, str(value.dtype)] if isinstance(value, Tensor) else type(value).__name__
            faults["of another shape or type"].append(f"{name} {shown}, not {list(wanted[name].shape)}")
        found[name] = value
    absent = [name for name in wanted if name not in found]
    faults["missing"] = [name for name in absent if not name.endswith("num_batches_tracked")]
    if not any(faults.values()):
        found = {name: value.to(wanted[name].dtype) for name, value in found.items()}
        faults["not finite"] = [name for name, value in found.items() if not value.isfinite().all()]
    check_faults(path, faults, remedy)
    network.load_state_dict({**{name: wanted[name] for name in absent}, **found})
    return network
