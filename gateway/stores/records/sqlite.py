"""Records in a SQLite file: the writing half. One transaction a batch; repairs what it can, and never waits long.

A deleted file is made anew, a corrupt one is moved aside, each with an event. A reader that holds a snapshot keeps the
write-ahead log from being emptied; above `wal_limit_bytes` no batch is written until it lets go, so the disk does not
fill up.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import structlog

from gateway.stores.aside import put_aside
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
from gateway.stores.records.lock import WriterLock
from gateway.stores.records.retention import SqliteRetention
from gateway.stores.records.rollups import stored_row, tally
from gateway.stores.records.tables import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    FACET_LIMIT,
    NAME,
    ROLLUP_COLUMNS,
    ROLLUP_KEY,
    SQLITE_STEPS,
    SUMS,
    facets_of,
)
from gateway.stores.sqlite import StoreError, open_file, transaction

log = structlog.get_logger(__name__)

WAL_LIMIT_BYTES = 256 * 2**20
_NOTES = 16
_CHECKPOINT_S = 0.1
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REFUSED = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})

_INSERT = f"INSERT OR IGNORE INTO record ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_INSERT_ATTEMPT = f"INSERT OR IGNORE INTO attempt VALUES ({', '.join('?' * len(ATTEMPT_COLUMNS))})"
_FIND_ROLLUP = (
    f"SELECT {', '.join(SUMS)}, histograms FROM rollup WHERE {' AND '.join(f'{name} = ?' for name in ROLLUP_KEY)}"
)
_PUT_ROLLUP = f"INSERT OR REPLACE INTO rollup VALUES ({', '.join('?' * len(ROLLUP_COLUMNS))})"


class SqliteRecords:
    """Writes records to a file. All but `check` is called by one thread.

    Args:
        path: the file; its folder must be there.
        group: what the processes of one gateway have in common; others may not write to the file at the same time.
        wal_limit_bytes: most bytes of the write-ahead log.
    """

    def __init__(self, path: str, *, group: str | None = None, wal_limit_bytes: int = WAL_LIMIT_BYTES) -> None:
        self._path = path
        self._group = group or f"{os.getpid()}-{time.monotonic_ns()}"
        self._wal_limit_bytes = wal_limit_bytes
        self._lock: WriterLock | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._seen: set[tuple[str, str]] = set()
        self._notes: list[EventRow] = []
        self._retention = SqliteRetention()

    def check(self) -> None:
        """Take the lock and open the file, for errors before the server starts.

        Raises:
            StoreError: another gateway writes to it, or it cannot be used; what may pass is left to the first batch.
        """
        try:
            self._ready()
        except RecordsUnavailable as error:
            log.warning("record_store_not_open", error=str(error))
        self._disconnect()  # a connection belongs to its thread, and another one will write

    def write(self, batch: Batch) -> None:
        """See `RecordStore.write`."""
        with self._explained():
            connection = self._ready()
            self._bound_wal(connection)
            notes = list(self._notes)
            with transaction(connection):
                new = [row for row in breathing(batch.rows) if _insert(connection, row)]
                _put_rollups(connection, new)
                facets = self._put_facets(connection, new)
                _put_events(connection, [*batch.events, *notes])
            self._seen |= facets
            self._notes = self._notes[len(notes) :]

    def retain(self, rules: Retention, now_us: int) -> int:
        """See `RecordStore.retain`."""
        with self._explained():
            return self._retention.step(self._ready(), rules, now_us)

    def close(self) -> None:
        """Empty the write-ahead log, close the file and let go of the lock."""
        self._disconnect()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _ready(self) -> sqlite3.Connection:
        if self._connection is not None and self._file != _identity(self._path):
            self._disconnect()
            self._note("store_missing")
        if self._connection is None:
            self._connection = self._open()
            self._file, self._seen = _identity(self._path), set()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            if self._lock is None:
                self._lock = WriterLock(self._path, self._group)
            connection = _open(self._path)
            self._lock.mark_used()
            return connection
        except StoreError as error:
            if _is_broken(error.__cause__) and self._move_aside(_identity(self._path)):
                return self._open()
            raise
        except (sqlite3.Error, OSError) as error:
            raise RecordsUnavailable(_name(error)) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what a batch may meet into the contract's two errors; what is open is opened anew next time."""
        try:
            yield
        except (RecordsUnavailable, RowsRefused):
            raise
        except (OverflowError, UnicodeError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
            raise RowsRefused(_name(error)) from error
        except (sqlite3.Error, OSError, StoreError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSED:
                raise RowsRefused(_name(error)) from error
            opened = self._file
            self._disconnect()
            if _is_broken(error):
                self._move_aside(opened)
            raise RecordsUnavailable(_name(error)) from error

    def _bound_wal(self, connection: sqlite3.Connection) -> None:
        wal = Path(f"{self._path}-wal")
        if not wal.exists() or wal.stat().st_size <= self._wal_limit_bytes:
            return
        connection.execute(f"PRAGMA busy_timeout={int(_CHECKPOINT_S * 1_000)}")
        try:
            blocked = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            connection.execute("PRAGMA busy_timeout=5000")
        if blocked:
            raise RecordsUnavailable("wal_full")

    def _put_facets(self, connection: sqlite3.Connection, rows: Sequence[RecordRow]) -> set[tuple[str, str]]:
        found = facets_of(rows) - self._seen
        if len(self._seen) + len(found) > FACET_LIMIT:
            return set()
        connection.executemany("INSERT OR IGNORE INTO dim VALUES (?, ?)", sorted(found))
        return found

    def _move_aside(self, opened: tuple[int, int] | None) -> bool:
        """Rename a corrupt file; none that was never ours, or that another worker has put in its place meanwhile."""
        if opened is None or opened != _identity(self._path) or self._lock is None or not self._lock.used:
            return False
        self._note("store_moved_aside", file=put_aside(Path(self._path)))
        return True

    def _note(self, kind: str, **detail: Value) -> None:
        log.error(kind, path=self._path, **detail)
        self._notes = [*self._notes, EventRow(kind, detail)][-_NOTES:]

    def _disconnect(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _open(path: str) -> sqlite3.Connection:
    if not Path(path).exists() or not Path(path).stat().st_size:
        _create(path)
    return open_file(path, NAME, SQLITE_STEPS)


def _create(path: str) -> None:
    """Make an empty file that can give space back: that has to be said before anything else is in it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _insert(connection: sqlite3.Connection, row: RecordRow) -> bool:
    if connection.execute(_INSERT, row.values).rowcount != 1:
        return False
    if row.attempts:
        tries = [(row.at_us, row.id, n, *attempt) for n, attempt in enumerate(row.attempts, 1)]
        connection.executemany(_INSERT_ATTEMPT, tries)
    return True


def _put_rollups(connection: sqlite3.Connection, rows: Sequence[RecordRow]) -> None:
    found = tally(breathing(rows))
    stored = [
        stored_row(key, rollup, connection.execute(_FIND_ROLLUP, key).fetchone())
        for key, rollup in breathing(found.items())
    ]
    connection.executemany(_PUT_ROLLUP, stored)


def _put_events(connection: sqlite3.Connection, events: Sequence[EventRow]) -> None:
    rows = [(event.id, event.at_us, event.kind, orjson.dumps(event.detail).decode()) for event in events]
    connection.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?)", rows)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_broken(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
