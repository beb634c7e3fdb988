"""Results -> report.html, report.md and junit.xml, and the published table of the readmes.

What is there of results/<chip>/bs<n>/{accuracy,perf,compare}.json is grouped by what it was made from: official, own
or sample data and checkpoint, own models. Groups share no table and no figure. Published figures are quotations: they
stand in columns and curves of their own, and the published accuracy beside the official group alone. The page needs no
network and no script; the same results give the same bytes. A JSON that cannot be read is left out, and named.
"""

from __future__ import annotations

import _build
from _build import Record, die, plain, read_record, write_text

import argparse
import base64
import io
import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import tables
from outputs import CLASSES
from plots import Curve, legend, plot
from provenance import WORDS
from results import Result, collect, unlike
from tables import NONE, Quoted, References, Table, escaped, published_table
from verify import judged

TITLE = "Residual Attention Network for CIFAR-10: results"
FIGURE = r"(\d+(?:\.\d+)?)"
OFFICIAL, SAMPLE = ("official", "official", ""), ("sample", "sample", "")
METHOD = (
    "Published in Ascend's ModelZoo, quoted, not measured here, and not one method. 310 and 310P: ais_bench's device "
    "time, no copies, padding counted as work. T4: trtexec in fp16. Whether the 310 figures hold four chips is not "
    "stated."
)


class Settings(NamedTuple):
    """What the flags say that every section needs."""

    sizes: list[int]
    bins: Path
    references: References
    quoted: Quoted


class Part(NamedTuple):
    """A piece of a section: a sentence, a table, figures or pictures."""

    note: str = ""
    table: Table | None = None
    figures: list[Record] = []
    pictures: list[str] = []  # a data: url for each row of the table, which is then markdown's alone


class Section(NamedTuple):
    name: str
    title: str
    parts: list[Part]
    css: str = ""


def figure(name: str, title: str, unit: str, curves: list[Curve], sizes: list[int], caption: str) -> Record:
    return {"svg": plot(name, title, unit, curves, sizes), "legend": legend(curves), "title": title, "caption": caption}


def quoted_curves(quoted: Quoted) -> list[Curve]:
    """The published throughput of each device."""
    rows = {
        device: sorted((int(batch), float(rate), float(rate)) for batch, rate in row.items())
        for device, row in quoted.throughput.items()
    }
    return [Curve(f"published: {device}", points, quoted=True) for device, points in rows.items()]


def perf_figures(name: str, results: list[Result], sizes: list[int], quoted: Quoted | None) -> list[Record]:
    """Throughput, with the quoted curves if they are given, and latency over the batch size."""
    rates, times = [], []
    for label, members, best in tables.series_of(results):
        found = [(result.batch, tables.device_rates(result)) for result in members]
        speeds = [(batch, device["throughput_images_per_s"]) for batch, device in found]
        rates.append(Curve(label, [(batch, speed, speed) for batch, speed in speeds], best=best))
        waits = [(batch, device["latency_ms"]) for batch, device in found]
        times.append(Curve(label, [(batch, wait["p50"], wait["p99"]) for batch, wait in waits]))
    others = quoted_curves(quoted) if quoted else []
    said = "Solid: measured here, on the device. " + (f"Dashed and hollow: {METHOD}" if others else "")
    waited = "Measured here, on the device: p50, whisker to p99. No latencies are published."
    return [
        figure(f"{name}-throughput", "Throughput over batch size", "images/s", rates + others, sizes, said),
        figure(f"{name}-latency", "Latency over batch size", "ms a batch", times, sizes, waited),
    ]


