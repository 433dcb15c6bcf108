"""Keys and admin tokens on disk, by the digests of their secrets. Tells nobody who may do what."""

from __future__ import annotations

from gateway.stores.keys.contract import KeyRow, NameTaken, NoSuchKey, SecretRow, Space, Stored, StoreUnavailable
from gateway.stores.keys.store import KeyStore

__all__ = ["KeyRow", "KeyStore", "NameTaken", "NoSuchKey", "SecretRow", "Space", "StoreUnavailable", "Stored"]
