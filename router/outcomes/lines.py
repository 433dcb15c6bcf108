"""Rows of CSV and JSONL files with their line numbers, within bounds; what the columns mean is not known here."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from router.errors import DataError

Cell = str | int | float | bool | None
Row = tuple[int, Mapping[str, Cell]]

LONGEST_FILE_CHARS: Final = 2_000_000_000
LONGEST_LINE_CHARS: Final = 64_000_000
"""Of a line of a file and of one CSV field, which may span lines."""
SUFFIXES: Final = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")


def read_rows(
    file: Path, *, name_of: Callable[[str], str] = str.strip, most_chars: int = LONGEST_FILE_CHARS
) -> Iterator[Row]:
    """Yield the line number and the cells of each row by column name; blank lines are none.

    Args:
        file: CSV with a header, or JSON objects one a line; ".gz" after it means gzip.
        name_of: makes a column's name from what the file says.
        most_chars: a longer file, unpacked, is refused.

    Raises:
        DataError: the file or a row cannot be read; the message names file and line, and never holds a prompt.
    """
    name = file.name.lower()
    if not name.endswith(SUFFIXES):
        raise DataError(f"{file}: expected a file named {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
    opener = gzip.open if name.endswith(".gz") else open
    read = _csv_rows if name.removesuffix(".gz").endswith(".csv") else _json_rows
    try:
        # Spreadsheets begin UTF-8 with a byte order mark, and a field may hold line ends that are not to be translated.
        with opener(file, "rt", encoding="utf-8-sig", newline="") as stream:
            yield from read(file, _lines(file, stream, most_chars), name_of)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: damaged gzip file") from error
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text") from error


def _lines(file: Path, stream: TextIO, most_chars: int) -> Iterator[str]:
    """Yield lines with a bound on each and on all, so that a small packed file cannot fill the memory."""
    total = number = 0
    while line := stream.readline(LONGEST_LINE_CHARS + 1):
        number += 1
        total += len(line)
        if len(line) > LONGEST_LINE_CHARS:
            raise DataError(f"{file}:{number}: a line of more than {LONGEST_LINE_CHARS:,} characters")
        if total > most_chars:
            raise DataError(f"{file}:{number}: more than {most_chars:,} characters")
        yield line


def _csv_rows(file: Path, lines: Iterator[str], name_of: Callable[[str], str]) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    with _long_fields():
        try:
            columns = [name_of(name) for name in next(reader, [])]
            _check_columns(file, columns)
            end = reader.line_num
            for cells in reader:
                number, end = end + 1, reader.line_num
                if cells and len(cells) != len(columns):
                    problem = f"{len(cells)} cells, but {len(columns)} columns (a comma in a text needs quotes)"
                    raise DataError(f"{file}:{number}: {problem}")
                if cells:
                    yield number, dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            raise DataError(f"{file}:{reader.line_num}: {error}") from error


def _check_columns(file: Path, columns: list[str]) -> None:
    if not any(columns):
        raise DataError(f"{file}:1: the first line must name the columns")
    if len(set(columns)) != len(columns) or "" in columns:
        raise DataError(f"{file}:1: a column without a name, or two with the same")


@contextmanager
def _long_fields() -> Iterator[None]:
    # The limit of 131,072 characters is the csv module's own, for the whole process: put back what was there.
    before = csv.field_size_limit(LONGEST_LINE_CHARS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_rows(file: Path, lines: Iterator[str], name_of: Callable[[str], str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}:{number}: not valid JSON") from error
        if not isinstance(row, dict):
            raise DataError(f"{file}:{number}: expected an object, got {type(row).__name__}")
        names = [name_of(name) for name in row]
        if len(set(names)) != len(names):
            raise DataError(f"{file}:{number}: two fields of the same name")
        # Lists and objects are nothing this reads; a column of them counts as not there.
        cells = (None if isinstance(cell, list | dict) else cell for cell in row.values())
        yield number, dict(zip(names, cells, strict=True))
