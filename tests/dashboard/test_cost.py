"""The page of costs: what it adds up is what the records say, and what it cannot know it says."""

from __future__ import annotations

import re

import pytest

from gateway.costs import BASELINE_ASSUMPTIONS
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.dashboard.storing import store

pytestmark = pytest.mark.slow


async def test_cost_page_adds_up_real_requests_and_links_to_them(site: Site) -> None:
    await site.chat("math", "coding", "hello")
    page = await site.get("cost", span="hour")
    text = text_of(page.text)
    assert "Spent, all requests" in text
    (total,) = [one for one in (await site.admin.json("/rollups/totals"))["totals"]]
    assert total["requests"] == 3
    for domain in ("math", "coding", "general"):
        assert re.search(rf'requests\?[^"]*domain={domain}"', page.text), domain
    for expert in ("math", "coding", "generalist"):
        assert re.search(rf'requests\?[^"]*chosen={expert}"', page.text), expert
    for line in BASELINE_ASSUMPTIONS:
        assert line in text
    assert "cost-time-data" in page.text


async def test_cost_page_without_traffic_and_without_records_says_why(start_site: StartSite) -> None:
    assert "No request in this span of time." in await (await start_site()).text("cost")
    off = await start_site(records=False)
    assert "No records are kept." in await off.text("cost")


async def test_cost_page_names_experts_without_a_price(start_site: StartSite) -> None:
    site = await start_site(changes={"coding": {"price": None}})
    await site.chat("coding")
    text = await site.text("cost")
    assert "Without a price: coding." in text
    assert "The expert has no price in the configuration. 1" in text


async def test_viewer_sees_costs_and_nobody_else_does(site: Site) -> None:
    assert (await site.viewer.get("/admin/cost")).status_code == 200
    assert (await site.http.get("/admin/cost", params={"span": "century"})).status_code == 400
    site.http.cookies.clear()
    assert (await site.http.get("/admin/cost")).status_code == 303


async def test_cost_page_says_what_it_compares_and_what_it_cannot(site: Site) -> None:
    await store(
        site,
        {"cost": 2.0, "baseline_cost": 5.0, "saving": 3.0},
        {"cost": 4.0, "reason": "pinned"},
        {"cost": None, "unpriced": "no_answer", "chosen": None, "status": 503},
        {"cost": 1.0, "baseline_cost": 1.0, "saving": 0.0, "strategy": "vote", "extra_cost": 0.5},
    )
    page = await site.get("cost", span="hour")
    text = text_of(page.text)
    assert "Spent, all requests 7.00 USD 4 requests" in text
    assert "Generalist alone 6.00 USD" in text
    assert "Saved 3.00 USD 50.0 % less than the generalist alone" in text
    assert "Not compared 2 50.0 % of requests" in text
    assert "The client named the expert, so routing decided nothing. 1" in text
    assert "vote 1 0.5000 USD 7.1 %" in text
    assert "all 4 stored requests of this span" in text
    for filters in ("unpriced=no_answer", "reason=pinned", "strategy=vote", "chosen=-"):
        assert filters in page.text


async def test_cost_page_warns_of_two_currencies_and_marks_new_prices(site: Site) -> None:
    await store(site, {"price_version": "older-prices", "baseline_cost": 0.1}, ago_s=1_800)
    await store(site, {"price_version": "newer-prices", "currency": "EUR", "baseline_cost": 0.1}, ago_s=30)
    page = await site.get("cost", span="hour")
    assert "Stored requests are priced in EUR and USD" in text_of(page.text)
    assert "to newer-prices" in text_of(page.text)
    assert '"label": "prices newer-pr"' in page.text
