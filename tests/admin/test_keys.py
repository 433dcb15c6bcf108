"""Callers' keys through the admin API: made, used, given a new secret, ended; shown once and never again (H14)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.admin.conftest import VIEWER, Admin, StartAdmin, bearer, code_of


@pytest.fixture
async def admin(start_admin: StartAdmin, tmp_path: Path) -> Admin:
    """With a store of keys."""
    return await start_admin(key_store={"database": str(tmp_path / "keys.db")})


async def status_with(admin: Admin, key: str) -> int:
    return (await admin.town.gateway.http.get("/v1/models", headers=bearer(key))).status_code


async def becomes(admin: Admin, key: str, status: int) -> None:
    """Wait until the gateway has looked at the store."""
    async with asyncio.timeout(10):
        while await status_with(admin, key) != status:  # noqa: ASYNC110 - the gateway looks by itself
            await asyncio.sleep(0.05)


async def test_key_is_made_used_and_revoked_and_shown_once(
    admin: Admin, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = await admin.post("/keys", {"name": "team-a", "terms": {"experts": ["math"]}, "expires_in_s": 3600})
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    await becomes(admin, key, 200)
    (shown,) = (await admin.json("/keys"))["keys"]
    assert (shown["name"], shown["state"], shown["terms"]) == ("team-a", "active", {"experts": ["math"]})
    assert shown["prefixes"] == [made.json()["prefix"]]
    assert (await admin.post("/keys/revoke", {"name": "team-a"})).json() == {"name": "team-a", "revoked": True}
    await becomes(admin, key, 401)
    assert (await admin.json("/keys"))["keys"][0]["state"] == "revoked"
    pages = [(await admin.get(path)).text for path in ("/keys", "/events", "/overview", "/config", "/limits")]
    secret = key.rpartition("-")[2]
    files = [(tmp_path / name).read_bytes() for name in os.listdir(tmp_path)]
    assert not [place for place in (*pages, "".join(capsys.readouterr())) if secret in place]
    assert not [content for content in files if secret.encode() in content]


async def test_rotated_key_has_two_secrets_until_the_grace_is_over(admin: Admin) -> None:
    old = (await admin.post("/keys", {"name": "a"})).json()["key"]
    await becomes(admin, old, 200)
    new = (await admin.post("/keys/rotate", {"name": "a", "grace_s": 0})).json()["key"]
    assert new != old
    await becomes(admin, new, 200)
    await becomes(admin, old, 401)


async def test_key_of_the_store_opens_no_admin_side(admin: Admin) -> None:
    key = (await admin.post("/keys", {"name": "a"})).json()["key"]
    await becomes(admin, key, 200)
    assert (await admin.get("/overview", token=key)).status_code == 401


BAD: tuple[Any, ...] = (
    {},
    {"name": ""},
    {"name": "a\n"},
    {"name": "a/b"},
    {"name": "a" * 65},
    {"name": "a", "expires_in_s": 0},
    {"name": "a", "expires_in_s": 1e300},
    {"name": "a", "terms": {"experts": ["nobody"]}},
    {"name": "a", "terms": {"nonsense": 1}},
    {"name": "a", "terms": {"daily_budget": -1}},
    {"name": "a", "terms": {"policies": ["nonsense"]}},
    {"name": "a", "terms": []},
    {"name": "a", "more": 1},
)


async def test_bad_keys_are_refused_and_names_are_never_given_twice(admin: Admin) -> None:
    for body in BAD:
        assert (await admin.post("/keys", body)).status_code == 400, body
    assert (await admin.json("/keys"))["keys"] == []
    await admin.post("/keys", {"name": "a"})
    assert code_of(await admin.post("/keys", {"name": "a"})) == "name_taken"
    await admin.post("/keys/revoke", {"name": "a"})
    assert code_of(await admin.post("/keys", {"name": "a"})) == "name_taken"
    for path in ("/keys/revoke", "/keys/rotate"):
        assert code_of(await admin.post(path, {"name": "nobody"})) == "key_not_found"
    assert (await admin.post("/keys", {"name": "b"}, token=VIEWER)).status_code == 403


async def test_store_that_is_broken_is_503_and_one_that_is_not_there_404(
    admin: Admin, start_admin: StartAdmin, tmp_path: Path
) -> None:
    (tmp_path / "keys.db").write_bytes(b"no database" * 1000)
    (tmp_path / "keys.db-wal").unlink(missing_ok=True)
    answer = await admin.get("/keys")
    assert (answer.status_code, code_of(answer)) == (503, "key_store_unavailable")
    assert str(tmp_path) not in answer.text
    assert (await admin.get("/overview")).status_code == 200


async def test_without_a_store_it_says_so(start_admin: StartAdmin) -> None:
    admin = await start_admin()
    for answer in (await admin.get("/keys"), await admin.post("/keys", {"name": "a"})):
        assert (answer.status_code, code_of(answer)) == (404, "key_store_disabled")
