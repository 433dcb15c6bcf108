"""Callers' keys in the store: who has one, new ones, new secrets, ends. A secret is in one answer and nowhere else."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.admin.access import Admin, CurrentPlane, Viewer
from gateway.admin.answers import accepts, answer, read_json
from gateway.admin.key_changes import (
    Create,
    Revoke,
    Rotate,
    asked,
    create_key,
    revoke_key,
    rotate_key,
    seconds_now,
)
from gateway.admin.key_report import prefixes_of
from gateway.stores.keys import KeyRow, Space

api = APIRouter(tags=["keys"])

MOST_KEYS = 10_000

Row = dict[str, Any]


@api.get("/keys")
async def listed(principal: Viewer, plane: CurrentPlane) -> Response:
    """Return the store's keys, revoked and expired ones too, without secrets; the newest first."""
    now = seconds_now()
    stored = await asked(plane, lambda store: store.load())
    keys = [key for key in reversed(stored.keys) if key.space is Space.KEY][:MOST_KEYS]
    prefixes = prefixes_of(stored, now)
    return answer({"keys": [_described(key, prefixes.get(key.id, [])) for key in keys]})


@api.post("/keys", openapi_extra=accepts(Create))
async def create(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Make a key. `key` in the answer is its secret, which is not shown again."""
    made = await create_key(plane, principal, await read_json(request, plane, Create))
    return answer({"name": made.name, "key": made.key, "prefix": made.prefix, "expires_at": made.expires_at}, 201)


@api.post("/keys/rotate", openapi_extra=accepts(Rotate))
async def rotate(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """Give a key a new secret; `key` in the answer, which is not shown again."""
    made = await rotate_key(plane, principal, await read_json(request, plane, Rotate))
    return answer({"name": made.name, "key": made.key, "prefix": made.prefix})


@api.post("/keys/revoke", openapi_extra=accepts(Revoke))
async def revoke(principal: Admin, plane: CurrentPlane, request: Request) -> Response:
    """End a key for ever; all gateways at the store refuse it within about a second."""
    wanted = await read_json(request, plane, Revoke)
    return answer({"name": wanted.name, "revoked": await revoke_key(plane, principal, wanted)})


def _described(key: KeyRow, prefixes: list[str]) -> Row:
    now = seconds_now()
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
