"""Read and write quality tables: a CSV people may edit, and an npz with the cells beside it. Nothing is fitted here.

The CSV may begin with comment lines `# generalist: NAME`, `# prior: 20`, `# confidence: 0.8`; then come the columns
domain, expert, score, count and, where known, completion_tokens.
"""

from __future__ import annotations

import csv
import hashlib
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from router.errors import QualityError
from router.quality.cells import Cells
from router.quality.sample import did_you_mean
from router.quality.table import CONFIDENCE, GENERALIST, PRIOR, Array, QualityTable

COLUMNS: Final = ("domain", "expert", "score", "count")
LENGTH: Final = "completion_tokens"
LARGEST_CSV_BYTES: Final = 16_000_000
LARGEST_CELLS_BYTES: Final = 256_000_000
_DIGITS: Final = 6
_SETTINGS: Final = ("generalist", "prior", "confidence")

Table = TypeVar("Table", bound=QualityTable)
Row = dict[str, str]


def cells_path(path: Path) -> Path:
    """Return where the cells of a table lie: `NAME.cells.npz` beside `NAME.csv`."""
    return path.with_name(path.name.removesuffix(".csv") + ".cells.npz")


def write_table(table: QualityTable, path: Path) -> None:
    """Write a table and its cells; a table without cells removes what cells lay beside the file before."""
    content, cells = _content(table), cells_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if table.cells is None:
            cells.unlink(missing_ok=True)
        else:
            # Before the table: a process that loads the two between the writes sees that they do not belong together.
            _write_cells(table.cells, cells, _digest(content))
        _replace(path, content.encode())
    except OSError as error:
        raise QualityError(f"{path}: {error.strerror or error}") from error


def read_table(
    kind: type[Table],
    path: Path,
    *,
    experts: Sequence[str] | None,
    generalist: str | None,
    labels: Sequence[str] | None,
) -> Table:
    """Read a table; see `QualityTable.load`."""
    text = _text(path)
    settings, rows = _settings(path, text), list(_rows(path, text))
    if not rows:
        raise QualityError(f"{path}: no rows")
    names = _names(path, rows, "expert", experts)
    domains = _names(path, rows, "domain", labels)
    score, count, lengths = _arrays(path, rows, domains, names)
    try:
        table = kind.of(
            domains,
            names,
            generalist or settings.get("generalist", GENERALIST),
            score,
            count,
            prior=_number(settings.get("prior", str(PRIOR))),
            confidence=_number(settings.get("confidence", str(CONFIDENCE))),
            completion_tokens=lengths,
            cells=_read_cells(cells_path(path), _digest(text), generalist or settings.get("generalist", GENERALIST)),
        )
    except (QualityError, ValueError) as error:
        raise QualityError(f"{path}: {error}") from error
    return table


def _content(table: QualityTable) -> str:
    lengths = table.completion_tokens
    columns = [*COLUMNS, *([LENGTH] if lengths is not None else [])]
    lines = [
        f"# generalist: {table.generalist}",
        f"# prior: {table.prior:g}",
        f"# confidence: {table.confidence:g}",
        ",".join(columns),
    ]
    for row, domain in enumerate(table.labels):
        for column, expert in enumerate(table.experts):
            if table.count[row, column] > 0:
                numbers = [table.score[row, column], table.count[row, column]]
                numbers += [lengths[row]] if lengths is not None else []
                lines.append(",".join([_quoted(domain), _quoted(expert), *map(_short, numbers)]))
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\r\n#') else name


def _short(number: float) -> str:
    return f"{round(float(number), _DIGITS):.{_DIGITS}f}".rstrip("0").rstrip(".")


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_CSV_BYTES:
            raise QualityError(f"{path}: larger than {LARGEST_CSV_BYTES:,} bytes, which no table of experts is")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise QualityError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise QualityError(f"{path}: not UTF-8 text") from error


def _settings(path: Path, text: str) -> dict[str, str]:
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("#"):
            break
        name, colon, value = line.removeprefix("#").partition(":")
        if colon and name.strip() in _SETTINGS:
            settings[name.strip()] = value.strip()
            if name.strip() != "generalist" and not math.isfinite(_number(value)):
                raise QualityError(f"{path}:{number}: {name.strip()} is not a number")
    return settings


