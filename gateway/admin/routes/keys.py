"""Callers' keys in the store: who has one, new ones, new secrets, ends. A secret is in one answer and nowhere else.

Admin tokens are made by `pointsman admin-tokens` only: who has one over the network should not be able to make more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer, note
from gateway.admin.answers import Strict, accepts, answer, read_json
from gateway.admin.errors import Conflict, NotThere, StoreDown
from gateway.admin.plane import Plane
from gateway.errors import InvalidRequest
from gateway.keyring import make
from gateway.settings import NAME, Settings, StoredTerms
from gateway.stores.keys import KeyRow, KeyStore, NameTaken, NoSuchKey, Space, Stored
from gateway.stores.keys.choosing import key_store
from gateway.stores.sqlite import StoreError

api = APIRouter(tags=["keys"])

LONGEST_S = 10 * 366 * 86_400
MOST_KEYS = 10_000

Row = dict[str, Any]
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


@api.get("/keys")
async def listed(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the store's keys, revoked and expired ones too, without secrets; the newest first."""
    now = _now()
    stored = await _asked(plane, lambda store: store.load())
    keys = [key for key in reversed(stored.keys) if key.space is Space.KEY][:MOST_KEYS]
    prefixes = _prefixes(stored, now)
    return answer({"keys": [_described(key, prefixes.get(key.id, [])) for key in keys]})


@api.post("/keys", openapi_extra=accepts(Create))
async def create(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Make a key. `key` in the answer is its secret, which is not shown again."""
    wanted = await read_json(request, plane, Create)
    settings, now, made = plane.gateway.settings, _now(), make(Space.KEY)
    if wanted.name in settings.keys:
        raise Conflict("A key of the configuration has this name.", param="name", code="name_taken")
    terms = _checked(settings, wanted.terms)
    until = None if wanted.expires_in_s is None else now + wanted.expires_in_s
    row = KeyRow(made.prefix, Space.KEY, wanted.name, terms.decode(), now, until)
    await _asked(plane, lambda store: store.add(row, made.row(now)))
    note(plane, principal, "key_create", key=wanted.name)
    return answer({"name": wanted.name, "key": made.token, "prefix": made.prefix, "expires_at": until}, 201)


@api.post("/keys/rotate", openapi_extra=accepts(Rotate))
async def rotate(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Give a key a new secret; `key` in the answer, which is not shown again."""
    wanted = await read_json(request, plane, Rotate)
    now, made = _now(), make(Space.KEY)
    until = None if wanted.expires_in_s is None else now + wanted.expires_in_s
    await _asked(
        plane,
        lambda store: store.rotate(Space.KEY, wanted.name, made.row(now), grace_s=wanted.grace_s, expires_at=until),
    )
    note(plane, principal, "key_rotate", key=wanted.name)
    return answer({"name": wanted.name, "key": made.token, "prefix": made.prefix})


@api.post("/keys/revoke", openapi_extra=accepts(Revoke))
async def revoke(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """End a key for ever; all gateways at the store refuse it within about a second."""
    wanted = await read_json(request, plane, Revoke)
    done = await _asked(plane, lambda store: store.revoke(Space.KEY, wanted.name, _now()))
    note(plane, principal, "key_revoke", key=wanted.name)
    return answer({"name": wanted.name, "revoked": bool(done)})


def _checked(settings: Settings, terms: Row) -> bytes:
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


async def _asked(plane: Plane, ask: Callable[[KeyStore], Result]) -> Result:
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


def _prefixes(stored: Stored, now: float) -> dict[str, list[str]]:
    """Return the beginnings of the secrets that are good now, by key."""
    found: dict[str, list[str]] = {}
    for secret in stored.secrets:
        if secret.expires_at is None or now < secret.expires_at:
            found.setdefault(secret.id, []).append(secret.prefix)
    return found


def _described(key: KeyRow, prefixes: list[str]) -> Row:
    now = _now()
    over = key.revoked_at is not None or (key.expires_at is not None and not now < key.expires_at)
    state = "revoked" if key.revoked_at is not None else "expired" if over or not prefixes else "active"
    try:
        terms = orjson.loads(key.terms)
    except orjson.JSONDecodeError:
        terms = None
    return {
        "name": key.name,
        "state": state,
        "prefixes": [] if over else prefixes,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "terms": terms,
    }


def _now() -> float:
    return datetime.now(UTC).timestamp()
