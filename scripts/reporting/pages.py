"""Renders report.html, report.md and junit.xml as text."""

from __future__ import annotations

from _support.cli import one_line

from pathlib import Path
from xml.etree import ElementTree

from network.spec import IMAGE_SHAPE
from reporting import gate
from reporting.gate import References
from reporting.records import Result
from reporting.sections import Section
from reporting.tables import escaped, markdown_table

TITLE = "Residual Attention Network for CIFAR-10: results"
TEMPLATE = Path(__file__).with_name("page.html.j2")


def render_markdown(sections: list[Section], notes: list[str]) -> str:
    """The text and tables of the report as Markdown."""
    blocks = [f"# {TITLE}", *map(escaped, notes)]
    for section in sections:
        blocks.append(f"## {escaped(section.title)}")
        for part in section.parts:
            if part.note:
                blocks.append(escaped(part.note))
            if part.table:
                blocks += [f"**{escaped(part.table.caption)}**", markdown_table(part.table)]
    return "\n\n".join(blocks) + "\n"


def render_html(sections: list[Section], notes: list[str]) -> str:
    """The report as one self-contained HTML page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    _, height, width = IMAGE_SHAPE
    template = environment.get_template(TEMPLATE.name)
    return template.render(title=TITLE, sections=sections, notes=notes, height=height, width=width) + "\n"


def render_junit(results: list[Result], references: References) -> str:
    """The verdicts of the gate for CI: a test case per accuracy.json; one without a reference counts as skipped."""
    verified = [result for result in results if "accuracy" in result.records]
    suite = ElementTree.Element("testsuite", name="accuracy gate")
    outcomes = []
    for result in verified:
        accuracy = result.records["accuracy"]
        verdict = gate.judge_accuracy(accuracy, result.chip, references)
        outcomes.append(verdict.outcome)
        name = f"bs{result.batch} ({accuracy['source']})"
        case = ElementTree.SubElement(suite, "testcase", classname=one_line(result.chip), name=name)
        if verdict.outcome != gate.PASSED:
            tag = "failure" if verdict.outcome == gate.FAILED else "skipped"
            ElementTree.SubElement(case, tag, message=one_line(f"{verdict.finding}; {verdict.remedy}"))
    suite.set("tests", str(len(verified)))
    suite.set("failures", str(outcomes.count(gate.FAILED)))
    suite.set("skipped", str(outcomes.count(gate.NO_REFERENCE)))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(root, "unicode") + "\n"
