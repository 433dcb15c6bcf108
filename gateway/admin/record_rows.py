"""Finished requests as rows, as the store would give them, and whether they are meant by a filter. Asks no store."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gateway.context import RouteRecord
from gateway.stores.records.contract import microseconds
from gateway.stores.records.filters import EQUAL, NOTHING, RANGES, RecordFilter

Row = dict[str, Any]
_NAMES = tuple(field.name for field in fields(RouteRecord) if field.name not in ("request_id", "timestamp"))


def as_row(record: RouteRecord) -> Row:
    """Return a record under the names of the store's columns."""
    row = {name: getattr(record, name) for name in _NAMES}
    return {"at_us": microseconds(record.timestamp), "id": record.request_id, **row}


def can_tell(wanted: RecordFilter) -> bool:
    """Tell whether a record alone shows if it is meant; tries and ratings come apart from it."""
    return not wanted.asks_tries and wanted.ids is None


def fits(wanted: RecordFilter, row: Row) -> bool:
    """Tell whether a row is meant, its time apart."""
    return (
        all(_equals(row[name], getattr(wanted, name)) for name in EQUAL)
        and all(_in_range(row[name], wanted, name) for name in RANGES)
        and wanted.status in (None, row["status"])
        and wanted.status_class in (None, row["status"] // 100)
        and wanted.stream in (None, row["stream"])
        and wanted.failed_over in (None, row["attempts"] > row["calls"])
        and (wanted.not_chosen is None or row["chosen"] not in (None, wanted.not_chosen))
    )


def _equals(value: str | None, wanted: str | None) -> bool:
    return wanted is None or (value is None if wanted == NOTHING else value == wanted)


def _in_range(value: float | None, wanted: RecordFilter, name: str) -> bool:
    low, high = getattr(wanted, f"{name}_from"), getattr(wanted, f"{name}_below")
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value < high)
