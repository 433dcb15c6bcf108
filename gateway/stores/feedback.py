"""Callers' ratings in a SQLite file: one thread writes them in batches. Judges no rating and applies none.

While one batch is committed, further ratings queue and are the next batch, so many callers share one flush to the
disk. A rating is confirmed only after its commit: what was confirmed is never lost.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Self

import structlog

from gateway.errors import FeedbackBusy, FeedbackUnavailable
from gateway.stores.feedback_table import COLUMNS, NAME, SELECT_SCORES, STEPS, FeedbackRow, FeedbackScore, put
from gateway.stores.sqlite import StoreError, open_file, open_to_read, transaction

log = structlog.get_logger(__name__)

QUEUE_SIZE = 256
BATCH_SIZE = 64
WAIT_S = 10.0
CLOSE_S = 5.0

_Waiting = tuple[FeedbackRow, asyncio.Future[bool]]


class FeedbackStore:
    """Writes ratings off the event loop; an async context manager.

    A batch that fails is not tried again: its callers are told, and the next batch opens the file anew.

    Args:
        path: the file.
        keep: most rows; the first rated go first.
        queue_size: most ratings waiting; one more is refused at once.
        wait_s: how long a rating may wait for its commit.
    """

    def __init__(self, path: str, *, keep: int, queue_size: int = QUEUE_SIZE, wait_s: float = WAIT_S) -> None:
        self._path = path
        self._keep = keep
        self._queue_size = queue_size
        self._wait_s = wait_s
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feedback")
        self._connection: sqlite3.Connection | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            StoreError: it cannot be used; what may pass (locked, disk full) is left to the first rating.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what waits, close the file. What takes longer than `CLOSE_S` is left to its thread."""
        if self._pump is not None:
            await asyncio.wait([self._pump], timeout=CLOSE_S)
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        closed = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        await asyncio.wait([closed], timeout=CLOSE_S)
        self._thread.shutdown(wait=False)

    async def add(self, row: FeedbackRow) -> bool:
        """Store a rating; one for the same request by the same key is replaced. Returns whether one was.

        Raises:
            FeedbackBusy: too many wait, or this one waited too long; it may or may not have been stored.
            FeedbackUnavailable: the file could not be written; nothing was stored.
        """
        if len(self._waiting) >= self._queue_size:
            raise FeedbackBusy("Too much feedback is waiting to be stored.")
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, stored))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._write_batches())
        try:
            async with asyncio.timeout(self._wait_s):
                return await stored
        except TimeoutError as error:
            raise FeedbackBusy("Storing the feedback took too long.") from error

    async def _write_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            replaced = await loop.run_in_executor(self._thread, self._write, [row for row, _ in batch])
            for index, (_, stored) in enumerate(batch):
                if stored.done():
                    continue
                if replaced is None:
                    stored.set_exception(FeedbackUnavailable("The feedback could not be stored."))
                else:
                    stored.set_result(replaced[index])

    def _next_batch(self) -> list[_Waiting]:
        """Take the next ratings; those whose caller was told that it took too long are not written any more."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < BATCH_SIZE:
            row, stored = self._waiting.popleft()
            if not stored.done():
                batch.append((row, stored))
        return batch

    def _open(self) -> None:
        try:
            self._connection = open_file(self._path, NAME, STEPS)
        except (sqlite3.Error, OSError) as error:
            log.warning("feedback_store_not_open", error=_name(error))

    def _write(self, rows: Sequence[FeedbackRow]) -> list[bool] | None:
        """Run in the store's thread: commit a batch. Returns which rows replaced one, None when nothing was stored."""
        try:
            if self._connection is None:
                self._connection = open_file(self._path, NAME, STEPS)
            with transaction(self._connection):
                replaced = put(self._connection, rows, self._keep)
        except (sqlite3.Error, OSError, StoreError) as error:
            log.error("feedback_store_failed", error=_name(error), rows=len(rows))
            self._close()
            return None
        return replaced

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def check(path: str) -> None:
    """Look whether a file can be used, and create it where it is not there; for errors before the server starts.

    Raises:
        StoreError: it cannot be used. What may pass (locked, disk full) is not an error.
    """
    try:
        open_file(path, NAME, STEPS).close()
    except (sqlite3.Error, OSError) as error:
        log.warning("feedback_store_not_open", error=_name(error))


def read_scores(path: str, *, per_key_limit: int = 100) -> list[FeedbackScore]:
    """Read ratings to fit a quality table from, the first rated first.

    Left out are those without a domain, and those of answers that a strategy made: they are not one expert's own.

    Args:
        path: the file; a running gateway may be writing to it.
        per_key_limit: most ratings of one key for one expert in one domain, the newest; so no key outvotes the others.

    Raises:
        StoreError: the file cannot be read.
    """
    with closing(open_to_read(path, NAME, len(STEPS))) as connection:
        try:
            return [FeedbackScore(*row) for row in connection.execute(SELECT_SCORES, (per_key_limit,))]
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error


def read_rows(path: str) -> Iterator[dict[str, object]]:
    """Read all that is stored, row by row by column name, the first rated first; times are seconds since the epoch.

    Raises:
        StoreError: the file cannot be read.
    """
    columns = ", ".join(COLUMNS)
    with closing(open_to_read(path, NAME, len(STEPS))) as connection:
        try:
            for row in connection.execute(f"SELECT {columns} FROM feedback ORDER BY number"):
                yield dict(zip(COLUMNS, row, strict=True))
        except sqlite3.Error as error:
            raise StoreError(f"{path}: {error}") from error


def ratings_of(path: str, record_id: str, key: str) -> list[dict[str, object]]:
    """Return what a key said of the answer of one of its requests, the newest first; none without a file.

    Raises:
        StoreError: the file cannot be read.
    """
    return _read(path, "record_id = ? AND key = ?", (record_id, key), 10)


def rated(path: str, *, good: bool, good_from: float, limit: int) -> list[dict[str, object]]:
    """Return the newest ratings from `good_from` on, or those below it; none without a file.

    Raises:
        StoreError: the file cannot be read.
    """
    return _read(path, f"score {'>=' if good else '<'} ?", (good_from,), limit)


def _read(path: str, condition: str, values: Sequence[object], limit: int) -> list[dict[str, object]]:
    statement = f"SELECT {', '.join(COLUMNS)} FROM feedback WHERE {condition} ORDER BY number DESC LIMIT ?"
    try:
        with closing(open_to_read(path, NAME, len(STEPS))) as connection:
            return [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(statement, (*values, limit))]
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_name(error)}") from error


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", type(error).__name__)
