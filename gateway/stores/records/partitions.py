"""Partitions of requests by day in PostgreSQL: made ahead, dropped when too old. Touches no single request.

Also deletes rollups and events, which are not partitioned. A day is one in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from gateway.stores.records.contract import Retention
from gateway.stores.records.retention import STEP_ROWS
from gateway.stores.records.rollups import MINUTE_S, SPANS

DAY_US = 86_400_000_000
AHEAD_DAYS = 2
_PARTITIONED = ("record", "attempt")
_PARTITION_LOCK = 7_406_002
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTITIONS = (
    "SELECT child.relname, pg_total_relation_size(child.oid) FROM pg_inherits "
    "JOIN pg_class AS child ON child.oid = inhrelid WHERE inhparent = 'pointsman.record'::regclass ORDER BY 1"
)
_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c "
    "JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = 'pointsman' AND relkind = 'r'"
)
_DELETE_ROLLUPS = (
    "DELETE FROM rollup WHERE ctid = ANY(ARRAY(SELECT ctid FROM rollup WHERE span_s = %s AND at_s < %s LIMIT %s))"
)
_DELETE_EVENTS = "DELETE FROM event WHERE ctid = ANY(ARRAY(SELECT ctid FROM event WHERE at_us < %s LIMIT %s))"

Connection = psycopg.Connection[tuple[Any, ...]]


class Partitions:
    """Which days one connection knows to be there."""

    def __init__(self) -> None:
        self._days: set[int] = set()

    def provide(self, connection: Connection, moments_us: Iterable[int]) -> None:
        """Make the partitions of these moments' days and of the `AHEAD_DAYS` after the last one."""
        days = {moment // DAY_US for moment in moments_us}
        if not days:
            return
        days |= {max(days) + ahead for ahead in range(1, AHEAD_DAYS + 1)}
        for day in sorted(days - self._days):
            _create(connection, day)
            self._days.add(day)


def drop_old(connection: Connection, rules: Retention, now_us: int) -> int:
    """Drop the oldest day that is over, or delete at most `STEP_ROWS` rollups or events. Returns how many went."""
    days = [int(name.rpartition("_")[2]) for name, _ in connection.execute(_PARTITIONS).fetchall()]
    oldest, today = (_day_of(min(days)) if days else None), now_us // DAY_US
    if oldest is not None and oldest < today:
        too_old = (oldest + 1) * DAY_US <= now_us - rules.rows_s * 1_000_000
        if too_old or (rules.max_bytes is not None and size_bytes(connection) > rules.max_bytes):
            _drop(connection, oldest)
            return 1
    for span_s in SPANS:
        before_s = now_us // 1_000_000 - (rules.minutes_s if span_s == MINUTE_S else rules.hours_s)
        if removed := connection.execute(_DELETE_ROLLUPS, [span_s, before_s, STEP_ROWS]).rowcount:
            return removed
    return connection.execute(_DELETE_EVENTS, [now_us - rules.hours_s * 1_000_000, STEP_ROWS]).rowcount


def size_bytes(connection: Connection) -> int:
    """Return the bytes on disk of all tables of ours with their indexes."""
    row = connection.execute(_SIZE).fetchone()
    return int(row[0]) if row else 0


def _create(connection: Connection, day: int) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITION_LOCK])
        for table in _PARTITIONED:
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(
                    _partition(table, day),
                    sql.Identifier("pointsman", table),
                    sql.Literal(day * DAY_US),
                    sql.Literal((day + 1) * DAY_US),
                )
            )


def _drop(connection: Connection, day: int) -> None:
    """Take a day out of the tables, then drop it; attempts first, so that no request shows without its own."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITION_LOCK])
        for table in reversed(_PARTITIONED):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_partition(table, day)))


def _partition(table: str, day: int) -> sql.Identifier:
    return sql.Identifier("pointsman", f"{table}_{_EPOCH + timedelta(days=day):%Y%m%d}")


def _day_of(name: int) -> int:
    return (datetime.strptime(str(name), "%Y%m%d").replace(tzinfo=UTC) - _EPOCH).days
