"""How batches are shared out is measured on each machine, noise does not choose, and a choice changes no label."""

from __future__ import annotations

from _support import artifact, locks
from _support.artifact import Record, read_record

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engines
import measure
from conftest import Project, model_file, script_here, small_graph
from engines import Choice, PerfRules, tuning
from engines.feed import Work, run_one
from engines.onnxruntime import compile as onnxruntime_compiler
from engines.onnxruntime import run as onnxruntime_runner
from engines.openvino import compile as compiler
from engines.openvino import cpu
from engines.openvino import run as runner
from engines.split import candidates, split_batch
from formats.bins import some_bins
from graphs import agreement
from network.spec import FLOAT32, IMAGE_SHAPE
from reporting.timing import OFFLINE, SCENARIOS, SINGLE_STREAM

f32 = pytest.mark.skipif(not cpu.instructions("f32"), reason="no x86-64 CPU")
NAME = "3d_attention_net"


class Model(NamedTuple):
    path: Path
    record: Record

    def tuning(self) -> Record:
        return read_record(tuning.tuning_path(self.path, self.record["provenance"]["batch_size"]))


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of no time, on two threads, which fit both engines."""
    monkeypatch.setattr(tuning, "SLICE", 0.0)
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    for module in (tuning, runner, onnxruntime_runner):
        monkeypatch.setattr(module, "threads", lambda: 2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def compiled(folder: Path, engine: str, options: str, batch_size: int = 4) -> Model:
    """A small graph, compiled by make's command in this process, which also tunes it."""
    folder.mkdir(exist_ok=True)
    graph = small_graph(folder / f"{NAME}.onnx")
    artifact.write_record(graph.with_suffix(".json"), {"sha256": artifact.digest(graph), "provenance": {}})
    out = folder / f"om/{NAME}_bs{batch_size}.onnx"
    words = ("--onnx", graph, "--chip", "x", "--engine", engine, "--options", options)
    done = script_here("compile_model", *words, "--batch-size", batch_size, "--out", out)
    assert done.returncode == 0, done.stderr
    return Model(out, read_record(out.with_name(f"bs{batch_size}.json")))


ENGINES = [("onnxruntime", "tune=yes"), pytest.param("openvino", "precision=f32 tune=yes", marks=f32)]
each_engine = pytest.mark.parametrize(("engine", "options"), ENGINES)


def untuned(*_: object) -> Any:
    raise AssertionError("it was tuned")


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of each engine. Read-only."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        compiled(folder / "onnxruntime", "onnxruntime", "tune=yes")
        if cpu.instructions("f32"):
            compiled(folder / "openvino", "openvino", "precision=f32 tune=yes")
    return folder


@pytest.fixture
def onnxruntime_model(compiled_once: Path, tmp_path: Path, quick: None) -> Model:
    """A copy of a tuned model of ONNX Runtime."""
    return copy_of(compiled_once / "onnxruntime/om", tmp_path)


@pytest.fixture
def openvino_model(compiled_once: Path, tmp_path: Path, quick: None) -> Model:
    """A copy of a tuned model of OpenVINO, with what OpenVINO has compiled."""
    if not cpu.instructions("f32"):
        pytest.skip("no x86-64 CPU")
    return copy_of(compiled_once / "openvino/om", tmp_path)


def copy_of(folder: Path, tmp_path: Path) -> Model:
    shutil.copytree(folder, tmp_path / "om")
    return Model(tmp_path / f"om/{NAME}_bs4.onnx", read_record(tmp_path / "om/bs4.json"))


# What is measured


@given(st.integers(1, 64), st.integers(1, 10**9), st.integers(1, 256))
def test_the_default_is_the_first_choice_and_none_has_more_streams_than_allowed(
    batch_size: int, streams: int, threads: int
) -> None:
    choices = candidates(batch_size, streams, threads)
    assert choices[0] == split_batch(batch_size, streams)
    assert len(set(choices)) == len(choices) <= 40
    for choice in choices:
        assert 1 <= choice.images <= batch_size and 1 <= choice.streams <= streams
    assert all(choice.streams <= threads for choice in choices[1:] if choice.streams != choices[0].streams)


