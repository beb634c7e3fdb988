"""Builds the sections of the report from results and published figures."""

from __future__ import annotations

from _support.artifact import Record, read_record
from _support.cli import SETTINGS_FILE, one_line

import base64
import io
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from network.spec import CLASSES, IMAGE_SHAPE
from reporting import bench_table, tables
from reporting.accuracy import MISTAKES
from reporting.curves import Curve, legend, plot
from reporting.gate import References
from reporting.provenance import ORIGIN_WORDS
from reporting.records import Result, different_inputs
from reporting.summary import Card, cards_of
from reporting.tables import NONE, Published, Table

OFFICIAL, SAMPLE = ("official", "official", ""), ("sample", "sample", "")
METHOD = (
    "Quoted from Ascend's ModelZoo, not measured here; the methods differ. NPUs: device time of ais_bench without "
    "copies, and padding images count. GPU: trtexec in fp16. The source does not state whether the figures of an NPU "
    "are for one chip or for a card with several chips."
)
ACCURACY_NOTE = (
    f"gate: Top-1 compared with the reference in {SETTINGS_FILE} (make verify). agreement, fixed / broken / other and "
    "McNemar p: predictions compared with those of the reference engine, ONNX Runtime on the plain graph: make compare."
)
PERF_NOTE = (
    "Offline: the queue of the engine is kept full (an NPU has one batch in flight, as ais_bench runs). SingleStream: "
    "one batch in flight. Both are times of the device alone. end to end: with reading bins and writing outputs. "
    "stable: drift (median of the last third against the first), spread ((p90 - p10) / p50) and load from other "
    "processes are within their limits in both scenarios."
)

TERMS = [
    ("Top-1", "the share of test images whose most probable class is the right one"),
    ("Wilson 95 % interval", "the uncertainty of Top-1 that comes from the number of test images"),
    ("gate", f"Top-1 must not be below the limit in {SETTINGS_FILE} (make verify)"),
    ("agreement", "the share of predictions that equal those of the reference engine, ONNX Runtime in float32"),
    ("fixed / broken / other", "predictions that differ from the reference engine: now right, now wrong, both wrong"),
    ("McNemar p", "the chance of a split at least as uneven as fixed to broken, if both were equally likely"),
    (
        "images/s, Offline",
        "throughput of the device alone, with images in memory and the engine's queue kept full",
    ),
    ("end to end", "with reading bins and writing outputs"),
    (
        "latency, p50, p90, p99, SingleStream",
        "time of a query, which is one batch, with nothing else in flight; 50, 90 or 99 % of the queries were as fast",
    ),
    ("stable", f"drift, spread and load from other processes were within the limits of {SETTINGS_FILE}"),
    ("own", "your own data, checkpoint, graph or compiled model"),
    ("published, quoted", "figures of Ascend's ModelZoo, which were not measured here"),
]


class Settings(NamedTuple):
    """The command-line values that every section uses."""

    sizes: list[int]
    bins: Path  # their manifest.json
    references: References
    published: Published


class Figure(NamedTuple):
    """A plot with its legend: (a key as SVG, the label) of each curve."""

    title: str
    svg: str
    legend: list[tuple[str, str]]
    caption: str


class Part(NamedTuple):
    """A part of a section: a sentence, a table, figures, pictures, cards or terms."""

    note: str = ""
    cards: Sequence[Card] = ()
    terms: Sequence[tuple[str, str]] = ()  # (term, explanation)
    table: Table | None = None
    figures: Sequence[Figure] = ()
    pictures: Sequence[str] = ()  # a data: URL per row of the table; the page shows them instead of the table


class Section(NamedTuple):
    """A section; `name` is its id on the page."""

    name: str
    title: str
    parts: list[Part]
    css: str = ""


def published_curves(published: Published) -> list[Curve]:
    """The published throughput of each device."""
    points = {
        device: sorted((int(batch), float(rate), float(rate)) for batch, rate in row.items())
        for device, row in published.throughput.items()
    }
    return [Curve(f"published: {device}", line, quoted=True) for device, line in points.items()]


