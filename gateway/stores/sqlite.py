"""Opens SQLite files as all stores here want them, and brings their schema up to date. Knows no table of theirs.

Settings as in OPERATIONS 2.3: with WAL and `synchronous=FULL`, what a commit has confirmed survives a killed process
and a power failure.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

BUSY_S = 5.0
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "journal_size_limit=67108864", "foreign_keys=ON")
# Nothing that waiting would help: a person has to look at the file or at the settings.
FINAL = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
    }
)

BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class StoreError(RuntimeError):
    """The file cannot be used as it stands: wrong path, no permission, no database, or of a newer version."""


def open_file(path: str, name: str, steps: Sequence[Sequence[str]]) -> sqlite3.Connection:
    """Open a file for writing and bring one store's tables up to date; several stores may share a file.

    A new file can be read by its owner only. The connection is in autocommit mode; see `transaction`.

    Args:
        path: the file; created when it is not there, its folder is not.
        name: the store's name in the file's table of versions.
        steps: statements by version: `steps[i]` leads from version i to i + 1. Never changed, only added to.

    Raises:
        StoreError: the file cannot be used.
        sqlite3.Error: something that may pass: locked, disk full or failing.
        OSError: the same, from the file system.
    """
    with _explained(path):
        _create(path)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            _check_versions(connection, name, len(steps))
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            _migrate(connection, name, steps)
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: str, name: str, version: int) -> sqlite3.Connection:
    """Open a file that is there already, for reading only.

    Raises:
        StoreError: the file cannot be used, or holds another version of the store.
    """
    with _explained(path):
        if not Path(path).is_file():
            raise StoreError(f"{path}: there is no such file")
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
        try:
            found = _check_versions(connection, name, version)
        except BaseException:
            connection.close()
            raise
    if found < version:
        connection.close()
        raise StoreError(f"{path}: holds no {name} of version {version}; start the gateway once to bring it up to date")
    return connection


def versions(path: str) -> dict[str, int]:
    """Return the stores in a file with the version of their tables; none when there is no file.

    Raises:
        StoreError: it cannot be read.
    """
    with _explained(path):
        if not Path(path).is_file():
            return {}
        with closing(
            sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
        ) as connection:
            try:
                rows = connection.execute("SELECT name, version FROM schema_version ORDER BY name").fetchall()
            except sqlite3.OperationalError as error:
                raise StoreError("has no stores of ours") from error
    return {str(name): int(version) for name, version in rows}


def is_broken(error: BaseException | None) -> bool:
    """Tell whether an error of SQLite, or what caused it, means that the file is corrupt or no database."""
    while error is not None:
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN:
            return True
        error = error.__cause__
    return False


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: commits at the end, takes everything back on any error, one of the commit's too."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _create(path: str) -> None:
    # SQLite gives its helper files the permissions of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _check_versions(connection: sqlite3.Connection, name: str, known: int) -> int:
    """Return the version of the store in the file, 0 when it has none.

    Raises:
        StoreError: the version is newer than `known`, or the file is another program's.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "schema_version" not in tables:
        if tables:
            raise StoreError("is the database of another program")
        return 0
    row = connection.execute("SELECT version FROM schema_version WHERE name = ?", (name,)).fetchone()
    found = 0 if row is None else int(row[0])
    if found > known:
        raise StoreError(f"holds version {found} of {name}, this program knows up to {known}: use a newer one")
    return found


def _migrate(connection: sqlite3.Connection, name: str, steps: Sequence[Sequence[str]]) -> None:
    if _check_versions(connection, name, len(steps)) == len(steps):
        return
    with transaction(connection):
        # Read again: another process may have been faster.
        found = _check_versions(connection, name, len(steps))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )
        for statement in (statement for step in steps[found:] for statement in step):
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO schema_version VALUES (?, ?)", (name, len(steps)))


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn what waiting would not help into `StoreError` that names the file."""
    try:
        yield
    except StoreError as error:
        message = str(error)
        raise StoreError(message if message.startswith(path) else f"{path}: {message}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in FINAL:
            raise StoreError(f"{path}: {error}") from error
        raise
