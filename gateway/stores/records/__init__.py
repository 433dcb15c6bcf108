"""Requests as they are kept: rows, attempts, rollups, events; in a SQLite file or in PostgreSQL. Decides nothing."""

from __future__ import annotations

from gateway.stores.records.contract import (
    Batch,
    EventRow,
    QueryTooSlow,
    RecordRow,
    RecordStore,
    RecordsUnavailable,
    Retention,
    RowsRefused,
)

__all__ = [
    "Batch",
    "EventRow",
    "QueryTooSlow",
    "RecordRow",
    "RecordStore",
    "RecordsUnavailable",
    "Retention",
    "RowsRefused",
]
