"""What a store of records is, and the rows it takes. Knows no SQL and no file."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

Value = str | int | float | None
Run = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Runs one SELECT with `?` for parameters, on a store, within its time limit."""


class RecordsUnavailable(RuntimeError):
    """The store cannot write or answer now, and may later. The message is one word or an error's name, no address."""


class RowsRefused(RuntimeError):
    """The store works and will never take this batch; alone, all rows but the bad one may pass."""


class QueryTooSlow(RuntimeError):
    """A query took longer or read more than one may; a shorter span of time will do."""


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One request as it is stored.

    Attributes:
        at_us: when it came, microseconds since the epoch; with `id` the primary key.
        id: the request's id. Clients may give ids, so alone it is not unique.
        values: one for each of `tables.COLUMNS`.
        attempts: `(expert, upstream, outcome, status, began_s, took_s)` of each try, in order.
    """

    at_us: int
    id: str
    values: tuple[Value, ...]
    attempts: tuple[tuple[Value, ...], ...] = ()

    @property
    def key(self) -> tuple[int, str]:
        """Return the primary key."""
        return self.at_us, self.id


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened to the gateway.

    Attributes:
        kind: one word: `gap`, `store_moved_aside`, `store_missing`, `breaker`, `reload` ...
        detail: a flat JSON object; no prompt, no secret.
        at_us: when, microseconds since the epoch.
        id: makes writing it twice harmless.
    """

    kind: str
    detail: dict[str, Value]
    at_us: int = field(default_factory=lambda: microseconds(datetime.now(UTC)))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Batch:
    """What is written in one transaction."""

    rows: Sequence[RecordRow] = ()
    events: Sequence[EventRow] = ()


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is kept. All times in seconds.

    Attributes:
        rows_s: requests and their attempts.
        minutes_s: rollups per minute.
        hours_s: rollups per hour and per day, and events.
        max_bytes: most bytes on disk; beyond, the oldest requests go first. None: no limit.
    """

    rows_s: int = 14 * 86_400
    minutes_s: int = 90 * 86_400
    hours_s: int = 730 * 86_400
    max_bytes: int | None = None


class RecordStore(Protocol):
    """The writing half of a store. Called by one thread only; opens and reopens what it needs by itself."""

    def write(self, batch: Batch) -> None:
        """Commit a batch with its rollups; rows that are stored already change nothing, also not the rollups.

        Raises:
            RecordsUnavailable: nothing was stored, or it is not known; write the same batch again later.
            RowsRefused: nothing was stored; a row cannot be.
        """

    def retain(self, rules: Retention, now_us: int) -> int:
        """Delete one step, at most `STEP_ROWS` rows or one day's partition. Returns how many went; 0: all is done.

        Raises:
            RecordsUnavailable: try later.
        """

    def close(self) -> None:
        """Let go of file, lock and connection. May be called twice."""


def microseconds(moment: datetime) -> int:
    """Return microseconds since the epoch, exactly."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
