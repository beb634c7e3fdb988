"""The interface of engines, with the null engine of tests/fakes and with engines that reach its limits."""

from __future__ import annotations

from _support.artifact import read_record

import hashlib
import re
import shutil
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import engines
from conftest import FAKES, SCRIPTS, Project
from engines.feed import OneAtATime, Pipeline, Work, run_all, run_one
from formats.outputs import read_outputs
from network.spec import CLASSES


def logits_of(images: NDArray[Any]) -> NDArray[Any]:
    return images.reshape(len(images), -1)[:, : len(CLASSES)].copy()


class InFlight:
    """A session that takes `ahead` more batches before it gives the logits of the first."""

    def __init__(self, ahead: int) -> None:
        self.ahead, self.most, self.taken = ahead, 0, 0
        self.conditions: dict[str, Any] = {}

    def stream(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        waiting: deque[NDArray[Any]] = deque()
        for batch in batches:
            self.taken += 1
            waiting.append(batch)
            self.most = max(self.most, len(waiting))
            if len(waiting) > self.ahead:
                yield logits_of(waiting.popleft())
        while waiting:
            yield logits_of(waiting.popleft())


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20, 64])
@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
def test_an_engine_may_keep_several_batches_in_flight(bins: Path, tmp_path: Path, batch_size: int, ahead: int) -> None:
    record = read_record(bins)
    session, plain = InFlight(ahead), OneAtATime(logits_of, {})
    digests = []
    for name, each in (("flight", session), ("plain", plain)):
        (tmp_path / name).mkdir()
        digests.append(run_all(each, Work(bins, record, batch_size, "bin", "model"), tmp_path / name))
    assert digests[0] == digests[1]
    assert session.taken == -(-record["count"] // batch_size)
    assert session.most == min(session.taken, ahead + 1)
    rows = read_outputs(tmp_path / "flight/manifest.json", {"format": "bin", "digest": digests[0]}, record["count"])
    assert rows.shape == (record["count"], len(CLASSES))


def nothing(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    yield from ()


def drops_the_last(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    waiting = [logits_of(batch) for batch in batches]
    yield from waiting[:-1]


def one_before(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    yield np.zeros((8, len(CLASSES)), np.float32)
    yield from map(logits_of, batches)


def twice(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for batch in batches:
        yield logits_of(batch)
        yield logits_of(batch)


def one_more(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    yield from map(logits_of, batches)
    yield np.zeros((8, len(CLASSES)), np.float32)


def endless(batches: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    logits = logits_of(next(batches))
    while True:
        yield logits


@pytest.mark.parametrize("stream", [nothing, drops_the_last, one_before, twice, one_more, endless])
def test_too_few_or_too_many_batches_of_logits_are_refused(
    bins: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stream: Any
) -> None:
    session = SimpleNamespace(conditions={}, stream=lambda batches: stream(iter(batches)))
    with pytest.raises(SystemExit):
        run_all(session, Work(bins, read_record(bins), 8, "bin", "model"), tmp_path)
    assert re.search(
        r"model: returned (more than the )?\d+ (of \d+ )?batches.*; nothing was written", capsys.readouterr().err
    )


class Requests:
    """Starts and finishes the requests of a Pipeline; holds that they are waited for in order."""

    def __init__(self, depth: int) -> None:
        self.depth, self.started, self.finished = depth, 0, 0
        self.most = 0

    def start(self, images: NDArray[Any]) -> Any:
        number, before = self.started, images.copy()
        self.started += 1
        self.most = max(self.most, self.started - self.finished)

        def wait() -> NDArray[Any]:
            assert number == self.finished
            assert np.array_equal(images, before)  # nobody has changed them meanwhile
            self.finished += 1
            return logits_of(images)

        return wait


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_pipeline_keeps_its_requests_in_flight_across_batches(
    bins: Path, tmp_path: Path, batch_size: int, chunk: int, depth: int
) -> None:
    record, requests = read_record(bins), Requests(depth)
    digests = []
    for name, session in (("flight", Pipeline(requests.start, chunk, depth, {})), ("plain", OneAtATime(logits_of, {}))):
        (tmp_path / name).mkdir()
        digests.append(run_all(session, Work(bins, record, batch_size, "bin", "model"), tmp_path / name))
    assert digests[0] == digests[1]
    requests_of_a_batch = -(-batch_size // chunk)
    total = -(-record["count"] // batch_size) * requests_of_a_batch
    assert requests.started == requests.finished == total
    assert requests.most == min(depth, total)


def test_a_pipeline_gives_no_logits_before_as_many_requests_as_it_may_are_in_flight() -> None:
    requests = Requests(5)
    stream = Pipeline(requests.start, 8, 5, {}).stream(np.ones((20, 16, 3, 32, 32), np.float32))
    assert next(stream).shape == (16, 10)
    assert (requests.started, requests.finished) == (6, 2)  # two batches more are in flight
    stream.close()  # type: ignore[attr-defined]
    assert requests.finished == requests.started == 6  # so that the next stream finds them idle


def test_one_batch_runs_with_nothing_else_in_flight() -> None:
    batch = np.arange(2 * 3 * 32 * 32, dtype=np.float32).reshape(2, 3, 32, 32)
    assert np.array_equal(run_one(InFlight(9), batch), logits_of(batch))


@pytest.mark.parametrize("name", engines.names_of())
def test_an_engine_has_the_functions_that_its_constants_promise(name: str) -> None:
    constants = engines.constants_of(name)
    assert constants.ENDING
    run = (SCRIPTS / f"engines/{name}/run.py").read_text()
    assert ("def open_session(" in run) == constants.IN_PROCESS
    assert ("def infer(" in run) != constants.IN_PROCESS
    assert engines.has(name, "perf") != constants.IN_PROCESS
    assert (
        "def compile_model(request: CompileRequest) -> Record:" in (SCRIPTS / f"engines/{name}/compile.py").read_text()
    )


def test_constants_are_parsed_and_not_executed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/__init__.py").write_text(
        '"""x"""\nimport no_such_module\nENDING = "x"\nIN_PROCESS = True\nNEEDS = (\n    "a",\n    "b",  # why\n)\n'
    )
    constants = engines.constants_of("x", tmp_path)
    assert (constants.ENDING, constants.IN_PROCESS, constants.NEEDS) == ("x", True, ("a", "b"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "ENDING = 'x'\n", "ENDING = f()\nIN_PROCESS = True\n", "ENDING =\n", "ENDING = 'x'\nOTHER = 1\n"),
        *("ENDING = 'a b'\nIN_PROCESS = True\n", "ENDING = 'x'\nIN_PROCESS = 'False'\n"),
        "ENDING = 'x'\nIN_PROCESS = True\nNEEDS = ('one')\n",
    ],
)
def test_wrong_constants_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/__init__.py").write_text(text)
    with pytest.raises(SystemExit):
        engines.constants_of("x", tmp_path)
    assert re.search(r"x/__init__.py: not the constants of an engine .*; see Constants in", capsys.readouterr().err)


def test_a_new_engine_is_one_folder_and_one_line(project: Project) -> None:
    shutil.copytree(FAKES / "null_engine", project.tree / "scripts/engines/mine")
    project.set("chips.mychip", "engine=mine")
    done = project.make("accuracy", "perf", "CHIP=mychip", "BS=3")
    assert "Top-1 accuracy of inference" in done.stdout
    assert "Throughput:" in done.stdout
    model = project.root / "models/om/mychip/3d_attention_net_bs3.null"
    record = read_record(project.root / "models/om/mychip/bs3.json")
    assert {"engines/mine/__init__.py", "engines/mine/compile.py"} <= set(record["key"]["scripts"])
    assert record["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
