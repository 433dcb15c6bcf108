"""Makes, renews and ends callers' keys in the store, for routes and pages. A secret is returned once and kept nowhere.

Admin tokens are made by `pointsman admin-tokens` only: who has one over the network should not be able to make more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import Field

from gateway.admin.access import note
from gateway.admin.answers import Strict
from gateway.admin.errors import Conflict, NotThere, StoreDown
from gateway.admin.plane import Plane
from gateway.errors import InvalidRequest
from gateway.keyring import Principal, make
from gateway.settings import NAME, Settings, StoredTerms
from gateway.stores.keys import KeyRow, KeyStore, NameTaken, NoSuchKey, Space
from gateway.stores.keys.choosing import key_store
from gateway.stores.sqlite import StoreError

LONGEST_S = 10 * 366 * 86_400

Result = TypeVar("Result")
Name = Annotated[str, Field(pattern=NAME)]
Span = Annotated[float, Field(gt=0, le=LONGEST_S)]


class Create(Strict):
    """A new key."""

    name: Name
    terms: dict[str, Any] = Field({}, description="What it may do, as under `keys.NAME` in the configuration.")
    expires_in_s: Span | None = Field(None, description="Left out: never.")


class Rotate(Strict):
    """A new secret for a key."""

    name: Name
    grace_s: float = Field(3_600, ge=0, le=LONGEST_S, description="How long the old secret is good.")
    expires_in_s: Span | None = Field(None, description="Left out: as the key.")


class Revoke(Strict):
    """The end of a key."""

    name: Name


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret, to be shown once.

    Attributes:
        name: whose.
        key: the secret.
        prefix: its beginning, which may be shown.
        expires_at: seconds since the epoch; None: never, or as the key.
    """

    name: str
    key: str = field(repr=False)
    prefix: str
    expires_at: float | None


async def create_key(plane: Plane, principal: Principal, wanted: Create) -> NewSecret:
    """Make a key.

    Raises:
        Conflict: the name is taken.
        InvalidRequest: the terms are not acceptable.
        NotThere, StoreDown: see `asked`.
    """
    settings, now, made = plane.gateway.settings, seconds_now(), make(Space.KEY)
    if wanted.name in settings.keys:
        raise Conflict("A key of the configuration has this name.", param="name", code="name_taken")
    terms = _checked(settings, wanted.terms)
    until = None if wanted.expires_in_s is None else now + wanted.expires_in_s
    row = KeyRow(made.prefix, Space.KEY, wanted.name, terms.decode(), now, until)
    await asked(plane, lambda store: store.add(row, made.row(now)))
    note(plane, principal, "key_create", key=wanted.name)
    return NewSecret(wanted.name, made.token, made.prefix, until)


async def rotate_key(plane: Plane, principal: Principal, wanted: Rotate) -> NewSecret:
    """Give a key a new secret.

    Raises:
        NotThere: there is no such key, or no store.
        StoreDown: see `asked`.
    """
    now, made = seconds_now(), make(Space.KEY)
    until = None if wanted.expires_in_s is None else now + wanted.expires_in_s
    await asked(
        plane,
        lambda store: store.rotate(Space.KEY, wanted.name, made.row(now), grace_s=wanted.grace_s, expires_at=until),
    )
    note(plane, principal, "key_rotate", key=wanted.name)
    return NewSecret(wanted.name, made.token, made.prefix, until)


async def revoke_key(plane: Plane, principal: Principal, wanted: Revoke) -> bool:
    """End a key for ever. Returns whether it was good until now.

    Raises:
        NotThere: there is no such key, or no store.
        StoreDown: see `asked`.
    """
    done = await asked(plane, lambda store: store.revoke(Space.KEY, wanted.name, seconds_now()))
    note(plane, principal, "key_revoke", key=wanted.name)
    return bool(done)


async def asked(plane: Plane, ask: Callable[[KeyStore], Result]) -> Result:
    """Ask the store of keys, in a thread.

    Raises:
        NotThere: there is no store, or no such key in it.
        Conflict: the name is taken.
        StoreDown: it cannot be used now.
    """
    store = key_store(plane.gateway.settings.key_store)
    if store is None:
        message = "There is no store of keys: set key_store.database or key_store.postgres_env."
        raise NotThere(message, code="key_store_disabled")

    def run() -> Result:
        with _explained():
            return ask(store)

    return await plane.threads.query(run)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except NameTaken as error:
        raise Conflict("A key has this name, or had it.", param="name", code="name_taken") from error
    except NoSuchKey as error:
        message = "No key of the store has this name, or it is over."
        raise NotThere(message, param="name", code="key_not_found") from error
    except StoreError as error:
        raise StoreDown("The store of keys cannot be used now.", code="key_store_unavailable") from error


def _checked(settings: Settings, terms: dict[str, Any]) -> bytes:
    try:
        checked = StoredTerms.model_validate_json(orjson.dumps(terms))
    except ValueError as error:  # pydantic's names the field
        raise InvalidRequest(_first_line(error), param="terms") from error
    unknown = set(checked.experts or ()) - set(settings.named_experts())
    if unknown:
        raise InvalidRequest("No such expert.", param="terms.experts")
    return checked.model_dump_json(exclude_defaults=True).encode()


def _first_line(error: ValueError) -> str:
    details = getattr(error, "errors", None)
    if details is None:
        return "The terms are not acceptable."
    first = details()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {str(first['msg']).removeprefix('Value error, ')}" if place else str(first["msg"])


def seconds_now() -> float:
    """Return the time, seconds since the epoch."""
    return datetime.now(UTC).timestamp()
