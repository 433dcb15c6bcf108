"""What a store of keys holds and what can go wrong with it. Knows no database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from gateway.stores.sqlite import StoreError


class StoreUnavailable(StoreError):
    """The store cannot be used now, but may be later: locked, disk full, server down."""


class NameTaken(StoreError):
    """Another key has this name, or had it: records go by the name, so it is never given twice."""


class NoSuchKey(StoreError):
    """No key has this name, or it can no longer be changed."""


class Space(StrEnum):
    """What a secret opens. A secret of one space never opens the other."""

    KEY = "key"
    """The data plane."""
    ADMIN = "admin"
    """The admin API."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key or admin token, without its secrets. All times are seconds since the epoch.

    Attributes:
        id: never changes; the prefix of its first secret.
        space: what it opens.
        name: unique in its space for ever.
        terms: what it may do, as a JSON object; the store does not look into it.
        created_at: when it was made.
        expires_at: when it ends; None means never.
        revoked_at: when it was revoked; None while it was not.
        last_used_at: when it was last used, to about a minute; None while it was not.
    """

    id: str
    space: Space
    name: str
    terms: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True)
class SecretRow:
    """One secret of a key; after a rotation the old one is good for a while longer.

    Attributes:
        digest: SHA-256 of the whole key as it is sent.
        id: whose it is.
        prefix: the part of it that may be shown.
        created_at: when it was made.
        expires_at: when it ends, if before its key; None means with it.
    """

    digest: bytes
    id: str
    prefix: str
    created_at: float
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """All that a store holds at one moment, in order of creation.

    Attributes:
        mark: another one after every change but that of `last_used_at`.
        keys: all, revoked and expired ones too.
        secrets: the same.
    """

    mark: str
    keys: tuple[KeyRow, ...]
    secrets: tuple[SecretRow, ...]


class Session(Protocol):
    """One connection, used by one thread; inside one transaction when it may write."""

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement with `?` for parameters. Returns its rows, none where there are none."""
        ...


class Database(Protocol):
    """Where the tables are. Every session is opened anew, so a replaced or deleted file is noticed.

    Both methods raise `StoreError` when somebody has to look at it, `StoreUnavailable` when it may pass, and
    `NameTaken` where a value is there already that may not be twice.
    """

    def reading(self) -> AbstractContextManager[Session]:
        """Open a session that cannot write."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """Open a session that writes all or nothing, and bring the tables up to date first."""
        ...
