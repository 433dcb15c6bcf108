"""Kept prompts and labels in a SQLite file: opens and closes it. Knows no table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gateway.stores.prompts.contract import Session
from gateway.stores.prompts.tables import NAME, STEPS
from gateway.stores.records.contract import RecordsUnavailable
from gateway.stores.sqlite import StoreError, open_file, open_to_read, transaction


class SqlitePrompts:
    """The file; see `Database`. It is made when it is first used, readable by its owner only.

    What is deleted is overwritten, so that no prompt can be read from the file after its time.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return Path(self._path).exists()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open the file for reading."""
        with _explained(), closing(self._open_to_read()) as connection:
            yield _Session(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open the file for one transaction."""
        with _explained(), closing(open_file(self._path, NAME, STEPS)) as connection:
            connection.execute("PRAGMA secure_delete=ON")
            with transaction(connection):
                yield _Session(connection)

    def _open_to_read(self) -> sqlite3.Connection:
        try:
            return open_to_read(self._path, NAME, len(STEPS))
        except StoreError:
            # Not there, just being made, or of an older version.
            open_file(self._path, NAME, STEPS).close()
            return open_to_read(self._path, NAME, len(STEPS))


class _Session:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        return self._connection.execute(statement, parameters).fetchall()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, StoreError) as error:
        raise RecordsUnavailable(getattr(error, "sqlite_errorname", None) or type(error).__name__) from error
