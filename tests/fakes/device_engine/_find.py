"""The fake engine's device."""

from __future__ import annotations

import os
from typing import List

from engines import Found


def find(chips: List[str]) -> Found:
    chip, problem = os.environ.get("FAKE_CHIP", ""), os.environ.get("FAKE_PROBLEM", "")
    return Found(chip, problem, problem and "fix the fake", "no fake device", "fake-smi")
