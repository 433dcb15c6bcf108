"""Keys in a SQLite file, for one gateway: opens and closes it, and says what went wrong. Knows no key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gateway.stores.keys.contract import NameTaken, Session, StoreUnavailable
from gateway.stores.keys.store import NAME, STEPS
from gateway.stores.sqlite import FINAL, StoreError, open_file, open_to_read, transaction


class SqliteKeys:
    """The file; see `Database`. It is made at the first look where it is not there, but never again after that.

    A file that goes missing under a running gateway is an error: an empty one in its place would be taken for
    one that says that all keys are gone.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = False

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open the file for reading."""
        with self._explained():
            if not self._seen and not Path(self._path).exists():
                open_file(self._path, NAME, STEPS).close()
            with closing(self._open_to_read()) as connection:
                self._seen = True
                yield _Session(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open the file for writing."""
        with self._explained():
            if self._seen and not Path(self._path).exists():
                raise StoreUnavailable(f"{self._path}: there is no such file any more")
            with closing(open_file(self._path, NAME, STEPS)) as connection, transaction(connection):
                self._seen = True
                yield _Session(connection)

    def _open_to_read(self) -> sqlite3.Connection:
        try:
            return open_to_read(self._path, NAME, len(STEPS))
        except StoreError:
            if self._seen:
                raise
        # Perhaps of an older version, or with other stores' tables only.
        open_file(self._path, NAME, STEPS).close()
        return open_to_read(self._path, NAME, len(STEPS))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise NameTaken("another one has or had this name") from error
        except sqlite3.Error as error:
            kind = StoreError if getattr(error, "sqlite_errorcode", 0) & 0xFF in FINAL else StoreUnavailable
            raise kind(f"{self._path}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error


class _Session:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        return self._connection.execute(statement, parameters).fetchall()
