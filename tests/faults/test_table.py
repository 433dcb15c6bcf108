"""The fault table is whole: every row is in the page, has tests that name it, and no test names another."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rows import CASES, PARTLY, SECTIONS
from tests.faults.table import FOLDERS, README, TESTS, result_of, written

# How many rows each section of the acceptance matrix has.
ROWS = {"A": 26, "B": 9, "C": 17, "D": 13, "E": 9, "F": 9, "G": 8}


def marked() -> Iterator[tuple[Path, str]]:
    """Every row that a test names, with the test's file."""
    for path in sorted(file for folder in FOLDERS for file in (TESTS / folder).rglob("test_*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "mark.row" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
                yield from ((path, ast.literal_eval(argument)) for argument in node.args)


def test_rows_are_those_of_the_matrix() -> None:
    assert list(CASES) == [f"{letter}{number}" for letter, count in ROWS.items() for number in range(1, count + 1)]
    assert set(SECTIONS) == set(ROWS)
    assert set(PARTLY) <= set(CASES)


def test_every_row_has_a_test() -> None:
    assert {row for _, row in marked()} == set(CASES)


def test_page_has_every_row_once_with_its_case() -> None:
    rows = re.findall(r"^\| ([A-G]\d+) \| (.+?) \| .+ \| .* \|$", README.read_text(), re.MULTILINE)
    assert rows == list(CASES.items())


@pytest.mark.parametrize(
    ("row", "counts", "result"),
    [
        ("A1", {}, "**no test**"),
        ("A1", {"passed": 3}, "passed: 3"),
        ("A1", {"passed": 3, "failed": 1}, "**failed**: 1 of 4"),
        ("A1", {"passed": 3, "skipped": 1}, "**skipped**: 1 of 4"),
        ("G4", {"passed": 1}, f"passed: 1; {PARTLY['G4']}"),
        ("D9", {"failed": 1}, "**failed**: 1 of 1"),
    ],
)
def test_result_is_that_of_the_worst_test(row: str, counts: dict[str, int], result: str) -> None:
    assert result_of(row, {"a.py::test_good": Counter(passed=0), "a.py::test_b": Counter(counts)}) == result


def test_page_of_nothing_shows_every_row_as_missing() -> None:
    page = written({}, "Last run never")
    assert page.count("**no test**") == len(CASES)
