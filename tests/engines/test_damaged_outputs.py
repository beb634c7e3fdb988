"""Whatever CANN's tools print or write: a verdict, a reason, a version or no chip; never a traceback."""

from __future__ import annotations

from _support import artifact

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import STAND_INS
from damage import HOSTILE, Damage, JsonEdit, damages, edited, json_edits, outcome
from engines.ascend import _cann, _npu_smi, _versions, perf
from engines.ascend._reasons import explain_ais_bench, explain_atc
from engines.ascend.ais_bench import Expected, check_batch, summary_problem
from engines.ascend.batches import read_logits
from formats.bins import FORMS
from formats.outputs import npy
from network.spec import FLOAT32

COPIES = {"min": 0.1, "max": 0.3, "mean": 0.2, "median": 0.2, "percentile(99%)": 0.3, "count": 3}
SUMMARY: dict[str, Any] = {
    "filesinfo": {str(i): {"infiles": [f"batch_{i}.bin"], "outfiles": []} for i in range(3)},
    **{"npu_compute_time_list": [1.5, 2.5, 3.5], "NPU_compute_time": COPIES},
    **{"H2D_latency": COPIES, "D2H_latency": COPIES, "throughput": 4.5},
}
EXPECTED = Expected(begin=0, devices=1, batches=3, loop=1)
BYTES = {"summary": json.dumps(SUMMARY).encode(), "deep": b'{"npu_compute_time_list": ' + b"[" * 9999}


def check_summary(path: Path) -> None:
    problem = outcome(lambda: [summary_problem(path, EXPECTED, 3)])
    assert problem is not None
    summary = artifact.read_json(path)
    for name in ("H2D_latency", "D2H_latency"):
        times = outcome(lambda name=name: perf.merge_copy_times([summary, SUMMARY], name))  # type: ignore[misc]
        assert times is not None and all(type(ms) in (int, float) and 0 <= ms < math.inf for ms in times.values())
        json.dumps(times, allow_nan=False)
    if not problem[0]:
        times_ms = [float(ms) for ms in summary["npu_compute_time_list"]]
        assert len(times_ms) == 3 and all(0 < ms < math.inf for ms in times_ms)


@given(damages(*BYTES))
@example(Damage("deep", []))
def test_damaged_bytes_of_a_summary_are_named_or_its_times_are_valid(scratch: Path, damage: Damage) -> None:
    path = scratch / "summary.json"
    path.write_bytes(damage.of(BYTES))
    check_summary(path)


@given(json_edits)
@example([JsonEdit("replace", place, HOSTILE.index(10**400)) for place in range(4)])
@example([JsonEdit("replace", place, HOSTILE.index(-1)) for place in range(30)])
def test_an_edited_summary_is_named_or_its_times_are_valid(scratch: Path, edits: list[JsonEdit]) -> None:
    path = scratch / "summary.json"
    path.write_text(json.dumps(edited(SUMMARY, edits)))
    check_summary(path)


LOGITS = np.arange(40, dtype=np.float32).reshape(4, 10)
ARRAYS = {"float32": LOGITS, "float64": LOGITS.astype(float), "flat": LOGITS.ravel(), "complex": LOGITS * 1j}
ARRAYS |= {
    "large": LOGITS.astype(float) + 1e300,
    "integers": LOGITS.astype(int),
    "short": LOGITS[:, :9],
    "nan": LOGITS * np.nan,
}
OUTPUTS = {name: npy(array) for name, array in ARRAYS.items()}


@given(damages(*OUTPUTS))
@example(Damage("large", []))
def test_a_damaged_output_of_a_batch_is_refused_or_has_all_its_logits(scratch: Path, damage: Damage) -> None:
    path = scratch / "batch_0_0.npy"
    path.write_bytes(damage.of(OUTPUTS))
    logits = outcome(lambda: read_logits(path, 4, "again"))
    assert logits is None or (logits.shape == (4, 10) and logits.dtype == np.float32 and np.isfinite(logits).all())


