"""Loads a checkpoint file into the network, with torch."""

from __future__ import annotations

from _support.cli import die

import io
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from network.checkpoint import COUNTER, REMEDY, UNREADABLE, check_faults, explain, text
from network.model import ResidualAttentionNetwork


def fits(value: object, target: Tensor) -> bool:
    """Whether `value` is a plain CPU tensor with the shape of `target` and a type that can be converted to its type."""
    if type(value) not in (Tensor, nn.Parameter) or not isinstance(value, Tensor):
        return False
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.shape == target.shape
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return plain and (value.dtype in floats if target.is_floating_point() else value.dtype == torch.int64)


def shown(value: object) -> str:
    """A value for a message, such as float32 [10]."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout == torch.strided else " sparse"
    device = "" if value.device.type == "cpu" else f" on the {value.device.type} device"
    quantized = " quantized" if value.is_quantized else ""
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}{quantized or layout}{device}"


def load_checkpoint(path: Path, otherwise: str = "", data: bytes | None = None) -> ResidualAttentionNetwork:
    """The network, in evaluation mode, with the float32 weights of a checkpoint file.

    Reads torch's zip container and the legacy one of torch 0.3 and 0.4 (byte-string keys, CUDA storages), always with
    weights_only. Exits 1 unless every tensor is used, every shape fits and every value is finite. Only the counters
    num_batches_tracked, which torch 0.3 did not have, may be missing. `otherwise` is put before the remedy.
    `data` is the content of the file, if it has been read.
    """
    remedy = otherwise + REMEDY
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as the one about protocol 3, which it reads
            loaded = torch.load(path if data is None else io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch raises many kinds of errors on other files
        advice = explain(path)
        if advice:
            die(path, advice[0], otherwise + advice[1])
        unexpected = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"unexpected name {unexpected[1]}" if unexpected else f"{type(error).__name__}, damaged or not a checkpoint"
        )
        die(path, f"{UNREADABLE}: {reason}", remedy)
    if not isinstance(loaded, dict):
        die(path, f"contains a {type(loaded).__name__}, not a state_dict", remedy)
    network = ResidualAttentionNetwork().eval()
    expected = network.state_dict()
    advice = None if expected.keys() & loaded.keys() else explain(path)
    if advice:
        die(path, advice[0], otherwise + advice[1])
    values: dict[str, Any] = {}
    faults: dict[str, list[str]] = {"present twice": [], "not of this network": [], "of another shape or type": []}
    for key, value in loaded.items():
        name = text(key) if isinstance(key, (str, bytes)) else str(key)
        if name in values:
            faults["present twice"].append(name)
        elif name not in expected:
            faults["not of this network"].append(name)
        elif not fits(value, expected[name]):
            faults["of another shape or type"].append(f"{name} {shown(value)}, not {shown(expected[name])}")
        values[name] = value
    absent = [name for name in expected if name not in values]
    faults["missing"] = [name for name in absent if not name.endswith(COUNTER)]
    if not any(faults.values()):
        values = {name: value.to(expected[name].dtype) for name, value in values.items()}
        faults["not finite"] = [name for name, value in values.items() if not value.isfinite().all()]
    check_faults(path, faults, remedy)
    network.load_state_dict({**{name: expected[name] for name in absent}, **values})
    return network
