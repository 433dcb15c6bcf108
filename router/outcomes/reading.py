"""Read outcome files, one row a prompt (wide) or one row a prompt and expert (long). It must not know a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from router.errors import DataError
from router.outcomes import columns as names
from router.outcomes.lines import LONGEST_FILE_CHARS, Cell, Row, read_rows
from router.outcomes.table import CHARS_PER_TOKEN, Array, OutcomeTable, Prices

MOST_EXPERTS: Final = 1_000
MOST_CELLS: Final = 50_000_000
_ROWS_LOOKED_AT: Final = 1_000
"""Rows in which a column must have a value to be seen."""
OVERSHOOT: Final = 0.05
"""Scores this far outside 0 to 1 are moved to it: corrected text metrics, METEOR in RouterArena, step out a little."""
_KINDS: Final = ("scores", "cost", "input", "output")


def read_outcomes(
    path: str | Path, *, prices: Prices | None = None, most_chars: int = LONGEST_FILE_CHARS
) -> OutcomeTable:
    """Read per-prompt scores of several experts.

    Wide files have a column `prompt`, `question` or `text`, and one column of scores for each expert; optional are
    `domain` or `label`, `task` or `subject`, and for each expert `NAME_response_chars`, `NAME_output_tokens`,
    `NAME_input_tokens`, `NAME_cost`, where NAME may be the unique beginning of the expert's. Long files have `model`
    or `expert`, `score`, and `prompt` or `domain`; optional are `global_index` or `id`, `cost`, `input_tokens`,
    `output_tokens`. Empty means not measured.

    Args:
        path: CSV or JSONL, gzipped or not.
        prices: used where the file records no cost; see `OutcomeTable.priced`.
        most_chars: a longer file, unpacked, is refused.

    Raises:
        DataError: the file cannot be read, or a row is malformed; the message names file and line.
    """
    file = Path(path)
    rows = read_rows(file, name_of=names.name_of, most_chars=most_chars)
    begin = list(islice(rows, _ROWS_LOOKED_AT))
    if not begin:
        raise DataError(f"{file}: no rows")
    found = {column: None for _, row in begin for column in row}
    table = _long(file, begin, rows) if names.is_long(found) else _wide(file, begin, rows)
    return table if prices is None else table.priced(prices)


@dataclass(slots=True)
class _Building:
    """Rows read so far; values are (row, column, number) of each kind, as flat lists."""

    file: Path
    prompts: list[str] = field(default_factory=list)
    domains: list[str | None] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    experts: dict[str, int] = field(default_factory=dict)
    values: dict[str, list[tuple[int, int, float]]] = field(default_factory=lambda: {kind: [] for kind in _KINDS})

    def add_row(self, number: int, row: Mapping[str, Cell], group: str) -> int:
        """Append a prompt, return its row."""
        prompt, domain = _text(row, names.TEXT), _text(row, names.DOMAIN).strip() or None
        if not prompt.strip() and domain is None:
            raise DataError(f"{self.file}:{number}: neither a prompt nor a domain")
        self.prompts.append(prompt)
        self.domains.append(domain)
        self.groups.append(group or _text(row, names.GROUP).strip())
        return len(self.prompts) - 1

    def add_expert(self, number: int, name: str) -> int:
        """Return the column of an expert, a new one when it is new."""
        if not name:
            raise DataError(f"{self.file}:{number}: an expert without a name")
        column = self.experts.setdefault(name, len(self.experts))
        if len(self.experts) > MOST_EXPERTS:
            raise DataError(f"{self.file}:{number}: more than {MOST_EXPERTS} experts")
        return column

    def add_value(self, kind: str, number: int, place: tuple[int, int], cell: Cell, scale: float = 1.0) -> None:
        """Store a number unless the cell is empty."""
        value = _number(f"{self.file}:{number}", kind, cell)
        if value is not None:
            self.values[kind].append((*place, value * scale))

    def table(self) -> OutcomeTable:
        """Return what was read as arrays."""
        if len(self.prompts) * len(self.experts) > MOST_CELLS:
            raise DataError(f"{self.file}: more than {MOST_CELLS:,} pairs of prompt and expert")
        if not self.values["scores"]:
            raise DataError(f"{self.file}: no scores")
        return OutcomeTable(
            tuple(self.prompts),
            tuple(self.domains),
            tuple(self.groups),
            tuple(self.experts),
            self._array("scores"),
            *(self._array(kind) if self.values[kind] else None for kind in ("cost", "input", "output")),
        )

    def _array(self, kind: str) -> Array:
        array = np.full((len(self.prompts), len(self.experts)), np.nan)
        if self.values[kind]:
            rows, columns, numbers = zip(*self.values[kind], strict=True)
            array[np.array(rows), np.array(columns)] = numbers
        return array


def _wide(file: Path, begin: Sequence[Row], rest: Iterator[Row]) -> OutcomeTable:
    building = _Building(file)
    wide = _wide_columns(file, begin)
    for expert in wide.experts:
        building.add_expert(1, expert)
    for number, row in _all(begin, rest):
        index = building.add_row(number, row, "")
        for column, expert in enumerate(wide.experts):
            building.add_value("scores", number, (index, column), row.get(expert))
        for kind, columns in wide.measures.items():
            scale, target = (1 / CHARS_PER_TOKEN, "output") if kind == "chars" else (1.0, kind)
            for expert, name in columns.items():
                building.add_value(target, number, (index, building.experts[expert]), row.get(name), scale)
    return building.table()


def _wide_columns(file: Path, begin: Sequence[Row]) -> names.Wide:
    first: dict[str, Cell] = {}
    for _, row in begin:
        for column, cell in row.items():
            if first.get(column) in (None, ""):
                first[column] = cell
    if names.first_of((*names.TEXT, *names.DOMAIN), first) is None:
        wanted = ", ".join(names.TEXT)
        raise DataError(f"{file}:1: needs a column {wanted} or domain")
    try:
        wide = names.wide_columns(first)
    except ValueError as error:
        raise DataError(f"{file}:1: {error}") from error
    if not wide.experts:
        raise DataError(f"{file}:1: no column of scores; each expert is one column of numbers from 0 to 1")
    return wide


def _long(file: Path, begin: Sequence[Row], rest: Iterator[Row]) -> OutcomeTable:
    building = _Building(file)
    index_of: dict[tuple[str, str], int] = {}
    seen: set[tuple[int, int]] = set()
    for number, row in _all(begin, rest):
        key = _text(row, names.KEY), _text(row, names.TEXT)
        index = index_of.get(key) if any(key) else None
        if index is None:
            index = index_of[key] = building.add_row(number, row, _group(key[0]))
        place = index, building.add_expert(number, _text(row, names.EXPERT).strip())
        if place in seen:
            raise DataError(f"{file}:{number}: a second score of the same expert for the same prompt")
        seen.add(place)
        building.add_value("scores", number, place, row.get(names.SCORE))
        for kind, columns in (("cost", names.COST), ("input", names.INPUT_TOKENS), ("output", names.OUTPUT_TOKENS)):
            building.add_value(kind, number, place, _cell(row, columns))
    return building.table()


def _all(begin: Sequence[Row], rest: Iterator[Row]) -> Iterator[Row]:
    yield from begin
    yield from rest


def _group(key: str) -> str:
    """Return what comes before the number in keys like `PubMedQA_12`, "" when there is no such number."""
    name, mark, number = key.rpartition("_")
    return name if mark and number.isdigit() else ""


def _cell(row: Mapping[str, Cell], columns: Sequence[str]) -> Cell:
    name = names.first_of(columns, row)
    return None if name is None else row[name]


def _text(row: Mapping[str, Cell], columns: Sequence[str]) -> str:
    cell = _cell(row, columns)
    return "" if cell is None else cell if isinstance(cell, str) else str(cell)


def _number(place: str, kind: str, cell: Cell) -> float | None:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        value = float(cell)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{place}: {kind}: not a number") from error
    if kind == "scores" and -OVERSHOOT <= value <= 1 + OVERSHOOT:
        return min(1.0, max(0.0, value))
    if kind == "scores" or not (0 <= value < math.inf):
        raise DataError(f"{place}: {kind}: a number outside 0 to {'1' if kind == 'scores' else 'infinity'}")
    return value
