"""Writes stored requests as JSON lines, CSV or Parquet. Reads no store and keeps no more than a piece in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import orjson

from gateway.stores.records.tables import COLUMNS, FLAGS, JSON, TYPES

PIECE_ROWS = 5_000
# What spreadsheets take for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Row = dict[str, Any]


class ExportError(RuntimeError):
    """The format cannot be written here."""


def write(form: str, rows: Iterable[Row], target: BinaryIO) -> None:
    """Write all rows to a file.

    Args:
        form: `jsonl`, `csv` or `parquet`.
        rows: as `Queries.every` gives them.
        target: where to.

    Raises:
        ExportError: a library is missing.
    """
    {"jsonl": _write_lines, "csv": _write_csv, "parquet": _write_parquet}[form](rows, target)


def _write_lines(rows: Iterable[Row], target: BinaryIO) -> None:
    for row in rows:
        target.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _write_csv(rows: Iterable[Row], target: BinaryIO) -> None:
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(row[name]) for name in COLUMNS])
    finally:
        text.detach()


def csv_piece(rows: Iterable[Row], *, head: bool) -> bytes:
    """Return some rows as CSV, after the columns' names where `head` is set; for files sent in pieces."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if head:
        writer.writerow(COLUMNS)
    writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        value = orjson.dumps(value).decode()
    # Numbers may be negative; only text can be a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _write_parquet(rows: Iterable[Row], target: BinaryIO) -> None:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ExportError("Parquet needs pyarrow: pip install 'pointsman[parquet]'") from error
    kinds = {"TEXT": arrow.string(), "BIGINT": arrow.int64(), "DOUBLE": arrow.float64()}
    fields = [(name, arrow.bool_() if name in FLAGS else kinds[kind.split()[0]]) for name, kind in TYPES.items()]
    schema = arrow.schema(fields)
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for piece in _pieces(rows):
            flat = [{**row, **{name: orjson.dumps(row[name]).decode() for name in JSON}} for row in piece]
            writer.write_table(arrow.Table.from_pylist(flat, schema=schema))


def _pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while piece := list(islice(remaining, PIECE_ROWS)):
        yield piece
