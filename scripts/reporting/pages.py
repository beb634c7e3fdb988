"""Renders report.html and report.md as text."""

from __future__ import annotations

from pathlib import Path

from network.spec import IMAGE_SHAPE
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
            for card in part.cards:
                blocks.append(f"**{escaped(card.title)}**")
                blocks.append("\n".join(f"- {escaped(line.label)}: {escaped(line.text)}" for line in card.lines))
            if part.terms:
                blocks.append("\n".join(f"- **{escaped(term)}**: {escaped(text)}" for term, text in part.terms))
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
