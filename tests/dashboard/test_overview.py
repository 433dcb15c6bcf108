"""Overview: numbers equal the requests that were really served, each leads to them, live figures change."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.admin.routes.records import PageQuery
from gateway.dashboard.bins import MOST, bins
from gateway.dashboard.spans import LENGTHS, Span, span_ending_now
from gateway.stores.records import Batch, RecordsUnavailable
from gateway.stores.records.queries import Queries
from gateway.stores.records.sqlite import SqliteRecords
from gateway.stores.records.tables import row_of
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.stores.samples import record
from tests.waiting import until

pytestmark = pytest.mark.slow


def stat(page: str, label: str) -> tuple[str, str]:
    """A figure of the page and where it leads, "" for nowhere."""
    block = next(b for b in re.findall(r'<div class="stat".*?</div>', page, re.DOTALL) if f"<dt>{label}</dt>" in b)
    link = re.search(r'<a href="([^"]*)"', block)
    return text_of(block).removeprefix(label).strip(), unescape(link[1]) if link else ""


def requests_behind(queries: Queries, link: str) -> int:
    """How many stored requests a link's fields mean."""
    fields: dict[str, Any] = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    wanted = PageQuery.model_validate_strings(fields).wanted()
    return len(queries.page(wanted, limit=500).rows)


async def test_numbers_are_those_of_the_requests_and_lead_to_them(site: Site) -> None:
    await site.chat("math", "math", "coding", "hello", "tell me sure=0.3")
    page = (await site.get()).text
    text, link = stat(page, "Requests")
    assert text.startswith("5 ")
    assert requests_behind(site.admin.plane.queries, link) == 5
    assert stat(page, "Specialist")[0] == "60.0 % 3 of 5"
    assert stat(page, "Generalist")[0] == "40.0 % 2 of 5"
    assert stat(page, "Error")[0] == "0.0 % 0 of 5"
    saved, _ = stat(page, "Saved today")
    assert saved.endswith("of 5 requests")
    assert "USD" in saved


async def test_errors_and_fallbacks_are_counted_apart(site: Site) -> None:
    servers = site.admin.town.servers
    servers["math"].fault("close_rst", count=2)  # its lone server is tried once more
    await site.chat("math")
    for server in servers.values():
        server.fault("status;code=503", count=None)
    await site.chat("coding")
    for server in servers.values():
        server.clear_faults()
    page = (await site.get()).text
    assert stat(page, "Fallback")[0] == "50.0 % 1 of 2"
    error, link = stat(page, "Error")
    assert error == "50.0 % 1 of 2"
    assert requests_behind(site.admin.plane.queries, link) == 1
    assert 'data-state="bad"' in page


async def test_every_point_of_the_chart_leads_to_its_requests(site: Site) -> None:
    await site.chat("math", "coding")
    page = (await site.get(span="hour")).text
    figure = page[page.index('id="by-kind"') :]
    cells = re.findall(r'<td class="n"><a href="([^"]*not_chosen[^"]*)">([\d ]+)</a>', figure)
    counted = [(unescape(link), int(count)) for link, count in cells if int(count)]
    assert sum(count for _, count in counted) == 2
    for link, count in counted:
        assert requests_behind(site.admin.plane.queries, link) == count


async def test_links_of_all_kinds_lead_to_exactly_the_requests_that_are_counted(site: Site) -> None:
    servers = site.admin.town.servers
    await site.chat("math", "coding", "hello")
    await site.chat("hello", model="nobody")
    servers["math"].fault("close_rst", count=2)
    await site.chat("math")
    servers["math"].fault("close_rst", count=1)
    await site.chat("math")
    for server in servers.values():
        server.fault("status;code=503", count=None)
    await site.chat("coding")
    page = (await site.get()).text
    found = {}
    for label in ("Specialist", "Generalist", "Fallback", "Refused or left", "Error"):
        text, link = stat(page, label)
        found[label] = int(text.split()[2])
        assert requests_behind(site.admin.plane.queries, link) == found[label], label
    assert found == {"Specialist": 2, "Generalist": 1, "Fallback": 2, "Refused or left": 1, "Error": 1}


