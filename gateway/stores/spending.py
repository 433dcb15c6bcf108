"""Money by scope and day in a SQLite file, added to by one thread. Knows no limits and refuses nothing.

Several processes may use one file: what one adds, the others learn at their next exchange, within a second. Every
row carries the number of the exchange that changed it last, so that only what is new is read.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.limits.calendar import first_day, month_of
from gateway.limits.contract import Spent
from gateway.stores.sqlite import StoreError, open_file, transaction

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
_Result = TypeVar("_Result")


class SpendingFile:
    """A `limits.contract.SpendingStore`.

    Args:
        path: the file; created when it is not there, its folder is not.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spending")
        self._connection: sqlite3.Connection | None = None
        self._seen = -1

    async def open(self, day: int) -> Sequence[Spent]:
        """Return everybody's money of a day and of its month.

        Raises:
            StoreError: the file cannot be used.
            OSError: something that may pass: locked, disk full.
        """
        return await self._in_thread(lambda: self._exchange({}, day))

    async def exchange(self, spent: Mapping[tuple[str, int], int], day: int) -> Sequence[Spent]:
        """Add money and return whose changed; see `limits.contract.SpendingStore`.

        Raises:
            StoreError, OSError: nothing was added.
        """
        return await self._in_thread(lambda: self._exchange(spent, day))

    async def close(self) -> None:
        """Close the file."""
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _exchange(self, spent: Mapping[tuple[str, int], int], day: int) -> list[Spent]:
        added = False
        try:
            if self._connection is None:
                self._connection = open_file(self._path, NAME, STEPS)
                self._seen = -1
            if spent:
                self._add(self._connection, spent, day)
                added = True
            return self._read(self._connection, day)
        except (sqlite3.Error, OSError, StoreError) as error:
            self._close()
            if added:  # raising would have it added once more
                return []
            if isinstance(error, StoreError | OSError):
                raise
            raise OSError(f"{self._path}: {error}") from error

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
        return found

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