def picture(path: Path) -> str:
    """A bin, float32 [3, 32, 32] in 0..1, as a data: url of a PNG; ValueError if it is none."""
    from PIL import Image

    image = np.fromfile(path, np.float32)
    pixels = np.nan_to_num(image.reshape(3, 32, 32).transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def mistakes_part(result: Result, bins: Path) -> list[Part]:
    """The images most surely misclassified: a table, with pictures if the bins here are those of this result."""
    mistakes = result.records["accuracy"].get("mistakes")
    where = f"on {plain(result.chip)} at batch size {result.batch}"
    if not mistakes:
        why = "no image was misclassified" if mistakes == [] else "its accuracy.json does not name them"
        return [Part(f"Most surely misclassified {where}: {why}.")]
    mistakes = mistakes[:24]
    rows = [
        [str(m["image"]), CLASSES[m["label"]], CLASSES[m["found"]], f"{100 * m['probability']:.1f} %"] for m in mistakes
    ]
    table = Table(f"Most surely misclassified {where}", ["image", "true", "said", "probability"], rows, "rllr", keys=1)
    if read_record(bins).get("digest") != result.made.get("bins", ""):
        return [Part("There are no pictures: the bins here are not those of this result."), Part(table=table)]
    try:
        return [Part(table=table, pictures=[picture(bins.with_name(f"image_{m['image']}.bin")) for m in mistakes])]
    except (OSError, ValueError):
        return [Part("There are no pictures: a bin is missing or damaged."), Part(table=table)]


def title_of(group: tuple[str, ...]) -> str:
    """What a group was made from, in the words of accuracy.txt."""
    if group in (OFFICIAL, SAMPLE):
        return "CIFAR-10 with the official checkpoint" if group == OFFICIAL else "THE BUILT-IN SAMPLE, not CIFAR-10"
    data, checkpoint, given = group
    return f"{WORDS[data]} data, " + (given or f"{WORDS[checkpoint]} checkpoint")


def section_of(i: int, group: tuple[str, ...], results: list[Result], settings: Settings) -> Section:
    """All that is known of one group's results."""
    name, sizes = f"group-{i}", settings.sizes
    quoted = settings.quoted if group == OFFICIAL else None
    kinds = {kind for result in results for kind in result.records}
    parts = [Part("These figures show that the chain works, no more.")] if group == SAMPLE else []
    names = unlike(results)
    if names:
        parts.append(Part(f"Not all rows were made from the same: they differ in {', '.join(names)}."))
    if kinds & {"accuracy", "compare"}:
        parts.append(Part(table=tables.accuracy_table(results, sizes, settings.references, quoted)))
    else:
        parts.append(Part(f"Accuracy: {NONE}."))
    if "perf" in kinds:
        methods = {plain(r.records["perf"].get("method", "")): 1 for r in results if "perf" in r.records}
        parts.append(Part(table=tables.perf_table(results, sizes)))
        parts += [Part(f"How it was timed: {method}") for method in methods if method]
        parts.append(Part(figures=perf_figures(name, results, sizes, quoted)))
    else:
        parts.append(Part(f"Throughput and latency: {NONE}."))
    shown = tables.chosen(results)
    if shown:
        parts += [Part(table=tables.confusion_table(shown)), *mistakes_part(shown, settings.bins)]
    parts += [Part(table=table) for table in tables.made_tables(results)]
    return Section(name, title_of(group), parts, "" if group == OFFICIAL else "other")


def quotations(quoted: Quoted, sizes: list[int], alone: bool) -> Section:
    """The published throughput; `alone`, with its curves, if no measured ones share a figure with them."""
    every = sorted({*sizes, *(int(n) for row in quoted.throughput.values() for n in row)})
    rows = [[device, top1] for device, top1 in quoted.accuracy.items()]
    top1 = Table("Published Top-1 in per cent, 10,000 test images", ["device", "Top-1"], rows, "lr", keys=1)
    parts = [Part(table=top1)] * bool(rows)
    parts += [Part(METHOD), Part(table=tables.published_rows(quoted.throughput, every))]
    if alone:
        title = "Quotations: published throughput over batch size"
        parts.append(Part(figures=[figure("quoted", title, "images/s", quoted_curves(quoted), every, "")]))
    return Section("published", "Published elsewhere, quoted", parts)


def sections_of(results: list[Result], settings: Settings) -> list[Section]:
    """The official group first, the sample last, and then the quotations, unless all was made by given models."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(result.group(), []).append(result)
    order = sorted(groups, key=lambda group: (group != OFFICIAL, group == SAMPLE, group))
    sections = [section_of(i, group, groups[group], settings) for i, group in enumerate(order, 1)]
    if settings.quoted.throughput and not all(given for _, _, given in order):
        alone = not any("perf" in result.records for result in groups.get(OFFICIAL, []))
        sections.append(quotations(settings.quoted, settings.sizes, alone))
    return sections


def notes_of(results: list[Result], left_out: list[str]) -> list[str]:
    missing = all(result.group() != OFFICIAL for result in results)
    return [*(["CIFAR-10 with the official checkpoint was not measured here."] if missing else []), *left_out]


def markdown(sections: list[Section], notes: list[str]) -> str:
    """report.md: the page's words and tables."""
    blocks = [f"# {TITLE}", *map(escaped, notes)]
    for section in sections:
        blocks.append(f"## {escaped(section.title)}")
        for part in section.parts:
            blocks += [escaped(part.note)] * bool(part.note)
            blocks += [f"**{escaped(part.table.caption)}**", tables.markdown_table(part.table)] if part.table else []
    return "\n\n".join(blocks) + "\n"


def html(sections: list[Section], notes: list[str]) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(_build.SCRIPTS)
    page = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return page.get_template("report.html.j2").render(title=TITLE, sections=sections, notes=notes) + "\n"


def junit(results: list[Result], references: References) -> str:
    """The gate's verdicts for CI: a test case an accuracy.json; without a reference it is skipped."""
    judged_ones = [result for result in results if "accuracy" in result.records]
    suite = ElementTree.Element("testsuite", name="accuracy gate")
    totals = {"passed": 0, "failed": 0, "no reference": 0}
    for result in judged_ones:
        record = result.records["accuracy"]
        verdict, found, remedy = judged(record, result.chip, references.get(result.chip, {}))
        totals[verdict] += 1
        name = f"bs{result.batch} ({record['source']})"
        case = ElementTree.SubElement(suite, "testcase", classname=plain(result.chip), name=name)
        if verdict != "passed":
            tag = "failure" if verdict == "failed" else "skipped"
            ElementTree.SubElement(case, tag, message=plain(f"{found}; {remedy}"))
    counts = {"tests": len(judged_ones), "failures": totals["failed"], "skipped": totals["no reference"]}
    suite.attrib.update({name: str(value) for name, value in counts.items()})
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    ElementTree.indent(whole)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(whole, "unicode") + "\n"


def quote(path: Path, throughput: dict[str, dict[str, str]]) -> None:
    """Puts the published table between the marks of a readme, under the word that heads its first column there."""
    text = path.read_text("utf-8")
    found = re.search(r"(?<=\n)<!-- published:[^\n]*-->\n(\| *([^|\n]+?) *\|.*?\n)?(?=<!-- end -->)", text, re.DOTALL)
    if not found:
        print(f"  {path}: no lines <!-- published: … --> and <!-- end -->, so no table was put there")
        return
    sizes = sorted({int(batch) for row in throughput.values() for batch in row})
    start = found.group().split("\n", 1)[0]
    table = published_table(throughput, sizes, found.group(2) or "batch")
    changed = f"{text[: found.start()]}{start}\n{table}\n{text[found.end() :]}"
    if changed != text:
        write_text(path, changed)
        print(f"  {path}: its published table is written anew, from params.yaml")


def pairs(parser: _build.Parser, flag: str, words: list[str], form: str) -> list[Any]:
    """The parts of each word of `form`, a regular expression; a word of another form is a wrong call."""
    found = []
    for word in " ".join(words).split():
        match = re.fullmatch(form, word)
        if not match:
            parser.error(f"{flag}: {word!r} is not of the form that it takes")
        found.append(match.groups(""))
    return found


def throughput_of(parser: _build.Parser, words: list[str]) -> dict[str, dict[str, str]]:
    """The published images/s by device and batch size, as written, in the order given."""
    found: dict[str, dict[str, str]] = {}
    for device, batch, rate in pairs(parser, "--published-throughput", words, rf"([^=:]+):([1-9]\d*)={FIGURE}"):
        found.setdefault(device, {})[batch] = rate
    return found


def settings_of(parser: _build.Parser, args: argparse.Namespace) -> Settings:
    """The flags' values; exits 2 on one of another form."""
    accuracy = dict(pairs(parser, "--published-accuracy", args.published_accuracy, rf"([^=]+)={FIGURE}"))
    chips = dict(pairs(parser, "--chips", args.chips, r"([^=]+)(?:=([^=]*))?"))
    references: References = {}
    gates = pairs(parser, "--reference", args.reference, rf"([^=:]+):([^=]+)={FIGURE},{FIGURE}")
    for source, chip, reference, tolerance in gates:
        references.setdefault(chip, {})[source] = [float(reference), float(tolerance)]
    quoted = Quoted(accuracy, throughput_of(parser, args.published_throughput), chips)
    return Settings(args.batch_sizes, args.bins, references, quoted)


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--bins", type=Path, required=True, help="their manifest.json")
    parser.add_argument("--out", type=Path, required=True, help="report.html; the others lie beside it")
    parser.add_argument("--published-accuracy", nargs="*", default=[], help="GPU=95.40 …, in per cent")
    parser.add_argument("--published-throughput", nargs="*", default=[], help="310:16=3533.76 …, in images/s")
    parser.add_argument("--chips", nargs="*", default=[], help="cpu=GPU …: whose published accuracy to quote")
    parser.add_argument("--reference", nargs="*", default=[], help="cifar10:cpu=95.34,0.10 …: the gate, in per cent")
    parser.add_argument("--batch-sizes", nargs="+", type=int, required=True)
    parser.add_argument("--readme", nargs="*", type=Path, default=[], help="these files get the published table")
    args = parser.parse_args()
    settings = settings_of(parser, args)
    results, left_out = collect(args.results, list(settings.quoted.chips))
    print("".join(f"  {line}\n" for line in left_out), end="")
    if not results:
        remedy = "type: make accuracy with this ROOT=, or after make demo: make report ROOT=demo"
        die(args.results, "no results that can be read", remedy)
    sections, notes = sections_of(results, settings), notes_of(results, left_out)
    pages = {
        args.out: html(sections, notes),
        args.out.with_name("report.md"): markdown(sections, notes),
        args.out.with_name("junit.xml"): junit(results, settings.references),
    }
    for path, text in pages.items():
        write_text(path, text)
    for path in args.readme:
        quote(path, settings.quoted.throughput)
    print(f"All of it: {args.out}, with report.md and junit.xml beside it")


if __name__ == "__main__":
    main()
