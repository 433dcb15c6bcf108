"""The page Requests, over HTTP, of requests that a gateway has answered and stored: filters, pages, CSV, live rows."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from gateway.admin.tail import MOST_LISTENERS, QUEUE_ROWS, Tail
from gateway.dashboard.asked_requests import read
from gateway.metrics import Metrics
from gateway.recorder import Recorder
from gateway.stores.records import Batch
from gateway.stores.records.sqlite import SqliteRecords
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.stores.samples import START_S, row
from tests.waiting import until

pytestmark = pytest.mark.slow

MATH, CODING = "math", "coding"
LIVE = {"accept": "text/event-stream"}


def links_in(html: str) -> list[str]:
    return re.findall(r'href="(/admin/requests/[^"?]+\?at_us=\d+)"', html)


async def filled(site: Site, rows: int, **changes: Any) -> None:
    """Put made-up requests into the gateway's store, as its own writer would."""
    records = site.admin.gateway.records
    assert records is not None
    store = records._writer._store
    assert isinstance(store, SqliteRecords)
    await site.stored()
    another = SqliteRecords(store._path, group=store._group)
    await asyncio.to_thread(another.write, Batch([row(number, **changes) for number in range(rows)]))
    await asyncio.to_thread(another.close)


async def test_page_shows_requests_newest_first_and_leads_to_each(site: Site) -> None:
    await site.chat(MATH, CODING)
    found = links_in((await site.get("requests")).text)
    assert len(found) == 2
    assert found == sorted(found, key=lambda path: -int(path.rpartition("=")[2]))
    for path in found:
        assert (await site.viewer.get(path)).status_code == 200


async def test_filters_of_the_address_are_shown_and_can_be_taken_away(site: Site) -> None:
    await site.chat(MATH, CODING)
    html = (await site.get("requests", chosen="math", status_class=2)).text
    assert len(links_in(html)) == 1
    assert "answered by: math" in text_of(html)
    assert 'href="/admin/requests?status_class=2"' in html
    assert '<option value="math" selected>' in html
    assert "No stored request fits these filters." in await site.text("requests", chosen="nobody")
    assert len(links_in((await site.get("requests", domain="-")).text)) == 0


async def test_what_is_no_filter_is_told_and_the_page_is_there_all_the_same(site: Site) -> None:
    await site.chat(MATH)
    odd = {"colour": "red", "confidence_from": "much", "status": "20x", "span": "year", "rating": "so-so"}
    text = await site.text("requests", **odd)
    for name in odd:
        assert f"Not used: {name}" in text
    assert len(links_in((await site.get("requests", **odd)).text)) == 1


async def test_empty_fields_of_the_form_leave_the_address(site: Site) -> None:
    answer = await site.http.get("/admin/requests", params={"domain": "", "chosen": "math", "error": ""})
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/requests?chosen=math")


async def test_older_requests_are_loaded_once_each_until_there_are_none(site: Site) -> None:
    await filled(site, 130)
    html, seen = (await site.get("requests")).text, []
    for _ in range(5):
        seen += links_in(html)
        more = re.search(r'hx-get="([^"]+)"', html)
        if more is None:
            break
        part = await site.http.get(more[1].replace("&amp;", "&"), headers={"hx-request": "true"})
        html = part.text
        assert "<html" not in html
    assert len(seen) == len(set(seen)) == 130
    assert "No older request fits." in html


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onfocus='alert(1)"])
async def test_what_clients_write_is_inert_on_the_pages(site: Site, text: str) -> None:
    await filled(site, 1, key=text, domain=text, chosen=text, error=text, policy=text, request_model=text, reason=text)
    for path in ("requests", "decisions", f"requests/r-0?at_us={START_S * 1_000_000}"):
        html = (await site.http.get(f"/admin/{path}")).text
        assert text not in html
        assert escape(text) in html or path == "decisions"
    html = (await site.http.get("/admin/requests", params={"key": text, "chosen": text})).text
    assert text not in html
    assert len(links_in(html)) == 1


