"""The options of pytest and the table of `make fuzz`, which runs the property tests with more inputs.

`pytest -m hypothesis --fuzz=N` gives each property N inputs instead of 100. One that has fewer inputs in the normal
suite, because they take long, gets as many fewer here. conftest.py imports the hooks.
"""

from __future__ import annotations

import os
import random
from typing import Any, Iterator

import pytest
from hypothesis import HealthCheck, settings, statistics

USUAL = 100  # inputs of a property in the normal suite
COUNTS = "property counts"  # of the report of a test: (inputs, accepted, refused)

# No deadline and no check of the speed, because machines may be busy. No database, which would be in the tree.
settings.register_profile(
    "project", max_examples=USUAL, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


def examples(count: int) -> Any:
    """Decorates a property whose inputs take long: the normal suite tries `count`, `make fuzz` in proportion."""
    return settings(max_examples=max(1, count * settings.default.max_examples // USUAL))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=0, metavar="N", help="N inputs for each property test, and a table")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Loads the profile `fuzz`, and chooses a seed if none is given. Workers get both as options."""
    inputs = config.getoption("fuzz")
    if inputs:
        settings.register_profile("fuzz", settings.get_profile("project"), max_examples=inputs, print_blob=True)
        settings.load_profile("fuzz")
        if config.option.hypothesis_seed is None:
            config.option.hypothesis_seed = str(random.SystemRandom().randrange(1 << 32))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Adds the counts of a property to its report, from the statistics that hypothesis passes to its own plugin."""
    outer = statistics.collector.value
    if outer is None or not item.config.getoption("fuzz"):
        return (yield)

    def count(stats: Any) -> None:
        phases = [phase for phase in stats.values() if isinstance(phase, dict)]
        cases = [case for phase in phases for case in phase.get("test-cases", ())]
        cases = [case for case in cases if case["status"] in ("valid", "interesting")]  # the others are no inputs
        events = [sum(word in case["events"] for case in cases) for word in ("accepted", "refused")]
        item.user_properties.append((COUNTS, [len(cases), *events]))
        outer(stats)

    with statistics.collector.with_value(count):
        return (yield)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints the table of `make fuzz`: a line for each property, and the sums."""
    if not config.getoption("fuzz"):
        return
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "nodeid")]
    rows: dict[str, list[int]] = {}
    for report in reports:
        for name, counts in getattr(report, "user_properties", ()):
            if name == COUNTS:
                rows[report.nodeid] = counts
    seed = config.option.hypothesis_seed
    terminalreporter.section(f"inputs tried, seed {seed}")
    terminalreporter.write_line(f"{'inputs':>9}{'accepted':>10}{'refused':>9}  property")
    for name, (inputs, accepted, refused) in sorted(rows.items()):
        outcome = f"{accepted:>10}{refused:>9}" if accepted or refused else " " * 19
        terminalreporter.write_line(f"{inputs:>9}{outcome}  {name.removeprefix('tests' + os.sep)}")
    sums = [sum(counts[i] for counts in rows.values()) for i in range(3)]
    terminalreporter.write_line(f"{sums[0]:>9}{sums[1]:>10}{sums[2]:>9}  all {len(rows)} properties")
    repeat = f"python -m pytest -m hypothesis --fuzz={config.getoption('fuzz')} --hypothesis-seed={seed}"
    terminalreporter.write_line(f"to repeat this run: {repeat} {' '.join(config.args)}")
