"""Turn replay.json into a report people read: text, report.md, and report.html where matplotlib is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any, Final

from router.evaluation.document import Section, Table, markdown, page
from router.evaluation.tables import percent
from router.replay.plots import plots
from router.replay.tables import break_even_table, curve_table, shares_table, ways_table

Json = Mapping[str, Any]

JSON_FILE: Final = "replay.json"
MARKDOWN_FILE: Final = "report.md"
HTML_FILE: Final = "report.html"

_COLUMNS: Final = 100


def write_report(replay: Json, folder: Path) -> list[Path]:
    """Write replay.json, report.md and report.html into `folder`; return their paths.

    Raises:
        MissingExtraError: matplotlib is not installed; the first two files are written before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in (JSON_FILE, MARKDOWN_FILE, HTML_FILE)]
    paths[0].write_text(json.dumps(replay, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    paths[1].write_text(render_markdown(replay), encoding="utf-8")
    paths[2].write_text(render_html(replay), encoding="utf-8")
    return paths


def render_markdown(replay: Json) -> str:
    """Return the report as Markdown; needs no further library."""
    return markdown(_title(replay), sections(replay))


def render_html(replay: Json) -> str:
    """Return the report as one HTML page with its plots inside; MissingExtraError without matplotlib."""
    return page(_title(replay), sections(replay), plots(replay))


def render_text(replay: Json) -> str:
    """Return the report for a terminal: the same parts, columns aligned."""
    parts = [_title(replay)]
    for section in sections(replay):
        parts.append("\n".join((section.title, fill(section.text, _COLUMNS))).rstrip())
        parts += [_aligned(section.table)] if section.table else []
    return "\n\n".join(parts)


def sections(replay: Json) -> list[Section]:
    """Return the parts of the report in reading order; what was not worked out has no part."""
    return [
        Section("Summary", _summary(replay)),
        Section("Ways to choose", _ways(replay), ways_table(replay), "cost" if replay["priced"] else ""),
        Section("Curves", _curves(replay), curve_table(replay), "calls"),
        Section("Share of the prompts per expert", "", shares_table(replay)),
        *_break_even(replay),
    ]


def _title(replay: Json) -> str:
    return f"Replay of {replay['title']}"


def _summary(replay: Json) -> str:
    text = (
        f"{replay['prompts']} prompts, {len(replay['experts'])} experts. Generalist: {replay['generalist']}. Best "
        f"single expert on these prompts: {replay['best_single']}. Intervals are paired bootstrap intervals over "
        f"prompts, {replay['draws']} draws, seed {replay['seed']}."
    )
    return " ".join((text, *replay["notes"]))


def _ways(replay: Json) -> str:
    text = "Quality is the mean score where the chosen expert was scored; missing is the share of prompts where not."
    if replay["labels"]:
        text += f" The domain oracle knows each prompt's {replay['labels']} and which expert is best there; gap closed "
        text += "is the share of its lead over the best single expert."
    if replay["priced"]:
        text += (
            f" Cost in {replay['currency']} per 1,000 requests; saved is against the best single expert; over zero "
            "router is against a random mix of single experts at the same cost."
        )
    return text


def _curves(replay: Json) -> str:
    return (
        "AIQ as in RouterBench: area under the non-decreasing hull over cost, divided by the largest cost. APGR and "
        f"CPT as in RouteLLM: weak is {replay['weak']}, strong is {replay['best_single']}, every call but the weak "
        "counts."
    )


def _break_even(replay: Json) -> list[Section]:
    found = replay["break_even"]
    if found is None:
        return []
    text = (
        f"Policy {found['policy']}, told one of {found['domains']} domains per prompt and sure of it. The right one is "
        f"{found['labels']}; a wrong one is any other, all equally likely."
    )
    if found["classifier"] is not None:
        text += f" The classifier's best domain is the right one for {percent(found['classifier'])} of the prompts."
    return [Section("Router accuracy that is needed", text, break_even_table(replay), "accuracy")]


def _aligned(table: Table) -> str:
    rows = [tuple(" ".join(cell.split()) for cell in row) for row in (table.columns, *table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (
        cell.ljust(width) if not index else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join((first, *others)).rstrip()
