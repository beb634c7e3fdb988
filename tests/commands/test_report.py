"""Results -> report.html, report.md, results.csv, junit.xml. All figures here are invented, none was measured."""

from __future__ import annotations

from _support import artifact

import base64
import csv
import html.parser
import io
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import TREE, accuracy_figures, damaged_scenarios, refused, scenarios, script
from reporting import tables
from reporting.curves import steps
from reporting.records import CHECKS

THROUGHPUT = {"310": {"1": "672.122", "16": "3533.76"}, "310P": {"1": "1017.57", "16": "7806.96"}}
QUOTES = [f"{device}:{batch}={rate}" for device, row in THROUGHPUT.items() for batch, rate in row.items()]
HOSTILE = "<script>alert(1)</script>\"'|`[x](http://x.example)\n\u202e\ud800"


class Tree:
    """Invented results and bins in one folder, and the pages built from them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results, self.bins = folder, folder / "results", folder / "bin/manifest.json"
        self.bins.parent.mkdir()
        images = np.random.default_rng(1).random((4, 3, 32, 32), np.float32)
        for i, image in enumerate(images):
            image.tofile(self.bins.parent / f"image_{i}.bin")
        self.bins.write_text(json.dumps({"digest": "bins", "count": 4, "provenance": {"archive": f"{2:064x}"}}))

    def provenance(self, chip: str, batch: int, origin: str, **more: object) -> dict[str, object]:
        entries: dict[str, object] = {"data_origin": origin, "checkpoint_origin": origin, "chip": chip, "bins": "bins"}
        entries.update(batch_size=batch, precision="float32", runtime="a runtime", host="a host", optimized=f"{1:064x}")
        return {**entries, "archive": f"{2:064x}", "checkpoint": f"{3:064x}", "model": f"{batch:064x}", **more}

    def write(self, chip: str, batch: int, kind: str, record: object) -> None:
        path = self.results / chip / f"bs{batch}" / f"{kind}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        page = path.with_suffix(".txt")
        page.touch()
        if isinstance(record, dict):
            artifact.write_record(path, {"sha256": artifact.digest(page), **record})
        else:
            path.write_text(record if isinstance(record, str) else json.dumps(record))

    def accuracy(self, chip: str, batch: int, top1: float, origin: str = "official", **more: Any) -> dict[str, Any]:
        total = 1000 if origin == "sample" else 10000
        record: dict[str, Any] = {**accuracy_figures(round(top1 * total), total)}
        record["source"] = "sample" if origin == "sample" else "cifar10"
        mistakes = [{"image": i, "label": 3, "found": 5, "probability": 0.998 - i / 100} for i in (2, 0)]
        record.update(mistakes=mistakes, provenance=self.provenance(chip, batch, origin, **more))
        self.write(chip, batch, "accuracy", record)
        return record

    def perf(self, chip: str, batch: int, rate: float, origin: str = "official", **more: Any) -> dict[str, Any]:
        times = {"mean": 1.5, "min": 1.0, "max": 9.0, "p50": 1.25, "p90": 2.5, "p99": 7.125}
        stable = more.pop("stable", True)
        record: dict[str, Any] = {"batch_size": batch, "queries": 321, "throughput_images_per_s": rate}
        record.update(latency_ms=times, device={"name": "d", "throughput_images_per_s": rate, "latency_ms": times})
        record.update(end_to_end={"what": "all", "throughput_images_per_s": rate / 4}, stable=stable)
        record.update(scenarios=scenarios([] if stable else ["drift of 9 %", HOSTILE]), method="by a planted clock")
        record.update(provenance=self.provenance(chip, batch, origin, **more))
        self.write(chip, batch, "perf", record)
        return record

    def compare(self, chip: str, batch: int, origin: str = "official", **more: Any) -> dict[str, Any]:
        record: dict[str, Any] = {"agreement": 0.9987, "mended": 4, "broken": 6, "other": 3, "mcnemar_p": 0.754}
        record.update(provenance=self.provenance(chip, batch, origin, **more))
        self.write(chip, batch, "compare", record)
        return record

    def run(self) -> Any:
        return script(
            *("report", "--results", self.results, "--bins", self.bins, "--out", self.results / "report.html"),
            *("--published-accuracy", "GPU=95.40", "310P3=95.34", "--published-throughput", *QUOTES),
            *("--chips", "cpu=GPU,95.40", "310P3=310P3,95.34", "910A=", "--references", "cifar10:cpu=95.34,0.10"),
            *("sample:cpu=99.90,0.20", "--batch-sizes", 1, 16),
        )

    def page(self, name: str = "report.html") -> str:
        done = self.run()
        assert done.returncode == 0, done.stderr
        return (self.results / name).read_text("utf-8")

    def full(self) -> Tree:
        """Official, own and sample results on three chips."""
        for batch, rate in ((1, 100.5), (16, 222.25)):
            self.accuracy("cpu", batch, 0.9526)
            self.perf("cpu", batch, rate)
        self.compare("cpu", 16)
        self.accuracy("310P3", 16, 0.9012)
        self.perf("310P3", 8, 6543.21, stable=False)
        self.accuracy("910A", 16, 0.8123, "own", given="own .om", bins="others")
        self.accuracy("cpu", 4, 0.998, "sample")
        self.perf("cpu", 4, 77.75, "sample")
        return self


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


class Reader(html.parser.HTMLParser):
    """The page as sections, {title: text}, and every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title, self.inside, self.style = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag
        if tag == "h2":
            self.title = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "h2":
            self.title += data.strip()
        self.sections[self.title] = self.sections.get(self.title, "") + data


