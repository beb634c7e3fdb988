"""Chooses how an engine of this process shares out batches, by a measurement on this machine. Python 3.7.

There is a choice for each scenario: Offline, with the queue kept full, as inference has it, and SingleStream, with one
batch in flight. They are stored beside the model, in bs<n>.tuning.json, with the machine and the versions for which
they hold, and with the digest of what the engine's runtime has compiled for Offline, if the engine stores that. On
another machine the model is tuned again. A choice is in no cache key, and it changes no label.
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
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple, Union

from numpy.typing import NDArray

import engines
from engines import Choice, Exporter, Session, Tunable
from engines.feed import run_one
from engines.split import candidates, split_batch
from formats.bins import FORMS
from reporting.timing import OFFLINE, SCENARIOS, SINGLE_STREAM, CpuLoad

BUDGET = 3.0  # s after which a comparison ends with the round
SLICE = 0.1  # s of a measurement, which has at least one batch
ROUNDS = 7
SURE = 3  # rounds without which no choice replaces the default
GAIN = 1.03  # the speed against the default above which a choice replaces it
OTHERS = 0.1  # load from other processes, 0 to 1, above which the default stays: on a free CPU it may be faster
HOPELESS = 0.97  # the speed in both scenarios below which a choice is not measured again

Choices = Dict[str, Choice]  # of each scenario
Sessions = Dict[Choice, Session]  # the first one is the default
Speed = Dict[str, float]  # in each scenario, that of a choice / that of the default


Stored = Union[bytes, bytearray]  # bytearray: OpenVINO does not copy it


class Prepared(NamedTuple):
    """What is to be used on this machine."""

    choices: Choices
    stored: Stored = b""  # what export_session() has returned for the choice of Offline; may be missing


def full_seconds(session: Session, batch: NDArray[Any], duration: float) -> float:
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


def seconds_of(session: Session, batch: NDArray[Any]) -> Dict[str, float]:
    """The time of a batch in each scenario."""
    return {SINGLE_STREAM: single_seconds(session, batch, SLICE), OFFLINE: full_seconds(session, batch, SLICE)}


def speed_of(rounds: List[Speed]) -> Speed:
    """The medians of the rounds."""
    return {scenario: statistics.median(speed[scenario] for speed in rounds) for scenario in SCENARIOS}


def compare(sessions: Sessions, batch: NDArray[Any], rounds: int) -> Dict[Choice, List[Speed]]:
    """The speeds of all choices but the first, the default, against it, in each round.

    A round measures all that are left, so a change of the machine's load concerns all of them. Ends when none is left,
    or after ROUNDS, or when BUDGET is spent and at least `rounds` are done.
    """
    default, *others = sessions
    speeds: Dict[Choice, List[Speed]] = {choice: [] for choice in others}
    begin = time.perf_counter()
    for number in range(1, ROUNDS + 1):
        base = seconds_of(sessions[default], batch)
        for choice in others:
            seconds = seconds_of(sessions[choice], batch)
            speeds[choice].append({scenario: base[scenario] / seconds[scenario] for scenario in SCENARIOS})
        others = [choice for choice in others if max(speed_of(speeds[choice]).values()) > HOPELESS]
        if not others or number >= rounds and time.perf_counter() - begin > BUDGET:
            break
    return speeds


def open_choices(open_choice: Callable[[Choice], Session], choices: List[Choice], batch: NDArray[Any]) -> Sessions:
    """The sessions of the first choices, as many as can be opened, and measured for one round, in time. Only that of
    the default, if the rounds of a comparison would take too long."""
    default = open_choice(choices[0])
    run_one(default, batch)
    seconds = sum(seconds_of(default, batch).values())
    affordable = int(BUDGET / seconds) if seconds < BUDGET / 2 else 0
    sessions, begin = {choices[0]: default}, time.perf_counter()
    for choice in choices[1 : 1 + affordable]:
        if time.perf_counter() - begin > BUDGET:
            break
        sessions[choice] = open_choice(choice)
        run_one(sessions[choice], batch)
    return sessions


def best_of(scenario: str, default: Choice, speeds: Dict[Choice, List[Speed]]) -> Choice:
    """The fastest choice in a scenario; the default, if none is clearly faster."""
    found = {choice: speed_of(rounds)[scenario] for choice, rounds in speeds.items()}
    best = max(found, key=lambda choice: found[choice], default=default)
    return best if found.get(best, 1) > GAIN else default


def is_sure(scenario: str, rounds: List[Speed]) -> bool:
    """Whether the choice was faster than the default each time, and often enough."""
    return len(rounds) >= SURE and min(speed[scenario] for speed in rounds) > 1


def fastest(sessions: Sessions, batch: NDArray[Any]) -> Tuple[Choices, Dict[Choice, List[Speed]]]:
    """The fastest choice of each scenario, and the speeds of all but the default, which is the first.

    Another choice than the default is compared with it again, without the rest and with new times, because the fastest
    of many seems faster than it is.
    """
    default = next(iter(sessions))
    speeds = compare(sessions, batch, 1) if len(sessions) > 1 else {}
    rivals = {best_of(scenario, default, speeds) for scenario in SCENARIOS} - {default}
    again = compare({choice: sessions[choice] for choice in (default, *rivals)}, batch, SURE) if rivals else {}
    choices = {}
    for scenario in SCENARIOS:
        sure = {choice: rounds for choice, rounds in again.items() if is_sure(scenario, rounds)}
        choices[scenario] = best_of(scenario, default, sure)
    return choices, {**speeds, **again}


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
        """The record of choices that hold here; otherwise empty."""
        try:
            record = artifact.read_record(self.path)
        except OSError:  # no permission
            return {}
        choices, stored = record.get("choices"), record.get("stored")
        if record.get("key") != self.key or not isinstance(choices, dict) or not isinstance(stored, dict):
            return {}
        is_valid = all(self.is_choice(choices.get(scenario)) for scenario in SCENARIOS)
        is_valid = is_valid and isinstance(stored.get("sha256"), str) and type(stored.get("bytes")) is int
        return record if is_valid and artifact.RECORD_DIGEST in record else {}

    def is_choice(self, value: Any) -> bool:
        """Whether an entry of "choices" is one of those that are measured."""
        values = [value.get(name) for name in NAMES] if isinstance(value, dict) else [None]
        return all(map(is_count, values)) and Choice(*values) in self.choices  # type: ignore[arg-type]

    def stored(self, record: Record) -> Stored | None:
        """What export_session() returned; None if it is missing or damaged."""
        sha256, size = record["stored"]["sha256"], record["stored"]["bytes"]
        if not sha256:
            return b""
        try:
            if not artifact.is_file(self.stored_path) or self.stored_path.stat().st_size != size:
                return None
            data = bytearray(size)
            with open(self.stored_path, "rb", buffering=0) as file:
                file.readinto(data)
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def prepared(self) -> Prepared | None:
        """What is stored for this machine; None if it is not complete."""
        if not self.needs_record():
            return Prepared(dict.fromkeys(SCENARIOS, self.choices[0]))
        record = self.read()
        stored = self.stored(record) if record else None
        return None if stored is None else Prepared(choices_of(record), stored)

    def create(self) -> Prepared:
        """Measures and stores what is missing. The caller holds the lock of the record."""
        runner: Tunable = engines.load(self.engine, "run")
        model = engines.read_model(self.model, self.sha256)

        def open_choice(choice: Choice) -> Session:
            return runner.open_session(model, self.options, choice)

        record = self.read()
        if record or len(self.choices) == 1:  # only the file of the runtime is missing
            choices = choices_of(record) if record else dict.fromkeys(SCENARIOS, self.choices[0])
            session = open_choice(choices[OFFLINE])
        else:
            with locks.lock_cpu():
                session, record = self.tune(open_choice)
            choices = choices_of(record)
        exporter: Exporter = engines.load(self.engine, "run")
        data = exporter.export_session(session) if self.constants.STORED else b""
        stored = {"sha256": hashlib.sha256(data).hexdigest() if data else "", "bytes": len(data)}
        record = {**record, "key": self.key, "choices": entries_of(choices), "stored": stored}
        try:
            if data:
                artifact.write_atomically(self.stored_path, data)
            artifact.write_record(self.path, {**record, "run": machine_facts()})
        except OSError as error:
            print(f"  {self.path}: not stored ({(error.strerror or '').lower()}), so the next run tunes again")
        return Prepared(choices, data)

    def tune(self, open_choice: Callable[[Choice], Session]) -> Tuple[Session, Record]:
        """Measures the choices. Returns the session of the fastest in Offline, and the entries of the record that say
        so."""
        print(f"  tuning for {cpu_name()}, threads {threads()}")
        begin, load = time.perf_counter(), CpuLoad()
        batch = FORMS[engines.input_of(self.options)].random(self.batch_size)
        sessions = open_choices(open_choice, self.choices, batch)
        choices, speeds = fastest(sessions, batch)
        seconds, others = time.perf_counter() - begin, load.others() or 0.0
        default, how = self.choices[0], f"the default ({seconds:.1f} s)"
        if others > OTHERS:
            choices = dict.fromkeys(SCENARIOS, default)
            how += (
                f", because other processes used {100 * others:.0f}% of the CPUs; to tune again when they have ended, "
            )
            how += f"type: {artifact.removal(self.path)}, then make perf FRESH=1"
        if {*choices.values()} == {default}:
            print(f"  {text_of(default)}: {how}")
        else:
            for scenario, choice in choices.items():
                how = "the default"
                if choice != default:
                    how = f"{speed_of(speeds[choice])[scenario]:.2f} times the speed of the default"
                print(f"  {scenario}: {text_of(choice)}: {how} ({seconds:.1f} s)")
        rows = [{**entry_of(choice), **speed_of(rounds), "rounds": len(rounds)} for choice, rounds in speeds.items()]
        facts = {"speeds": rows, "seconds": seconds, "others": others}
        return sessions[choices[OFFLINE]], {"choices": entries_of(choices), **facts}


NAMES = ("streams", "images_a_request")  # of the fields of a Choice in records


def text_of(choice: Choice) -> str:
    return f"streams {choice.streams}, images a request {choice.images}"


def entry_of(choice: Choice) -> Record:
    return dict(zip(NAMES, choice))


def entries_of(choices: Choices) -> Record:
    return {scenario: entry_of(choice) for scenario, choice in choices.items()}


def choices_of(record: Record) -> Choices:
    return {scenario: Choice(*(record["choices"][scenario][name] for name in NAMES)) for scenario in SCENARIOS}


def is_tunable(engine: str) -> bool:
    return "tune" in engines.constants_of(engine).OPTIONS


def prepare(model: Path, record: Record) -> Prepared | None:
    """The choices for a compiled model on this machine; `record` is that of the model. None for an engine without tune.

    If none are stored for this machine, they are measured, while the CPU is locked, and stored. The caller must not
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


def open_session(path: Path, record: Record, prepared: Prepared | None, scenario: str = OFFLINE) -> Session:
    """The session of an engine of this process for the result of prepare() and a scenario; reads the model if it must
    be compiled, and exits 1 if it has another digest. `record` is that of the model."""
    engine, options = record["provenance"]["engine"], engines.options_of(record["provenance"]["options"])
    choice = prepared.choices[scenario] if prepared else None
    if prepared and choice and prepared.stored and choice == prepared.choices[OFFLINE]:
        exporter: Exporter = engines.load(engine, "run")
        session = exporter.open_stored(prepared.stored, path, options, choice)
        if session:
            return session
    model = engines.read_model(path, record["sha256"])
    if choice:
        tunable: Tunable = engines.load(engine, "run")
        return tunable.open_session(model, options, choice)
    plain: engines.InProcess = engines.load(engine, "run")
    return plain.open_session(model, options)
