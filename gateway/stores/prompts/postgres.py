"""Kept prompts and labels in PostgreSQL, for several gateways: connects, nothing else. Knows no table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from gateway.stores.prompts.contract import Session
from gateway.stores.prompts.tables import NAME, STEPS
from gateway.stores.records.contract import QueryTooSlow, RecordsUnavailable
from gateway.stores.records.postgres_connection import QUERY_S, Statements, connect, migrate, name_of
from gateway.stores.sqlite import StoreError

WRITE_S = 5.0


class PostgresPrompts:
    """The database; see `Database`. Every session connects anew, which takes some milliseconds.

    Args:
        address: libpq's connection string or URL; a secret, it goes into no message.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._migrated = False

    def exists(self) -> bool:
        """Tell that it may hold something; to look costs as much as to ask."""
        return True

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Connect for reading."""
        with _explained():
            self._migrate()
            with closing(connect(self._address, statement_s=QUERY_S, read_only=True)) as connection:
                yield Statements(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Connect for one transaction."""
        with _explained():
            self._migrate()
            with closing(connect(self._address, statement_s=WRITE_S)) as connection, connection.transaction():
                yield Statements(connection)

    def _migrate(self) -> None:
        if not self._migrated:
            with closing(connect(self._address, statement_s=WRITE_S)) as connection:
                migrate(connection, NAME, STEPS)
            self._migrated = True


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise QueryTooSlow(f"took longer than {QUERY_S:g} s; take a shorter time") from error
    except (psycopg.Error, OSError) as error:
        raise RecordsUnavailable(name_of(error)) from error
    except StoreError as error:
        raise RecordsUnavailable(type(error).__name__) from error
