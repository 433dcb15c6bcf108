"""The page Decisions: reasons, the matrix, abstentions over time, all leading to the requests behind them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.admin.decided import Family, decided
from tests.dashboard.conftest import Site, StartSite, text_of

pytestmark = pytest.mark.slow


async def test_every_number_leads_to_as_many_requests(start_site: StartSite) -> None:
    site = await start_site(router={"thresholds": {"coding": 1.0}})
    await site.chat(*["math"] * 3, *["coding"] * 2, "hello")
    await site.chat("math", model="nobody")
    html = (await site.get("decisions")).text
    links = re.findall(r'<a href="(/admin/requests\?[^"]+)">([\d\u202f]+)</a>', html)
    assert len(links) > 10
    for path, count in links:
        query = dict(parse_qsl(urlsplit(path.replace("&amp;", "&")).query))
        shown = (await site.get("requests", **query)).text
        found = len(re.findall(r'<th scope="row"><a href="/admin/requests/', shown))
        assert found == int(count), (path, count)


async def test_reasons_are_explained_and_counted_by_kind(start_site: StartSite) -> None:
    site = await start_site(router={"thresholds": {"coding": 1.0}})
    await site.chat("math", "coding", "coding", "math")
    text = await site.text("decisions")
    assert "Abstained 50.0 % 2." in text.replace("\u202f", " ")
    assert "The best domain's probability was below its threshold, so the generalist answered." in text
    assert "50.0 % of all requests in this span: 2 of 4." in text


async def test_change_of_the_configuration_is_marked_in_the_chart(site: Site) -> None:
    await site.chat("math")
    await site.admin.config.change(router={"minimum_confidence": 1.0})
    await site.chat("math")
    assert "config" in text_of((await site.get("decisions", span="hour")).text).partition("Show as a table")[2]


async def test_empty_span_and_missing_store_say_why(start_site: StartSite) -> None:
    site = await start_site()
    assert "No request in this span of time." in await site.text("decisions")
    assert (await site.http.get("/admin/decisions", params={"span": "eon"})).status_code == 400


async def test_without_records_the_page_says_so(start_site: StartSite) -> None:
    site = await start_site(records=False)
    assert "No records are kept." in await site.text("decisions")


async def test_families_add_up_to_all_requests(site: Site) -> None:
    from gateway.stores.records.queries import RollupFilter

    await site.chat("math", "coding", "hello", "math")
    await site.chat("math", model="math")
    records = site.admin.gateway.records
    assert records is not None
    seen = decided(records.queries.run, RollupFilter(0, 2**33))
    assert seen.total == 5
    assert sum(seen.of(family) for family in Family) == 5
    assert seen.of(Family.GIVEN) == 1
    assert sum(seen.matrix.row_total(row) for row in seen.matrix.rows) == 5
    assert "Decisions" in text_of((await site.get("decisions")).text)
