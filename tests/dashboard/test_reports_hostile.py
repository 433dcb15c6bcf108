"""Stored text of any kind is text on the pages of reports, and a store that is down is a sentence (OPERATIONS H6)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.dashboard.conftest import Site, text_of
from tests.dashboard.storing import store

pytestmark = pytest.mark.slow

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "\u202eevil",
)
PAGES = ("cost", "latency", "keys", "system")


async def test_hostile_text_in_records_is_inert_on_every_report(site: Site) -> None:
    texts = ("domain", "chosen", "strategy", "unpriced", "currency", "price_version", "key", "reason", "policy")
    for number, hostile in enumerate(HOSTILE):
        await store(site, dict.fromkeys(texts, hostile), ago_s=3_000 - 500 * number)
    for name in PAGES:
        page = (await site.get(name, **({} if name == "system" else {"span": "hour"}))).text
        assert "<script>alert" not in page, name
        assert "<img src=x" not in page, name
        assert not re.search(r"<[^>]*\son(error|mouseover)=", page), name
        assert not re.search(r'href="(?!/admin/|#|\?)', page), name
        assert "49" not in re.findall(r">\s*(49)\s*<", page), name
    assert HOSTILE[0] in text_of((await site.get("cost", span="hour")).text), "shown as it is, as text"


async def test_reports_of_a_store_that_is_down_say_so_and_work_again(site: Site, tmp_path: Path) -> None:
    await site.chat("math")
    database = tmp_path / "records.db"
    hidden = database.with_name("hidden.db")
    database.rename(hidden)
    for name in ("cost", "latency"):
        assert "The store of records cannot be asked just now." in await site.text(name)
    assert "The store of records cannot be asked just now." in await site.text("keys")
    assert "The store of records cannot be asked just now." in await site.text("system")
    hidden.rename(database)
    assert "Spent, all requests" in await site.text("cost")


async def test_many_reports_at_once_are_answered_or_told_to_wait(site: Site) -> None:
    await site.chat(*["math"] * 5)
    answers = await asyncio.gather(*(site.http.get(f"/admin/{name}") for name in PAGES * 6))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert [answer.status_code for answer in answers].count(200) >= 12
