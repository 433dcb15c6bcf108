"""The page of keys: limits with what is left, and keys made, renewed and ended by hand (H14)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.dashboard.conftest import Site, StartSite, text_of
from tests.dashboard.storing import store
from tests.fixtures_admin import bearer

pytestmark = pytest.mark.slow


@pytest.fixture
async def site(start_site: StartSite, tmp_path: Path) -> Site:
    """With a key of the configuration and a store of keys."""
    return await start_site(
        keys={"team": {"key_env": "T_CALLER", "requests_per_minute": 60, "daily_budget": 1.0, "experts": ["math"]}},
        key_store={"database": str(tmp_path / "keys.db")},
        quotas={"experts": {"math": {"tokens_per_minute": 1000}}},
    )


def secret_on(page: str) -> str:
    found = re.search(r'<p class="secret"><code>([^<]+)</code>', page)
    assert found is not None, text_of(page)
    return found[1]


async def test_keys_page_shows_limits_use_and_requests_of_each_key(site: Site) -> None:
    await store(site, {"key": "team", "cost": 0.5}, {"key": "team", "status": 429, "cost": None}, {"key": "other"})
    page = await site.get("keys", span="hour")
    text = text_of(page.text)
    assert "team active configuration" in text
    assert "experts: math" in text
    assert "0 of 60 requests a minute" in text
    assert "0.00 USD of 1.00 USD today" in text
    assert "1 refused" in text
    assert "Callers that are none of these keys Name in the records Requests Spent Last used other 1" in text
    assert "0 of 1 000 tokens a minute" in text, "the expert's own limit"
    assert re.search(r'requests\?[^"]*key=team', page.text)
    assert "a-data-plane-key" not in page.text


async def test_key_is_made_used_renewed_and_ended_on_the_page(site: Site) -> None:
    http = site.admin.town.gateway.http
    form = {"name": "made", "expert:math": "on", "requests_per_minute": "30", "tags": "blue, green", "daily_budget": ""}
    made = await site.post("keys/create", site.http, **form)
    assert made.status_code == 200, text_of(made.text)
    key = secret_on(made.text)

    async def good(secret: str) -> bool:
        return (await http.get("/v1/models", headers=bearer(secret))).status_code == 200

    await _becomes(good, key, wanted=True)
    page = await site.get("keys")
    assert key not in page.text, "a secret is shown once"
    text = text_of(page.text)
    assert "made active" in text
    assert "tags: blue, green" in text
    assert "of 30 requests a minute" in text

    renewed = await site.post("keys/rotate", name="made", grace_s="0")
    other = secret_on(renewed.text)
    await _becomes(good, other, wanted=True)
    await _becomes(good, key, wanted=False)

    unsure = await site.post("keys/revoke", name="made")
    assert (unsure.status_code, "Tick the box" in unsure.text) == (400, True)
    ended = await site.post("keys/revoke", name="made", sure="yes")
    assert (ended.status_code, ended.headers["location"]) == (303, "/admin/keys")
    await _becomes(good, other, wanted=False)
    said = await site.text("keys")
    assert "Ended keys: 1" in said
    assert "made revoked" in said


WRONG = {
    "name": {"name": "no spaces please"},
    "twice": {"name": "team"},
    "number": {"name": "a", "daily_budget": "much"},
    "not a number": {"name": "a", "daily_budget": "nan"},
    "negative": {"name": "a", "requests_per_minute": "-1"},
    "half": {"name": "a", "requests_per_minute": "1.5"},
    "huge": {"name": "a", "expires_days": "1e300"},
    "expert": {"name": "a", "expert:nobody": "on"},
    "script": {"name": "<script>alert(1)</script>"},
}


async def test_wrong_form_is_refused_with_a_reason_and_keeps_what_was_typed(site: Site) -> None:
    for what, fields in WRONG.items():
        answer = await site.post("keys/create", site.http, **fields)
        assert answer.status_code in (400, 409), (what, answer.status_code)
        assert 'role="alert"' in answer.text, what
        assert 'class="secret"' not in answer.text, what
        assert "<script>alert(1)" not in answer.text
    kept = await site.post("keys/create", name="kept", daily_budget="much")
    assert 'value="kept"' in kept.text
    assert 'value="much"' in kept.text
    assert (await site.admin.json("/keys"))["keys"] == []


async def test_viewer_sees_keys_and_can_change_none(site: Site) -> None:
    page = await site.viewer.get("/admin/keys")
    assert page.status_code == 200
    assert "team active" in text_of(page.text)
    assert "<form" not in page.text.split("<main", 1)[1]
    for path in ("create", "rotate", "revoke"):
        answer = await site.post(f"keys/{path}", site.viewer, name="made", sure="yes")
        assert answer.status_code == 403, path
    assert (await site.admin.json("/keys"))["keys"] == []


async def test_keys_page_of_an_open_gateway_says_that_nobody_needs_one(start_site: StartSite) -> None:
    text = await (await start_site()).text("keys")
    assert "Nobody needs a key" in text
    assert "To make keys here, set key_store.database" in text
    assert "There is no key." in text


async def test_requests_without_a_key_are_counted_apart(site: Site) -> None:
    await store(site, {"key": ""}, {"key": "", "status": 503})
    page = await site.get("keys", span="hour")
    assert "no key 2 1 failed" in text_of(page.text)
    assert "key=-" in page.text


async def test_keys_page_with_a_broken_store_shows_the_rest(site: Site, tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"no database, but long enough to be looked at as one" * 30)
    text = await site.text("keys")
    assert "The store of keys cannot be read now" in text
    assert "team active" in text


async def test_spending_by_key_is_drawn_from_the_stored_requests(site: Site) -> None:
    await store(site, *[{"key": f"key-{n}", "cost": float(n)} for n in range(1, 10)])
    page = await site.get("keys", span="hour")
    text = text_of(page.text)
    assert "Spending by key Of the newest 9 stored requests of the span. The 7 keys that spent most of 9." in text
    assert "key-9" in text


async def _becomes(good: Callable[[str], Awaitable[bool]], secret: str, *, wanted: bool) -> None:
    """Wait until the gateway has looked at the store."""
    async with asyncio.timeout(10):
        while await good(secret) != wanted:  # noqa: ASYNC110 - the gateway looks by itself
            await asyncio.sleep(0.05)
