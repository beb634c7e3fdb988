"""Chooses how an engine of this process shares out batches, by a measurement on this machine. Python 3.7.

The choice is stored beside the model, in bs<n>.tuning.json, with the machine and the versions for which it holds, and
with the digest of what the engine's runtime has compiled, if the engine stores that. On another machine the model is
tuned again. A choice is in no cache key, and it changes no label.
"""

from __future__ import annotations

from _support import artifact, locks
from _support.artifact import Record, is_count
from _support.machine import cpu_flags, cpu_name, threads
from _support.run_facts import machine_facts

import hashlib
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from numpy.typing import NDArray

import engines
from engines import Choice, Exporter, Session, Tunable
from engines.feed import run_one
from engines.split import candidates, split_batch
from formats.bins import FORMS
from reporting.timing import CpuLoad

BUDGET = 3.0  # s after which a comparison ends with the round
SLICE = 0.1  # s of a measurement, which has at least one batch
ROUNDS = 7
SURE = 3  # rounds without which no choice replaces the default
GAIN = 1.03  # the speed against the default, in the mean of both uses, above which a choice replaces it
EQUAL = 0.99  # and that in each of the two
OTHERS = 0.1  # load from other processes, 0 to 1, above which the default stays: on a free CPU it may be faster
HOPELESS = 0.97  # the speed below which a choice is not measured again


class Prepared(NamedTuple):
    """What is to be used on this machine."""

    choice: Choice
    stored: bytes = b""  # what export_session() has returned for it; may be missing


Sessions = Dict[Choice, Session]  # the first one is the default
Ratios = List[Tuple[float, float]]  # of each round: the default's time / that of a choice, for both uses


def mean_seconds(session: Session, batch: NDArray[Any], duration: float) -> float:
    """The mean time of a batch, over batches of `duration` s together, with the queue kept full."""
    begin = time.perf_counter()

    def batches() -> Iterator[NDArray[Any]]:
        yield batch
        while time.perf_counter() - begin < duration:
            yield batch

    count = sum(1 for _ in session.stream(batches()))
    return (time.perf_counter() - begin) / count


def single_seconds(session: Session, batch: NDArray[Any], duration: float) -> float:
    """The mean time of a batch, over at least `duration` s, with nothing else in flight."""
    begin, count = time.perf_counter(), 0
    while not count or time.perf_counter() - begin < duration:
        run_one(session, batch)
        count += 1
    return (time.perf_counter() - begin) / count


def seconds_of(session: Session, batch: NDArray[Any]) -> Tuple[float, float]:
    """The time of a batch in both uses: one after the other, as for a latency, and with the queue kept full."""
    return single_seconds(session, batch, SLICE), mean_seconds(session, batch, SLICE)


class Speed(NamedTuple):
    """The speed of a choice / that of the default; medians of interleaved rounds."""

    single: float  # one batch after the other
    full: float  # queue kept full
    rounds: int

    @property
    def mean(self) -> float:
        """The geometric mean of both uses."""
        return float((self.single * self.full) ** 0.5)

    def is_better(self) -> bool:
        """Whether the choice is clearly faster than the default, and not at the expense of one use."""
        return self.mean > GAIN and min(self.single, self.full) > EQUAL


def speed_of(ratios: Ratios) -> Speed:
    single, full = zip(*ratios)
    return Speed(statistics.median(single), statistics.median(full), len(ratios))


def compare(sessions: Sessions, batch: NDArray[Any], rounds: int) -> Dict[Choice, Speed]:
    """The speed of all choices but the first, the default, against it. Each round measures all that are left, so a
    change of the machine's load concerns all of them. Ends when none is left, or after ROUNDS, or when BUDGET is spent
    and at least `rounds` are done."""
    default, *others = sessions
    ratios: Dict[Choice, Ratios] = {choice: [] for choice in others}
    begin = time.perf_counter()
    for number in range(1, ROUNDS + 1):
        base = seconds_of(sessions[default], batch)
        for choice in others:
            single, full = seconds_of(sessions[choice], batch)
            ratios[choice].append((base[0] / single, base[1] / full))
        others = [choice for choice in others if speed_of(ratios[choice]).mean > HOPELESS]
        if not others or number >= rounds and time.perf_counter() - begin > BUDGET:
            break
    return {choice: speed_of(of_choice) for choice, of_choice in ratios.items()}


