"""Which server fails: named first, with why in words, from what requests and probes really saw."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.outages import Outage, ended_by_start, outages, share_out
from gateway.admin.traffic import Kind, added, kinds, kinds_over_time, largest
from gateway.lately import Lately
from gateway.stores.records.sums import Sum
from gateway.stores.records.tables import SUMS
from tests.fixtures_admin import Admin, StartAdmin
from tests.stores.samples import record
from tests.waiting import until


async def health_of(admin: Admin, expert: str = "math") -> dict[str, Any]:
    """The health of an expert's server."""
    url = admin.town.servers[expert].url
    return next(one for one in (await admin.json("/health"))["servers"] if one["url"] == url)


async def server_of(admin: Admin, expert: str = "math") -> dict[str, Any]:
    url = admin.town.servers[expert].url
    found: list[dict[str, Any]] = (await admin.json("/upstreams"))["upstreams"]
    return next(one for one in found if one["url"] == url)


async def test_all_is_well_at_first_and_probes_are_timed(admin: Admin) -> None:
    shown = await admin.json("/health")
    assert shown["says"] == "All 3 servers are well."
    assert {one["level"] for one in (*shown["servers"], *shown["experts"])} == {"well"}
    server = await server_of(admin)
    assert (server["last_error"], server["recent"]) == (None, {"seconds": 300.0, "tries": 0, "failed": 0})
    assert 0 < server["next_probe_in_s"] <= 1.2 * admin.gateway.settings.health.interval_s
    assert 0 <= server["probed_s_ago"] < 5


async def test_server_that_answers_with_errors_comes_first_and_its_last_error_is_named(admin: Admin) -> None:
    await admin.town.gateway.chat("coding")
    admin.town.servers["math"].fault("status;code=500", count=None)
    for _ in range(4):
        assert (await admin.town.gateway.chat("math")).status_code == 500
    shown = await admin.json("/health")
    first = shown["servers"][0]
    assert (first["experts"], first["level"], first["state"]) == (["math"], "failing", "failing")
    assert first["says"].startswith("4 of 4 tries failed in the last 5 minutes; the last error,")
    assert first["says"].endswith("was status_500.")
    assert shown["says"] == f"Failing: {admin.town.servers['math'].url} (math)."
    server = await server_of(admin)
    assert (server["last_error"]["code"], server["last_error"]["by_probe"]) == ("status_500", False)
    assert server["recent"] == {"seconds": 300.0, "tries": 4, "failed": 4}
    assert (await server_of(admin, "coding"))["recent"] == {"seconds": 300.0, "tries": 1, "failed": 0}