def fastest_of(speeds: dict[Choice, tuple[float, float]], noise: float, seed: int) -> tuple[Choice, ...]:
    """The choices of both scenarios for sessions of these speeds in them, when each time has a random factor up to
    1 + `noise`."""
    random = np.random.default_rng(seed)

    def seconds_of(session: Any, batch: Any) -> dict[str, float]:
        return dict(zip(SCENARIOS, (1 + noise * random.random(2)) / np.array(speeds[session])))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "seconds_of", seconds_of)
        choices, _ = tuning.fastest({choice: choice for choice in speeds}, np.zeros(1, np.float32))  # type: ignore[misc]
    return choices[SINGLE_STREAM], choices[OFFLINE]


DEFAULT, OTHER, THIRD = Choice(2, 8), Choice(1, 16), Choice(4, 4)
EQUAL = {DEFAULT: (1.0, 1.0), **{Choice(1, size): (1.0, 1.0) for size in range(1, 9)}}


def test_noise_does_not_choose_another_choice_than_the_default() -> None:
    chosen = [choice for seed in range(300) for choice in fastest_of(EQUAL, 0.1, seed)]
    assert chosen.count(DEFAULT) >= 594


def test_a_clearly_faster_choice_is_taken_in_spite_of_noise() -> None:
    chosen = [choice for seed in range(100) for choice in fastest_of({**EQUAL, OTHER: (1.15, 1.15)}, 0.1, seed)]
    assert chosen.count(OTHER) >= 196


def test_each_scenario_has_the_choice_that_is_fastest_in_it() -> None:
    assert fastest_of({DEFAULT: (1.0, 1.0), OTHER: (0.5, 1.5)}, 0, 0) == (DEFAULT, OTHER)
    assert fastest_of({DEFAULT: (1.0, 1.0), OTHER: (1.5, 0.5)}, 0, 0) == (OTHER, DEFAULT)
    assert fastest_of({DEFAULT: (1.0, 1.0), OTHER: (1.1, 1.4), THIRD: (1.2, 1.3)}, 0, 0) == (THIRD, OTHER)


@pytest.mark.parametrize("speed", [(1.02, 1.03), (0.5, 0.5)])
def test_a_choice_that_is_hardly_faster_is_not_taken(speed: tuple[float, float]) -> None:
    assert fastest_of({DEFAULT: (1.0, 1.0), OTHER: speed}, 0, 0) == (DEFAULT, DEFAULT)


def test_a_choice_that_is_slower_in_both_scenarios_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    speeds = {DEFAULT: (1.0, 1.0), OTHER: (0.9, 0.9), THIRD: (0.5, 1.02)}

    def seconds_of(session: Any, batch: Any) -> dict[str, float]:
        calls.append(session)
        return dict(zip(SCENARIOS, 1 / np.array(speeds[session])))

    monkeypatch.setattr(tuning, "seconds_of", seconds_of)
    tuning.fastest({choice: choice for choice in speeds}, np.zeros(1, np.float32))  # type: ignore[misc]
    assert [calls.count(choice) for choice in speeds] == [tuning.ROUNDS, 1, tuning.ROUNDS]


def same(choice: Choice) -> tuning.Choices:
    return dict.fromkeys(SCENARIOS, choice)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("others", "streams"), [(0.05, 1), (None, 1), (0.3, 2)])
def test_no_choice_of_a_loaded_cpu_replaces_the_default(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others: float | None,
    streams: int,
) -> None:
    fast = {Choice(1, 4): [dict.fromkeys(SCENARIOS, 2.0)]}
    monkeypatch.setattr(tuning, "fastest", lambda *_: (same(Choice(1, 4)), fast))
    monkeypatch.setattr(tuning, "CpuLoad", lambda: SimpleNamespace(others=lambda: others))
    model = compiled(tmp_path, "onnxruntime", "tune=yes")
    assert {model.tuning()["choices"][scenario]["streams"] for scenario in SCENARIOS} == {streams}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_choices_that_differ_are_printed_by_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    choices = {**same(Choice(2, 2)), scenario: Choice(1, 4)}
    fast = {Choice(1, 4): [{SINGLE_STREAM: 1.5, OFFLINE: 1.25}]}
    monkeypatch.setattr(tuning, "fastest", lambda *_: (choices, fast))
    monkeypatch.setattr(tuning, "CpuLoad", lambda: SimpleNamespace(others=lambda: 0))
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text="", *_, **__: printed.append(text))
    model = compiled(tmp_path, "onnxruntime", "tune=yes")
    lines = [line.split(" (")[0] for line in printed if "images a request" in line]
    factor = "1.50" if scenario == SINGLE_STREAM else "1.25"
    other = OFFLINE if scenario == SINGLE_STREAM else SINGLE_STREAM
    assert {*lines} == {
        f"  {scenario}: streams 1, images a request 4: {factor} times the speed of the default",
        f"  {other}: streams 2, images a request 2: the default",
    }
    assert model.tuning()["choices"] == tuning.entries_of(choices)


