"""Makes the store that the configuration names, to write to and to read. Loads PostgreSQL's library only for it."""

from __future__ import annotations

from gateway.settings import secret
from gateway.settings.records import RecordSettings
from gateway.stores.records.contract import RecordStore, Retention
from gateway.stores.records.queries import Queries
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.sqlite_reader import sqlite_queries

_DAY_S = 86_400


def open_store(settings: RecordSettings, *, group: str | None = None) -> RecordStore:
    """Return the store to write to, opened as far as that is possible now; what may pass is left to the first batch.

    Args:
        settings: the configuration's section; one of its places is set.
        group: what the workers of one gateway have in common, as `Place.folder`.

    Raises:
        StoreError: it cannot be used: a newer version, another gateway's, not a database.
        MissingSecret: the environment variable is not set.
    """
    if settings.database is not None:
        file = SqliteRecords(settings.database, group=group)
        try:
            file.check()
        except BaseException:
            file.close()
            raise
        return file
    from gateway.stores.records.postgres import PostgresRecords

    server = PostgresRecords(_address(settings))
    server.check()
    return server


def queries(settings: RecordSettings) -> Queries:
    """Return what can be asked of the store. Nothing is opened yet.

    Raises:
        MissingSecret: the environment variable is not set.
    """
    if settings.database is not None:
        return sqlite_queries(settings.database)
    from gateway.stores.records.postgres_connection import postgres_queries

    return postgres_queries(_address(settings))


def retention(settings: RecordSettings) -> Retention:
    """Return how long what is kept."""
    size = settings.max_gigabytes
    return Retention(
        rows_s=settings.keep_days * _DAY_S,
        minutes_s=settings.keep_minutes_days * _DAY_S,
        hours_s=settings.keep_hours_days * _DAY_S,
        max_bytes=None if size is None else int(size * 1e9),
    )


def _address(settings: RecordSettings) -> str:
    return secret(settings.postgres_env) or ""
