"""Makes the store of keys that the configuration names. Loads PostgreSQL's library only for it."""

from __future__ import annotations

from gateway.settings import KeyStoreSettings, secret
from gateway.stores.keys.sqlite import SqliteKeys
from gateway.stores.keys.store import KeyStore


def check_key_store(settings: KeyStoreSettings) -> None:
    """Look whether the store can be used, and make it where it is not there; for errors before it is needed.

    Raises:
        StoreError: it cannot be used. What may pass (locked, disk full, server down) is no error.
        MissingSecret: the environment variable is not set.
    """
    store = key_store(settings)
    if store is not None:
        store.check()


def key_store(settings: KeyStoreSettings) -> KeyStore | None:
    """Return the store, None when none is named. Nothing is opened yet.

    Raises:
        MissingSecret: the environment variable is not set.
    """
    if settings.database is not None:
        return KeyStore(SqliteKeys(settings.database))
    if settings.postgres_env is None:
        return None
    from gateway.stores.keys.postgres import PostgresKeys

    return KeyStore(PostgresKeys(secret(settings.postgres_env) or ""))
