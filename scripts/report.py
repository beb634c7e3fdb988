"""Results -> report.html, report.md, results.csv and junit.xml.

The records results/<chip>/bs<n>/{accuracy,perf,compare,layers}.json are grouped by their inputs: official, own or
sample data and checkpoint, own models. Groups share neither a table nor a figure. Published figures have separate
columns and curves, only in the group of the official inputs. The page needs no network and no scripts. The same results
give the same bytes. Each record is audited: its own digest, its chip and batch size, and its figures from the outputs.
One that is not what it says is left out, and the page names it.
"""

from __future__ import annotations

from _support import cli
from _support.artifact import Record, read_record, remove, write_text
from _support.cli import die

import contextlib
from pathlib import Path

from auditing.figures import Auditor, remedy_of
from reporting import words
from reporting.gate import References
from reporting.junit import error_case, judge_case, render_junit
from reporting.pages import render_html, render_markdown
from reporting.records import Fault, NotJudged, Result, collect_results
from reporting.results_csv import format_results
from reporting.sections import Settings, notes_of, sections_of
from reporting.tables import Published

SETTINGS = {
    "batch_sizes": "batch_sizes",
    "published_accuracy": "published.accuracy.*",
    "published_throughput": "published.throughput.*.*",
    "references": "verify.*.*",
    "chips": "quote.*",
}
PAGES = ("report.html", "report.md", "results.csv")


def write_junit(path: Path, results: list[Result], not_judged: list[NotJudged], gate: References) -> None:
    """Writes the verdicts of all results; without any, removes those of an earlier run."""
    judged = [result for result in results if "accuracy" in result.records]
    cases = [judge_case(result.chip, result.batch, result.records["accuracy"], gate) for result in judged]
    cases += [error_case(chip, batch, *fault) for chip, batch, fault in not_judged]
    if cases or results:
        write_text(path, render_junit(cases, "skipped"))
    else:
        remove(path)


def audit_record(auditor: Auditor, path: Path) -> Fault | None:
    """Why a record is not what it says; None if it is."""
    chip, size = path.parts[-3], int(path.parts[-2][2:])
    fault = auditor.fault(chip, size, path.stem)
    if not fault:
        return None
    problem = fault.problem if fault.subject == path else f"{fault.subject}: {fault.problem}"
    return Fault(problem, remedy_of(fault, auditor.root, chip, size))


def unaudited(auditor: Auditor, results: list[Result]) -> list[str]:
    """The line that names the results whose figures could not be computed again; none if there is no such result."""
    names = [f"{result.chip}/bs{result.batch}" for result in results]
    missing = [name for name, result in zip(names, results) if not auditor.has_outputs(result.chip, result.batch)]
    if not missing:
        return []
    return [f"Not computed again, because their outputs are not in this ROOT: {', '.join(dict.fromkeys(missing))}."]


def main() -> None:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--results", type=Path, required=True)
    add("--bins", type=Path, required=True, help="the manifest.json of the bins")
    add("--out", type=Path, required=True, help="report.html; the other files are written beside it")
    add("--batch-sizes", nargs="+", type=int, required=True)
    add("--published-accuracy", nargs="*", default=[], type=words.published_accuracy, help="DEVICE=PERCENT …")
    add("--published-throughput", nargs="*", default=[], type=words.published_throughput, help="DEVICE:BATCH=RATE …")
    add("--references", nargs="*", default=[], type=words.reference, help="SOURCE:CHIP=PERCENT,TOLERANCE …")
    add("--chips", nargs="*", default=[], type=words.quoted_device, help="CHIP=DEVICE,PERCENT or CHIP= …")
    args = parser.parse_args()
    throughput = words.by_names(args.published_throughput)
    published = Published(dict(args.published_accuracy), throughput, dict(args.chips))
    settings = Settings(args.batch_sizes, args.bins, words.by_names(args.references), published)
    auditor = Auditor(args.results.parent)
    results, left_out, not_judged = collect_results(
        args.results, list(published.devices), lambda path: audit_record(auditor, path)
    )
    for line in left_out:
        print(f"  {line}")
    write_junit(args.out.with_name("junit.xml"), results, not_judged, settings.references)
    if not results:
        for name in PAGES:
            remove(args.out.with_name(name))  # of an earlier run
        remedy = "run make accuracy with this ROOT=, or after make demo: make report ROOT=demo"
        die(args.results, "no readable results", "see the lines above" if left_out else remedy)
    bench: Record = {}
    with contextlib.suppress(PermissionError):  # written by another user of this ROOT
        bench = read_record(args.results / "bench.json")
    sections = sections_of(results, settings, bench)
    notes = [*notes_of(results, left_out), *unaudited(auditor, results)]
    write_text(args.out, render_html(sections, notes))
    write_text(args.out.with_name("report.md"), render_markdown(sections, notes))
    write_text(args.out.with_name("results.csv"), format_results(results, settings.references))
    print(f"Full report: {args.out} (report.md, results.csv and junit.xml are in the same folder)")


if __name__ == "__main__":
    main()
