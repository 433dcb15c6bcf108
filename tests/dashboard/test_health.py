"""Health: the server that fails is named first, errors are counted, the switch works and is for administrators."""

from __future__ import annotations

import re

import pytest

from gateway.dashboard.happenings import marks, told
from gateway.dashboard.servers import added
from gateway.stores.records.counts import TryCount
from tests.dashboard.conftest import Site, StartSite, text_of
from tests.dashboard.test_experts import row, table
from tests.waiting import until

pytestmark = pytest.mark.slow


async def test_failing_server_is_the_first_thing_on_the_page(site: Site) -> None:
    await site.chat("coding")
    site.admin.town.servers["math"].fault("status;code=500", count=None)
    await site.chat(*["math"] * 4)
    page = (await site.get("health")).text
    url = site.admin.town.servers["math"].url
    text = text_of(page)
    assert text.index(f"Failing: {url} (math).") < text.index("Servers")
    assert f"{url} (math): failing 4 of 4 tries failed in the last 5 minutes" in text
    servers = re.findall(r'<span class="mono">(http[^<]*)</span>', table(page, "Servers"))
    assert servers[0] == url
    cells = row(table(page, "Servers"), f"{url} math")
    assert cells[1] == "failing"
    assert "Last error: status_500 ," in cells[2]
    assert (cells[4], cells[5]) == ("4 of 4", "4 of 4 100.0 %")
    assert row(table(page, "Errors by class"), "upstream 500")[1:4] == ["500", "math 4", "4"]


async def test_all_is_well_without_failures(site: Site) -> None:
    await site.chat("math")
    text = await site.text("health")
    assert "All 3 servers are well." in text
    assert "No request ended in an error." in text
    assert "No server was out in this span of time." in text
    assert "Nothing happened in this span of time." in text
    assert "All 1 tries of the span were looked at." in text


async def test_errors_of_servers_come_before_those_of_clients(site: Site) -> None:
    for _ in range(3):
        await site.admin.town.gateway.chat("hello", model="nobody")
    for server in site.admin.town.servers.values():
        server.fault("close_rst", count=None)
    await site.admin.town.gateway.chat("math")
    await site.admin.town.gateway.recorder.wait_for(4)
    await site.stored()
    page = table((await site.get("health")).text, "Errors by class")
    assert page.index("upstream reset") < page.index("model not found")
    assert "error=upstream_reset" in page


async def test_retry_budget_and_failovers_are_shown(site: Site) -> None:
    site.admin.town.servers["math"].fault("close_rst", count=None)
    await site.chat("math")
    text = await site.text("health")
    assert "In use now 0 of 3" in text
    assert "Failed over in the span 1 of 1 requests" in text


async def test_switch_takes_a_server_out_and_back_and_is_written_down(site: Site) -> None:
    url = site.admin.town.servers["math"].url
    answer = await site.post("health/switch", url=url, on="false", expert="")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/health")
    assert (await site.admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    text = await site.text("health")
    assert "No server fails; 1 of 3 is switched off." in text
    assert "An administrator switched it off." in text
    answer = await site.post("health/switch", url=url, on="true", expert="math")
    assert answer.headers["location"] == "/admin/experts/math"
    assert (await site.admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    await until(lambda: len(site.admin.plane.queries.events()) >= 4)
    text = await site.text("health", span="hour")
    assert f"admin: upstream on (upstream {url})." in text
    assert f"{url} was switched off." in text


async def test_viewer_cannot_switch_and_sees_no_switch(site: Site) -> None:
    url = site.admin.town.servers["math"].url
    answer = await site.post("health/switch", site.viewer, url=url, on="false")
    assert answer.status_code == 403
    assert site.admin.gateway.current.fleet.states[url].disabled is False
    assert "Switch" not in text_of((await site.viewer.get("/admin/health")).text)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"on": "false"}, 404),
        ({"url": "http://nobody", "on": "false"}, 404),
        ({"on": "maybe"}, 400),
        ({"url": ""}, 400),
        ({"url": "a" * 5_000, "on": "true"}, 413),
    ],
)
async def test_nonsense_switches_nothing(site: Site, fields: dict[str, str], status: int) -> None:
    answer = await site.post("health/switch", None, **fields)
    assert answer.status_code == status
    assert not any(state.disabled for state in site.admin.gateway.current.fleet.states.values())


async def test_switch_leads_to_no_other_site(site: Site) -> None:
    url = site.admin.town.servers["math"].url
    answer = await site.post("health/switch", url=url, on="true", expert="//evil.example")
    assert answer.headers["location"] == "/admin/health"


async def test_live_figures_have_all_keys_of_the_page_and_follow_the_switch(site: Site) -> None:
    keys = set(re.findall(r'data-key="([^"]+)"', (await site.get("health")).text))
    figures = (await site.http.get("/admin/health/live.json")).json()
    assert keys <= set(figures)
    assert figures["says"] == {"text": "All 3 servers are well.", "state": "good"}
    url = site.admin.town.servers["math"].url
    site.admin.gateway.current.fleet.switch(url, on=False)
    after = (await site.viewer.get("/admin/health/live.json")).json()
    assert after["says"]["state"] == "off"
    assert after["expert-math"] == {"text": "switched off", "state": "off"}


async def test_without_records_servers_are_shown_and_the_rest_says_why(start_site: StartSite) -> None:
    site = await start_site(records=False)
    text = await site.text("health")
    assert "All 3 servers are well." in text
    assert text.count("No records are kept.") >= 2


async def test_text_of_errors_and_events_is_not_run(site: Site) -> None:
    evil = "<img src=x onerror=alert(1)>"
    site.admin.gateway.event("upstream_down", upstream=evil, why=evil)
    site.admin.gateway.event(evil, upstream=evil)
    await until(lambda: len(site.admin.plane.queries.events()) == 2)
    page = (await site.get("health", span="hour")).text
    assert evil not in page
    assert evil in text_of(page)


def test_tries_are_counted_by_server_and_those_that_clients_left_are_none() -> None:
    ends = (("ok", 200), ("passed", 400), ("open", 0), ("upstream_reset", 0), ("passed", 500))
    counts = [TryCount("math", "http://a", outcome, status, 2, 1) for outcome, status in ends]
    counts.append(TryCount("x", "http://b", "status_503", 503, 1, 1))
    assert added(counts) == {"http://a": (8, 4), "http://b": (1, 1)}


def test_events_are_told_in_sentences_also_those_of_a_later_version() -> None:
    event = {
        "at_us": 5_000_000,
        "kind": "config",
        "detail": {"outcome": "invalid", "version": "abc", "trigger": "watch"},
    }
    found = told(event)
    assert found.text == "A changed configuration cannot be used; the last good one stayed: version abc (watch)."
    assert (found.level, found.mark) == ("bad", "bad config")
    assert told({"at_us": 1, "kind": "new_thing", "detail": {}}).text == "new thing."
    assert told({"at_us": 1, "kind": "upstream_down", "detail": {}}).text.startswith("A server is down")
    gap = told({"at_us": 1, "kind": "gap", "detail": {"rows": 7}})
    assert gap.text == "7 records were dropped before this."


def test_marks_are_few_in_order_and_name_the_expert() -> None:
    events = [{"at_us": n, "kind": "upstream_ejected", "detail": {"upstream": "http://a"}} for n in range(40, 0, -1)]
    found = marks([told(event) for event in events], {"http://a": "math"})
    assert len(found) == 12
    assert found[0].x < found[-1].x == 40 / 1e6
    assert {mark.label for mark in found} == {"math ejected"}
