"""Compiled model -> perf.json: correct figures, or the correct error.

The engines and their clock are simulated: the clock advances by the time that an engine states, so figures are exact.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import pytest
from scipy import stats

import measure
from conftest import Project, environment
from engines import PerfRules, timed
from engines.feed import OneAtATime, Work
from engines.timed import batch_numbers
from reporting import timing

LIMITS = {"drift": 0.05, "spread": 0.2, "others": 0.1}
COUNT = 20  # images of the fixture `bins`


class Engine:
    """Returns the first ten values of each image; a call takes the next of `times_ms`, or no time for cached inputs."""

    def __init__(self, times_ms: list[float], key: Callable[[Any], Any] | None = None) -> None:
        self.times, self.key, self.calls, self.now = times_ms, key, 0, 0.0
        self.seen: set[Any] = set()

    def __call__(self, images: Any) -> Any:
        keys = {self.key(images)} if self.key else set()
        keys = set(*keys) if keys and isinstance(next(iter(keys)), frozenset) else keys
        new = len(keys - self.seen) / len(keys) if keys else 1.0
        self.seen |= keys
        self.now += new * self.times[self.calls % len(self.times)] / 1000
        self.calls += 1
        return images.reshape(len(images), -1)[:, :10].copy()


def same(session: Any) -> dict[str, Any]:
    """One session for both scenarios."""
    return dict.fromkeys(timing.SCENARIOS, session)


def measured(
    engine: Engine, bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: float
) -> timing.Measured:
    """timed.measure() at batch size 4 under the engine's clock."""
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: engine.now))
    rules = PerfRules(0.0, 0.0, 50, 1.0)._replace(**more)
    return timed.measure(same(OneAtATime(engine, {})), rules, Work(bins, {"count": COUNT}, 4, "npy", "model"), tmp_path)


def single_stream(
    engine: Engine, bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: float
) -> timing.Run:
    return measured(engine, bins, tmp_path, monkeypatch, **more).single_stream


def refused(capsys: pytest.CaptureFixture[str], call: Callable[[], object], *words: str) -> None:
    with pytest.raises(SystemExit) as stop:
        call()
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 1
    for word in words:
        assert word in line, line


