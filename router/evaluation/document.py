"""A report as sections of text and tables, written as Markdown or as one HTML page; it knows no figures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }}
h1, h2 {{ line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #d8dee4; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child, .text th, .text td {{ text-align: left; }}
figure {{ margin: 1rem 0; max-width: 44rem; }}
figure svg {{ width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Table:
    """Column heads and rows of ready-made cells.

    Attributes:
        columns: heads; the first column stands on the left.
        rows: cells, every row as long as `columns`.
        numbers: whether the further columns hold numbers, which stand on the right.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report.

    Attributes:
        title: its heading.
        text: a paragraph under the heading, "" for none.
        table: figures, None for none.
        plot: name of the picture that belongs here, "" for none; only HTML shows it.
    """

    title: str
    text: str = ""
    table: Table | None = None
    plot: str = ""


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the report as Markdown with pipe tables."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [section.text] if section.text else []
        parts += [table_markdown(section.table)] if section.table else []
    return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """Return one pipe table."""
    rule = ("---", *("---:" if table.numbers else "---" for _ in table.columns[1:]))
    head, *rows = ([_escaped(cell) for cell in row] for row in (table.columns, *table.rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def page(title: str, sections: Sequence[Section], plots: Mapping[str, str]) -> str:
    """Return the report as one HTML page that needs nothing else; `plots` maps names to SVG elements."""
    body = "\n".join(_section_html(section, plots) for section in sections)
    return _PAGE.format(title=html.escape(title), body=body)


def _section_html(section: Section, plots: Mapping[str, str]) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{html.escape(section.text)}</p>"] if section.text else []
    parts += [f"<figure>{plots[section.plot]}</figure>"] if section.plot in plots else []
    parts += [_table_html(section.table)] if section.table else []
    return "\n".join(parts)


def _table_html(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    kind = "numbers" if table.numbers else "text"
    return f'<div class="scroll"><table class="{kind}">\n<tr>{head}</tr>\n{rows}\n</table></div>'


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").splitlines())
