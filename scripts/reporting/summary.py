"""The summary at the top of the report: for each chip what a person would quote.

Is it right, how fast, against the published figures, on what, when.
"""

from __future__ import annotations

from _support.artifact import Record
from _support.cli import one_line

from itertools import groupby
from typing import NamedTuple

from reporting.gate import FAILED, NO_REFERENCE, PASSED, References, judge_accuracy
from reporting.records import Result
from reporting.tables import NONE, Published, device_rates, shown_result
from reporting.timing import OFFLINE, SINGLE_STREAM, reasons_of

CSS = {PASSED: "good", FAILED: "bad", NO_REFERENCE: "none"}


class Line(NamedTuple):
    label: str
    text: str
    css: str = ""


class Card(NamedTuple):
    """The summary of one chip's results with the same inputs."""

    title: str
    lines: list[Line]


def sizes_text(results: list[Result]) -> str:
    """The batch sizes of results as text."""
    sizes = sorted({result.batch for result in results})
    return f"batch size{'s' if len(sizes) > 1 else ''} {', '.join(map(str, sizes))}"


def accuracy_line(shown: Result, judged: list[Result]) -> Line:
    """Top-1 with its interval; the range, if other batch sizes have another one."""
    accuracy = shown.records["accuracy"]
    top1, low, high = (100 * share for share in (accuracy["top1"], *accuracy["wilson95"]))
    text = f"Top-1 {top1:.2f} %, 95 % interval {low:.2f} to {high:.2f}, {accuracy['correct']} of {accuracy['total']}"
    others = [100 * result.records["accuracy"]["top1"] for result in judged]
    where = sizes_text(judged)
    if f"{min(others):.2f}" != f"{max(others):.2f}":
        where = f"batch size {shown.batch}; {min(others):.2f} to {max(others):.2f} % at {where}"
    return Line("Accuracy", f"{text} ({where})")


def gate_line(shown: Result, judged: list[Result], references: References) -> Line:
    """The verdict of the gate: of those that failed, if any did."""
    verdicts = [(result, judge_accuracy(result.records["accuracy"], result.chip, references)) for result in judged]
    failed = [(result, verdict) for result, verdict in verdicts if verdict.outcome == FAILED]
    if failed:
        where = sizes_text([result for result, _ in failed])
        return Line("Gate", f"FAILED at {where}: {failed[0][1].finding}", CSS[FAILED])
    verdict = next(verdict for result, verdict in verdicts if result is shown)
    text = f"{verdict.outcome}: {verdict.finding}" if verdict.outcome == PASSED else verdict.finding
    return Line("Gate", f"{text}; {verdict.remedy}" if verdict.remedy else text, CSS[verdict.outcome])


def speed_line(best: Result, measured: list[Result]) -> Line:
    """The highest throughput, of scenario Offline, and its latency, of scenario SingleStream."""
    rates = device_rates(best)
    text = f"{rates['throughput_images_per_s']:.2f} images/s ({OFFLINE}) at batch size {best.batch}"
    text += f", the fastest of {len(measured)} measured" if len(measured) > 1 else ", the only one measured"
    text += f"; p50 {rates['latency_ms']['p50']:.2f} ms a batch ({SINGLE_STREAM})"
    return Line("Speed", text)


def stable_line(best: Result) -> Line:
    """Whether that measurement is stable, and the reasons if it is not."""
    perf = best.records["perf"]
    reasons = "; ".join(map(one_line, reasons_of(perf["scenarios"]))) or "no reason given"
    return Line("Stable", "yes", "good") if perf["stable"] else Line("Stable", f"NO: {reasons}", "bad")


def published_line(best: Result | None, chip: str, published: Published | None) -> Line:
    """The published Top-1, and the throughput relative to the published ones; nothing without official inputs."""
    if not published:
        return Line("Published", "not compared: the figures are of CIFAR-10 and the official checkpoint", "none")
    device, texts = published.devices.get(chip, ""), []
    if device in published.accuracy:
        texts.append(f"Top-1 {published.accuracy[device]} % ({device})")
    if best:
        speed = device_rates(best)["throughput_images_per_s"]
        size = str(best.batch)
        figures = {name: float(row[size]) for name, row in published.throughput.items() if size in row}
        ratios = [f"{speed / figure:.4f} of {name}" for name, figure in figures.items()]
        texts += [f"throughput at batch size {best.batch}: {', '.join(ratios)}"] if ratios else []
    return Line("Published", "; ".join(texts) + ", quoted" if texts else "no figures for this chip", "quote")


def run_of(record: Record) -> Record:
    run: Record = record.get("run", {})
    return run


def machine_line(result: Result) -> Line:
    """The NPU or CPU, the runtime and the host."""
    provenance = result.provenance
    runs = [run_of(record) for record in result.records.values()]
    cpu = provenance.get("host") or next((str(run["cpu"]) for run in runs if "cpu" in run), "")
    hosts = dict.fromkeys(str(run["host_name"]) for run in runs if run.get("host_name"))
    threads = f"{provenance['threads']} threads" if "threads" in provenance else ""
    runtime = " ".join(filter(None, (provenance.get("runtime"), provenance.get("precision"))))
    parts = [provenance.get("device", ""), cpu, threads, runtime, *(f"host {host}" for host in hosts)]
    return Line("On", one_line(", ".join(filter(None, parts))) or "not recorded")


def date_text(date: str) -> str:
    """2026-11-26T23:53:20Z as 2026-11-26 23:53 UTC."""
    return one_line(date[:16].replace("T", " ") + " UTC")


def date_line(best: Result | None, shown: Result | None) -> Line:
    """When the figures above were computed, and by which version of this project."""
    texts, runs = [], []
    for what, result, kind in (("accuracy", shown, "accuracy"), ("speed", best, "perf")):
        run = run_of(result.records[kind]) if result else {}
        if "date" in run:
            texts.append(f"{what} {date_text(run['date'])}")
            runs.append(run)
    versions = dict.fromkeys(version_text(run) for run in runs)
    return Line("When", ", ".join([*texts, *filter(None, versions)]) or "not recorded")


def version_text(run: Record) -> str:
    words = [f"version {run['version']}"] if "version" in run else []
    words += [f"commit {run['commit'][:12]}"] if "commit" in run else []
    return one_line(" ".join(words) + ("" if run.get("clean", True) else " with changes"))


def card_of(title: str, results: list[Result], references: References, published: Published | None) -> Card:
    """The card of one chip; `results` have the same chip and inputs."""
    judged = [result for result in results if "accuracy" in result.records]
    measured = [result for result in results if "perf" in result.records]
    best = max(measured, key=lambda r: (device_rates(r)["throughput_images_per_s"], r.batch), default=None)
    shown = best if best in judged else shown_result(results)
    lines = [accuracy_line(shown, judged), gate_line(shown, judged, references)] if shown else []
    lines = lines or [Line("Accuracy", NONE, "none")]
    lines += [speed_line(best, measured), stable_line(best)] if best else [Line("Speed", NONE, "none")]
    lines.append(published_line(best, results[0].chip, published))
    machine = best or shown or results[0]
    lines += [machine_line(machine), date_line(best, shown)]
    lines = [line._replace(text=one_line(line.text)) for line in lines]  # texts of records are untrusted
    return Card(f"{one_line(results[0].chip)}: {title}", lines)


def cards_of(title: str, results: list[Result], references: References, published: Published | None) -> list[Card]:
    """A card for each chip of a group of results with the same inputs; `title` names the inputs."""
    chips = groupby(results, lambda result: result.chip)
    return [card_of(title, list(members), references, published) for _, members in chips]
