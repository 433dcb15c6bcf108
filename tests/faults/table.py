"""Runs all tests marked with a row of the fault table and writes README.md from what came of them (`make faults`).

    python -m tests.faults.table [pytest options]

It is also the pytest plugin that does the counting; it changes no outcome.
"""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.rows import CASES, PARTLY, SECTIONS

README = Path(__file__).with_name("README.md")
TESTS = Path(__file__).parents[1]
FOLDERS = ("faults", "gateway", "router", "stores", "admin", "dashboard")
_HEAD = """# Fault table

Written by `make faults`; do not edit. Each line is a case that the gateway has to survive, with the tests that prove
it: over real sockets, against simulated experts (`gateway/sim`) or servers and clients that write what they are told.
The same against real vLLM servers: `make test-vllm`. Minutes or hours of random faults: `make soak`.
"""

Outcomes = dict[str, dict[str, Counter[str]]]
"""By row, by test's name without its parameters: how often it passed, failed, was skipped."""


class Table:
    """The plugin: notes the outcome of every test that names a row."""

    def __init__(self) -> None:
        self.outcomes: Outcomes = defaultdict(lambda: defaultdict(Counter))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        note_rows(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        rows = [str(value) for key, value in report.user_properties if key == "row"]
        # A test has an outcome when it ran, and when it could not: a fixture that fails is a failure of the row.
        if report.when == "call" or report.outcome != "passed":
            for row in rows:
                self.outcomes[row][report.nodeid.partition("[")[0]][report.outcome] += 1


def note_rows(items: Sequence[pytest.Item]) -> None:
    """Put the rows of tests into what is reported of them; xdist's workers send that on."""
    for item in items:
        item.user_properties += [("row", row) for mark in item.iter_markers("row") for row in mark.args]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In xdist's workers, where this module is the plugin."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        note_rows(items)


def written(outcomes: Mapping[str, Mapping[str, Counter[str]]], where: str) -> str:
    """Return the whole page.

    Args:
        outcomes: see `Outcomes`.
        where: the day and the machine, in words.
    """
    results = {row: result_of(row, outcomes.get(row, {})) for row in CASES}
    counts = Counter(result.partition(":")[0].strip("*") for result in results.values())
    parts = [_HEAD, f"{where}. {', '.join(f'{count} {word}' for word, count in sorted(counts.items()))}.\n"]
    for letter, title in SECTIONS.items():
        parts.append(f"## {letter}: {title}\n\n| row | case | result | tests |\n|---|---|---|---|")
        rows = [row for row in CASES if row.startswith(letter)]
        parts += [f"| {row} | {CASES[row]} | {results[row]} | {_named(outcomes.get(row, {}))} |" for row in rows]
        parts.append("")
    return "\n".join(parts)


def result_of(row: str, tests: Mapping[str, Counter[str]]) -> str:
    """Return one row's result: a row is as good as its worst test, and nothing without one."""
    sums = sum(tests.values(), Counter[str]())
    left_out = f"; {PARTLY[row]}" if row in PARTLY else ""
    if sums["failed"]:
        return f"**failed**: {sums['failed']} of {sums.total()}"
    if sums["skipped"]:
        return f"**skipped**: {sums['skipped']} of {sums.total()}"
    if sums["passed"]:
        return f"passed: {sums['passed']}{left_out}"
    return "**no test**"


def _named(tests: Mapping[str, Counter[str]]) -> str:
    by_file: dict[str, list[str]] = defaultdict(list)
    for test in sorted(tests):
        path, _, name = test.partition("::")
        by_file[path.removeprefix("tests/")].append(name.removeprefix("test_").replace("::", "."))
    return "; ".join(f"`{path}`: {', '.join(names)}" for path, names in by_file.items())


def _where() -> str:
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"Last run on {day}: {platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main(options: Sequence[str]) -> int:
    """Run the tests and write the page, whatever came of them."""
    table = Table()
    chosen = ("-m", "row and not vllm and not container", "-p", "tests.faults.table", "-q", "--no-header", *options)
    code = pytest.main([*(str(TESTS / folder) for folder in FOLDERS), *chosen], plugins=[table])
    if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        README.write_text(written(table.outcomes, _where()))
        print(f"wrote {README.relative_to(TESTS.parent)}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
