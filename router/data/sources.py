"""Say where training data came from and under which licence; it reads names and README tables, never prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router.prompts import Prompt

UNKNOWN = "not stated"


def describe_sources(
    prompts: Sequence[Prompt], folders: Sequence[Path], licences: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return name, rows and licence of each source, for the card."""
    stated = {**licences, **read_licences(folders)}
    counts = Counter(prompt.source for prompt in prompts)
    return [
        {"source": source, "rows": rows, "licence": stated.get(source, UNKNOWN)}
        for source, rows in sorted(counts.items())
    ]


def read_licences(folders: Sequence[Path]) -> dict[str, str]:
    """Read source and licence from a Markdown table in a README.md inside or directly above each folder.

    The table needs the columns `source` and `licence`; others are ignored.
    """
    licences: dict[str, str] = {}
    for folder in folders:
        for readme in (folder.parent / "README.md", folder / "README.md"):
            if readme.is_file():
                licences.update(_table(readme.read_text(encoding="utf-8")))
    return licences


def _table(markdown: str) -> dict[str, str]:
    found: dict[str, str] = {}
    columns: list[str] = []
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            columns = []
        elif "source" in cells and "licence" in cells:
            columns = cells
        elif columns and len(cells) == len(columns):
            found[cells[columns.index("source")]] = cells[columns.index("licence")]
    return found