def _rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    lines = text.splitlines(keepends=True)
    skipped = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    reader = csv.reader(lines[skipped:], strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        if len(set(columns)) != len(columns) or not set(COLUMNS) <= set(columns):
            raise QualityError(f"{path}:{skipped + 1}: the first line must name the columns {', '.join(COLUMNS)}")
        for cells in reader:
            number = skipped + reader.line_num
            if cells and len(cells) != len(columns):
                raise QualityError(f"{path}:{number}: {len(cells)} cells, but {len(columns)} columns")
            if cells:
                yield number, {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    except csv.Error as error:
        raise QualityError(f"{path}:{skipped + reader.line_num}: {error}") from error


def _names(path: Path, rows: Sequence[tuple[int, Row]], column: str, allowed: Sequence[str] | None) -> tuple[str, ...]:
    for number, row in rows:
        name = row[column]
        if not name:
            raise QualityError(f"{path}:{number}: no {column}")
        if allowed is not None and name not in allowed:
            raise QualityError(f"{path}:{number}: no {column} {name!r} here{did_you_mean(name, allowed)}")
    return tuple(allowed) if allowed is not None else tuple(dict.fromkeys(row[column] for _, row in rows))


def _arrays(
    path: Path, rows: Sequence[tuple[int, Row]], domains: Sequence[str], experts: Sequence[str]
) -> tuple[Array, Array, Array | None]:
    """Return score, count (k, m) and lengths (k,)."""
    score, count = np.full((len(domains), len(experts)), np.nan), np.zeros((len(domains), len(experts)))
    length, known = np.zeros(len(domains)), np.zeros(len(domains))
    rank = {name: index for index, name in enumerate(domains)}, {name: index for index, name in enumerate(experts)}
    for number, row in rows:
        place = rank[0][row["domain"]], rank[1][row["expert"]]
        if not np.isnan(score[place]):
            raise QualityError(f"{path}:{number}: a second row for {row['expert']!r} in {row['domain']!r}")
        score[place] = _in_range(path, number, row, "score", 1)
        count[place] = _in_range(path, number, row, "count", 1e9)
        if row.get(LENGTH):
            length[place[0]] += _in_range(path, number, row, LENGTH, 1e7)
            known[place[0]] += 1
    if not known.any():
        return score, count, None
    usual = length.sum() / known.sum()
    return score, count, np.where(known > 0, length / np.maximum(known, 1), usual)


def _in_range(path: Path, number: int, row: Row, column: str, most: float) -> float:
    value = _number(row[column])
    if not 0 <= value <= most:
        raise QualityError(f"{path}:{number}: {column} is not a number from 0 to {most:g}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _digest(text: str) -> str:
    """Return what tells an edited table: line ends and a byte order mark do not count."""
    return hashlib.sha256("\n".join(text.splitlines()).encode()).hexdigest()


def _write_cells(cells: Cells, path: Path, digest: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as stream:
        arrays: Mapping[str, NDArray[np.generic]] = {**cells.as_arrays(), "table": np.asarray(digest)}
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    unfinished.replace(path)


def _read_cells(path: Path, digest: str, generalist: str) -> Cells | None:
    if not path.exists():
        return None
    arrays = _npz(path)
    try:
        cells = Cells.from_arrays(arrays)
        belongs = str(arrays["table"]) == digest
    except (KeyError, ValueError, TypeError) as error:
        raise QualityError(f"{path.name} does not hold cells: {error}") from error
    if not belongs:
        raise QualityError(f"{path.name} was fitted with another table; fit it again or delete it")
    if cells.generalist != generalist:
        raise QualityError(f"{path.name} compares with {cells.generalist!r}, not with {generalist!r}; fit it again")
    return cells


def _npz(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_CELLS_BYTES:
                raise QualityError(f"{path.name}: larger than {LARGEST_CELLS_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile) as error:
        raise QualityError(f"{path.name} cannot be read: {type(error).__name__}") from error
