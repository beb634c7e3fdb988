"""The sections of the report, from results and from published figures."""

from __future__ import annotations

from _support.artifact import read_record
from _support.cli import one_line

import base64
import io
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from network.spec import CLASSES, IMAGE_SHAPE
from reporting import tables
from reporting.accuracy import MISTAKES
from reporting.curves import Curve, legend, plot
from reporting.gate import References
from reporting.provenance import ORIGIN_WORDS
from reporting.records import Result, unlike
from reporting.tables import NONE, Published, Table

OFFICIAL, SAMPLE = ("official", "official", ""), ("sample", "sample", "")
METHOD = (
    "Published in Ascend's ModelZoo, quoted, not measured here, and not one method. NPUs: ais_bench's device time, no "
    "copies, padding counted as work. GPU: trtexec in fp16. Whether an NPU's figures are those of one chip or of a "
    "card with several is not stated."
)


class Settings(NamedTuple):
    """What every section needs from the command line."""

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
    """A piece of a section: a sentence, a table, figures or pictures."""

    note: str = ""
    table: Table | None = None
    figures: Sequence[Figure] = ()
    pictures: Sequence[str] = ()  # a data: URL per row of the table; the page then shows them in its place


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
    """Throughput, with the published curves if any are given, and latency over the batch size."""
    throughput, latency = [], []
    for label, members, best in tables.series_of(results):
        rates = [(result.batch, tables.device_rates(result)) for result in members]
        speeds = [(batch, rate["throughput_images_per_s"]) for batch, rate in rates]
        throughput.append(Curve(label, [(batch, speed, speed) for batch, speed in speeds], best=best))
        times = [(batch, rate["latency_ms"]) for batch, rate in rates]
        latency.append(Curve(label, [(batch, time["p50"], time["p99"]) for batch, time in times]))
    quoted = published_curves(published) if published else []
    title, caption = "Throughput over batch size", "Solid: measured here, on the device. "
    caption += f"Dashed and hollow: {METHOD}" if quoted else ""
    curves = throughput + quoted
    figures = [Figure(title, plot(f"{name}-throughput", title, "images/s", curves, sizes), legend(curves), caption)]
    title, caption = "Latency over batch size", "Measured here, on the device: p50, whisker to p99."
    caption += " No latencies are published."
    svg = plot(f"{name}-latency", title, "ms a batch", latency, sizes)
    return [*figures, Figure(title, svg, legend(latency), caption)]


def picture(path: Path) -> str:
    """A bin, float32 IMAGE_SHAPE in 0..1, as a data: URL of a PNG; ValueError if it has another size."""
    from PIL import Image

    image = np.fromfile(path, np.float32).reshape(IMAGE_SHAPE).transpose(1, 2, 0)
    pixels = np.nan_to_num(image * 255).round().clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def mistakes_parts(result: Result, bins: Path) -> list[Part]:
    """The most confident mistakes: a table, with pictures if the bins in ROOT are those of this result."""
    mistakes = result.records["accuracy"].get("mistakes")
    where = f"on {one_line(result.chip)} at batch size {result.batch}"
    if not mistakes:
        reason = "no image was misclassified" if mistakes == [] else "its accuracy.json does not name them"
        return [Part(f"Most surely misclassified {where}: {reason}.")]
    mistakes = mistakes[:MISTAKES]
    rows = [
        [str(m["image"]), CLASSES[m["label"]], CLASSES[m["found"]], f"{100 * m['probability']:.1f} %"] for m in mistakes
    ]
    table = Table(f"Most surely misclassified {where}", ["image", "true", "said", "probability"], rows, "rllr", keys=1)
    if read_record(bins).get("digest") != result.provenance.get("bins", ""):
        return [Part("There are no pictures: the bins here are not those of this result."), Part(table=table)]
    try:
        pictures = [picture(bins.with_name(f"image_{mistake['image']}.bin")) for mistake in mistakes]
    except (OSError, ValueError):
        return [Part("There are no pictures: a bin is missing or damaged."), Part(table=table)]
    return [Part(table=table, pictures=pictures)]