async def test_server_that_fails_is_named_at_first_look(start_site: StartSite) -> None:
    site = await start_site(breaker={"local_failures": 1, "ejection_s": 60})
    site.admin.town.servers["math"].fault("close_rst", count=None)
    await site.chat("math")
    url = site.admin.town.servers["math"].url
    text = await site.text()
    assert f"Failing: {url} (math)." in text
    assert "math failing" in text
    await until(lambda: any(event["kind"] == "upstream_ejected" for event in site.admin.plane.queries.events()))
    assert "math ejected" in (await site.get(span="hour")).text


async def test_live_figures_change_and_an_unchanged_answer_is_not_sent_again(site: Site) -> None:
    path = "/admin/overview/live.json"
    before = await site.http.get(path)
    assert before.json()["rate"] == "0"
    again = await site.http.get(path, headers={"if-none-match": before.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await site.chat("math")
    after = (await site.http.get(path)).json()
    assert float(after["rate"]) > 0
    assert after["overhead"].endswith(("ms", "us"))
    assert after["dropped"] == {"text": "0", "state": "good"}
    keys = set(re.findall(r'data-key="([^"]+)"', (await site.get()).text))
    assert keys <= set(after)


async def test_change_of_the_configuration_is_shown(site: Site) -> None:
    site.admin.gateway.event("config", outcome="applied", version="c0ffee0123456789", trigger="watch")
    await until(lambda: bool(site.admin.plane.queries.events()))
    text = await site.text()
    assert "A changed configuration was taken over: version c0ffee012345 (watch)." in text


@pytest.mark.parametrize("records", [True, False])
async def test_page_without_requests_says_why(start_site: StartSite, records: bool) -> None:
    site = await start_site(records=records)
    text = await site.text()
    assert ("No request in this span of time." if records else "No records are kept.") in text
    assert "All 3 servers are well." in text


async def test_store_that_is_down_is_said_and_live_figures_stay(site: Site) -> None:
    await site.chat("math")
    site.admin.plane.queries._run = _broken  # fault injection
    text = await site.text()
    assert "The store of records cannot be asked just now." in text
    assert "Requests per second" in text


def _broken(statement: str, parameters: object) -> list[tuple[object, ...]]:
    raise RecordsUnavailable("test")


async def test_viewer_sees_the_same_figures(site: Site) -> None:
    await site.chat("math")
    answer = await site.viewer.get("/admin/")
    assert answer.status_code == 200
    assert stat(answer.text, "Requests")[0].startswith("1 ")


@pytest.mark.parametrize("name", LENGTHS)
def test_parts_of_a_span_are_few_and_cover_all_of_it(name: str) -> None:
    span = span_ending_now(name)
    parts = bins(span)
    assert 20 <= len(parts.starts) <= MOST + 1
    assert parts.span.since_s <= span.since_s < parts.span.since_s + parts.part_s
    assert parts.span.until_s == span.until_s
    last = parts.starts[-1]
    assert last <= parts.start_of(span.until_s - 1) == last
    assert parts.row({span.since_s: 2.0, span.since_s + 1: 3.0})[0] == 5.0


def test_parts_of_a_week_are_several_hours() -> None:
    parts = bins(Span("week", 1_000_000_000, 1_000_000_000 + 7 * 86_400))
    assert parts.part_s == 3 * 3_600
    assert parts.span.since_s % parts.part_s == 0


async def test_old_requests_are_in_longer_spans_only(start_site: StartSite, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    rows = [record(n, timestamp=now - timedelta(days=days)) for n, days in enumerate((0, 2, 20))]
    with closing(SqliteRecords(str(tmp_path / "records.db"), group=None)) as store:
        store.write(Batch([row_of(one) for one in rows]))
    site = await start_site()
    counts = [stat((await site.get(span=name)).text, "Requests")[0].split()[0] for name in LENGTHS]
    assert counts == ["1", "1", "2", "3"]
