"""Keys in PostgreSQL, for several gateways: connects, and says what went wrong without the address. Knows no key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from gateway.stores.keys.contract import NameTaken, Session, StoreUnavailable
from gateway.stores.keys.store import NAME, STEPS
from gateway.stores.records.postgres_connection import Statements, connect, migrate, name_of
from gateway.stores.sqlite import StoreError

STATEMENT_S = 5.0


class PostgresKeys:
    """The database; see `Database`. Every session connects anew, which takes some milliseconds.

    Args:
        address: libpq's connection string or URL; a secret, it goes into no message.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._migrated = False

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Connect for reading."""
        with _explained():
            self._migrate()
            with closing(connect(self._address, statement_s=STATEMENT_S, read_only=True)) as connection:
                yield Statements(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Connect for writing."""
        with _explained():
            self._migrate()
            with (
                closing(connect(self._address, statement_s=STATEMENT_S)) as connection,
                connection.transaction(),
            ):
                yield Statements(connection)

    def _migrate(self) -> None:
        if not self._migrated:
            with closing(connect(self._address, statement_s=STATEMENT_S)) as connection:
                migrate(connection, NAME, STEPS)
            self._migrated = True


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise NameTaken("another one has or had this name") from error
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.IntegrityError) as error:
        raise StoreError(f"the key store's PostgreSQL: {name_of(error)}") from error
    except (psycopg.Error, OSError) as error:
        raise StoreUnavailable(f"the key store's PostgreSQL: {name_of(error)}") from error
