"""Reads what a store of keys holds as what each secret opens. Whatever it cannot read opens nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson
import structlog
from pydantic import ValidationError

from gateway.errors import Forbidden, Unauthenticated
from gateway.grants import grant_of
from gateway.settings import StoredTerms
from gateway.stores.keys import KeyRow, SecretRow, Space, Stored
from gateway.types import Grant

log = structlog.get_logger(__name__)

NEVER = -math.inf


def seconds_now() -> float:
    """Return the time, seconds since the epoch: what keys end by."""
    return datetime.now(UTC).timestamp()


class Unauthorized(Unauthenticated):
    """No admin token or session, or one that is not known or over; a data-plane key is none."""

    code = "invalid_admin_token"


class Role(StrEnum):
    """What an admin token may do."""

    VIEWER = "viewer"
    """Look at everything but secrets, change nothing."""
    ADMIN = "admin"
    """Look and change."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks on the admin side.

    Attributes:
        name: the token's name, for events and logs.
        role: what it may do.
        id: the token's prefix, which is another one after a rotation; the role's name for one of the environment.
    """

    name: str
    role: Role
    id: str = ""

    def require(self, role: Role) -> None:
        """Let only this role pass, or a higher one.

        Raises:
            Forbidden: the role is too low.
        """
        if role is Role.ADMIN and self.role is not Role.ADMIN:
            raise Forbidden("This needs an admin token of role `admin`.", code="role_forbidden")


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One secret of the data plane.

    Attributes:
        digest: of the key as it is sent.
        grant: what it may do.
        until: when it ends, seconds since the epoch; infinite: never, minus infinite: it is over.
        id: the key's id in the store, to note its use by; None where nothing is to be noted.
    """

    digest: bytes
    grant: Grant
    until: float = math.inf
    id: str | None = None


@dataclass(frozen=True, slots=True)
class AdminEntry:
    """One secret of the admin side; see `KeyEntry`."""

    digest: bytes
    principal: Principal
    until: float = math.inf
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """All secrets of a store by their digests, those that are over too: what is listed as over, nothing else revives.

    Attributes:
        mark: the store's, when it was read.
        keys: the data plane's.
        admins: the admin side's.
    """

    mark: str
    keys: Mapping[bytes, KeyEntry]
    admins: Mapping[bytes, AdminEntry]


def read_access(stored: Stored) -> Access:
    """Read what a store holds. Keys whose terms cannot be read are over, and the log says which."""
    owners, grants, roles = {key.id: key for key in stored.keys}, _Terms(), _Terms()
    keys: dict[bytes, KeyEntry] = {}
    admins: dict[bytes, AdminEntry] = {}
    for secret in stored.secrets:
        key = owners[secret.id]
        if key.space is Space.KEY:
            terms = grants.stored(key)
            grant = Grant(key.name) if terms is None else grant_of(key.name, terms, key.expires_at)
            until = NEVER if terms is None else _until(key, secret)
            keys[secret.digest] = KeyEntry(secret.digest, grant, until, key.id)
        else:
            role = roles.role(key)
            until = NEVER if role is None else _until(key, secret)
            principal = Principal(key.name, role or Role.VIEWER, secret.prefix)
            admins[secret.digest] = AdminEntry(secret.digest, principal, until, key.id)
    return Access(stored.mark, keys, admins)


class _Terms:
    """Reads terms, equal ones once: of 10,000 keys most have the same."""

    def __init__(self) -> None:
        self._read: dict[str, StoredTerms | None] = {}

    def stored(self, key: KeyRow) -> StoredTerms | None:
        if key.terms not in self._read:
            try:
                self._read[key.terms] = StoredTerms.model_validate_json(key.terms)
            except ValidationError:
                self._read[key.terms] = None
        if self._read[key.terms] is None:
            log.error("key_unusable", key=key.name, id=key.id)
        return self._read[key.terms]

    def role(self, key: KeyRow) -> Role | None:
        try:
            return Role(orjson.loads(key.terms)["role"])
        except (ValueError, KeyError, TypeError):
            log.error("admin_token_unusable", token=key.name, id=key.id)
            return None


def _until(key: KeyRow, secret: SecretRow) -> float:
    if key.revoked_at is not None:
        return NEVER
    ends = [end for end in (key.expires_at, secret.expires_at) if end is not None]
    # NaN, which PostgreSQL can hold, compares with nothing.
    return NEVER if any(math.isnan(end) for end in ends) else min(ends, default=math.inf)