@pytest.mark.parametrize("name", ARRAYS)
def test_only_real_logits_of_every_image_are_an_output_of_a_batch(tmp_path: Path, name: str) -> None:
    path = tmp_path / "batch_0_0.npy"
    path.write_bytes(OUTPUTS[name])
    logits = outcome(lambda: read_logits(path, 4, "again"))
    if name in ("float32", "float64", "integers"):
        assert logits is not None and np.array_equal(logits, LOGITS)
    else:
        assert logits is None


PAGES = {path.name: path.read_bytes() for path in (STAND_INS / "npu-smi").iterdir()}


@given(damages(*PAGES))
def test_a_damaged_page_of_npu_smi_is_no_traceback(damage: Damage) -> None:
    text = damage.of(PAGES).decode("utf-8", "replace")
    page = outcome(lambda: _npu_smi.parse(text))
    assert page is not None
    for device in page.devices:
        assert device.number >= 0 and _npu_smi.NAME.fullmatch(device.name) and device.health
        assert outcome(lambda device=device: [_npu_smi.full_name(device, text)]) is not None  # type: ignore[misc]


LOGS = {
    "ais_bench": b"[INFO] acl init success\n[ERROR] load model from file failed\ntensor0size:196608\n"
    b"RuntimeError: [-1][ACL: x]\n",
    "atc": b"ATC run failed, Please check the detail log\nE10001: [PID: 1] 2026-01-01 Value [x] for --y is invalid.\n"
    b"        Possible Cause: a\n        Solution: b\n",
    "traceback": b'Traceback (most recent call last):\n  File "a.py", line 1\n'
    b"ModuleNotFoundError: No module named 'a'\n",
}


@given(damages(*LOGS), st.integers(-70, 300))
def test_any_output_of_a_failed_tool_has_a_reason_and_a_remedy(damage: Damage, status: int) -> None:
    text = damage.of(LOGS).decode("utf-8", "replace")
    for explain in (explain_ais_bench, explain_atc):
        answer = outcome(lambda explain=explain: explain(text, status))  # type: ignore[misc]
        assert answer is not None and all(isinstance(part, str) and part for part in answer)
    outcome(lambda: check_batch(text, FORMS[FLOAT32], 16, Path("infer.log"), ""))


VERSIONS = {"rc": b"8.0.RC3.alpha001", "beta": b"9.0.0-beta.2", "component": b"7.6.0.1.220", "final": b"8.5.0"}


@given(damages(*VERSIONS), damages(*VERSIONS))
@example(Damage(b"9.0.0-betabeta.2", []), Damage(b"8." + b"9" * 9999, []))
def test_any_version_of_cann_is_known_or_unknown(scratch: Path, one: Damage, other: Damage) -> None:
    texts = [damage.of(VERSIONS).decode("utf-8", "replace") for damage in (one, other)]

    def read() -> Any:
        assert _versions.newest_python(texts[0]) in (10, 11, 13, 14)
        _versions.numpy_for(texts[0], [3, 11], texts[1])
        return _versions.model_problem(*texts)

    answer = outcome(read)
    assert answer is not None and type(answer[1]) is bool
    folder = scratch / "cann" / _cann.ARCH
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ascend_toolkit_install.info").write_bytes(b"version=" + one.of(VERSIONS))
    (folder.parent / "version.cfg").write_bytes(b"toolkit_running_version=[1:" + other.of(VERSIONS) + b"]")
    label = outcome(lambda: _cann.label(folder.parent))
    assert label == "unknown" or _versions.parse(label or "")


NUMBERS = st.text(st.sampled_from("0123456789,- ²٣x"), max_size=12) | st.text(max_size=5)


@given(NUMBERS)
@example("²")
def test_any_list_of_visible_devices_is_numbers(text: str) -> None:
    numbers = outcome(lambda: _npu_smi.visible_numbers(text))
    assert numbers is not None and all(type(number) is int and number >= 0 for number in numbers)
    assert len(numbers) == len(set(numbers))
