"""Configurations that were applied through the admin API, in a SQLite file. Applies none and keeps no file open.

Changes are rare, so every call opens the file: one that was moved away or made anew meanwhile does no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from gateway.stores.sqlite import StoreError, open_file, transaction

NAME = "config_history"
KEEP = 200
STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE config_history (number INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, "
        "who TEXT NOT NULL, version TEXT NOT NULL, outcome TEXT NOT NULL, text TEXT NOT NULL)",
    ),
)
_COLUMNS = ("number", "at_us", "who", "version", "outcome", "text")


class HistoryUnavailable(RuntimeError):
    """The file cannot be read or written now; the message is one word or an error's name."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One configuration.

    Attributes:
        number: counts up; never used again.
        at_us: when, microseconds since the epoch.
        who: the administrator's name; "" where it was found in the file.
        version: of the configuration that was in use afterwards.
        outcome: `applied`, `unchanged`, `invalid` (the file was put back), or `found` (written by others).
        text: the whole file.
    """

    number: int
    at_us: int
    who: str
    version: str
    outcome: str
    text: str


class ConfigHistory:
    """The last `KEEP` configurations. All methods block: call them in a thread.

    Args:
        path: the file; created with the first entry.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def check(self) -> None:
        """Look whether the file can be used, and create it where it is not there.

        Raises:
            StoreError: it cannot be used. What may pass (locked, disk full) is not an error.
        """
        try:
            open_file(self._path, NAME, STEPS).close()
        except (sqlite3.Error, OSError):
            return

    def add(self, at_us: int, who: str, version: str, outcome: str, text: str) -> int:
        """Keep one and forget the oldest beyond `KEEP`. Returns its number.

        Raises:
            HistoryUnavailable: it was not kept.
        """
        with self._open() as connection, transaction(connection):
            added = connection.execute(
                "INSERT INTO config_history (at_us, who, version, outcome, text) VALUES (?, ?, ?, ?, ?)",
                (at_us, who, version, outcome, text),
            )
            connection.execute(
                "DELETE FROM config_history WHERE number <= "
                "(SELECT number FROM config_history ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (KEEP,),
            )
            return int(added.lastrowid or 0)

    def listed(self) -> list[dict[str, object]]:
        """Return all, the newest first, without their text but with its length.

        Raises:
            HistoryUnavailable: the file cannot be read.
        """
        names = (*_COLUMNS[:-1], "characters")
        with self._open() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_COLUMNS[:-1])}, length(text) FROM config_history ORDER BY number DESC"
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def find(self, number: int | None = None) -> Applied | None:
        """Return one by its number, or the newest; None when there is none.

        Raises:
            HistoryUnavailable: the file cannot be read.
        """
        where, values = ("", ()) if number is None else ("WHERE number = ?", (number,))
        with self._open() as connection:
            row = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM config_history {where} ORDER BY number DESC LIMIT 1", values
            ).fetchone()
        return None if row is None else Applied(*row)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(open_file(self._path, NAME, STEPS)) as connection:
                yield connection
        except (sqlite3.Error, OSError, StoreError) as error:
            raise HistoryUnavailable(getattr(error, "sqlite_errorname", None) or type(error).__name__) from error