def perf_figures(name: str, results: list[Result], sizes: list[int], published: Published | None) -> list[Figure]:
    """The figures of throughput, with the published curves if there are any, and of latency over the batch size."""
    throughput, latency = [], []
    for label, members, best in tables.series_of(results):
        rates = [(result.batch, tables.device_rates(result)) for result in members]
        unstable = frozenset(result.batch for result in members if not result.records["perf"]["stable"])
        speeds = [(batch, rate["throughput_images_per_s"]) for batch, rate in rates]
        throughput.append(Curve(label, [(batch, speed, speed) for batch, speed in speeds], False, best, unstable))
        times = [(batch, rate["latency_ms"]) for batch, rate in rates]
        latency.append(Curve(label, [(batch, time["p50"], time["p99"]) for batch, time in times], unstable=unstable))
    quoted = published_curves(published) if published else []
    title, caption = "Throughput over batch size", "Solid lines: measured here, device time, scenario Offline. "
    caption += f"Dashed lines: published. {METHOD}" if quoted else ""
    curves = throughput + quoted
    figures = [Figure(title, plot(f"{name}-throughput", title, "images/s", curves, sizes), legend(curves), caption)]
    title = "Latency over batch size"
    caption = "Measured here, device time of a batch, scenario SingleStream: p50, whisker up to p99. "
    caption += "No published latency is available."
    svg = plot(f"{name}-latency", title, "ms per batch", latency, sizes)
    return [*figures, Figure(title, svg, legend(latency), caption)]


def picture(path: Path) -> str:
    """A bin, float32 IMAGE_SHAPE in 0..1, as a data: URL of a PNG; raises ValueError if it has another size."""
    from PIL import Image

    image = np.fromfile(path, np.float32).reshape(IMAGE_SHAPE).transpose(1, 2, 0)
    pixels = np.nan_to_num(image * 255).round().clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def mistakes_parts(result: Result, bins: Path) -> list[Part]:
    """The most confident mistakes: as pictures if the bins in ROOT are those of this result, otherwise as a table."""
    mistakes = result.records["accuracy"].get("mistakes")
    caption = f"Most confident mistakes of {one_line(result.chip)} at batch size {result.batch}"
    if not mistakes:
        reason = "no image was misclassified" if mistakes == [] else "accuracy.json does not contain them"
        return [Part(f"{caption}: {reason}.")]
    mistakes = mistakes[:MISTAKES]
    rows = [
        [str(m["image"]), CLASSES[m["label"]], CLASSES[m["found"]], f"{100 * m['probability']:.1f} %"] for m in mistakes
    ]
    table = Table(caption, ["image", "true", "predicted", "probability"], rows, "rllr", keys=1)
    try:
        origin = read_record(bins).get("provenance")
        if not isinstance(origin, dict) or origin.get("archive") != result.provenance.get("archive", ""):
            return [Part("No pictures: data/bin does not contain the images of this result."), Part(table=table)]
        pictures = [picture(bins.with_name(f"image_{mistake['image']}.bin")) for mistake in mistakes]
    except (OSError, ValueError):
        return [Part("No pictures: a bin is missing, damaged or not readable."), Part(table=table)]
    return [Part(table=table, pictures=pictures)]


def title_of(group: tuple[str, ...]) -> str:
    """The inputs of a group, worded as in accuracy.txt."""
    if group in (OFFICIAL, SAMPLE):
        return "CIFAR-10 with the official checkpoint" if group == OFFICIAL else "Built-in sample, not CIFAR-10"
    data, checkpoint, given = group
    return f"{ORIGIN_WORDS[data]} data, " + (given or f"{ORIGIN_WORDS[checkpoint]} checkpoint")


def perf_parts(name: str, results: list[Result], sizes: list[int], published: Published | None) -> list[Part]:
    """The table of throughput and latency, the timing method, and the figures; `name` is that of the section."""
    perfs = [result.records["perf"] for result in results if "perf" in result.records]
    if not perfs:
        return [Part(f"Throughput and latency: {NONE}.")]
    methods = dict.fromkeys(one_line(perf.get("method", "")) for perf in perfs)  # each once, in order
    notes = [Part(f"Timing method: {method}") for method in methods if method]
    figures = perf_figures(name, results, sizes, published)
    return [Part(table=tables.perf_table(results, sizes)), Part(PERF_NOTE), *notes, Part(figures=figures)]


