"""Deletes what is old from a SQLite file, a little at a time, so that no batch waits long. Decides no period.

The oldest go first. A request's attempts go with it, in the same transaction. Freed pages go back to the file system
in small numbers, too.
"""

from __future__ import annotations

import sqlite3

from gateway.stores.records.contract import Retention
from gateway.stores.records.rollups import MINUTE_S, SPANS
from gateway.stores.sqlite import transaction

# About 20 ms on a file of 1.5 million rows; a batch that is due waits no longer than that.
STEP_ROWS = 400
_STEP_PAGES = 400

_OLDEST = "SELECT at_us, id FROM record WHERE at_us < ? ORDER BY at_us, id LIMIT 1 OFFSET ?"
_LAST = "SELECT at_us, id FROM record WHERE at_us < ? ORDER BY at_us DESC, id DESC LIMIT 1"
_DELETE_ROLLUPS = (
    "DELETE FROM rollup WHERE (span_s, at_s, domain, chosen, reason, status_class) IN "
    "(SELECT span_s, at_s, domain, chosen, reason, status_class FROM rollup WHERE span_s = ? AND at_s < ? LIMIT ?)"
)
_DELETE_EVENTS = "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at_us < ? ORDER BY at_us LIMIT ?)"
_EVER = 2**62


class SqliteRetention:
    """Takes one step at a time. Holds nothing between them."""

    def step(self, connection: sqlite3.Connection, rules: Retention, now_us: int) -> int:
        """Delete at most `STEP_ROWS` rows. Returns how many; 0 when nothing is too old and the file is not too big."""
        now_s = now_us // 1_000_000
        removed = _delete_records(connection, now_us - rules.rows_s * 1_000_000)
        if not removed and rules.max_bytes is not None and size_bytes(connection) > rules.max_bytes:
            removed = _delete_records(connection, _EVER)
        if not removed:
            removed = _delete_rollups(connection, rules, now_s)
        if not removed:
            parameters = (now_us - rules.hours_s * 1_000_000, STEP_ROWS)
            removed = connection.execute(_DELETE_EVENTS, parameters).rowcount
        if removed:
            # `execute` would free one page only: the pragma has no columns, so it is not stepped on.
            connection.executescript(f"PRAGMA incremental_vacuum({_STEP_PAGES})")
        return removed


def size_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that are in use."""
    pages, free, page_bytes = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes


def _delete_records(connection: sqlite3.Connection, before_us: int) -> int:
    last = connection.execute(_OLDEST, (before_us, STEP_ROWS - 1)).fetchone()
    last = last or connection.execute(_LAST, (before_us,)).fetchone()
    if last is None:
        return 0
    with transaction(connection):
        connection.execute("DELETE FROM attempt WHERE (at_us, id) <= (?, ?)", last)
        return connection.execute("DELETE FROM record WHERE (at_us, id) <= (?, ?)", last).rowcount


def _delete_rollups(connection: sqlite3.Connection, rules: Retention, now_s: int) -> int:
    for span_s in SPANS:
        before_s = now_s - (rules.minutes_s if span_s == MINUTE_S else rules.hours_s)
        with transaction(connection):
            removed = connection.execute(_DELETE_ROLLUPS, (span_s, before_s, STEP_ROWS)).rowcount
        if removed:
            return removed
    return 0
