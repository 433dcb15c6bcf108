"""Experts, and one of them: shares, times, the domains it wins, what became of tries at its servers."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from tests.dashboard.conftest import Site, StartSite, text_of
from tests.waiting import until

pytestmark = pytest.mark.slow

THIN = "\u202f"


def row(page: str, first: str) -> list[str]:
    """The cells of the row of a table that begins with a word."""
    rows = [re.findall(r"<t[hd].*?</t[hd]>", part, re.DOTALL) for part in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    return next([text_of(cell) for cell in cells] for cells in rows if text_of(cells[0]) == first)


def table(page: str, label: str) -> str:
    """One table of a page."""
    found: list[str] = re.findall(rf'aria-label="{label}"><table.*?</table>', page, re.DOTALL)
    return found[0]


async def test_table_tells_how_much_each_expert_answered(site: Site) -> None:
    await site.chat("math", "math", stream=True)
    await site.chat("math", "coding")
    page = table((await site.get("experts")).text, "Experts")
    math, coding, generalist = (row(page, name) for name in ("math", "coding", "generalist"))
    assert math[1:5] == ["well", "math", "3", "75.0 %"]
    assert coding[3:5] == ["1", "25.0 %"]
    assert generalist[3:5] == ["0", "–"]
    assert math[-1] == "0 of 3"
    assert generalist[-1] == "no try"
    assert math[7].endswith(("ms", "s"))


async def test_traffic_is_drawn_by_domain_and_by_expert(site: Site) -> None:
    await site.chat("math", "coding", "tell me sure=0.3", "hello", model="auto")
    await site.chat("hello", model="math")
    page = (await site.get("experts", span="hour")).text
    assert page.count('class="plot"') == 2
    domains = page[page.index('id="by-domain"') : page.index('id="by-expert"')]
    for name in ("math", "coding", "general", "not classified"):
        assert f'<th scope="col" class="n">{name}</th>' in domains
    link = unescape(re.findall(r'<a href="([^"]*domain=math[^"]*)">1</a>', domains)[0])
    assert "since_us=" in link
    assert "until_us=" in link


async def test_expert_that_is_configured_no_more_is_still_shown_with_its_requests(site: Site) -> None:
    await site.chat("coding")
    await site.admin.config.change(experts=site.admin.config.without("coding"))
    page = (await site.get("experts")).text
    assert row(table(page, "Experts"), "coding")[1:4] == ["not configured any more", "–", "1"]
    assert (await site.http.get("/admin/experts/coding")).status_code == 404


async def test_one_expert_shows_what_it_does_and_what_is_configured(site: Site) -> None:
    await site.chat("math", "coding")
    await site.chat("math sure=0.9", stream=True)
    page = (await site.get("experts/math")).text
    text = text_of(page)
    assert "A specialist for math." in text
    assert "66.7 % of all that were answered" in text
    assert "sim/math" in text
    assert "1.0 USD input, 2.0 USD output" in text
    assert row(table(page, "Domains it wins"), "math")[1:3] == ["2", "100.0 %"]
    assert page.count('class="plot"') == 3
    assert "No server was out in this span of time." in text


async def test_share_of_low_confidence_goes_by_the_threshold_in_effect(start_site: StartSite) -> None:
    site = await start_site(router={"minimum_confidence": 0.5}, policy={"name": "fixed", "expert": "math"})
    await site.chat("math sure=0.45", "math sure=0.55", "math sure=0.95", "math sure=0.3")
    page = (await site.get("experts/math")).text
    cell = row(table(page, "Domains it wins"), "math")[-1]
    assert cell == "2 50.0 % below 0.50"
    assert "confidence_below=0.5" in page


async def test_failed_tries_and_their_errors_are_told(start_site: StartSite) -> None:
    site = await start_site(breaker={"local_failures": 1, "ejection_s": 60})
    site.admin.town.servers["math"].fault("close_rst", count=None)
    await site.chat("math")
    text = await site.text("experts/math")
    assert "failing No server of it takes requests." in text
    assert re.search(r"Failed tries \d of \d at its servers", text)
    assert "upstream_reset" in text
    await until(lambda: any(event["kind"] == "upstream_ejected" for event in site.admin.plane.queries.events()))
    text = await site.text("experts/math", span="hour")
    assert "was ejected (local failures)." in text
    assert "Share of time that a server was out" in text
    assert "ejected" not in (await site.text("experts/coding", span="hour")).replace("out: ejected, down", "")


async def test_request_that_nobody_answered_counts_for_the_expert_that_was_to_answer(site: Site) -> None:
    for server in site.admin.town.servers.values():
        server.fault("close_rst", count=None)
    await site.chat("math")
    page = (await site.get("experts/math")).text
    assert row(table(page, "Errors"), "upstream reset")[1:3] == ["502", "1"]


@pytest.mark.parametrize("name", ["nobody", "live.json", "a'b", "x" * 400, "%00"])
async def test_expert_that_is_not_there_is_a_page_with_404(site: Site, name: str) -> None:
    answer = await site.http.get(f"/admin/experts/{name}")
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"].startswith("text/html")


async def test_live_figures_of_both_pages_have_all_keys(site: Site) -> None:
    for page, path in (("experts", "experts-live.json"), ("experts/math", "experts/math/live.json")):
        keys = set(re.findall(r'data-key="([^"]+)"', (await site.get(page)).text))
        figures = (await site.http.get(f"/admin/{path}")).json()
        assert keys
        assert keys <= set(figures)


@pytest.mark.parametrize("page", ["experts", "experts/math"])
async def test_without_records_the_live_half_is_shown(start_site: StartSite, page: str) -> None:
    site = await start_site(records=False)
    text = await site.text(page)
    assert "No records are kept." in text
    assert "well" in text


async def test_viewer_has_no_switch(site: Site) -> None:
    url = site.admin.town.servers["math"].url
    assert f"Switch off {url}" in (await site.get("experts/math")).text
    assert "Switch" not in text_of((await site.viewer.get("/admin/experts/math")).text)


async def test_names_from_the_configuration_are_written_and_not_run(start_site: StartSite) -> None:
    evil = "<script>alert(1)</script>"
    changes: dict[str, dict[str, Any]] = {"math": {"model": evil}}
    site = await start_site(changes=changes)
    page = (await site.get("experts/math")).text
    assert evil not in page
    assert evil in text_of(page)
