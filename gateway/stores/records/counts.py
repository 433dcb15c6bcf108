"""Counts of the newest tries, errors and events, which rollups do not have. Writes nothing.

The database counts, so that few rows come back, and looks at the newest `SCAN_ROWS` only; each answer says at how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gateway.stores.records.contract import Run
from gateway.stores.records.queries import Row

SCAN_ROWS = 20_000
MOST_GROUPS = 5_000
MOST_EVENTS = 500
_FINE = frozenset({"ok", "passed"})
_UNKNOWN = frozenset({"open", ""})


@dataclass(frozen=True, slots=True)
class TryCount:
    """Tries at one server that ended alike.

    Attributes:
        expert: whose model was wanted.
        upstream: the server's address.
        outcome: `ok`, `passed` (an error handed through), `open` (the client left), an error's code, or `status_503`.
        status: the server's; 0 when there was none.
        count: how many.
        last_us: the newest one's request, microseconds since the epoch.
    """

    expert: str
    upstream: str
    outcome: str
    status: int
    count: int
    last_us: int

    @property
    def is_over(self) -> bool:
        """Tell whether anything is known of how they ended: clients that leave take that with them."""
        return self.outcome not in _UNKNOWN

    @property
    def failed(self) -> bool:
        """Tell whether the server failed; errors handed through are the client's own, but for 5xx."""
        return self.is_over and (self.outcome not in _FINE or self.status >= 500)


@dataclass(frozen=True, slots=True)
class Tries:
    """The newest tries, counted.

    Attributes:
        counts: by expert, server and outcome.
        looked_at: how many tries that were.
        since_us: the oldest one's request; None: there was none.
        whole: whether these are all of the span of time that was asked for.
    """

    counts: list[TryCount]
    looked_at: int
    since_us: int | None
    whole: bool


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """Requests that ended in the same error.

    Attributes:
        error: its code.
        status: the status that clients saw.
        decided: the expert that was to answer; "" when none was.
        count: how many.
        last_us: the newest one, microseconds since the epoch.
    """

    error: str
    status: int
    decided: str
    count: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors among the newest requests, counted; fields as in `Tries`."""

    counts: list[ErrorCount]
    looked_at: int
    since_us: int | None
    whole: bool


def tries(run: Run, since_us: int, until_us: int, scan_rows: int = SCAN_ROWS) -> Tries:
    """Return what became of the newest tries, of all workers.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    rows = run(
        "SELECT expert, upstream, outcome, status, COUNT(*), MAX(at_us), MIN(at_us) FROM (SELECT expert, upstream, "
        "outcome, status, at_us FROM attempt WHERE at_us >= ? AND at_us < ? ORDER BY at_us DESC, id DESC, n DESC "
        "LIMIT ?) AS newest GROUP BY expert, upstream, outcome, status ORDER BY 5 DESC, 1, 2, 3, 4 LIMIT ?",
        [since_us, until_us, scan_rows, MOST_GROUPS],
    )
    counts = [TryCount(row[0] or "", row[1] or "", row[2] or "", *map(_whole, row[3:6])) for row in rows]
    looked_at = sum(count.count for count in counts)
    return Tries(counts, looked_at, min((int(row[6]) for row in rows), default=None), looked_at < scan_rows)


def errors(run: Run, since_us: int, until_us: int, scan_rows: int = SCAN_ROWS) -> Errors:
    """Return the errors that the newest requests ended in, of all workers.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    rows = run(
        "SELECT error, status, decided, COUNT(*), MAX(at_us), MIN(at_us) FROM (SELECT error, status, decided, at_us "
        "FROM record WHERE at_us >= ? AND at_us < ? ORDER BY at_us DESC, id DESC LIMIT ?) AS newest "
        "GROUP BY error, status, decided ORDER BY 4 DESC, 1, 2, 3 LIMIT ?",
        [since_us, until_us, scan_rows, MOST_GROUPS],
    )
    looked_at = sum(int(row[3]) for row in rows)
    counts = [
        ErrorCount(row[0], int(row[1] or 0), row[2] or "", int(row[3]), int(row[4]))
        for row in rows
        if row[0] is not None
    ]
    return Errors(counts, looked_at, min((int(row[5]) for row in rows), default=None), looked_at < scan_rows)


def events(run: Run, kinds: Sequence[str], since_us: int, until_us: int, limit: int = MOST_EVENTS) -> list[Row]:
    """Return events of some kinds, the newest first, as `Queries.events` does.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    if not kinds:
        return []
    rows = run(
        "SELECT id, at_us, kind, detail FROM (SELECT id, at_us, kind, detail FROM event WHERE at_us >= ? AND at_us < ? "
        f"ORDER BY at_us DESC, id DESC LIMIT ?) AS newest WHERE kind IN ({', '.join('?' * len(kinds))}) LIMIT ?",
        [since_us, until_us, SCAN_ROWS, *kinds, min(max(limit, 1), MOST_EVENTS)],
    )
    return [{"id": row[0], "at_us": row[1], "kind": row[2], "detail": orjson.loads(row[3])} for row in rows]


def _whole(value: object) -> int:
    return 0 if value is None else int(str(value))