def title_of(group: tuple[str, ...]) -> str:
    """The inputs of a group, in the words of accuracy.txt."""
    if group in (OFFICIAL, SAMPLE):
        return "CIFAR-10 with the official checkpoint" if group == OFFICIAL else "THE BUILT-IN SAMPLE, not CIFAR-10"
    data, checkpoint, given = group
    return f"{ORIGIN_WORDS[data]} data, " + (given or f"{ORIGIN_WORDS[checkpoint]} checkpoint")


def perf_parts(name: str, results: list[Result], sizes: list[int], published: Published | None) -> list[Part]:
    """The table of throughput and latency, how it was measured, and the figures; `name` is the section's."""
    perfs = [result.records["perf"] for result in results if "perf" in result.records]
    if not perfs:
        return [Part(f"Throughput and latency: {NONE}.")]
    methods = dict.fromkeys(one_line(perf.get("method", "")) for perf in perfs)  # each once, in order
    notes = [Part(f"How it was timed: {method}") for method in methods if method]
    figures = perf_figures(name, results, sizes, published)
    return [Part(table=tables.perf_table(results, sizes)), *notes, Part(figures=figures)]


def group_section(name: str, group: tuple[str, ...], results: list[Result], settings: Settings) -> Section:
    """All results of one group; published figures are quoted in the official one only."""
    sizes, published = settings.sizes, settings.published if group == OFFICIAL else None
    parts = [Part("These figures only show that the pipeline runs.")] if group == SAMPLE else []
    differences = unlike(results)
    if differences:
        parts.append(Part(f"The rows were made from different inputs: they differ in {', '.join(differences)}."))
    if any({"accuracy", "compare"} & result.records.keys() for result in results):
        parts.append(Part(table=tables.accuracy_table(results, sizes, settings.references, published)))
    else:
        parts.append(Part(f"Accuracy: {NONE}."))
    parts += perf_parts(name, results, sizes, published)
    shown = tables.shown_result(results)
    if shown:
        parts += [Part(table=tables.confusion_table(shown)), *mistakes_parts(shown, settings.bins)]
    parts += [Part(table=table) for table in tables.provenance_tables(results)]
    return Section(name, title_of(group), parts, "" if group == OFFICIAL else "other")


def published_section(published: Published, sizes: list[int], with_curves: bool) -> Section:
    """The published figures; with their curves if no measured ones share a figure with them."""
    sizes = sorted({*sizes, *(int(batch) for row in published.throughput.values() for batch in row)})
    parts = []
    if published.accuracy:
        rows = [[device, top1] for device, top1 in published.accuracy.items()]
        caption = "Published Top-1 in per cent, 10,000 test images"
        parts.append(Part(table=Table(caption, ["device", "Top-1"], rows, "lr", keys=1)))
    parts += [Part(METHOD), Part(table=tables.published_rows(published.throughput, sizes))]
    if with_curves:
        title, curves = "Quotations: published throughput over batch size", published_curves(published)
        figure = Figure(title, plot("quoted", title, "images/s", curves, sizes), legend(curves), "")
        parts.append(Part(figures=[figure]))
    return Section("published", "Published elsewhere, quoted", parts)


def sections_of(results: list[Result], settings: Settings) -> list[Section]:
    """The official group first, the sample last, then the published figures, unless all models are the user's own."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(result.group(), []).append(result)
    order = sorted(groups, key=lambda group: (group != OFFICIAL, group == SAMPLE, group))
    sections = [group_section(f"group-{i}", group, groups[group], settings) for i, group in enumerate(order, 1)]
    if settings.published.throughput and not all(given for _, _, given in order):
        with_curves = not any("perf" in result.records for result in groups.get(OFFICIAL, []))
        sections.append(published_section(settings.published, settings.sizes, with_curves))
    return sections


def notes_of(results: list[Result], left_out: list[str]) -> list[str]:
    """The lines at the top of the page."""
    is_missing = all(result.group() != OFFICIAL for result in results)
    return [*(["CIFAR-10 with the official checkpoint was not measured here."] if is_missing else []), *left_out]