async def test_ejected_server_says_why_and_for_how_long(start_admin: StartAdmin) -> None:
    admin = await start_admin(breaker={"local_failures": 1, "ejection_s": 60})
    admin.town.servers["math"].fault("close_rst", count=None)
    assert (await admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    found = await health_of(admin)
    assert (found["level"], found["state"]) == ("failing", "ejected")
    assert "Left alone for another 60 s, because several requests in a row got no connection" in found["says"]
    assert "upstream_reset" in found["says"]
    (math,) = [one for one in (await admin.json("/health"))["experts"] if one["name"] == "math"]
    assert (math["level"], math["says"]) == ("failing", "No server of it takes requests.")


async def test_server_that_is_gone_is_down_with_the_probe_that_saw_it(start_admin: StartAdmin) -> None:
    admin = await start_admin(health={"interval_s": 0.05, "failures": 2})
    url = admin.town.servers["coding"].url
    await admin.town.servers["coding"].stop()
    await until(lambda: not admin.gateway.current.fleet.states[url].up)
    found = await health_of(admin, "coding")
    assert (found["level"], found["state"]) == ("failing", "down")
    assert "upstream_unreachable" in found["says"]
    assert "The next check is in 0 s." in found["says"]
    error = (await server_of(admin, "coding"))["last_error"]
    assert (error["code"], error["by_probe"]) == ("upstream_unreachable", True)
    await until(lambda: [e["kind"] for e in admin.plane.queries.events()] == ["upstream_down"])


async def test_health_check_that_is_not_200_is_an_error_with_its_status(start_admin: StartAdmin) -> None:
    admin = await start_admin(health={"interval_s": 0.05, "failures": 2})
    state = admin.gateway.current.fleet.states[admin.town.servers["math"].url]
    admin.town.servers["math"].fault("status;code=503", count=3, path="/health")
    await until(lambda: state.last_error is not None and not state.up)
    assert state.last_error is not None
    assert (state.last_error.code, state.last_error.by_probe) == ("health_status_503", True)
    await until(lambda: state.up)
    assert state.recent.totals(time.monotonic()) == (0, 0)  # probes are no tries
    await until(lambda: [e["kind"] for e in admin.plane.queries.events()] == ["upstream_up", "upstream_down"])


async def test_server_that_is_switched_off_is_off_and_does_not_fail(admin: Admin) -> None:
    await admin.post("/upstreams/switch", {"url": admin.town.servers["math"].url, "on": False})
    shown = await admin.json("/health")
    assert shown["says"] == "No server fails; 1 of 3 is switched off."
    assert (await health_of(admin))["level"] == "off"


async def test_one_of_two_servers_failing_troubles_the_expert_only(start_admin: StartAdmin, sim_server: Any) -> None:
    from tests.conftest import quick_expert

    other = await sim_server(quick_expert("sim/math", "math"))
    gone = "http://127.0.0.1:9"
    admin = await start_admin(changes={"math": {"upstreams": [other.url, gone]}})
    shown = await admin.json("/health")
    assert shown["servers"][0]["url"] == gone
    (math,) = [one for one in shown["experts"] if one["name"] == "math"]
    assert (math["level"], math["says"]) == ("troubled", "1 of 2 servers: down.")


async def test_few_failed_tries_are_no_news(admin: Admin) -> None:
    admin.town.servers["math"].fault("status;code=500", count=2)
    for _ in range(3):
        await admin.town.gateway.chat("math")
    assert (await health_of(admin))["level"] == "well"


async def test_client_that_sends_nonsense_is_no_failure_of_the_server(admin: Admin) -> None:
    admin.town.servers["math"].fault("status;code=400", count=None)
    for _ in range(5):
        assert (await admin.town.gateway.chat("math")).status_code == 400
    server = await server_of(admin)
    assert (server["recent"]["tries"], server["recent"]["failed"], server["last_error"]) == (5, 0, None)


async def test_overview_shows_the_gateways_own_time_and_the_retry_budget(admin: Admin) -> None:
    before = await admin.json("/overview")
    assert before["overhead"] == {"requests": 0, "p50": None, "p95": None, "p99": None}
    await admin.town.gateway.chat("math")
    await admin.town.gateway.recorder.wait_for(1)
    shown = await admin.json("/overview")
    assert shown["overhead"]["requests"] == 1
    assert 0 < shown["overhead"]["p50"] == shown["overhead"]["p99"] < 1
    assert shown["retry_budget"] == {"taken": 0, "limit": 3, "waiting": 0, "active": 0, "exhausted": 0}


def test_overhead_keeps_the_last_ones_and_leaves_out_what_was_not_sent_on() -> None:
    seen = Lately(kept=3)
    for n in range(6):
        seen.note(record(n, overhead_s=float(n)))
    seen.note(record(7, chosen=None, overhead_s=100.0))
    assert (seen.timed, seen.overhead(0.0, 0.5, 1.0)) == (3, [3.0, 4.0, 5.0])


def test_rate_is_that_of_the_last_minute() -> None:
    now = [100.0]
    seen = Lately(clock=lambda: now[0])
    assert seen.rate() == (0.0, None)
    now[0] += 10
    for n in range(20):
        seen.note(record(n, status=503 if n % 4 == 0 else 200))
    assert seen.rate() == (2.0, 0.25)
    now[0] += 49
    assert seen.rate() == pytest.approx((20 / 59, 0.25))
    now[0] += 60
    assert seen.rate() == (0.0, None)


def sum_of(chosen: str, status_class: str, requests: int, failovers: int = 0, at_s: int | None = None) -> Sum:
    numbers = {**dict.fromkeys(SUMS, 0.0), "requests": float(requests), "failovers": float(failovers)}
    return Sum(at_s, (chosen, status_class), numbers)


def test_requests_are_sorted_into_kinds() -> None:
    sums = [
        sum_of("math", "2xx", 10, 2),
        sum_of("generalist", "2xx", 5),
        sum_of("", "4xx", 3),
        sum_of("", "5xx", 2),
        sum_of("math", "5xx", 1, 1),
        sum_of("math", "4xx", 1),
    ]
    assert kinds(sums) == {
        Kind.SPECIALIST: 8,
        Kind.GENERALIST: 5,
        Kind.FALLBACK: 2,
        Kind.REFUSED: 4,
        Kind.ERROR: 3,
    }
    assert {name: one["requests"] for name, one in added(sums, 0).items()} == {"math": 12, "generalist": 5, "": 5}


counts = st.integers(0, 1_000)
groups = st.builds(
    lambda chosen, status, requests, failed, at_s: sum_of(chosen, status, requests, min(requests, failed), at_s),
    st.sampled_from(["math", "generalist", ""]),
    st.sampled_from(["0xx", "2xx", "3xx", "4xx", "5xx"]),
    counts,
    counts,
    st.sampled_from([0, 60, 120]),
)


@given(st.lists(groups))
def test_kinds_are_disjoint_and_add_up_to_all_requests(sums: list[Sum]) -> None:
    total = sum(one["requests"] for one in sums)
    assert sum(kinds(sums).values()) == total
    over_time = kinds_over_time(sums)
    assert sum(value for row in over_time.values() for value in row.values()) == total


@given(
    st.dictionaries(st.text(max_size=3), st.dictionaries(counts, counts, max_size=4), max_size=12), st.integers(1, 5)
)
def test_largest_rows_lose_nothing(rows: dict[str, dict[int, float]], most: int) -> None:
    found = largest(rows, most, rest="\0rest")
    assert len(found) <= most
    assert sum(v for row in found.values() for v in row.values()) == sum(
        v for row in rows.values() for v in row.values()
    )


def event(at_s: int, kind: str, upstream: str = "http://a", **detail: Any) -> dict[str, Any]:
    return {"at_us": at_s * 1_000_000, "kind": kind, "detail": {"upstream": upstream, **detail}}


def test_outages_are_made_of_pairs_of_events_newest_first() -> None:
    events = [
        event(50, "upstream_ejected", why="probe"),
        event(40, "upstream_on", "http://b"),
        event(30, "upstream_back"),
        event(25, "upstream_ejected", why="probe"),
        event(20, "upstream_off", "http://b"),
        event(10, "upstream_ejected", why="local_failures"),
        event(5, "upstream_back"),
        event(1, "config"),
    ]
    assert outages(events) == [
        Outage("http://a", "ejected", "probe", 50_000_000, None),
        Outage("http://b", "switched off", "", 20_000_000, 40_000_000),
        Outage("http://a", "ejected", "local_failures", 10_000_000, 30_000_000),
    ]
    assert [one.upstream for one in outages(events, ["http://b"])] == ["http://b"]


def test_restart_ends_what_it_forgets_and_nothing_else() -> None:
    found = [
        Outage("http://a", "down", "", 10, None),
        Outage("http://b", "down", "", 10, None),
        Outage("http://a", "ejected", "", 30, None),
        Outage("http://a", "ejected", "", 5, 8),
    ]
    ended = ended_by_start(found, 20, {"http://b"})
    assert [one.until_us for one in ended] == [20, None, None, 8]


def test_share_of_time_out_counts_overlapping_outages_once() -> None:
    found = [
        Outage("http://a", "ejected", "", 30_000_000, 90_000_000),
        Outage("http://a", "down", "", 60_000_000, 75_000_000),
        Outage("http://a", "down", "", 150_000_000, None),
        Outage("http://b", "down", "", 0, None),
    ]
    assert share_out(found, "http://a", [0, 60, 120], 60, 165_000_000) == [0.5, 0.5, 0.25]


kinds_of_events = st.sampled_from(["upstream_ejected", "upstream_back", "upstream_down", "upstream_up", "upstream_off"])


@given(st.lists(st.tuples(st.integers(0, 300), kinds_of_events), max_size=20))
def test_share_of_time_out_is_a_share_for_any_events(happened: Iterable[tuple[int, str]]) -> None:
    found = outages([event(at_s, kind) for at_s, kind in happened])
    shares = share_out(found, "http://a", range(0, 300, 60), 60, 300_000_000)
    assert all(0 <= share <= 1 for share in shares)
    assert all(one.until_us is None or one.until_us >= one.since_us for one in found)


@pytest.mark.parametrize("detail", [{}, {"upstream": None}, {"upstream": 3, "why": None}])
def test_event_without_a_servers_address_does_no_harm(detail: dict[str, Any]) -> None:
    found = outages([{"at_us": 1, "kind": "upstream_down", "detail": detail}], ["http://a"])
    assert found == []
