"""What pages and the admin API ask of records, in SQL that both databases run. Writes nothing, opens nothing.

Every query is bounded in rows here and in time by its `Run`. Rows are read newest first from a keyset position; at most
`SCAN_ROWS` are looked at for a page, so a filter that fits little gives a short page and a cursor to go on from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from gateway.stores.records.contract import QueryTooSlow, Run
from gateway.stores.records.filters import LATEST_US as _LATEST_US
from gateway.stores.records.filters import RecordFilter as RecordFilter
from gateway.stores.records.histograms import CONFIDENCE, DURATION, FIRST_BYTE, MARGIN, Counts, part, total
from gateway.stores.records.rollups import DAY_S, HOUR_S, MINUTE_S
from gateway.stores.records.tables import ATTEMPT_COLUMNS, COLUMNS, FLAGS, JSON, SUMS

SCAN_ROWS = 100_000
TRIES_SCAN_ROWS = 20_000
PAGE_ROWS = 500
ROLLUP_ROWS = 200_000
MOST_POINTS = 750
_NEWEST = "ORDER BY at_us DESC, id DESC"
_CURSOR = re.compile(r"([0-9]{1,19})\.([\x21-\x7e]{0,500})")

Dimension = Literal["domain", "chosen", "reason", "status_class"]
_DIMENSIONS: tuple[Dimension, ...] = ("domain", "chosen", "reason", "status_class")
Row = dict[str, Any]


class BadCursor(ValueError):
    """The cursor is none that a page gave."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, newest first, and where to go on; `next` is None at the end. A page may be empty and not the last."""

    rows: list[Row]
    next: str | None


@dataclass(frozen=True, slots=True)
class RollupFilter:
    """Which rollups are meant: `since_s` to `until_s` (seconds since the epoch), and values that have to be equal.

    Bounds are widened to whole minutes, hours or days, as `span_of` says.
    """

    since_s: int
    until_s: int
    domain: str | None = None
    chosen: str | None = None
    reason: str | None = None
    status_class: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """Requests alike, summed up.

    Attributes:
        at_s: start of the span of time.
        name: the value of the dimension that was asked for; "" without one, or where requests have none.
        sums: by the names of `tables.SUMS`.
        counts: int64 (`BUCKETS`,), all histograms.
    """

    at_s: int
    name: str
    sums: dict[str, float]
    counts: Counts

    def described(self, shares: Sequence[float] = (0.5, 0.95, 0.99)) -> Row:
        """Return it ready for JSON: sums, and percentiles of both times in seconds (`duration_p95` ...)."""
        scales = {"time_to_first_byte": FIRST_BYTE, "duration": DURATION}
        quantiles = {
            f"{name}_p{share * 100:g}": scale.quantile(self.counts, share)
            for name, scale in scales.items()
            for share in shares
        }
        return {"at_s": self.at_s, "name": self.name, **self.sums, **quantiles}

    def histograms(self) -> dict[str, Sequence[int]]:
        """Return all four histograms as lists of counts."""
        scales = {"time_to_first_byte": FIRST_BYTE, "duration": DURATION, "confidence": CONFIDENCE, "margin": MARGIN}
        return {name: part(scale, self.counts) for name, scale in scales.items()}


@dataclass(slots=True)
class _Sum:
    sums: list[float] = field(default_factory=lambda: [0] * len(SUMS))
    packed: list[bytes] = field(default_factory=list)