async def test_csv_has_what_fits_with_formulas_defused(site: Site) -> None:
    await filled(site, 3, key="=HYPERLINK(1)", domain="@sum", request_model="+1", chosen="math")
    await site.chat(MATH)
    answer = await site.viewer.get("/admin/requests.csv", params={"chosen": "math", "domain": "@sum"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert [one["id"] for one in found] == ["r-2", "r-1", "r-0"]
    assert {(one["key"], one["domain"], one["request_model"]) for one in found} == {("'=HYPERLINK(1)", "'@sum", "'+1")}


async def test_csv_of_many_requests_comes_in_pieces_and_has_each_once(site: Site) -> None:
    await filled(site, 1_300)
    text = (await site.http.get("/admin/requests.csv")).text
    ids = [one["id"] for one in csv.DictReader(io.StringIO(text))]
    assert len(ids) == len(set(ids)) == 1_300


async def test_without_records_the_page_says_how_to_keep_them(start_site: StartSite) -> None:
    site = await start_site(records=False)
    assert "No records are kept." in await site.text("requests")
    assert (await site.http.get("/admin/requests.csv")).status_code == 404


NAMES = st.one_of(st.sampled_from(["since_us", "until_us", "status", "span", "key", "stream"]), st.text())


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, st.text()))
@example({"since_us": "99999999999999999999"})
@example({"until_us": "4611686018427387904"})
def test_any_address_is_read_and_what_counts_is_shown(query: dict[str, str]) -> None:
    found = read(query)
    assert len(found.chips()) == len(found.given)
    assert set(found.given) <= {name for name, text in query.items() if text}


async def test_rated_requests_can_be_found(start_site: StartSite, tmp_path: Any) -> None:
    site = await start_site(feedback={"database": str(tmp_path / "feedback.db")})
    await site.chat(MATH, CODING)
    rated = site.admin.town.gateway.recorder.records[0].request_id
    answer = await site.admin.town.gateway.http.post("/v1/feedback", json={"id": rated, "score": 0})
    assert answer.status_code == 201
    (path,) = links_in((await site.get("requests", rating="down")).text)
    assert f"/{rated}?" in path
    assert links_in((await site.get("requests", rating="up")).text) == []


@asynccontextmanager
async def watching(http: httpx2.AsyncClient, query: str = "") -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with http.stream("GET", f"/admin/requests/tail{query}", headers=LIVE, timeout=15) as answer:
        assert answer.status_code == 200, await answer.aread()

        async def events() -> AsyncIterator[dict[str, Any]]:
            kind = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    yield {"kind": kind, "data": line[6:]}

        yield events()


async def test_live_rows_come_as_requests_finish_and_as_filtered(site: Site) -> None:
    tail = site.admin.plane.tail
    async with watching(site.viewer, "?chosen=math") as events:
        await until(lambda: len(tail) == 1)
        await site.chat(CODING, MATH)
        event = await anext(events)
        data = orjson.loads(event["data"])
        assert (event["kind"], data["count"], data["hidden"]) == ("rows", 1, 0)
        (path,) = links_in(data["html"])
        assert (await site.viewer.get(path)).status_code == 200
        assert "math" in text_of(f"<table>{data['html']}</table>")
    await until(lambda: len(tail) == 0)
    assert len(site.admin.gateway.recorder.observers) == len(site.admin.town.gateway.recorder.observers)


async def test_live_rows_end_soon_after_the_logout(site: Site) -> None:
    async with watching(site.http) as events:
        await until(lambda: len(site.admin.plane.tail) == 1)
        began = asyncio.get_running_loop().time()
        assert (await site.post("logout")).status_code == 303
        event = await anext(events)
        assert event["kind"] == "over"
        assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: len(site.admin.plane.tail) == 0)


async def test_live_rows_end_soon_after_the_token_is_gone(site: Site) -> None:
    async with watching(site.viewer) as events:
        await until(lambda: len(site.admin.plane.tail) == 1)
        site.admin.plane.tokens.change_fixed({})  # type: ignore[attr-defined]  # rotated away
        async with asyncio.timeout(5):
            assert (await anext(events))["kind"] == "over"


async def test_live_rows_are_for_so_many_pages_and_for_who_has_logged_in(site: Site) -> None:
    tail = site.admin.plane.tail
    listeners = [tail.listen() for _ in range(MOST_LISTENERS)]
    answer = await site.http.get("/admin/requests/tail", headers=LIVE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_listeners")
    for listener in listeners:
        listener.close()
        listener.close()
    assert len(tail) == 0
    async with httpx2.AsyncClient(base_url=site.admin.url) as nobody:
        assert (await nobody.get("/admin/requests/tail", headers=LIVE)).status_code == 401


async def test_listener_that_does_not_read_counts_what_it_misses() -> None:
    recorder = Recorder(Metrics(), log_requests=False)
    tail = Tail(lambda: recorder)
    assert list(recorder.observers) == []
    with tail.listen() as slow, tail.listen() as quick:
        taken = 0
        for number in range(QUEUE_ROWS + 30):
            for observe in recorder.observers:
                observe(None, number)  # type: ignore[arg-type]
            if number % 50 == 49:
                taken += len(await quick.take(0.1))
        assert (slow.dropped, quick.dropped) == (30, 0)
        assert len(await slow.take(0.1)) == QUEUE_ROWS
        assert taken + len(await quick.take(0.1)) == QUEUE_ROWS + 30
        assert await slow.take(0.01) == []
    assert list(recorder.observers) == []
