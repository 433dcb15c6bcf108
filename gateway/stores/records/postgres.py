"""Records in PostgreSQL, for several gateways at once: the writing half. One transaction a batch, one connection.

All tables are in a schema of their own, `pointsman`. Requests and attempts are partitioned by day (UTC); partitions
are made ahead, and dropped whole when they are too old. Rows come in by COPY; where some are there already, by COPY
into a table of the transaction's own and from there with `ON CONFLICT DO NOTHING`: a batch that was committed although
its answer was lost changes nothing the second time. A lock in the transaction lets gateways add to rollups one after
the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import orjson
import psycopg
import structlog

from gateway.stores.records.breathing import breathing
from gateway.stores.records.contract import (
    Batch,
    EventRow,
    RecordRow,
    RecordsUnavailable,
    Retention,
    RowsRefused,
    Value,
)
from gateway.stores.records.partitions import Partitions, drop_old
from gateway.stores.records.postgres_connection import connect, migrate, name_of
from gateway.stores.records.rollups import RollupKey, stored_row, tally
from gateway.stores.records.tables import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    FACET_LIMIT,
    ROLLUP_COLUMNS,
    ROLLUP_KEY,
    SUMS,
    facets_of,
)

log = structlog.get_logger(__name__)

WRITE_S = 30
_ROLLUP_LOCK = 7_406_001
_INCOMING = "CREATE TEMP TABLE incoming (LIKE pointsman.record INCLUDING DEFAULTS) ON COMMIT DROP"
_COPY = f"COPY record ({', '.join(COLUMNS)}) FROM STDIN"
_COPY_INCOMING = f"COPY incoming ({', '.join(COLUMNS)}) FROM STDIN"
_TAKE = (
    f"INSERT INTO record ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM incoming "
    "ON CONFLICT DO NOTHING RETURNING at_us, id"
)
_COPY_ATTEMPTS = f"COPY attempt ({', '.join(ATTEMPT_COLUMNS)}) FROM STDIN"
_FIND_ROLLUPS = (
    f"SELECT {', '.join((*ROLLUP_KEY, *SUMS))}, histograms FROM rollup JOIN "
    "unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[]) "
    f"AS wanted ({', '.join(ROLLUP_KEY)}) USING ({', '.join(ROLLUP_KEY)})"
)
_PUT_ROLLUP = (
    f"INSERT INTO rollup ({', '.join(ROLLUP_COLUMNS)}) VALUES ({', '.join(['%s'] * len(ROLLUP_COLUMNS))}) "
    f"ON CONFLICT ({', '.join(ROLLUP_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*SUMS, "histograms"))
)
_PUT_EVENT = "INSERT INTO event (id, at_us, kind, detail) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
_PUT_FACET = "INSERT INTO dim (kind, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresRecords:
    """Writes records to PostgreSQL. Called by one thread; several gateways may write at once.

    Args:
        address: libpq's connection string or URL; a secret, it goes into no message.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None
        self._partitions = Partitions()
        self._seen: set[tuple[str, str]] = set()

    def check(self) -> None:
        """Connect and bring the schema up to date, for errors before the server starts.

        Raises:
            StoreError: the schema is of a newer version; what may pass is left to the first batch.
        """
        try:
            with self._explained():
                self._ready()
        except RecordsUnavailable as error:
            log.warning("record_store_not_open", error=str(error))

    def write(self, batch: Batch) -> None:
        """See `RecordStore.write`."""
        with self._explained():
            connection = self._ready()
            self._partitions.provide(connection, {row.at_us for row in batch.rows})
            with connection.transaction():
                new = _put_rows(connection, batch.rows) if batch.rows else []
                facets = self._put_facets(connection, new)
                _put_events(connection, batch.events)
                _put_rollups(connection, new)
            self._seen |= facets

    def retain(self, rules: Retention, now_us: int) -> int:
        """See `RecordStore.retain`."""
        with self._explained():
            return drop_old(self._ready(), rules, now_us)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _ready(self) -> Connection:
        if self._connection is None:
            connection = connect(self._address, statement_s=WRITE_S)
            try:
                migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._partitions, self._seen = connection, Partitions(), set()
        return self._connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, OverflowError) as error:
            # A table that is gone is a ProgrammingError too; a new connection makes it again.
            self.close()
            raise RowsRefused(name_of(error)) from error
        except (psycopg.Error, OSError) as error:
            self.close()
            raise RecordsUnavailable(name_of(error)) from error

    def _put_facets(self, connection: Connection, rows: Sequence[RecordRow]) -> set[tuple[str, str]]:
        found = facets_of(rows) - self._seen
        if not found or len(self._seen) + len(found) > FACET_LIMIT:
            return set()
        connection.cursor().executemany(_PUT_FACET, sorted(found))
        return found


def _put_rows(connection: Connection, rows: Sequence[RecordRow]) -> Sequence[RecordRow]:
    """Store rows and their attempts. Returns those that were not there."""
    try:
        with connection.transaction():
            _copy(connection, _COPY, [row.values for row in rows])
        new = rows
    except psycopg.errors.UniqueViolation:
        new = _put_missing(connection, rows)
    tries = [(row.at_us, row.id, n, *attempt) for row in new for n, attempt in enumerate(row.attempts, 1)]
    _copy(connection, _COPY_ATTEMPTS, tries)
    return new


def _put_missing(connection: Connection, rows: Sequence[RecordRow]) -> list[RecordRow]:
    connection.execute(_INCOMING)
    _copy(connection, _COPY_INCOMING, [row.values for row in rows])
    stored = set(connection.execute(_TAKE).fetchall())
    new = []
    for row in rows:
        if row.key in stored:
            stored.discard(row.key)
            new.append(row)
    return new


def _copy(connection: Connection, statement: str, rows: Iterable[Sequence[Value]]) -> None:
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in breathing(rows):
            copy.write_row(row)


def _put_rollups(connection: Connection, rows: Sequence[RecordRow]) -> None:
    found = tally(breathing(rows))
    if not found:
        return
    with connection.cursor() as cursor:
        # Last in the transaction, so the lock is held only for this; READ COMMITTED sees what others committed.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ROLLUP_LOCK])
        columns = [list(column) for column in zip(*found, strict=True)]
        size = len(ROLLUP_KEY)
        old: dict[RollupKey, Sequence[Any]] = {
            (row[0], row[1], row[2], row[3], row[4], row[5]): row[size:]
            for row in cursor.execute(_FIND_ROLLUPS, columns).fetchall()
        }
        cursor.executemany(
            _PUT_ROLLUP, [stored_row(key, rollup, old.get(key)) for key, rollup in breathing(found.items())]
        )


def _put_events(connection: Connection, events: Sequence[EventRow]) -> None:
    if events:
        rows = [(event.id, event.at_us, event.kind, orjson.dumps(event.detail).decode()) for event in events]
        connection.cursor().executemany(_PUT_EVENT, rows)