def test_a_slow_model_is_not_measured_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Choice] = []

    def open_choice(choice: Choice) -> Any:
        opened.append(choice)
        return choice

    monkeypatch.setattr(tuning, "run_one", lambda *_: None)
    monkeypatch.setattr(tuning, "seconds_of", lambda *_: dict.fromkeys(SCENARIOS, tuning.BUDGET / 5))
    tuning.open_choices(open_choice, [Choice(1, size) for size in range(1, 9)], np.zeros(1, np.float32))
    assert len(opened) == 3  # with the default
    monkeypatch.setattr(tuning, "seconds_of", lambda *_: dict.fromkeys(SCENARIOS, tuning.BUDGET))
    choices = tuning.open_choices(open_choice, [DEFAULT, OTHER], np.zeros(1, np.float32))
    assert tuning.fastest(choices, np.zeros(1, np.float32)) == (same(DEFAULT), {})


# The choice is stored, for the machine on which it was measured


@pytest.mark.usefixtures("quick")
@each_engine
def test_make_om_stores_the_choice_which_later_commands_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, options: str
) -> None:
    model = compiled(tmp_path, engine, options)
    record = model.tuning()
    assert record["choices"] == dict.fromkeys(SCENARIOS, {"streams": 2, "images_a_request": 2})
    assert {"streams", "images_a_request", "SingleStream", "Offline", "rounds"} == set(record["speeds"][0])
    monkeypatch.setattr(tuning.Tuning, "tune", untuned)
    record["choices"] = tuning.entries_of({SINGLE_STREAM: Choice(1, 2), OFFLINE: Choice(1, 4)})
    artifact.write_record(model.path.with_name("bs4.tuning.json"), record)
    prepared = tuning.prepare(model.path, model.record)
    assert prepared and prepared.choices == {SINGLE_STREAM: Choice(1, 2), OFFLINE: Choice(1, 4)}
    for scenario, images in ((OFFLINE, 4), (SINGLE_STREAM, 2)):
        session = tuning.open_session(model.path, model.record, prepared, scenario)
        assert (session.conditions["streams"], session.conditions["images_a_request"]) == (1, images)
        run_one(session, np.zeros((4, *IMAGE_SHAPE), np.float32))


