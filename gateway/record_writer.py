"""Takes finished requests off the event loop and has one thread write them. Never waits for the store, never raises.

What is lost, at most: on a clean stop nothing that is written within `CLOSE_S`; on SIGKILL the queue and the running
batch, at normal load 200 ms of requests; while the store cannot be written, what comes after the queue is full. The
newest are dropped then, and an event `gap` says from when to when and how many.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import structlog

from gateway.context import Attempt, RequestContext, RouteRecord
from gateway.stores.records import Batch, EventRow, RecordRow, RecordStore, RecordsUnavailable, Retention, RowsRefused
from gateway.stores.records.breathing import breathing
from gateway.stores.records.contract import Value, microseconds
from gateway.stores.records.tables import row_of

log = structlog.get_logger(__name__)

QUEUE_ROWS = 10_000
QUEUE_BYTES = 32 * 2**20
BATCH_ROWS = 500
BATCH_S = 0.2
CLOSE_S = 5.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
# A step takes about 20 ms, so retention takes a sixth of the thread's time while there is much to delete.
RETENTION_PAUSE_S = 0.1
RETENTION_EVERY_S = 60.0
_RECORD_BYTES = 2_000
_ATTEMPT_BYTES = 300

_Queued = tuple[RouteRecord, tuple[Attempt, ...], int] | EventRow


@dataclass(frozen=True, slots=True)
class WriterState:
    """How a writer is doing.

    Attributes:
        queued: requests and events that wait.
        queued_bytes: what they take up, estimated.
        written: requests committed.
        dropped: requests that found the queue full.
        refused: requests that the store will never take.
        failing: why the last batch was not written; None when it was.
    """

    queued: int
    queued_bytes: int
    written: int
    dropped: int
    refused: int
    failing: str | None


@dataclass(slots=True)
class _Gap:
    since_us: int
    until_us: int
    rows: int


class RecordWriter:
    """Writes records from its own thread; a context manager: entered it starts the thread, left it drains.

    Args:
        store: used by the thread only, and closed by it.
        retention: what may go; None leaves that to another process.
        queue_rows: most requests waiting.
        queue_bytes: most bytes they may take up, estimated.
        clock: the time of day.
    """

    def __init__(
        self,
        store: RecordStore,
        retention: Retention | None = None,
        *,
        queue_rows: int = QUEUE_ROWS,
        queue_bytes: int = QUEUE_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._retention = retention
        self._queue_rows = queue_rows
        self._queue_bytes = queue_bytes
        self._clock = clock
        self._queue: deque[_Queued] = deque()
        # Of each pair the event loop only adds to the first and the thread to the second: no lock is needed.
        self._bytes_in = self._bytes_out = 0
        self._dropped = self._told = 0
        self._gap_began_us = self._gap_ended_us = 0
        self._written = self._refused = 0
        self._failing: str | None = None
        self._full = threading.Event()
        self._closing = threading.Event()
        self._giving_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="records", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread. The store may be down."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Write what waits, for at most `CLOSE_S`. Blocks so long: call it in an executor where a loop runs."""
        self.close()

    def close(self, limit_s: float = CLOSE_S) -> None:
        """Take no more, write what waits for at most `limit_s`, then close the store. May be called twice."""
        self._closing.set()
        self._full.set()
        if self._thread.is_alive():
            self._thread.join(limit_s)
        self._giving_up.set()
        if self._thread.is_alive():
            log.error("records_lost", rows=len(self._queue))

    def note(self, context: RequestContext, record: RouteRecord) -> None:
        """Take a finished request; an observer of the recorder."""
        self.put(record, context.attempts)

    def put(self, record: RouteRecord, attempts: Sequence[Attempt] = ()) -> bool:
        """Take a finished request; on the event loop. Returns False when it was dropped."""
        size = _RECORD_BYTES + _ATTEMPT_BYTES * len(attempts) + 2 * len(record.request_model)
        queue = self._queue
        full = len(queue) >= self._queue_rows or self._bytes_in - self._bytes_out + size > self._queue_bytes
        if full or self._closing.is_set():
            self._drop()
            return False
        self._bytes_in += size
        queue.append((record, tuple(attempts), size))
        if len(queue) == BATCH_ROWS:
            self._full.set()
        return True

    def put_event(self, kind: str, **detail: Value) -> bool:
        """Take something that happened; on the event loop. Returns False when it was dropped."""
        if len(self._queue) >= self._queue_rows or self._closing.is_set():
            return False
        self._queue.append(EventRow(kind, detail, microseconds(self._clock())))
        return True

    def state(self) -> WriterState:
        """Return how it is doing; from any thread."""
        return WriterState(
            queued=len(self._queue),
            queued_bytes=max(0, self._bytes_in - self._bytes_out),
            written=self._written,
            dropped=self._dropped,
            refused=self._refused,
            failing=self._failing,
        )

    def _drop(self) -> None:
        now_us = microseconds(self._clock())
        if self._dropped == self._told:
            self._gap_began_us = now_us
        self._gap_ended_us = now_us
        self._dropped += 1

    def _work(self) -> None:
        """Run in the thread, from start to end."""
        due_s = time.monotonic()
        try:
            while True:
                ending = self._closing.is_set()
                batch = self._next_batch(ending=ending)
                if batch.rows or batch.events:
                    if not self._write_until_done(batch):
                        return
                elif ending:
                    return
                if time.monotonic() >= due_s and not ending:
                    due_s = time.monotonic() + (RETENTION_PAUSE_S if self._retained() else RETENTION_EVERY_S)
                if len(self._queue) < BATCH_ROWS and not ending:
                    self._full.wait(BATCH_S)
                    self._full.clear()
        finally:
            self._store.close()

    def _next_batch(self, *, ending: bool) -> Batch:
        rows: list[RecordRow] = []
        events: list[EventRow] = []
        for queued in breathing(self._taken()):
            if isinstance(queued, EventRow):
                events.append(queued)
                continue
            record, attempts, size = queued
            self._bytes_out += size
            try:
                rows.append(row_of(record, attempts))
            except Exception as error:  # noqa: BLE001 - see _write
                self._refused += 1
                log.error("record_refused", error=type(error).__name__)
        if gap := self._gap(rows, ending=ending):
            detail: dict[str, Value] = {"rows": gap.rows, "since_us": gap.since_us, "until_us": gap.until_us}
            events.append(EventRow("gap", detail, gap.until_us))
        return Batch(rows, events)

    def _taken(self) -> Iterator[_Queued]:
        for _ in range(min(len(self._queue), BATCH_ROWS)):
            yield self._queue.popleft()

    def _gap(self, rows: Sequence[RecordRow], *, ending: bool) -> _Gap | None:
        """Return what was dropped since the last gap, once there is space again."""
        dropped = self._dropped
        if dropped == self._told or (len(self._queue) + len(rows) >= self._queue_rows // 2 and not ending):
            return None
        gap = _Gap(self._gap_began_us, self._gap_ended_us, dropped - self._told)
        self._told = dropped
        log.error("records_dropped", rows=gap.rows)
        return gap

    def _write_until_done(self, batch: Batch) -> bool:
        """Write a batch, again and again with growing pauses. Returns False when there is no time left."""
        for pause_s in _pauses_s():
            try:
                self._write(batch)
            except RecordsUnavailable as error:
                if self._failing is None:
                    log.error("record_store_failed", error=str(error))
                self._failing = str(error)
            else:
                if self._failing is not None:
                    log.warning("record_store_recovered")
                self._failing = None
                return True
            if self._paused(pause_s):
                return False
        return False

    def _paused(self, pause_s: float) -> bool:
        """Wait before the next try; a short time only while closing. Returns whether it is too late for one."""
        if self._closing.is_set():
            return self._giving_up.wait(min(pause_s, FIRST_PAUSE_S))
        self._closing.wait(pause_s)
        return self._giving_up.is_set()

    def _write(self, batch: Batch) -> None:
        try:
            self._store.write(batch)
        except RowsRefused as error:
            log.error("record_batch_refused", error=str(error), rows=len(batch.rows))
            self._write_singly(batch)
        except RecordsUnavailable:
            raise
        except Exception as error:
            log.exception("record_batch_failed", error=type(error).__name__)
            self._write_singly(batch)
        else:
            self._written += len(batch.rows)

    def _write_singly(self, batch: Batch) -> None:
        """Write each row alone; what is refused then is given up. Those that are there already change nothing."""
        refused = 0
        parts = [Batch(rows=[row]) for row in batch.rows] + [Batch(events=[event]) for event in batch.events]
        for part in parts:
            try:
                self._store.write(part)
            except RecordsUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - see _write
                refused += 1
                log.error("record_refused", error=type(error).__name__)
        self._refused += refused
        self._written += len(parts) - refused

    def _retained(self) -> int:
        """Take one step of retention. Returns how much went."""
        if self._retention is None:
            return 0
        try:
            return self._store.retain(self._retention, microseconds(self._clock()))
        except (RecordsUnavailable, RowsRefused) as error:
            log.warning("record_retention_failed", error=str(error))
        except Exception as error:
            log.exception("record_retention_failed", error=type(error).__name__)
        return 0


def _pauses_s() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
