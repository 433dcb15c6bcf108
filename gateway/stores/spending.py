"""Money by scope and day in a SQLite file, added to by one thread. Knows no limits and refuses nothing.

Several processes may use one file: what one adds, the others learn at their next exchange, within a second. Every
row carries the number of the exchange that changed it last, so that only what is new is read. A corrupt file is moved
aside; of those that use it one does, and puts what it knows of the day and the month into the new one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import TypeVar

import structlog

from gateway.limits.calendar import first_day, month_of
from gateway.limits.contract import Spent
from gateway.stores.aside import Custody, Identity
from gateway.stores.sqlite import StoreError, is_broken, open_file, open_to_read, transaction

log = structlog.get_logger(__name__)

NAME = "spending"
KEPT_DAYS = 400
DELETED_AT_ONCE = 1_000

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE spending (
            scope TEXT NOT NULL,
            day INTEGER NOT NULL,
            nanos INTEGER NOT NULL,
            change INTEGER NOT NULL,
            PRIMARY KEY (scope, day)
        ) WITHOUT ROWID""",
        "CREATE INDEX spending_change ON spending (change)",
        "CREATE INDEX spending_day ON spending (day)",
    ),
)
_NEWEST = "SELECT coalesce(max(change), 0) FROM spending"
_ADD = """
INSERT INTO spending (scope, day, nanos, change) VALUES (?, ?, ?, ?)
ON CONFLICT (scope, day) DO UPDATE SET nanos = nanos + excluded.nanos, change = excluded.change
"""
_SUMS = """
SELECT scope, sum(nanos * (day = :day)), sum(nanos) FROM spending
WHERE day BETWEEN :first AND :day AND (:since < 0 OR scope IN (SELECT scope FROM spending WHERE change > :since))
GROUP BY scope
"""
_FORGET = """
DELETE FROM spending WHERE (scope, day) IN (SELECT scope, day FROM spending WHERE day < ? LIMIT ?)
"""
_BY_DAY = "SELECT day, scope, nanos FROM spending WHERE day >= ? ORDER BY day LIMIT ?"
MOST_READ = 100_000
_Result = TypeVar("_Result")


def spent_by_day(path: str, since_day: int) -> list[tuple[int, str, int]]:
    """Return the money of each day: days since the epoch, scope, billionths; at most `MOST_READ`. For pages; blocks.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with closing(open_to_read(path, NAME, len(STEPS))) as connection:
            return connection.execute(_BY_DAY, (since_day, MOST_READ)).fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error


class SpendingFile:
    """A `limits.contract.SpendingStore`.

    Args:
        path: the file; created when it is not there, its folder is not.
        moved: called on the event loop with the new name of a corrupt file that was moved aside.
    """

    def __init__(self, path: str, moved: Callable[[str], None] = lambda name: None) -> None:
        self._path = path
        self._moved = moved
        self._custody = Custody(path)
        self._opened: Identity | None = None
        self._known: dict[str, Spent] = {}
        self._known_day = -1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spending")
        self._connection: sqlite3.Connection | None = None
        self._seen = -1

    async def open(self, day: int) -> Sequence[Spent]:
        """Return everybody's money of a day and of its month.

        Raises:
            StoreError: the file cannot be used.
            OSError: something that may pass: locked, disk full.
        """
        return await self._with_aside({}, day)

    async def exchange(self, spent: Mapping[tuple[str, int], int], day: int) -> Sequence[Spent]:
        """Add money and return whose changed; see `limits.contract.SpendingStore`.

        Raises:
            StoreError, OSError: nothing was added.
        """
        return await self._with_aside(spent, day)

    async def close(self) -> None:
        """Close the file."""
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def _with_aside(self, spent: Mapping[tuple[str, int], int], day: int) -> Sequence[Spent]:
        """Exchange, and once more with a new file where the old one is corrupt."""
        try:
            return await self._in_thread(lambda: self._exchange(spent, day))
        except (OSError, StoreError) as error:
            name = await self._in_thread(partial(self._put_aside, error, day))
            if name is None:
                raise
            if name:
                log.error("spending_moved_aside", path=self._path, file=name)
                self._moved(name)
        return await self._in_thread(lambda: self._exchange(spent, day))

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _exchange(self, spent: Mapping[tuple[str, int], int], day: int) -> list[Spent]:
        added = False
        try:
            connection = self._connection or self._open()
            if spent:
                self._add(connection, spent, day)
                added = True
            return self._read(connection, day)
        except (sqlite3.Error, OSError, StoreError) as error:
            self._close()
            if added:  # raising would have it added once more
                return []
            if isinstance(error, StoreError | OSError):
                raise
            raise OSError(f"{self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        self._opened = self._custody.identity()
        self._connection = connection = open_file(self._path, NAME, STEPS)
        self._opened, self._seen = self._custody.identity(), -1
        with suppress(OSError):
            self._custody.mark_used()
        return connection

    def _put_aside(self, error: Exception, day: int) -> str | None:
        """Move the file that caused the error, if it is corrupt, and put what is known of it into a new one.

        Returns:
            Its new name, "" where another process was faster; None when the error stands.
        """
        if not is_broken(error):
            return None
        try:
            name = self._custody.move(self._opened)
            if name is None:
                return None if self._opened == self._custody.identity() else ""
            if self._known:
                self._add(self._open(), _rows_of(self._known.values(), self._known_day), day)
            return name
        except (sqlite3.Error, OSError, StoreError) as failure:
            self._close()
            log.error("spending_not_moved", path=self._path, error=str(failure))
            return None

    def _add(self, connection: sqlite3.Connection, spent: Mapping[tuple[str, int], int], day: int) -> None:
        with transaction(connection):
            change = int(connection.execute(_NEWEST).fetchone()[0]) + 1
            rows = [(scope, of, nanos, change) for (scope, of), nanos in sorted(spent.items())]
            connection.executemany(_ADD, rows)
            connection.execute(_FORGET, (day - KEPT_DAYS, DELETED_AT_ONCE))

    def _read(self, connection: sqlite3.Connection, day: int) -> list[Spent]:
        seen = int(connection.execute(_NEWEST).fetchone()[0])
        if seen == self._seen:
            return []
        terms = {"day": day, "first": first_day(month_of(day)), "since": self._seen}
        found = [Spent(*row) for row in connection.execute(_SUMS, terms)]
        self._seen = seen
        if day != self._known_day:
            self._known, self._known_day = {}, day
        self._known.update((spent.scope, spent) for spent in found)
        return found

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _rows_of(known: Iterable[Spent], day: int) -> dict[tuple[str, int], int]:
    """Return rows that have the same sums: of the month's earlier days one, on its first."""
    first = first_day(month_of(day))
    rows: dict[tuple[str, int], int] = {}
    for scope, today, month in known:
        for of, nanos in ((day, today), (first, month - today)):
            if nanos:
                rows[scope, of] = rows.get((scope, of), 0) + nanos
    return rows