# The figures


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_of_a_known_distribution_are_exact(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    times = list(np.random.default_rng(seed).gamma(4, 2, 52))
    result = measured(Engine([*times, *times]), bins, tmp_path, monkeypatch)  # two queries of warm-up
    np.testing.assert_allclose(result.single_stream.times_ms, times[2:], rtol=1e-9)
    latency = timing.latency(result.single_stream.times_ms)
    for q in (50, 90, 99):
        assert latency[f"p{q}"] == pytest.approx(stats.scoreatpercentile(times[2:], q))
    assert latency["mean"] == pytest.approx(stats.tmean(times[2:]))
    assert (latency["min"], latency["max"]) == pytest.approx((min(times[2:]), max(times[2:])))
    assert result.single_stream.images == 200
    assert result.end_to_end["throughput_images_per_s"] == pytest.approx(200000 / sum(times[2:]))
    assert result.offline.images == 200
    assert result.offline.throughput() == pytest.approx(200000 / sum(times[:50]))


def test_the_run_reaches_both_minima(bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ms, expected in ((1.0, (300, 301)), (900.0, (50,))):
        result = measured(Engine([ms]), bins, tmp_path, monkeypatch, min_duration=0.3)
        assert {len(run.times_ms) for run in result.runs().values()} <= {*expected}


def test_a_slow_start_is_warm_up_and_is_not_counted(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measured(Engine([5000.0] * 3 + [2.0] * 500), bins, tmp_path, monkeypatch, warmup=12.0)
    assert result.warmup["queries"] == 3
    assert result.warmup["seconds"] == pytest.approx(15)
    assert max(result.single_stream.times_ms) == pytest.approx(2)


def test_reading_and_writing_count_only_end_to_end(bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, read = Engine([8.0]), timed.Images.read

    def slow(images: timed.Images) -> Any:
        engine.now += 0.002
        return read(images)

    monkeypatch.setattr(timed.Images, "read", slow)
    result = measured(engine, bins, tmp_path, monkeypatch)
    assert result.single_stream.times_ms == pytest.approx([8] * 50)
    assert result.offline.throughput() == pytest.approx(500)
    assert result.end_to_end["latency_ms"]["p50"] == pytest.approx(10)
    assert result.end_to_end["throughput_images_per_s"] == pytest.approx(400)


def test_queries_are_full_batches_of_all_images_in_a_new_order_in_each_pass() -> None:
    batches = batch_numbers(10, 4)
    order = np.concatenate([next(batches) for _ in range(10)]).reshape(4, 10)
    assert all(sorted(row) == list(range(10)) for row in order)
    assert len({tuple(row) for row in order}) == 4
    assert next(batch_numbers(3, 8)).shape == (8,)


# The verdict


def test_a_steady_run_is_stable() -> None:
    times = np.random.default_rng(1).normal(10, 0.5, 300)
    assert timing.stability(times, 0.02, LIMITS)["why"] == []
    assert timing.stability([math.nan] * 9, 0.02, LIMITS)["why"]


@pytest.mark.parametrize(
    ("times", "others", "word"),
    [
        (np.linspace(10, 12, 100), 0.0, "drift"),
        (np.linspace(12, 10, 100), 0.0, "drift"),
        ([8.0, 12.0] * 51, 0.0, "spread"),
        ([10.0] * 100, 0.4, "load from other processes 40%"),
    ],
)
def test_drift_spread_and_load_above_their_limits_are_named(times: list[float], others: float, word: str) -> None:
    why = timing.stability(times, others, LIMITS)["why"]
    assert len(why) == 1
    assert word in why[0]


def test_drift_and_spread_follow_their_definitions() -> None:
    result = timing.stability([10.0] * 40 + [11.0] * 20 + [12.0] * 40, None, LIMITS)
    assert result["drift"] == pytest.approx(0.2)
    assert result["spread"] == pytest.approx((12 - 10) / 11)
    assert result["others"] is None


def test_single_slow_queries_are_no_spread_but_a_tenth_of_them_is() -> None:
    assert timing.stability([10.0] * 98 + [1000.0] * 2, 0.0, LIMITS)["why"] == []
    slow = timing.stability(([10.0] * 6 + [20.0]) * 15, 0.0, LIMITS)  # one of seven
    assert slow["spread"] == pytest.approx(1.0)
    assert timing.stability(([10.0] * 14 + [20.0]) * 7, 0.0, LIMITS)["spread"] == 0  # one of fifteen


def test_load_from_other_processes_is_cpu_time_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    tick = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    clock = [0.0]
    monkeypatch.setattr(os, "times", lambda: (clock[0], 0.0, 0.0, 0.0, 0.0))

    def planted(busy: int, idle: int) -> None:
        row = f"{busy * tick} 0 0 {idle * tick} 0 0 0 0 0 0"
        stat.write_text(f"cpu  1 2 3 4\ncpu0 {row}\ncpu1 {row}\ncpu2 999999 0 0 0 0 0 0 0 0 0\nintr 1\n")

    planted(100, 100)
    busy = timing.CpuLoad(stat)
    planted(106, 104)  # 12 of 20 s busy, 7 of them used by this process
    clock[0] = 7.0
    assert busy.others() == pytest.approx(0.25)
    stat.unlink()
    assert busy.others() is None
    assert timing.CpuLoad(stat).others() is None


# Caches and wrong outputs


@pytest.mark.parametrize(
    "key",
    [lambda images: images.tobytes(), lambda images: frozenset(image.tobytes() for image in images)],
    ids=["batches", "images"],
)
def test_a_cache_of_batches_or_images_is_detected(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: Any
) -> None:
    engine = Engine([10.0], key)
    refused(capsys, lambda: measured(engine, bins, tmp_path, monkeypatch), "return cached results", "10.00 ms")


def test_a_cache_of_only_the_last_batch_is_detected(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Last(Engine):
        def __call__(self, images: Any) -> Any:
            self.seen &= {images.tobytes()}
            return super().__call__(images)

    engine = Last([10.0], lambda images: images.tobytes())
    refused(capsys, lambda: measured(engine, bins, tmp_path, monkeypatch), "return cached results")


def test_a_cache_of_most_images_is_detected_by_the_medians() -> None:
    seen, new = [0.0] * 13 + [10.0] * 7, [10.0] * 20  # 65 % of the pairs
    with pytest.raises(SystemExit):
        timing.check_no_caching("engine", seen, new, 1.25)


def test_an_engine_that_only_knows_the_images_of_the_dataset_is_detected(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {bins.with_name(f"image_{i}.bin").read_bytes() for i in range(COUNT)}

    class Table(Engine):
        def __call__(self, images: Any) -> Any:
            rows = super().__call__(images)
            return rows * np.array([[image.tobytes() in known] for image in images], np.float32)

    refused(capsys, lambda: measured(Table([1.0]), bins, tmp_path, monkeypatch), "that it has not run before")


def test_a_cache_of_only_the_images_of_the_dataset_is_detected(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {bins.with_name(f"image_{i}.bin").read_bytes() for i in range(COUNT)}

    class Full(Engine):  # its cache is full, so a repeated batch is as slow as a new one
        def __call__(self, images: Any) -> Any:
            self.times = [0.01 if images[0].tobytes() in known else 10.0]
            return super().__call__(images)

    refused(capsys, lambda: measured(Full([0.0]), bins, tmp_path, monkeypatch), "return cached results")


def test_a_lazy_output_is_timed_until_it_is_read(bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later:
        def __init__(self, engine: Engine, rows: Any) -> None:
            self.engine, self.rows = engine, rows

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            self.engine.now += 0.007
            return self.rows

    class Lazy(Engine):
        def __call__(self, images: Any) -> Any:
            return Later(self, super().__call__(images))

    assert min(single_stream(Lazy([1.0]), bins, tmp_path, monkeypatch).times_ms) == pytest.approx(8)


def test_load_from_other_processes_is_measured_and_printed(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "CpuLoad", lambda: SimpleNamespace(others=lambda: 0.43))
    assert single_stream(Engine([1.0]), bins, tmp_path, monkeypatch, others=0.1).others == 0.43
    assert "other processes use 43% of the CPUs" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(20))
def test_jitter_is_not_reported_as_a_cache(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    times = list(np.random.default_rng(seed).normal(10, 1.5, 500))
    measured(Engine(times), bins, tmp_path, monkeypatch)


def test_very_short_calls_are_not_reported_as_a_cache() -> None:
    timing.check_no_caching("engine", [0.001] * 10, [0.003] * 10, 1.25)


@pytest.mark.parametrize("fault", ["one value", "nan", "swapped", "by place"])
def test_a_fast_wrong_engine_fails(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    images = np.stack([np.fromfile(bins.with_name(f"image_{i}.bin"), np.float32) for i in range(COUNT)])
    expected = images[:, :10].astype(float)
    place = [0]

    class Wrong(Engine):
        def __call__(self, images: Any) -> Any:
            rows = super().__call__(images)
            if fault == "one value" and self.calls == 30:
                rows[2, 7] += 0.01
            elif fault == "nan" and self.calls == 30:
                rows[1, 1] = np.nan
            elif fault == "swapped":
                rows[[0, 1]] = rows[[1, 0]]
            elif fault == "by place":  # repeats the outputs of the accuracy run without reading the images
                rows = expected[[(place[0] + k) % COUNT for k in range(len(rows))]].astype(np.float32)
                place[0] += len(rows)
            return rows

    words = ("do not match the accuracy run", "its speed is not valid")
    result = single_stream(Wrong([1.0]), bins, tmp_path, monkeypatch)
    refused(capsys, lambda: measure.check_logits(result, expected, 1e-3, "perf.txt"), *words)
    result = result._replace(logits=expected[result.numbers] + 2e-3 * np.abs(expected).max())
    refused(capsys, lambda: measure.check_logits(result, expected, 1e-3, "perf.txt"), "relative error 2.00e-03")
    for right in measured(Engine([1.0]), bins, tmp_path, monkeypatch).runs().values():
        assert measure.check_logits(right, expected, 1e-3, "perf.txt")["largest_error"] == 0


class Queue:
    """A session that computes two batches at a time, in `times_ms` each by the clock of `engine`."""

    def __init__(self, engine: Engine, fault: str = "") -> None:
        self.engine, self.fault, self.conditions, self.most = engine, fault, {}, 0

    def stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        waiting: list[Any] = []
        for number, batch in enumerate(batches):
            waiting.append(batch)
            self.most = max(self.most, len(waiting))
            if len(waiting) == 2:
                rows = self.engine(np.concatenate(waiting))
                rows += 0.01 * (self.fault == "queue" and number > 40)
                yield from (rows[:4], rows[4:])
                waiting = []
        yield from map(self.engine, waiting[: None if self.fault != "lost" else 0])


def test_throughput_is_that_of_a_full_queue_and_latency_that_of_one_batch(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine([10.0])
    queue = Queue(engine)
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: engine.now))
    monkeypatch.setattr(timing, "CpuLoad", lambda: SimpleNamespace(others=lambda: 0.0))
    work = Work(bins, {"count": COUNT}, 4, "npy", "model")
    result = timed.measure(same(queue), PerfRules(0.0, 0.0, 60, 1.0), work, tmp_path)
    assert queue.most == 2
    assert timing.latency(result.single_stream.times_ms)["p50"] == pytest.approx(10)
    assert result.single_stream.throughput() == pytest.approx(400)
    assert result.offline.throughput() == pytest.approx(800)
    assert result.offline.times_ms[:4] == pytest.approx([10, 0, 10, 0])
    checks = {name: {"answers": run.images} for name, run in result.runs().items()}
    perf = measure.perf_record(result, checks, LIMITS, 4)
    assert (perf["throughput_images_per_s"], perf["latency_ms"]["p50"]) == pytest.approx((800, 10))
    assert perf["device"]["throughput_images_per_s"] == pytest.approx(800)
    assert perf["scenarios"]["Offline"]["stability"]["spread"] == pytest.approx(0)  # though queries end in pairs
    assert perf["stable"] is True


@pytest.mark.parametrize(("queries", "parts"), [(1, 1), (29, 29), (31, 30), (59, 30), (100, 30), (3000, 30)])
def test_a_run_has_at_most_30_parts_which_have_all_queries(queries: int, parts: int) -> None:
    means = timing.windows([1.0] * (queries - 1) + [1000.0])
    assert len(means) == parts and means[-1] > 1
    assert all(mean == 1 for mean in means[:-1])


def test_images_that_no_engine_has_seen_differ_from_each_other_also_as_uint8(bins: Path) -> None:
    images = timed.Images(Work(bins, {"count": 1}, 2, "npy", "model"))
    images.read()
    images.batch = (255 * images.batch).astype(np.uint8)
    unseen = [images.unseen(number).tobytes() for number in range(202)]
    assert len({*unseen}) == 202
    a, b = (np.frombuffer(data, np.uint8).astype(int) for data in unseen[:2])
    assert abs(a - b).max() > 20  # also in bfloat16


def test_each_scenario_runs_on_its_own_session_which_is_warmed_up(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, full = Engine([9000.0] * 2 + [10.0] * 500), Engine([9000.0] * 2 + [5.0] * 500)
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: one.now + full.now))
    sessions = {
        timing.SINGLE_STREAM: OneAtATime(one, {"streams": 1, "images_a_request": 4, "threads": 2}),
        timing.OFFLINE: OneAtATime(full, {"streams": 2, "images_a_request": 2, "threads": 2}),
    }
    work = Work(bins, {"count": COUNT}, 4, "npy", "model")
    result = timed.measure(sessions, PerfRules(0.0, 0.0, 60, 1.0), work, tmp_path)
    assert {*np.round(result.single_stream.times_ms, 6)} == {10} and {*np.round(result.offline.times_ms, 6)} == {5}
    assert result.warmup == {"seconds": pytest.approx(36), "queries": 4}
    checks = {name: {} for name in result.runs()}
    perf = {**measure.perf_record(result, checks, LIMITS, 4), "provenance": result.conditions}
    single = "SingleStream, one batch in flight, streams 1, images a request 4"
    assert timing.scenario_text(perf, timing.SINGLE_STREAM) == single
    assert timing.scenario_text(perf, timing.OFFLINE) == "Offline, queue kept full"  # as in the conditions


@pytest.mark.parametrize("scenario", [timing.SINGLE_STREAM, timing.OFFLINE])
def test_a_measurement_is_stable_only_if_both_scenarios_are(scenario: str) -> None:
    numbers, logits = np.zeros(300, int), np.zeros((300, 10))
    steady = timing.Run(timing.FULL, [10.0] * 300, 300, numbers, logits, 0.0)
    drifting = steady._replace(times_ms=list(np.linspace(10, 12, 300)))
    runs = {timing.SINGLE_STREAM: steady, timing.OFFLINE: steady, scenario: drifting}
    measured = timing.Measured(runs[timing.SINGLE_STREAM], runs[timing.OFFLINE], {}, {}, {}, {}, "", {})
    perf = measure.perf_record(measured, {name: {} for name in runs}, LIMITS, 1)
    assert perf["stable"] is False
    (why,) = timing.reasons_of(perf["scenarios"])
    assert why.startswith(f"{scenario}: drift +1")


def test_outputs_that_are_wrong_only_with_a_full_queue_fail(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = np.stack([np.fromfile(bins.with_name(f"image_{i}.bin"), np.float32)[:10] for i in range(COUNT)])
    engine = Engine([1.0])
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: engine.now))
    work, rules = Work(bins, {"count": COUNT}, 4, "npy", "model"), PerfRules(0.0, 0.0, 61, 1.0)
    runs = timed.measure(same(Queue(engine, "queue")), rules, work, tmp_path).runs()
    measure.check_logits(runs[timing.SINGLE_STREAM], expected, 1e-3, "perf.txt")
    refused(
        capsys,
        lambda: measure.check_logits(runs[timing.OFFLINE], expected, 1e-3, "perf.txt"),
        "do not match the accuracy run",
    )


def test_an_engine_that_loses_a_batch_of_a_full_queue_is_named(
    bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine([1.0])
    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: engine.now))
    work = Work(bins, {"count": COUNT}, 4, "npy", "model")
    rules = PerfRules(0.0, 0.0, 61, 1.0)
    lost = Queue(engine, "lost")
    refused(
        capsys,
        lambda: timed.offline(lost, rules, work, timed.Pool(work)),  # type: ignore[arg-type, unused-ignore]
        "returned 60 of 61 batches",
    )


def test_a_large_set_is_sampled_evenly_for_the_images_in_memory(bins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "POOL", 5)
    pool = timed.Pool(Work(bins, {"count": COUNT}, 5, "npy", "model"))
    assert len(pool.images) == 5
    for _ in range(3):
        numbers, images = pool.batch()
        assert sorted(numbers) == [0, 4, 9, 14, 19]
        for number, image in zip(numbers, images):
            np.testing.assert_array_equal(image.ravel(), np.fromfile(bins.with_name(f"image_{number}.bin"), np.float32))


# With make


def perf_of(project: Project, size: int = 16) -> Any:
    return json.loads((project.root / f"results/null/bs{size}/perf.json").read_text())


def test_make_perf_writes_its_figures_and_conditions(project: Project) -> None:
    done = project.make("perf", NULL='{"ms": 5}')
    begins = ["Throughput: ", "Latency of ", "End to end: ", "Stable: ", "Checked: ", "Source: built-in sample"]
    assert all(f"\n{begin}" in done.stdout for begin in begins)
    perf = perf_of(project)
    single, offline = (perf["scenarios"][name] for name in ("SingleStream", "Offline"))
    assert {"batch_size", "throughput_images_per_s", "latency_ms", "queries", "device", "end_to_end", "stable"} <= {
        *perf
    }
    assert set(perf["latency_ms"]) == {"mean", "min", "max", "p50", "p90", "p99"}
    assert (perf["batch_size"], perf["source"], len(single["times_ms"])) == (16, "sample", perf["queries"])
    assert perf["latency_ms"]["min"] >= 5  # a sleep is never shorter
    assert perf["throughput_images_per_s"] == pytest.approx(16000 / np.mean(offline["times_ms"]))
    assert "device time (Offline, queue kept full)" in done.stdout
    assert "(SingleStream, one batch in flight)" in done.stdout
    assert perf["end_to_end"]["throughput_images_per_s"] < perf["throughput_images_per_s"]
    assert {"chip", "engine", "runtime", "host", "python", "model", "bins", "outputs"} <= {*perf["provenance"]}
    assert isinstance(perf["stable"], bool)
    before = project.artifacts()
    project.make("perf")
    assert project.pythons() == []
    assert project.rebuilt(before) == set()


@pytest.mark.parametrize(
    ("plan", "words"),
    [({"wrong": 1}, "do not match the accuracy run"), ({"ms": 20, "cache": True}, "seems to return cached results")],
)
def test_make_perf_of_a_cheating_engine_fails_and_writes_nothing(
    project: Project, plan: dict[str, Any], words: str
) -> None:
    done = project.make("perf", check=False, NULL=json.dumps(plan))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((project.root / "results").rglob("perf*"))
    assert not list((project.root / "results").rglob("timed*"))


def test_a_changed_rule_measures_again_and_a_changed_search_limit_does_not(project: Project) -> None:
    project.make("perf")
    before = project.artifacts()
    project.set("perf.search", "1801")
    project.make("perf")
    assert project.rebuilt(before) == set()
    project.set("perf.min_queries", "13")
    project.make("perf")
    assert project.rebuilt(before) == {"results/null/bs16/perf.txt"}
    assert perf_of(project)["queries"] >= 13


def test_a_changed_bin_is_not_reported_as_an_error_of_the_engine(project: Project) -> None:
    project.make("infer")
    (project.root / "data/bin/image_3.bin").write_bytes(bytes(12288))
    done = project.make("perf", check=False)
    assert "the bins' digest differs" in done.stderr


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.2, 1.6, 2.4])
def test_make_continues_after_kill_9_at_any_time(project: Project, seconds: float) -> None:
    project.make("infer")
    words = ["make", "perf-all", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
    more = environment(**project.locks, NULL='{"ms": 20}')
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, cwd=project.tree, env=more, start_new_session=True, **pipes) as process:
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
    project.make("perf-all", NULL='{"ms": 1}')
    assert all(perf_of(project, size)["queries"] >= 12 for size in (1, 4, 8, 16, 32, 64))
    assert not list(project.root.rglob("*.tmp.*"))


@pytest.mark.parametrize(("goal", "lock_kind"), [("accuracy", fcntl.LOCK_EX), ("perf", fcntl.LOCK_SH)])
def test_a_host_runs_one_measurement_at_a_time_and_no_inference_meanwhile(
    project: Project, goal: str, lock_kind: int
) -> None:
    project.make("infer", "BS=4")
    if goal == "accuracy":
        (project.root / "results/null/bs4/outputs/manifest.json").unlink()
    lock = next((project.tree / "tmp").rglob("cpu"))
    lock.unlink()  # a new inode, not one of the copied project
    with open(lock, "w") as stream:
        fcntl.flock(stream, lock_kind)
        command = ["make", "-j2", goal, "BS=4", "ROOT=root", "CHIP=null", f"PYTHON={project.python}"]
        more = environment(**project.locks)
        with subprocess.Popen(command, cwd=project.tree, env=more, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            line = waiting.stderr.readline()
            assert "this machine's CPU in use; waiting" in line
            time.sleep(0.5)
            assert waiting.poll() is None
            fcntl.flock(stream, fcntl.LOCK_UN)
            waiting.stderr.read()
        assert waiting.returncode == 0
