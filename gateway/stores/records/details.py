"""What is stored around one request: all that have its id, its tries, the requests of its conversation. Writes nothing.

Ids are the clients' and not unique; time and id together are. Conversations have no index: requests of the same one
are looked for among the nearest in time, and the answer says among how many.
"""

from __future__ import annotations

from typing import Any

from gateway.stores.records.contract import Run
from gateway.stores.records.queries import Row, row_of_values
from gateway.stores.records.tables import ATTEMPT_COLUMNS, COLUMNS

MOST_ALIKE = 20
MOST_TRIES = 100
MOST_NEIGHBOURS = 10
SCAN_ROWS = 20_000
_SHOWN = ("at_us", "id", "endpoint", "domain", "confidence", "reason", "decided", "chosen", "status")


def with_id(run: Run, request_id: str) -> list[Row]:
    """Return the requests of an id, the newest first, at most `MOST_ALIKE`.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    rows = run(
        f"SELECT {', '.join(COLUMNS)} FROM record WHERE id = ? ORDER BY at_us DESC LIMIT ?", [request_id, MOST_ALIKE]
    )
    return [row_of_values(row) for row in rows]


def tries_of(run: Run, row: Row) -> list[Row]:
    """Return a request's tries in order, at most `MOST_TRIES`.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    names = ATTEMPT_COLUMNS[2:]
    rows = run(
        f"SELECT {', '.join(names)} FROM attempt WHERE at_us = ? AND id = ? ORDER BY n LIMIT ?",
        [row["at_us"], row["id"], MOST_TRIES],
    )
    return [dict(zip(names, values, strict=True)) for values in rows]


def neighbours(run: Run, row: Row) -> list[Row]:
    """Return other requests of the same conversation and key, in the order of time: few fields, at most twice ten.

    Raises:
        RecordsUnavailable, QueryTooSlow: see there.
    """
    conversation, at_us = row.get("conversation"), row["at_us"]
    if not conversation:
        return []
    before = _alike(run, "at_us < ?", "DESC", [at_us], conversation, row["key"])
    after = _alike(run, "at_us > ?", "ASC", [at_us], conversation, row["key"])
    return [*reversed(before), *after]


def _alike(run: Run, where: str, order: str, bounds: list[Any], conversation: str, key: str | None) -> list[Row]:
    shown = ", ".join(_SHOWN)
    rows = run(
        f"SELECT {shown} FROM (SELECT {shown}, conversation, key FROM record WHERE {where} "
        f"ORDER BY at_us {order}, id {order} LIMIT ?) AS near WHERE conversation = ? AND key = ? LIMIT ?",
        [*bounds, SCAN_ROWS, conversation, key or "", MOST_NEIGHBOURS],
    )
    return [dict(zip(_SHOWN, values, strict=True)) for values in rows]