def open_choices(open_choice: Callable[[Choice], Session], choices: List[Choice], batch: NDArray[Any]) -> Sessions:
    """The sessions of the first choices, as many as can be opened, and measured for one round, in time. Only that of
    the default, if the rounds of a comparison would take too long."""
    default = open_choice(choices[0])
    run_one(default, batch)
    seconds = sum(seconds_of(default, batch))
    affordable = int(BUDGET / seconds) if seconds < BUDGET / 2 else 0
    sessions, begin = {choices[0]: default}, time.perf_counter()
    for choice in choices[1 : 1 + affordable]:
        if time.perf_counter() - begin > BUDGET:
            break
        sessions[choice] = open_choice(choice)
        run_one(sessions[choice], batch)
    return sessions


def fastest(sessions: Sessions, batch: NDArray[Any]) -> Tuple[Choice, Dict[Choice, Speed]]:
    """The fastest choice, and the speeds of all but the default, which is the first.

    Another choice than the default is compared with it again, alone and with new times, because the fastest of many
    seems faster than it is.
    """
    default = next(iter(sessions))
    speeds = compare(sessions, batch, 1) if len(sessions) > 1 else {}
    better = [choice for choice, speed in speeds.items() if speed.is_better()]
    if not better:
        return default, speeds
    best = max(better, key=lambda choice: speeds[choice].mean)
    speeds.update(compare({default: sessions[default], best: sessions[best]}, batch, SURE))
    is_sure = speeds[best].rounds >= SURE and speeds[best].is_better()
    return best if is_sure else default, speeds


def tuning_path(model: Path, batch_size: int) -> Path:
    """The file with the choice for a compiled model, beside its record."""
    return model.with_name(f"bs{batch_size}.tuning.json")


def stored_path(model: Path, constants: engines.Constants) -> Path:
    """The file with what the runtime has compiled for a model."""
    return model.with_suffix(f".{constants.STORED or 'none'}")


class Tuning:
    """The choice for a compiled model of an engine with the option tune; `record` is that of the model."""

    def __init__(self, model: Path, record: Record) -> None:
        provenance = record["provenance"]
        self.engine, self.batch_size = str(provenance["engine"]), int(provenance["batch_size"])
        self.constants = engines.constants_of(self.engine)
        self.model, self.sha256 = model, str(record["sha256"])
        self.options = engines.options_of(provenance["options"])
        self.path = tuning_path(model, self.batch_size)
        self.stored_path = stored_path(model, self.constants)
        limit = int(self.options.get("streams", threads()))
        is_tuned = self.options.get("tune") == "yes"
        self.choices = (
            candidates(self.batch_size, limit, threads()) if is_tuned else [split_batch(self.batch_size, limit)]
        )
        machine = {"cpu": cpu_name(), "threads": threads(), "instructions": " ".join(sorted(cpu_flags()))}
        self.key = {
            "inputs": {"model": self.sha256},
            "flags": {"options": provenance["options"], "batch_size": self.batch_size},
            "scripts": artifact.digests_of_part(engines.module_of(self.engine, "run")),
            "versions": artifact.versions_of(self.constants.PACKAGES.get("run", ())),
            "machine": machine,
        }

    def needs_record(self) -> bool:
        """Whether there is something to measure or to store."""
        return len(self.choices) > 1 or bool(self.constants.STORED)

    def read(self) -> Record:
        """The record of a choice that holds here; otherwise empty."""
        try:
            record = artifact.read_record(self.path)
        except OSError:  # no permission
            return {}
        choice, stored = record.get("choice"), record.get("stored")
        if record.get("key") != self.key or not isinstance(choice, dict) or not isinstance(stored, dict):
            return {}
        values = [choice.get(name) for name in NAMES]
        is_valid = all(map(is_count, values)) and Choice(*values) in self.choices  # type: ignore[arg-type]
        return record if is_valid and isinstance(stored.get("sha256"), str) else {}

    def stored(self, record: Record) -> bytes | None:
        """What export_session() returned; None if it is missing or damaged."""
        sha256 = record["stored"]["sha256"]
        if not sha256:
            return b""
        try:
            data = self.stored_path.read_bytes() if artifact.is_file(self.stored_path) else b""
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def prepared(self) -> Prepared | None:
        """What is stored for this machine; None if it is not complete."""
        if not self.needs_record():
            return Prepared(self.choices[0])
        record = self.read()
        stored = self.stored(record) if record else None
        return None if stored is None else Prepared(choice_of(record), stored)

    def create(self) -> Prepared:
        """Measures and stores what is missing. The caller holds the lock of the record."""
        runner: Tunable = engines.load(self.engine, "run")
        model = engines.read_model(self.model, self.sha256)

        def open_choice(choice: Choice) -> Session:
            return runner.open_session(model, self.options, choice)

        record = self.read()
        if record or len(self.choices) == 1:  # only the file of the runtime is missing
            choice = choice_of(record) if record else self.choices[0]
            session = open_choice(choice)
        else:
            with locks.lock_cpu():
                session, record = self.tune(open_choice)
            choice = choice_of(record)
        exporter: Exporter = engines.load(self.engine, "run")
        data = exporter.export_session(session) if self.constants.STORED else b""
        stored = {"sha256": hashlib.sha256(data).hexdigest() if data else ""}
        record = {**record, "key": self.key, "choice": dict(zip(NAMES, choice)), "stored": stored}
        try:
            if data:
                artifact.write_atomically(self.stored_path, data)
            artifact.write_record(self.path, {**record, "run": machine_facts()})
        except OSError as error:
            print(f"  {self.path}: not stored ({(error.strerror or '').lower()}), so the next run tunes again")
        return Prepared(choice, data)

    def tune(self, open_choice: Callable[[Choice], Session]) -> Tuple[Session, Record]:
        """Measures the choices. Returns the session of the fastest, and the entries of the record that say so."""
        print(f"  tuning for {cpu_name()}, threads {threads()}", flush=True)
        begin, load = time.perf_counter(), CpuLoad()
        batch = FORMS[engines.input_of(self.options)].random(self.batch_size)
        sessions = open_choices(open_choice, self.choices, batch)
        choice, speeds = fastest(sessions, batch)
        seconds, others = time.perf_counter() - begin, load.others() or 0.0
        how = f"{speeds[choice].mean:.2f} times the speed of the default" if choice in speeds else "the default"
        if choice in speeds and others > OTHERS:
            choice = self.choices[0]
            how = f"the default, because other processes used {100 * others:.0f}% of the CPUs"
            how += f"; to tune again when they have ended, type: {artifact.removal(self.path)}"
        print(f"  streams {choice.streams}, images a request {choice.images}: {how} ({seconds:.1f} s)", flush=True)
        rows = [{**dict(zip(NAMES, name)), **speed._asdict()} for name, speed in speeds.items()]
        facts = {"speeds": rows, "seconds": seconds, "others": others}
        return sessions[choice], {"choice": dict(zip(NAMES, choice)), **facts}