def group_section(name: str, group: tuple[str, ...], results: list[Result], settings: Settings) -> Section:
    """All results of one group; only the official group quotes published figures."""
    sizes, published = settings.sizes, settings.published if group == OFFICIAL else None
    parts = [Part("These figures only show that the pipeline runs.")] if group == SAMPLE else []
    differences = different_inputs(results)
    if differences:
        parts.append(Part(f"The rows have different inputs. They differ in: {', '.join(differences)}."))
    if any({"accuracy", "compare"} & result.records.keys() for result in results):
        parts.append(Part(table=tables.accuracy_table(results, sizes, settings.references, published)))
        parts.append(Part(ACCURACY_NOTE))
    else:
        parts.append(Part(f"Accuracy: {NONE}."))
    layers = tables.layers_table(results)
    if layers:
        parts.append(Part(table=layers))
    parts += perf_parts(name, results, sizes, published)
    shown = tables.shown_result(results)
    if shown:
        parts += [Part(table=tables.confusion_table(shown)), *mistakes_parts(shown, settings.bins)]
    parts += [Part(table=table) for table in tables.provenance_tables(results)]
    return Section(name, title_of(group), parts, "" if group == OFFICIAL else "other")


def published_section(published: Published, sizes: list[int], with_curves: bool) -> Section:
    """The published figures, with their curves if `with_curves`: no other figure of the page shows them."""
    sizes = sorted({*sizes, *(int(batch) for row in published.throughput.values() for batch in row)})
    parts = []
    if published.accuracy:
        rows = [[device, top1] for device, top1 in published.accuracy.items()]
        caption = "Published Top-1 %, 10,000 test images"
        parts.append(Part(table=Table(caption, ["device", "Top-1"], rows, "lr", keys=1)))
    parts += [Part(METHOD), Part(table=tables.published_rows(published.throughput, sizes))]
    if with_curves:
        title, curves = "Published throughput over batch size", published_curves(published)
        figure = Figure(title, plot("quoted", title, "images/s", curves, sizes), legend(curves), "")
        parts.append(Part(figures=[figure]))
    return Section("published", "Published figures, not measured here", parts)


def bench_section(bench: Record) -> Section | None:
    """The results of make bench; None if bench.json is missing, damaged, or was written by another version."""
    try:
        parts = [*map(Part, bench_table.bench_notes(bench))]
        parts += [Part(table=table) for table in bench_table.bench_tables(bench)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Section("bench", "Comparison with other tools (make bench)", parts, "other")


def sections_of(results: list[Result], settings: Settings, bench: Record) -> list[Section]:
    """All sections: the summary, the official group, the others, the sample, bench.json, published figures, terms.

    The published figures are omitted if all models are the user's own.
    """
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(result.group(), []).append(result)
    order = sorted(groups, key=lambda group: (group != OFFICIAL, group == SAMPLE, group))
    cards: list[Card] = []
    for group in order:
        published = settings.published if group == OFFICIAL else None
        cards += cards_of(title_of(group), groups[group], settings.references, published)
    sections = [Section("summary", "Summary", [Part(cards=cards)])]
    sections += [group_section(f"group-{i}", group, groups[group], settings) for i, group in enumerate(order, 1)]
    sections += filter(None, [bench_section(bench)])
    if settings.published.throughput and not all(given for _, _, given in order):
        with_curves = not any("perf" in result.records for result in groups.get(OFFICIAL, []))
        sections.append(published_section(settings.published, settings.sizes, with_curves))
    return [*sections, Section("terms", "Terms", [Part(terms=TERMS)])]


def notes_of(results: list[Result], left_out: list[str]) -> list[str]:
    """The lines at the top of the page."""
    is_missing = all(result.group() != OFFICIAL for result in results)
    note = "This page has no results for CIFAR-10 with the official checkpoint."
    return [*([note] if is_missing else []), *left_out]