def test_perf_measures_each_scenario_with_its_choice(
    onnxruntime_model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, seen = onnxruntime_model, []

    def measured(sessions: dict[str, Any], *_: object) -> Any:
        seen.append([sessions[scenario].conditions["images_a_request"] for scenario in SCENARIOS])
        assert len({*map(id, sessions.values())}) == len({*seen[-1]})
        return SimpleNamespace(_replace=lambda **_: None)

    monkeypatch.setattr(measure.timed, "measure", measured)
    request: Any = SimpleNamespace(model=model.path, record=model.record)
    for one, full in ((Choice(1, 2), Choice(1, 4)), (Choice(1, 4), Choice(1, 4))):
        choices = tuning.entries_of({SINGLE_STREAM: one, OFFLINE: full})
        artifact.write_record(model.path.with_name("bs4.tuning.json"), {**model.tuning(), "choices": choices})
        measure.run_timed("onnxruntime", request, Work(Path(), {}, 4, "npy", ""), PerfRules(0, 0, 1, 1), tmp_path)
    assert seen == [[2, 4], [4, 4]]


def test_other_options_or_code_of_the_engine_do_not_use_the_choice(
    onnxruntime_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnxruntime_model
    assert tuning.stored(model.path, model.record)
    other = {**model.record["provenance"], "options": "tune=yes streams=2"}
    assert tuning.stored(model.path, {**model.record, "provenance": other}) is None
    monkeypatch.setattr(artifact, "digests_of_part", lambda part: {"engines/onnxruntime/run.py": "0"})
    assert tuning.stored(model.path, model.record) is None


MACHINES: list[tuple[str, Any]] = [
    ("cpu_name", lambda: "another CPU"),
    ("cpu_flags", lambda: ["amx_bf16"]),
    ("threads", lambda: 3),
]


@pytest.mark.parametrize(("name", "value"), MACHINES)
def test_another_machine_does_not_use_the_choice(
    onnxruntime_model: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: Any,
) -> None:
    model = onnxruntime_model
    before, model_before = model.tuning(), model.record
    monkeypatch.setattr(tuning, name, value)
    assert tuning.stored(model.path, model.record) is None
    assert tuning.prepare(model.path, model.record)
    assert "  tuning for" in capsys.readouterr().out
    assert model.tuning()["key"] != before["key"]
    assert tuning.stored(model.path, model.record)
    assert read_record(model.path.with_name("bs4.json")) == model_before  # it is in no cache key


def test_another_version_of_the_engine_does_not_use_the_choice(
    onnxruntime_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnxruntime_model
    monkeypatch.setattr(artifact, "versions_of", lambda packages: dict.fromkeys(packages, "0.0.0"))
    assert tuning.stored(model.path, model.record) is None
    assert tuning.prepare(model.path, model.record) and model.tuning()["key"]["versions"] == {"onnxruntime": "0.0.0"}


def changed(**entries: Any) -> Callable[[Record], object]:
    return lambda record: {**record, **entries}


def chosen(**values: Any) -> Callable[[Record], object]:
    def damage(record: Record) -> object:
        choices = record["choices"]
        return {**record, "choices": {**choices, SINGLE_STREAM: {**choices[SINGLE_STREAM], **values}}}

    return damage


DAMAGES: list[Callable[[Record], object]] = [
    *(chosen(streams=value) for value in (10**9, 0, -1, 1.0, True, "2", None, [2], 3, 1e400)),
    *(chosen(images_a_request=value) for value in (10**9, 5, 0, "x", {})),
    *(changed(choices=value) for value in (None, [], "2", 7, {}, {OFFLINE: {"streams": 2, "images_a_request": 2}})),
    *(changed(choices=dict.fromkeys(SCENARIOS, value)) for value in (None, [], "2", 7, {})),
    *(changed(stored=value) for value in (None, 5, [], "x", {}, {"sha256": 7}, {"sha256": "f" * 64})),
    *(changed(stored={"sha256": "f" * 64, "bytes": value}) for value in (None, -1, 1, 1e9, "9", 10**15)),
    *(changed(key=value) for value in (None, {}, [], "x")),
    *(lambda record, value=value: value for value in ({}, [], "x", 5, None)),  # type: ignore[misc]
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_nonsensical_choice_is_replaced(openvino_model: Model, damage: Callable[[Record], object]) -> None:
    """Also one whose record has the right digest of itself."""
    model = openvino_model
    path, record = model.path.with_name("bs4.tuning.json"), model.tuning()
    planted = damage(record)
    if isinstance(planted, dict):
        artifact.write_record(path, planted)
    else:
        path.write_text(json.dumps(planted))
    assert tuning.stored(model.path, model.record) is None
    prepared = tuning.prepare(model.path, model.record)
    assert prepared and {*prepared.choices.values()} <= {*candidates(4, 2, 2)}
    assert tuning.stored(model.path, model.record) == prepared


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10**5, b'{"choice": ' * 500, b"0" * 10**5])
def test_a_damaged_choice_is_replaced(onnxruntime_model: Model, content: bytes) -> None:
    model = onnxruntime_model
    model.path.with_name("bs4.tuning.json").write_bytes(content)
    assert tuning.prepare(model.path, model.record) and model.tuning()["choices"]
    path = model.path.with_name("bs4.tuning.json")
    path.unlink()
    os.mkfifo(path)
    assert tuning.prepare(model.path, model.record) and path.is_file()


def test_a_choice_that_cannot_be_stored_is_used_and_a_line_says_so(
    onnxruntime_model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnxruntime_model
    path = model.path.with_name("bs4.tuning.json")
    path.unlink()

    def read_only(path: Path, record: Record) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(artifact, "write_record", read_only)
    assert tuning.prepare(model.path, model.record)
    assert f"{path}: not stored (permission denied)" in capsys.readouterr().out
    assert not path.exists()


@pytest.mark.usefixtures("quick")
def test_tuning_holds_the_cpu_alone_and_nothing_else_does_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []

    def fastest(sessions: Any, batch: Any) -> Any:
        with pytest.raises(BlockingIOError), open(locks.lock_path("cpu"), "r+") as stream:
            locks.fcntl.flock(stream, locks.fcntl.LOCK_SH | locks.fcntl.LOCK_NB)
        held.append(True)
        return same(next(iter(sessions))), {}

    monkeypatch.setattr(tuning, "fastest", fastest)
    model = compiled(tmp_path, "onnxruntime", "tune=yes")
    assert held == [True]
    with locks.lock_cpu():  # as bench does: a process that only reads the choice does not wait
        assert tuning.prepare(model.path, model.record)
    assert held == [True]


@pytest.mark.usefixtures("quick")
def test_streams_of_a_chips_line_limit_all_choices(tmp_path: Path) -> None:
    if not cpu.instructions("f32"):
        pytest.skip("no x86-64 CPU")
    model = compiled(tmp_path, "openvino", "precision=f32 streams=1 tune=yes", 16)
    record = model.tuning()
    assert {row["streams"] for row in record["speeds"]} == {1} and record["choices"][OFFLINE]["streams"] == 1


@pytest.mark.usefixtures("quick")
@each_engine
def test_without_tune_the_default_is_used_and_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, options: str
) -> None:
    monkeypatch.setattr(tuning.Tuning, "tune", untuned)
    model = compiled(tmp_path, engine, options.replace("yes", "no"))
    prepared = tuning.prepare(model.path, model.record)
    assert prepared and prepared.choices == same(split_batch(4, 2))
    assert not model.tuning().get("speeds")


def test_after_tune_no_results_are_computed_again(project: Project) -> None:
    """The speed of a choice must not be taken for that of the default."""
    results = "results/cpu/bs16/outputs/manifest.json"
    project.make("accuracy", "CHIP=cpu", "BS=16")
    for value in ("yes", "no"):
        before = project.artifacts()
        project.set("tune", value)
        shown = project.make("accuracy", "CHIP=cpu", "BS=16").stdout
        assert ("  tuning for" in shown) == (value == "yes")
        assert results in project.rebuilt(before)
        provenance = read_record(project.root / results)["provenance"]
        assert provenance["options"] == f"tune={value}"
        assert f"streams {provenance['streams']}, images a request {provenance['images_a_request']}" in shown
    assert (project.root / "models/om/cpu/bs16.tuning.json").is_file()
    (project.root / f"models/om/cpu/{NAME}_bs16.blob").write_text("as of OpenVINO")
    project.make("clean")
    assert not (project.root / "models/om").exists()


def test_a_wrong_tune_is_one_line(project: Project) -> None:
    for key, value, text in (
        ("tune", "maybe", "tune is 'maybe'; use one of yes, no"),
        ("chips.cpu", "engine=onnxruntime tune=maybe", "chips.cpu: tune=maybe; use one of yes, no"),
        ("chips.cpu", "engine=onnxruntime tune=no", ""),
    ):
        before = (project.tree / "params.yaml").read_text()
        project.set(key, value)
        done = project.make("-n", "om", "CHIP=cpu", check=False)
        assert (done.returncode != 0) == bool(text) and text in done.stderr and "Traceback" not in done.stderr
        (project.tree / "params.yaml").write_text(before)


# A choice changes no label


PRECISIONS = ["onnxruntime", pytest.param("f32", marks=f32)]
PRECISIONS += [
    pytest.param(name, marks=pytest.mark.skipif(not cpu.instructions(name), reason=f"no {name} instructions"))
    for name in ("bf16",)
]
ERROR = {"onnxruntime": 1e-5, "f32": 1e-5, "bf16": 2e-2}  # of the largest logit; 0 on most machines


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_choice_changes_no_label_of_the_sample(optimized: Path, bins: Path, tmp_path: Path, precision: str) -> None:
    images = np.ascontiguousarray(np.resize(some_bins(bins, read_record(bins), 20), (16, 3, 32, 32)))
    path = tmp_path / "m.onnx"
    choices = [Choice(2, 8), Choice(1, 16), Choice(2, 3), Choice(1, 1), Choice(3, 4)]
    logits = []
    if precision == "onnxruntime":
        request = engines.CompileRequest(model_file(optimized), None, 16, path, tmp_path / "log", {}, {})
        onnxruntime_compiler.compile_model(request)
    else:
        path.write_bytes(compiler.fixed(optimized.read_bytes(), 16, FLOAT32))
    for choice in choices:
        if precision == "onnxruntime":
            session = onnxruntime_runner.open_session(model_file(path), {}, choice)
        else:
            session = runner.open_session(model_file(path), {"precision": precision}, choice)
        assert (session.conditions["streams"], session.conditions["images_a_request"]) == choice
        logits.append(run_one(session, images))
    for other, choice in zip(logits[1:], choices[1:]):
        error = agreement.relative_error(other, logits[0])
        print(f"{precision}, {choice}: relative error of the logits {error:.1e}")
        assert not agreement.changed_labels(other, logits[0])
        assert error <= ERROR[precision], choice


# What OpenVINO has compiled is stored


def logits_of(model: Model, prepared: tuning.Prepared | None) -> Any:
    images = np.random.default_rng(3).random((4, 3, 32, 32), np.float32)
    return run_one(tuning.open_session(model.path, model.record, prepared), images)


def test_a_session_from_the_stored_file_compiles_nothing_and_gives_the_same_logits(
    openvino_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tuning.prepare(openvino_model.path, openvino_model.record)
    assert prepared and prepared.stored == openvino_model.path.with_suffix(".blob").read_bytes()
    expected = logits_of(openvino_model, tuning.Prepared(prepared.choices))
    monkeypatch.setattr(runner, "compiled_for", untuned)
    assert np.array_equal(logits_of(openvino_model, prepared), expected)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "missing", "other", "folder", "sparse"])
def test_a_damaged_stored_file_is_never_loaded_and_is_written_again(
    openvino_model: Model, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path = openvino_model.path.with_suffix(".blob")
    data, loaded = path.read_bytes(), []
    open_stored = runner.open_stored

    def recorded(stored: bytes, *more: Any) -> Any:
        loaded.append(stored)
        return open_stored(stored, *more)

    monkeypatch.setattr(runner, "open_stored", recorded)
    path.unlink()
    if damage == "folder":
        path.mkdir()
        with pytest.raises(SystemExit):  # it may contain files of the user
            tuning.prepare(openvino_model.path, openvino_model.record)
        return
    contents = {"truncated": data[:-9], "empty": b"", "flipped": bytes([data[0] ^ 1]) + data[1:], "other": b"x" * 9}
    if damage == "sparse":
        path.touch()
        os.truncate(path, 1 << 42)  # reading it would fill the memory
    elif damage != "missing":
        path.write_bytes(contents[damage])
    choices = openvino_model.tuning()["choices"]
    monkeypatch.setattr(tuning.Tuning, "tune", untuned)  # the choice still holds
    prepared = tuning.prepare(openvino_model.path, openvino_model.record)
    assert prepared and openvino_model.tuning()["choices"] == choices
    logits_of(openvino_model, prepared)
    assert [each == path.read_bytes() for each in loaded] == [True]


def test_the_precision_of_a_stored_session_is_checked_too(
    openvino_model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = tuning.prepare(openvino_model.path, openvino_model.record)
    monkeypatch.setattr(runner, "compiled_for", untuned)
    for name, value, text in (("TYPES", {"f32": {"f16"}}, "not in f32"), ("computed_precision", lambda _: "x", "in x")):
        with monkeypatch.context() as patch:
            patch.setattr(runner, name, value)
            with pytest.raises(SystemExit):
                logits_of(openvino_model, prepared)
        assert text in capsys.readouterr().err


def test_a_file_that_openvino_refuses_is_replaced_by_the_model(openvino_model: Model) -> None:
    prepared = tuning.prepare(openvino_model.path, openvino_model.record)
    assert prepared
    expected = logits_of(openvino_model, prepared)
    wrong = tuning.Prepared(prepared.choices, b"not of OpenVINO")
    assert np.array_equal(logits_of(openvino_model, wrong), expected)


def test_a_stored_file_of_another_choice_is_not_used(openvino_model: Model) -> None:
    prepared = tuning.prepare(openvino_model.path, openvino_model.record)
    assert prepared
    other = tuning.Prepared(same(Choice(1, 4)), prepared.stored)
    assert np.allclose(logits_of(openvino_model, other), logits_of(openvino_model, prepared), rtol=1e-5, atol=1e-6)


def test_a_choice_without_the_digest_of_its_record_is_not_used(onnxruntime_model: Model) -> None:
    model = onnxruntime_model
    record = {name: value for name, value in model.tuning().items() if name != artifact.RECORD_DIGEST}
    model.path.with_name("bs4.tuning.json").write_text(json.dumps(record, indent=1) + "\n")
    assert tuning.stored(model.path, model.record) is None