def tables_of(markdown: str) -> Iterator[list[list[str]]]:
    """The cells of each table of a Markdown page: the header, the rule and the rows."""
    for block in re.findall(r"(?:^\|.*\n?)+", markdown, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        yield [[cell.strip() for cell in row] for row in rows]


OFFICIAL, SAMPLE = "CIFAR-10 with the official checkpoint", "Built-in sample, not CIFAR-10"


def test_groups_share_nothing(tree: Tree) -> None:
    page, text = tree.full().page(), tree.page("report.md")
    sections = Reader(page).sections
    groups = [OFFICIAL, "own data, own .om", SAMPLE, "Published figures, not measured here"]
    assert list(sections)[1:] == ["Summary", *groups, "Terms"]
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(sections)[1:]
    for title, figures in (
        (OFFICIAL, ("95.26", "222.25")),
        (SAMPLE, ("99.80", "77.75")),
        ("own data, own .om", ("81.23",)),
    ):
        for figure in figures:
            assert [name for name, words in sections.items() if figure in words and name != "Summary"] == [title]
            parts = text.split("\n## ")[2:]  # without the title and the summary
            assert [part.split("\n")[0] for part in parts if figure in part] == [title]
    assert "only show that the pipeline runs" in sections[SAMPLE]
    assert "no results for CIFAR-10" not in page


def test_records_of_different_inputs_do_not_share_a_row(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    tree.compare("cpu", 16, model="another")
    rows = [row for row in next(tables_of(tree.page("report.md"))) if row[1] == "16"]
    assert [[row[2], row[6]] for row in rows] == [["95.26", "not measured"], ["not measured", "99.87"]]


def test_missing_measurements_are_stated(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    tree.accuracy("cpu", 5, 0.9527)
    text = tree.page("report.md")
    accuracy = next(tables_of(text))
    assert [row[:2] for row in accuracy[2:]] == [["cpu", "1"], ["cpu", "5"], ["cpu", "16"]]
    assert accuracy[2][2:9] == ["not measured"] * 7
    assert accuracy[4][6:9] == ["not measured"] * 3
    assert "Throughput and latency: not measured." in text
    assert "Throughput and latency: not measured." in tree.page()


@pytest.mark.parametrize(("origin", "given"), [("sample", ""), ("own", ""), ("official", "own .onnx")])
def test_published_accuracy_is_quoted_only_in_the_official_group(tree: Tree, origin: str, given: str) -> None:
    tree.accuracy("cpu", 16, 0.9526, origin, given=given)
    tree.perf("cpu", 16, 222.25, origin, given=given)
    for name in ("report.html", "report.md"):
        page = tree.page(name)
        assert "no results for CIFAR-10 with the official checkpoint" in page
        measured, _, quoted = page.partition('id="published"' if "html" in name else "## Published figures")
        assert "95.40" not in measured
        assert "95.34" not in measured
        assert ("95.40" in quoted) == ("3533.76" in quoted) == (not given)  # in a separate section
        assert "3533.76" not in page.split("Published figures, not measured")[0]
    if not given:
        assert "Published throughput over batch size" in tree.page()


def test_published_figures_have_separate_columns_and_curves(tree: Tree) -> None:
    page, text = tree.full().page(), tree.page("report.md")
    accuracy = next(tables_of(text))
    assert accuracy[0][-1] == "published Top-1 %, quoted"
    assert {row[-1] for row in accuracy[2:]} == {"95.40 (GPU)", "95.34 (310P3)"}
    official, rest = page.split('<section id="group-2"')
    assert official.count('class="curve quoted"><path class="line" d="M') == 2 + 2  # and two keys
    assert "published: 310P" in official
    assert "trtexec in fp16" in official
    assert 'class="curve quoted' not in rest  # neither with the sample, nor twice


def test_the_best_batch_size_is_the_fastest_whether_stable_or_not(tree: Tree) -> None:
    for batch, rate, stable in ((1, 10.0, True), (16, 99.0, False), (4, 50.0, True)):
        tree.perf("cpu", batch, rate, stable=stable)
    rows = list(tables_of(tree.page("report.md")))[0]
    assert [row[2] for row in rows[2:]] == ["10.00", "50.00", "best 99.00"]
    assert rows[-1][8].startswith("no: Offline: drift of 9 %; ")
    assert tree.page().count('class="ring"') == 1


def test_rows_of_different_inputs_are_labelled_and_share_no_curve(tree: Tree) -> None:
    tree.perf("cpu", 1, 10, resize="nearest")
    tree.perf("cpu", 16, 20, optimized="f" * 64, resize="exact")
    page, text = tree.page(), tree.page("report.md")
    assert "They differ in: optimized, resize." in text
    inputs = [row[-1] for row in next(tables_of(text))[2:]]
    assert inputs == ["optimized 000000000000, resize nearest", f"optimized {'f' * 12}, resize exact"]
    assert f"cpu, float32, {'f' * 12}" in page
    assert 'class="ring"' not in page


def test_strings_of_records_are_escaped(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526, "own", given=HOSTILE, runtime=HOSTILE, optimized=HOSTILE)
    tree.perf("cpu", 1, 5, "own", given=HOSTILE, runtime=HOSTILE, stable=False)
    tree.accuracy("<b>x", 16, 0.9, "sample")
    page = tree.page()
    assert "<script" not in page
    assert "<b>" not in page
    assert not [tag for tag, _ in Reader(page).tags if tag in ("script", "b")]
    text = tree.page("report.md")
    assert "<script" not in text
    assert "](" not in text.replace("\\](", "")
    assert "\u202e" not in page + text
    ElementTree.parse(tree.results / "junit.xml")


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", '{"top1": "x"}', "\udcff", "[" * 100000, "NaN", "chip", "top1", "huge", "origin", "wilson"],
)
def test_a_damaged_record_is_left_out_and_named(tree: Tree, damage: str) -> None:
    tree.accuracy("cpu", 1, 0.9526)
    record = tree.accuracy("310P3", 16, 0.9)
    changes: dict[str, Any] = {"top1": {"top1": float("nan")}, "huge": {"top1": 10**400}, "wilson": {"wilson95": [1]}}
    changes["origin"] = {"provenance": {"data_origin": ["official"], "checkpoint_origin": "official"}}
    changes["chip"] = {"provenance": {**record["provenance"], "chip": "cpu"}}
    path = tree.results / "310P3/bs16/accuracy.json"
    text = json.dumps({**record, **changes[damage]}) if damage in changes else damage
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = tree.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("  310P3/bs16/accuracy.json is left out of the report: ")
    for name in ("report.html", "report.md"):
        page = (tree.results / name).read_text("utf-8")
        assert "310P3/bs16/accuracy.json is left out of the report" in page
        assert "95.26" in page


RATES = {"throughput_images_per_s": 1.0, "latency_ms": {"p50": 1.0, "p90": 1.0, "p99": 1.0}}


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        ("accuracy", "top1", [True, "0.9", None, -1, 2, 1e12, float("nan")]),
        ("accuracy", "correct", [1.5, True, -1]),
        ("accuracy", "total", [0, "10000", True, 10000.0]),
        ("accuracy", "wilson95", [[0.5], [0.5, 2], [0.5, 0.6, 0.7], [0.5, None], {"0": 0.5, "1": 0.6}]),
        ("accuracy", "source", ["mine", ["sample"]]),
        ("accuracy", "run", [None, [], {"date": 1}, {"clean": "yes"}, {"paths": []}, {"paths": {"data": 1}}]),
        ("accuracy", "confusion", [[], [[0] * 10] * 9, [[0] * 9] * 10, [[0.5] * 10] * 10]),
        ("accuracy", "mistakes", [None, {}, [1], [{"image": 0, "label": 10, "found": 1, "probability": 0.5}]]),
        ("perf", "throughput_images_per_s", [0, None, [1.0]]),
        ("perf", "latency_ms", [{}, [1.0] * 3, {**RATES["latency_ms"], "p99": 0}]),
        ("perf", "queries", [1.0, None]),
        ("perf", "batch_size", [0, None, True, "16"]),
        ("perf", "stable", ["yes", None, 2]),
        ("perf", "device", [None, {}, {**RATES, "latency_ms": {}}]),
        ("perf", "end_to_end", [None, {}, {"throughput_images_per_s": 0}]),
        ("perf", "scenarios", [None, [], {}, {"Offline": scenarios([])["Offline"]}, *damaged_scenarios()]),
        *(("compare", name, [2, float("nan")]) for name in ("agreement", "mcnemar_p")),
        *(("compare", name, [None, "1", True]) for name in ("agreement", "mended", "broken", "other", "mcnemar_p")),
    ],
)
def test_a_record_with_one_invalid_field_is_rejected_by_its_name(
    tree: Tree, kind: str, field: str, values: list[Any]
) -> None:
    plant = {"accuracy": lambda: tree.accuracy("cpu", 16, 0.9), "perf": lambda: tree.perf("cpu", 16, 5.0)}
    record = plant.get(kind, lambda: tree.compare("cpu", 16))()
    check = CHECKS[kind]
    assert check(record) == ""
    for value in values:
        assert check({**record, field: value}).endswith(f"({field})"), value
    for provenance in (None, {}, {**record["provenance"], "data_origin": "mine"}, {**record["provenance"], "given": 1}):
        assert check({**record, "provenance": provenance}).endswith("(provenance)"), provenance


def test_figures_that_contradict_each_other_are_rejected(tree: Tree) -> None:
    record = tree.accuracy("cpu", 16, 0.9)
    check = CHECKS["accuracy"]
    assert check({**record, "top1": 0.95}).endswith("top1 is 0.95, but 9000 of 10000 images are correct")
    assert check({**record, "correct": 10001}).endswith("10001 correct of 10000 images")
    assert check({**record, "wilson95": [0.95, 0.96]}).endswith("its interval is 0.95 to 0.96")
    assert check({**record, "total": 9000, "top1": 1.0, "wilson95": [0.9, 1]}).endswith("9000 correct of 9000 images")


def test_junit_has_an_error_for_each_accuracy_that_is_left_out(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    tree.accuracy("310P3", 1, 0.9)
    tree.write("cpu", 1, "accuracy", "{")
    (tree.results / "310P3/bs1/accuracy.json").unlink()
    suite = ElementTree.fromstring(tree.page("junit.xml").encode()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("errors")) == ("3", "2")
    errors = {(case.get("classname"), case.get("name")): case.find("error") for case in suite}
    assert errors["cpu", "bs16 (cifar10)"] is None
    for chip, word in (("cpu", "damaged"), ("310P3", "no such file")):
        error = errors[chip, "bs1"]
        assert error is not None
        assert word in str(error.get("message"))
        assert f"make accuracy CHIP={chip} BS=1" in str(error.get("message"))
    assert "310P3/bs1/accuracy.json is left out of the report: no such file; type: rm -f " in tree.page("report.md")


def test_without_readable_results_no_verdict_of_an_earlier_report_is_left(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    assert "error" not in tree.page("junit.xml").split("<testcase")[1]
    tree.write("cpu", 16, "accuracy", "{")
    for name in ("report.html", "report.md", "results.csv"):
        (tree.results / name).write_text("Top-1 95.26 %, passed")
    refused(tree.run(), "no readable results; see the lines above")
    assert not [name for name in ("report.html", "report.md", "results.csv") if (tree.results / name).exists()]
    assert "<error " in (tree.results / "junit.xml").read_text()
    shutil.rmtree(tree.results / "cpu")
    refused(tree.run(), "no readable results")
    assert not (tree.results / "junit.xml").exists()


def test_without_results_the_error_names_the_remedy(tree: Tree) -> None:
    refused(tree.run(), "no readable results", "make accuracy")
    tree.write("reference", 16, "accuracy", tree.accuracy("cpu", 16, 0.9))
    shutil.rmtree(tree.results / "cpu")
    refused(tree.run(), "no readable results", "make accuracy")
    assert not list(tree.results.glob("report*"))


@pytest.mark.parametrize(
    "flag",
    [
        *("--published-throughput=310=1", "--published-throughput=310:0=1", "--published-accuracy=GPU=a"),
        *("--references=cpu=1", "--references=cifar10:cpu=95.34", "--chips=cpu", "--chips=cpu=GPU"),
    ],
)
def test_a_malformed_argument_is_a_usage_error(flag: str) -> None:
    done = script("report", "--batch-sizes", 1, "--results", "x", "--bins", "x", "--out", "x", flag)
    name, word = flag.split("=", 1)
    refused(done, f"{name}: '{word}' does not have the form ", status=2)


def test_the_same_results_give_the_same_bytes_in_any_folder(tree: Tree, tmp_path: Path) -> None:
    tree.full().page()
    names = ("report.html", "report.md", "results.csv", "junit.xml")
    first = [(tree.results / name).read_bytes() for name in names]
    other = tmp_path / "other"
    shutil.copytree(tree.folder, other, ignore=shutil.ignore_patterns("other"))
    tree.folder, tree.results, tree.bins = other, other / "results", other / "bin/manifest.json"
    tree.page()
    assert [(tree.results / name).read_bytes() for name in names] == first
    assert not [data for data in first if str(tmp_path).encode() in data]


def test_the_page_requests_no_resources(tree: Tree) -> None:
    page = tree.full().page()
    reader = Reader(page)
    assert "url(" not in page
    assert "@import" not in page
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert dict(reader.tags)["html"]["lang"] == "en"
    assert page.count("<caption>") == page.count("<table")
    assert page.count('<svg class="plot"') == page.count("<desc")


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_header(tree: Tree) -> None:
    tree.full().accuracy("cpu", 16, 0.9, "own", given=HOSTILE, runtime=HOSTILE)
    all_tables = list(tables_of(tree.page("report.md")))
    assert len(all_tables) > 10
    for table in all_tables:
        assert {len(row) for row in table} == {len(table[0])}
        assert all(re.fullmatch("---:?", rule) for rule in table[1])


def test_markdown_contains_the_figures_of_the_records(tree: Tree) -> None:
    tree.full()
    official = tree.page("report.md").split(f"\n## {OFFICIAL}")[1].split("\n## ")[0]
    for row in [row for table in list(tables_of(official))[:2] for row in table[2:]]:
        folder = tree.results / row[0] / f"bs{row[1]}"
        records = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
        if len(row) == 10 and row[2] != "not measured":
            record = records["accuracy"]
            assert [row[2], row[4]] == [f"{100 * record['top1']:.2f}", f"{record['correct']}/{record['total']}"]
            assert row[3] == "{:.2f} to {:.2f}".format(*(100 * end for end in record["wilson95"]))
        elif len(row) == 9 and row[2] != "not measured":
            record = records["perf"]
            assert float(row[2].replace("best ", "")) == pytest.approx(record["throughput_images_per_s"], abs=5e-3)
            assert [float(cell) for cell in row[4:7]] == [record["latency_ms"][k] for k in ("p50", "p90", "p99")]
            assert row[7] == str(record["queries"])
    for digest in (f"{1:064x}", f"{16:064x}"):
        assert digest in official
        assert f'title="{digest}">{digest[:12]}<' in tree.page()


def test_junit_contains_the_verdicts_of_the_gate(tree: Tree) -> None:
    tree.full().accuracy("cpu", 1, 0.9523)
    suite = ElementTree.fromstring(tree.page("junit.xml").encode()).find("testsuite")
    assert suite is not None
    assert suite.attrib == {"name": "accuracy gate", "tests": "5", "failures": "1", "errors": "0", "skipped": "2"}
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert set(cases) == {
        *(("cpu", "bs1 (cifar10)"), ("cpu", "bs16 (cifar10)"), ("cpu", "bs4 (sample)")),
        *(("310P3", "bs16 (cifar10)"), ("910A", "bs16 (own)")),
    }
    failure = cases["cpu", "bs1 (cifar10)"].find("failure")
    assert failure is not None
    assert "Top-1 95.23% is below 95.34% - 0.10%" in str(failure.get("message"))
    assert cases["910A", "bs16 (own)"].find("skipped") is not None
    assert [child.tag for child in cases["cpu", "bs4 (sample)"]] == ["properties"]


def test_pictures_have_the_pixels_of_the_bins(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    page = tree.page()
    images = [attributes for tag, attributes in Reader(page).tags if tag == "img"]
    assert [image["alt"] for image in images] == ["image 2: cat, predicted dog", "image 0: cat, predicted dog"]
    for image, i in zip(images, (2, 0)):
        data = base64.b64decode(str(image["src"]).split(",", 1)[1])
        expected = np.fromfile(tree.bins.with_name(f"image_{i}.bin"), np.float32).reshape(3, 32, 32)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.round(expected.transpose(1, 2, 0) * 255))
    assert "cat → dog, 97.8\u00a0%" in page


@pytest.mark.parametrize(
    "fault", ["other bins", "no bins", "a bin is missing", "a short bin", "no mistakes", "none known"]
)
def test_the_page_states_why_there_are_no_pictures(tree: Tree, fault: str) -> None:
    record = tree.accuracy("cpu", 16, 0.9526, archive=f"{4 if fault == 'other bins' else 2:064x}")
    if fault == "no bins":
        shutil.rmtree(tree.bins.parent)
    elif fault == "a bin is missing":
        tree.bins.with_name("image_2.bin").unlink()
    elif fault == "a short bin":
        tree.bins.with_name("image_2.bin").write_bytes(b"x" * 100)
    elif fault == "no mistakes":
        tree.write("cpu", 16, "accuracy", {**record, "mistakes": []})
    elif fault == "none known":
        tree.write("cpu", 16, "accuracy", {k: v for k, v in record.items() if k != "mistakes"})
    page = tree.page()
    assert "<img" not in page
    assert ("No pictures: " in page) == ("mistake" not in fault and "known" not in fault)
    assert ("no image was misclassified" in page) == (fault == "no mistakes")


def test_changed_predictions_are_in_the_order_of_the_header(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    tree.compare("cpu", 16)
    accuracy = next(tables_of(tree.page("report.md")))
    assert accuracy[0][7] == "fixed / broken / other"
    assert accuracy[-1][6:9] == ["99.87", "4 / 6 / 3", "0.754"]


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_readmes_published_table_is_todays(name: str) -> None:
    readme = (TREE / name).read_text("utf-8")
    params = yaml.load((TREE / "params.yaml").read_text("utf-8"), yaml.BaseLoader)
    throughput = params["published"]["throughput"]
    sizes = sorted({int(batch) for row in throughput.values() for batch in row})
    devices = " | ".join(throughput)
    (head,) = re.findall(rf"^\| (.+) \| {re.escape(devices)} \|$", readme, re.MULTILINE)
    assert f"\n{tables.published_table(throughput, sizes, head)}\n" in readme


def test_the_report_changes_no_file_outside_the_results(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    before = {path: path.read_bytes() for path in TREE.glob("README*")}
    tree.page()
    assert {path: path.read_bytes() for path in TREE.glob("README*")} == before
    refused(script("report", "--readme", "README.md"), "arguments", status=2)


def test_the_report_shows_the_conditions_of_each_result(tree: Tree) -> None:
    tree.perf("cpu", 16, 222.25, driver="a driver", threads=4, images_a_request=8)
    (table,) = [table for table in tables_of(tree.page("report.md")) if "records" in table[0]]
    always = ["runtime", "precision", "device", "driver", "threads", "host", "python", "numpy"]
    assert table[0][3:] == [*always, "images a request"]
    assert table[2] == ["cpu", "16", "perf", "a runtime", "float32", "–", "a driver", "4", "a host", "–", "–", "8"]


def summary_of(page: str) -> dict[str, dict[str, str]]:
    """The summary of report.md: {title of a card: {label: text}}."""
    (part,) = re.findall(r"\n## Summary\n(.*?)\n## ", page, re.DOTALL)
    cards = re.findall(r"^\*\*(.*)\*\*\n\n((?:- .*\n?)+)", part, re.MULTILINE)
    return {title: dict(re.findall(r"^- (.*?): (.*)$", lines, re.MULTILINE)) for title, lines in cards}


NOT_COMPARED = "not compared: the figures are of CIFAR-10 and the official checkpoint"
RUN = {"date": "2026-05-04T03:02:01Z", "host_name": "a-computer", "cpu": "a CPU", "version": "9.8.7"}


def test_the_page_begins_with_what_a_person_would_quote(tree: Tree) -> None:
    tree.full()
    for path in tree.results.glob("*/bs*/*.json"):
        run = {**RUN, "commit": "c" * 40, "clean": False}
        artifact.write_record(path, {**artifact.read_record(path), "run": run})
    page, cards = tree.page(), summary_of(tree.page("report.md"))
    assert page.index("<h2>Summary") < page.index("<table")
    assert list(cards) == [f"cpu: {OFFICIAL}", f"310P3: {OFFICIAL}", "910A: own data, own .om", f"cpu: {SAMPLE}"]
    card = cards[f"cpu: {OFFICIAL}"]
    top1 = "Top-1 95.26 %, 95 % interval 94.26 to 96.26, 9526 of 10000 (batch sizes 1, 16)"
    assert card["Accuracy"] == top1
    assert card["Gate"] == "passed: Top-1 95.26%, reference 95.34% - 0.10% (cifar10 on cpu)"
    speed = "222.25 images/s (Offline) at batch size 16, the fastest of 2 measured; p50 1.25 ms a batch (SingleStream)"
    assert card["Speed"] == speed
    assert card["Stable"] == "yes"
    ratios = "0.0629 of 310, 0.0285 of 310P, quoted"
    assert card["Published"] == f"Top-1 95.40 % (GPU); throughput at batch size 16: {ratios}"
    assert card["On"] == "a host, a runtime float32, host a-computer"
    when = "accuracy 2026-05-04 03:02 UTC, speed 2026-05-04 03:02 UTC, version 9.8.7 commit cccccccccccc with changes"
    assert card["When"] == when
    assert cards[f"310P3: {OFFICIAL}"]["Gate"].startswith("no reference accuracy for official data")
    assert cards[f"310P3: {OFFICIAL}"]["Stable"].startswith("NO: Offline: drift of 9 %")
    own = cards["910A: own data, own .om"]
    assert (own["Speed"], own["Published"]) == ("not measured", NOT_COMPARED)
    assert "add verify.own.910A to params.yaml" in own["Gate"]
    assert cards[f"cpu: {SAMPLE}"]["Published"] == NOT_COMPARED
    for text in (*card.values(), *own.values()):
        assert text in Reader(page).sections["Summary"]


def test_a_failed_gate_of_one_batch_size_is_in_the_summary(tree: Tree) -> None:
    tree.accuracy("cpu", 1, 0.9)
    tree.accuracy("cpu", 16, 0.9526)
    tree.perf("cpu", 16, 5)
    (card,) = summary_of(tree.page("report.md")).values()
    assert card["Gate"].startswith("FAILED at batch size 1: Top-1 90.00% is below")
    assert "90.00 to 95.26 % at batch sizes 1, 16" in card["Accuracy"]


def test_points_that_are_not_stable_are_hollow(tree: Tree) -> None:
    tree.perf("cpu", 1, 10.0)
    tree.perf("cpu", 16, 20.0)
    assert 'class="mark hollow"' not in tree.page()
    tree.perf("cpu", 16, 20.0, stable=False)
    page = tree.page()
    assert page.count('class="mark hollow"') == 4  # in each of two figures a point and the legend
    assert page.count("hollow: not stable") == 2
    assert "cpu, batch size 16: 20, not stable" in page


def test_rows_without_a_measurement_are_folded(tree: Tree) -> None:
    tree.accuracy("cpu", 4, 0.9526)
    tree.accuracy("310P3", 16, 0.9526)
    page = tree.page()
    assert re.findall(r"<li>(.*: batch size .*)</li>", page) == ["cpu: batch size 1, 16", "310P3: batch size 1"]
    (table,) = re.findall(r"<caption>Accuracy.*?</table>", page, re.DOTALL)
    assert table.count("<tr") == 3  # the head and two results


def test_results_of_a_chip_that_is_gone_are_left_out_and_named(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    tree.perf("old", 16, 12345.0)
    done = tree.run()
    line = "old is left out of the report: it is not a chip of params.yaml"
    assert f"  {line}" in done.stdout
    for name in ("report.html", "report.md", "results.csv", "junit.xml"):
        page = tree.page(name)
        assert (line in page) == name.startswith("report"), name
        assert "12345" not in page


def test_the_page_shows_the_first_tensor_above_the_tolerance(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    layers = {"tolerance": 0.001, "tensors": 3, "first": "b", "errors": {"a": 1e-7, "b": 0.25}}
    provenance = tree.provenance("cpu", 16, "official")
    tree.write("cpu", 16, "layers", {**layers, "provenance": provenance})
    assert "Intermediate tensors" not in tree.page()  # its comparison was removed
    tree.compare("cpu", 16)
    (table,) = [table for table in tables_of(tree.page("report.md")) if "tolerance" in table[0]]
    assert table[2] == ["cpu", "16", "0.001", "b", "2.50e-01"]
    tree.write("cpu", 16, "layers", {**layers, "first": None, "provenance": provenance})
    assert "| cpu | 16 | 0.001 | none | 2.50e-01 |" in tree.page("report.md")
    tree.write("cpu", 16, "layers", layers)
    assert "layers.json is left out of the report: damaged" in tree.page("report.md")
    tree.write("cpu", 16, "layers", json.dumps({**layers, "provenance": provenance}))  # without its own digest
    assert "layers.json is left out of the report: damaged" in tree.page("report.md")


def test_the_page_shows_the_results_of_make_bench(tree: Tree) -> None:
    tree.accuracy("cpu", 16, 0.9526)
    figure = {"name": "a / b", "median": 2.5, "min": 2.25, "max": 2.75, "wanted": 2, "at_most": False}
    bench: dict[str, Any] = {
        "conditions": {"host": "a CPU", "threads": 2, "others": 0.25, "rounds": 5},
        "images": 1000,
        "made_from": "Source: " + HOSTILE,
        "run": RUN,
        "left_out": {"c": "no compiler"},
        "figures": [{**figure, "verdict": "reached"}],
        "contenders": {"a": {"what": "this project", "best": 16}, "c": {"what": "other", "best": 1}},
        "series": {"a": [10, None, 20, 30], "c": []},
    }
    path = tree.results / "bench.json"
    path.write_text(json.dumps(bench))
    section = Reader(tree.page()).sections["Comparison with other tools (make bench)"]
    text = tree.page("report.md")
    assert "| a / b | 2.5 | 2.25 to 2.75 | ≥ 2 | reached |" in text
    assert "| a | this project | 16 | 20.00 | 10.00 to 30.00 |" in text
    for words in ("a CPU, 2 threads, 1000 images, 5 rounds", "25 % of the CPUs", "2026-05-04", "c: no compiler"):
        assert words in section
    for name in bench:
        path.write_text(json.dumps({**bench, name: None}))
        assert tree.run().returncode == 0, name  # damaged: left out


def test_results_csv_has_a_row_for_each_chip_and_batch_size(tree: Tree) -> None:
    tree.full()
    rows = list(csv.DictReader(io.StringIO(tree.page("results.csv"))))
    keys = [(row["chip"], row["batch_size"], row["source"]) for row in rows]
    assert keys == [
        *(("cpu", "1", "cifar10"), ("cpu", "4", "sample"), ("cpu", "16", "cifar10")),
        *(("310P3", "8", "cifar10"), ("310P3", "16", "cifar10"), ("910A", "16", "own")),
    ]
    best = rows[2]
    assert [best[name] for name in ("top1", "correct", "gate", "agreement")] == ["0.9526", "9526", "passed", "0.9987"]
    assert [best[name] for name in ("throughput_images_per_s", "p50_ms", "stable")] == ["222.25", "1.25", "true"]
    assert [rows[3][name] for name in ("top1", "gate", "stable")] == ["", "", "false"]


def test_every_term_of_a_table_is_explained(tree: Tree) -> None:
    terms = Reader(tree.full().page()).sections["Terms"]
    for term in ("Wilson", "gate", "agreement", "McNemar", "device", "end to end", "p50", "stable", "published"):
        assert term in terms


def test_an_axis_has_round_ticks_around_its_values() -> None:
    assert steps(3, 7807, False) == [0, 2000, 4000, 6000, 8000]
    assert steps(30, 7807, True) == [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
    assert steps(0.02, 0.02, False)[-1] >= 0.02


def test_adjacent_cells_without_a_measurement_are_merged() -> None:
    table = tables.Table("t", ["a", "b", "c", "d"], [["x", tables.NONE, tables.NONE, "x"]], "llll", keys=1)
    assert [(cell.text, cell.span) for cell in next(iter(table.cells()))] == [("x", 1), (tables.NONE, 2), ("x", 1)]


LOGS = {"browser": "ALL", "performance": "ALL"}


class Browser:
    """Chromium by chromedriver, with name resolution disabled; `call` uses WebDriver, `cdp` DevTools."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=-3, stderr=-3)
        quiet = ("background-networking", "component-update", "sync", "quic", "gpu", "extensions", "default-apps")
        self.log = folder / "net.json"
        flags = ["--headless", "--no-sandbox", "--no-first-run", f"--log-net-log={self.log}"]
        flags += [f"--user-data-dir={folder / 'profile'}", *(f"--disable-{name}" for name in quiet)]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND"]  # requests of Chromium itself fail
        options = {"args": flags, "binary": shutil.which("chromium")}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": LOGS}
        for _ in range(100):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.1)
        self.session = ""
        self.session = f"/{self.call('', capabilities={'alwaysMatch': capabilities})['sessionId']}"

    def call(self, path: str, method: str = "POST", **body: Any) -> Any:
        url = f"http://127.0.0.1:{self.port}/session{self.session}{path}"
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        with self.open(request, timeout=60) as response:
            return json.load(response)["value"]

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self.call("/goog/cdp/execute", cmd=command, params=parameters)

    def close(self) -> None:
        try:
            self.call("", "DELETE")
        finally:
            self.driver.terminate()
            self.driver.wait()


@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no Chromium here")
def test_a_browser_shows_the_page_light_dark_and_narrow_and_requests_nothing(tree: Tree) -> None:
    tree.full().page()
    browser = Browser(tree.folder)
    try:
        for scheme in ("light", "dark"):
            browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.cdp("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
            browser.call("/url", url=(tree.results / "report.html").as_uri())
            size = "document.documentElement.scrollWidth + ' ' + innerWidth"
            assert browser.cdp("Runtime.evaluate", expression=size)["result"]["value"] == "400 400"
            shot = base64.b64decode(browser.cdp("Page.captureScreenshot", format="png")["data"])
            pixel = Image.open(io.BytesIO(shot)).convert("L").getpixel((2, 400))
            assert pixel > 240 if scheme == "light" else pixel < 40, (scheme, pixel)
        assert browser.call("/se/log", type="browser") == []
        events = [json.loads(entry["message"])["message"] for entry in browser.call("/se/log", type="performance")]
        control = tree.folder / "control.html"
        control.write_text('<img src="http://127.0.0.1:9/control">')
        browser.call("/url", url=control.as_uri())
    finally:
        browser.close()
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    page = (tree.results / "report.html").as_uri()
    urls = {request["request"]["url"] for request in sent if request["documentURL"] == page}
    assert page in urls
    assert all(url == page or url.startswith("data:") for url in urls)
    requests = [event.get("params", {}) for event in json.loads(browser.log.read_text())["events"]]
    of_pages = {r["url"] for r in requests if "url" in r and r.get("initiator", "not an origin") != "not an origin"}
    assert of_pages == {"http://127.0.0.1:9/control"}  # so a request of the page would have been seen