NAMES = ("streams", "images_a_request")  # of the fields of a Choice in records


def choice_of(record: Record) -> Choice:
    return Choice(*(record["choice"][name] for name in NAMES))


def is_tunable(engine: str) -> bool:
    return "tune" in engines.constants_of(engine).OPTIONS


def prepare(model: Path, record: Record) -> Prepared | None:
    """The choice for a compiled model on this machine; `record` is that of the model. None for an engine without tune.

    If no choice is stored for this machine, it is measured, while the CPU is locked, and stored. The caller must not
    hold the lock of the CPU.
    """
    if not is_tunable(record["provenance"]["engine"]):
        return None
    tuning = Tuning(model, record)
    prepared = tuning.prepared()
    if prepared:
        return prepared
    with artifact.locked(tuning.path):
        return tuning.prepared() or tuning.create()  # another process may have done it meanwhile


def stored(model: Path, record: Record) -> Prepared | None:
    """What prepare() has stored for this machine, for a process that must not measure; else None."""
    return Tuning(model, record).prepared() if is_tunable(record["provenance"]["engine"]) else None


def open_session(path: Path, record: Record, prepared: Prepared | None) -> Session:
    """The session of an engine of this process for the result of prepare(); reads the model if it must be compiled.
    `record` is that of the model; exits 1 if the model has another digest."""
    engine, options = record["provenance"]["engine"], engines.options_of(record["provenance"]["options"])
    if prepared and prepared.stored:
        exporter: Exporter = engines.load(engine, "run")
        session = exporter.open_stored(prepared.stored, path, options, prepared.choice)
        if session:
            return session
    model = engines.read_model(path, record["sha256"])
    if prepared:
        tunable: Tunable = engines.load(engine, "run")
        return tunable.open_session(model, options, prepared.choice)
    plain: engines.InProcess = engines.load(engine, "run")
    return plain.open_session(model, options)
