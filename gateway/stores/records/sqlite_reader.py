"""Records in a SQLite file: the reading half. Opens the file for each query, so it holds no snapshot in between."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from gateway.stores.records.contract import QueryTooSlow, RecordsUnavailable
from gateway.stores.records.queries import Queries
from gateway.stores.records.tables import NAME, SQLITE_STEPS
from gateway.stores.sqlite import StoreError, open_to_read

QUERY_S = 3.0
_CHECK_EVERY = 10_000


def sqlite_queries(path: str, *, query_s: float = QUERY_S) -> Queries:
    """Return what can be asked of a file that a gateway may be writing to. Nothing is opened yet.

    Args:
        path: the file.
        query_s: how long a query may take.
    """

    def run(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with closing(open_to_read(path, NAME, len(SQLITE_STEPS))) as connection:
                until = time.monotonic() + query_s
                connection.set_progress_handler(lambda: time.monotonic() > until, _CHECK_EVERY)
                return connection.execute(statement, list(parameters)).fetchall()
        except (sqlite3.Error, StoreError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise QueryTooSlow(f"took longer than {query_s:g} s; take a shorter time") from error
            raise RecordsUnavailable(getattr(error, "sqlite_errorname", None) or type(error).__name__) from error

    return Queries(run)
