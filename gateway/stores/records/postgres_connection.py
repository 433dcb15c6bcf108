"""Connections to PostgreSQL for records: limits, schema versions, and the reading half. Messages hold no address."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg

from gateway.stores.records.contract import QueryTooSlow, RecordsUnavailable
from gateway.stores.records.queries import Queries
from gateway.stores.records.tables import NAME, POSTGRES_STEPS
from gateway.stores.sqlite import StoreError

QUERY_S = 3.0
CONNECT_S = 3
_LOCK_S = 5
_MIGRATION_LOCK = 7_406_000
_VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"


class Statements:
    """Runs statements that both databases take, with `?` for parameters, in a connection's transaction."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        cursor = self._connection.execute(statement.replace("?", "%s").encode(), list(parameters))
        return [] if cursor.description is None else cursor.fetchall()


def connect(address: str, *, statement_s: float, read_only: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect in autocommit mode with limits on every wait; a peer that is gone is noticed within 15 s.

    Args:
        address: libpq's connection string or URL.
        statement_s: how long one statement may take.
        read_only: refuse to write.

    Raises:
        psycopg.Error: no connection.
    """
    connection = psycopg.connect(
        address,
        autocommit=True,
        connect_timeout=CONNECT_S,
        application_name="pointsman",
        keepalives_idle=5,
        keepalives_interval=5,
        keepalives_count=2,
        tcp_user_timeout=15_000,
        prepare_threshold=2,
    )
    try:
        settings = {
            "statement_timeout": f"{int(statement_s * 1_000)}ms",
            "lock_timeout": f"{_LOCK_S}s",
            "idle_in_transaction_session_timeout": "60s",
            "search_path": "pointsman, pg_temp" if read_only else "pg_temp, pointsman",
            "timezone": "UTC",
            "default_transaction_read_only": "on" if read_only else "off",
            # Compiling a plan takes longer than any statement here.
            "jit": "off",
            # A page is a short walk along an index; the planner would rather sort 100,000 rows, in 200 ms.
            "enable_seqscan": "off" if read_only else "on",
            "enable_sort": "off" if read_only else "on",
        }
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(
    connection: psycopg.Connection[tuple[Any, ...]],
    name: str = NAME,
    steps: Sequence[Sequence[str]] = POSTGRES_STEPS,
) -> None:
    """Bring one store's tables up to date; gateways that start together do so one after the other.

    Args:
        connection: one that may write.
        name: the store's name in the table of versions.
        steps: statements by version, see `gateway.stores.sqlite.open_file`.

    Raises:
        StoreError: the schema is of a newer version.
        psycopg.Error: not possible now.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
        # New tables go into the first schema of the path, which for batches is the session's own.
        connection.execute("SELECT set_config('search_path', 'pointsman', true)")
        connection.execute("CREATE SCHEMA IF NOT EXISTS pointsman")
        connection.execute(_VERSIONS)
        row = connection.execute("SELECT version FROM schema_version WHERE name = %s", [name]).fetchone()
        found, known = (0 if row is None else int(row[0])), len(steps)
        if found > known:
            raise StoreError(f"the database holds version {found} of {name}, this program knows up to {known}")
        for statement in (statement for step in steps[found:] for statement in step):
            connection.execute(statement.encode())
        connection.execute(
            "INSERT INTO schema_version VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET version = excluded.version",
            [name, known],
        )


def postgres_queries(address: str, *, query_s: float = QUERY_S) -> Queries:
    """Return what can be asked of a database; each query has a connection of its own. Nothing is opened yet.

    Args:
        address: libpq's connection string or URL.
        query_s: how long a query may take.
    """

    def run(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            with closing(connect(address, statement_s=query_s, read_only=True)) as connection:
                return connection.execute(statement.replace("?", "%s").encode(), list(parameters)).fetchall()
        except psycopg.errors.QueryCanceled as error:
            raise QueryTooSlow(f"took longer than {query_s:g} s; take a shorter time") from error
        except (psycopg.Error, OSError) as error:
            raise RecordsUnavailable(name_of(error)) from error

    return Queries(run)


def name_of(error: BaseException) -> str:
    """Return an error's name and code, none of its words: those may hold the address or a value."""
    state = getattr(error, "sqlstate", None)
    return type(error).__name__ if state is None else f"{type(error).__name__}:{state}"