class Queries:
    """Reads a store. Safe to use from several threads as far as `run` is.

    Args:
        run: the store's.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        """How statements are run, for the queries of `columns` and `sums`."""
        return self._run

    def page(self, wanted: RecordFilter, cursor: str | None = None, limit: int = 50) -> Page:
        """Return requests, newest first.

        Raises:
            BadCursor: not a cursor of ours.
            RecordsUnavailable, QueryTooSlow: see there.
        """
        limit = min(max(limit, 1), PAGE_ROWS)
        before_us, before_id = _position(cursor) if cursor else (min(wanted.until_us, _LATEST_US), "")
        where, parameters = "at_us >= ? AND (at_us, id) < (?, ?)", [wanted.since_us, before_us, before_id]
        scan_rows = scan_rows_of(wanted)
        keys = self._scanned(wanted, where, [*parameters, scan_rows], limit)
        rows = self._of_keys(keys)
        if len(keys) == limit:
            return Page(rows, _cursor(keys[-1]))
        last = self._run(
            f"SELECT at_us, id FROM record WHERE {where} {_NEWEST} LIMIT 1 OFFSET ?", [*parameters, scan_rows - 1]
        )
        # Rows written in between move the scan's end towards now; what was shown is not shown again.
        return Page(rows, _cursor(min([*last, *keys[-1:]], key=_place)) if last else None)

    def find(self, request_id: str, key: str | None = None) -> Row | None:
        """Return a request with its `tries`, the latest where several have the id; with `key` only that key's own."""
        condition, values = ("", []) if key is None else (" AND key = ?", [key])
        rows = self._run(
            f"SELECT {', '.join(COLUMNS)} FROM record WHERE id = ?{condition} ORDER BY at_us DESC LIMIT 1",
            [request_id, *values],
        )
        if not rows:
            return None
        names = ATTEMPT_COLUMNS[2:]
        tries = self._run(
            f"SELECT {', '.join(names)} FROM attempt WHERE at_us = ? AND id = ? ORDER BY n LIMIT 100", rows[0][:2]
        )
        return {**row_of_values(rows[0]), "tries": [dict(zip(names, attempt, strict=True)) for attempt in tries]}

    def series(self, wanted: RollupFilter, by: Dimension | None = None, points: int = MOST_POINTS) -> list[Point]:
        """Return sums over time, the earliest first; spans without requests have no point. See `span_of`."""
        return self._summed(wanted, by, span_of(wanted, points), over_time=True)

    def totals(self, wanted: RollupFilter, by: Dimension | None = None, points: int = MOST_POINTS) -> list[Point]:
        """Return sums over the whole time; `at_s` is its start. Fewer points are wider bounds and less to read."""
        return self._summed(wanted, by, span_of(wanted, points), over_time=False)

    def facets(self) -> dict[str, list[str]]:
        """Return which values have occurred in the columns that pages can filter by."""
        found: dict[str, list[str]] = {}
        for kind, value in self._run("SELECT kind, value FROM dim ORDER BY kind, value LIMIT ?", [ROLLUP_ROWS]):
            found.setdefault(kind, []).append(value)
        return found

    def events(self, since_us: int = 0, limit: int = 100) -> list[Row]:
        """Return what happened, the newest first."""
        rows = self._run(
            "SELECT id, at_us, kind, detail FROM event WHERE at_us >= ? ORDER BY at_us DESC, id DESC LIMIT ?",
            [since_us, min(max(limit, 1), PAGE_ROWS)],
        )
        return [{"id": row[0], "at_us": row[1], "kind": row[2], "detail": orjson.loads(row[3])} for row in rows]

    def every(self, wanted: RecordFilter, limit: int = PAGE_ROWS) -> Iterator[Row]:
        """Return all requests that fit, newest first, read in pages: no snapshot is held."""
        cursor: str | None = None
        while True:
            page = self.page(wanted, cursor, limit)
            yield from page.rows
            if page.next is None:
                return
            cursor = page.next

    def _scanned(self, wanted: RecordFilter, where: str, bounds: list[Any], limit: int) -> list[tuple[Any, ...]]:
        """Return time and id of the first `limit` requests that fit, of those within the bounds, the newest first."""
        conditions, values = wanted.conditions()
        # What is not looked at is not read: that halves the time where little fits.
        columns = ", ".join(("at_us", "id", *sorted(wanted.looked_at)))
        scan = f"SELECT {columns} FROM record WHERE {where} {_NEWEST} LIMIT ?"
        # No order outside: both databases keep that of the scan, and SQLite would sort all of it first (90 ms).
        return self._run(
            f"SELECT at_us, id FROM ({scan}) AS scanned WHERE {conditions} LIMIT ?", [*bounds, *values, limit]
        )

    def _of_keys(self, keys: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Return whole requests by time and id, the newest first."""
        if not keys:
            return []
        # The bounds tell PostgreSQL which partitions matter.
        rows = self._run(
            f"SELECT {', '.join(COLUMNS)} FROM record WHERE at_us >= ? AND at_us <= ? AND (at_us, id) IN "
            f"(VALUES {', '.join(['(?, ?)'] * len(keys))}) {_NEWEST}",
            [keys[-1][0], keys[0][0], *(value for key in keys for value in key)],
        )
        return [row_of_values(row) for row in rows]

    def _summed(self, wanted: RollupFilter, by: Dimension | None, span_s: int, *, over_time: bool) -> list[Point]:
        since_s = wanted.since_s // span_s * span_s
        conditions, values = _equal(wanted)
        column = f"{by}, " if by in _DIMENSIONS else "'', "
        rows = self._run(
            f"SELECT at_s, {column}{', '.join(SUMS)}, histograms FROM rollup "
            f"WHERE span_s = ? AND at_s >= ? AND at_s < ?{conditions} LIMIT ?",
            [span_s, since_s, wanted.until_s, *values, ROLLUP_ROWS],
        )
        if len(rows) == ROLLUP_ROWS:
            raise QueryTooSlow("too many rollups; take a shorter time")
        found: dict[tuple[int, str], _Sum] = {}
        for at_s, name, *sums, packed in rows:
            group = found.setdefault((at_s if over_time else since_s, name), _Sum())
            group.sums = [old + new for old, new in zip(group.sums, sums, strict=True)]
            group.packed.append(packed)
        return [
            Point(*key, dict(zip(SUMS, group.sums, strict=True)), total(group.packed))
            for key, group in sorted(found.items())
        ]


def scan_rows_of(wanted: RecordFilter) -> int:
    """Return how many requests a page looks at, at most."""
    return TRIES_SCAN_ROWS if wanted.asks_tries else SCAN_ROWS


def span_of(wanted: RollupFilter, points: int = MOST_POINTS) -> int:
    """Return the finest span of rollups, in seconds, that gives at most `points` points: 60, 3600 or 86400."""
    for span_s in (MINUTE_S, HOUR_S):
        if wanted.until_s - wanted.since_s <= span_s * points:
            return span_s
    return DAY_S


def whole_span(wanted: RollupFilter) -> RollupFilter:
    """Return the same filter with bounds at whole spans, as it is answered."""
    span_s = span_of(wanted)
    return replace(wanted, since_s=wanted.since_s // span_s * span_s, until_s=-(-wanted.until_s // span_s) * span_s)


def _equal(wanted: RollupFilter) -> tuple[str, list[str]]:
    found = [(f" AND {name} = ?", getattr(wanted, name)) for name in _DIMENSIONS if getattr(wanted, name) is not None]
    return "".join(condition for condition, _ in found), [value for _, value in found]


def row_of_values(values: Sequence[Any]) -> Row:
    """Return a row by the names of `COLUMNS`: flags as booleans, JSON read."""
    row = dict(zip(COLUMNS, values, strict=True))
    for name in FLAGS:
        row[name] = bool(row[name])
    for name in JSON:
        row[name] = _object(row[name])
    return row


def _object(text: str | None) -> dict[str, Any]:
    try:
        return orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:  # cut at the longest text
        return {}


def _place(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(row[:2])


def _cursor(row: Sequence[Any]) -> str:
    return f"{row[0]}.{row[1]}"


def _position(cursor: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(cursor)
    if found is None or int(found[1]) > _LATEST_US:
        raise BadCursor("not a cursor of a page")
    return int(found[1]), found[2]
