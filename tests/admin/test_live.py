"""What the admin API shows of the running gateway, and the switch of a server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import UpstreamReset
from gateway.leases import Lease
from gateway.shared_switches import SharedSwitches
from tests.admin.conftest import CALLER, Admin, StartAdmin, bearer, code_of
from tests.harness import FittedScorer
from tests.waiting import until

pytestmark = pytest.mark.slow


def one(rows: list[dict[str, Any]], name: str, value: str) -> dict[str, Any]:
    return next(row for row in rows if row[name] == value)


async def test_overview_counts_experts_and_servers(admin: Admin) -> None:
    shown = await admin.json("/overview")
    assert shown["experts"] == {"all": 3, "usable": 3}
    assert shown["upstreams"] == {"all": 3, "up": 3, "disabled": 0, "ejected": 0, "inflight": 0, "waiting": 0}
    assert shown["ready"] is True
    assert shown["config_version"] == admin.gateway.catalog.version
    assert shown["principal"] == {"name": "admin", "role": "admin"}
    await admin.town.servers["math"].stop()
    await until(lambda: not admin.gateway.current.fleet.states[admin.town.servers["math"].url].up)
    assert (await admin.json("/overview"))["experts"]["usable"] == 2


async def test_experts_show_what_is_configured_and_why_one_cannot_answer(admin: Admin) -> None:
    found = await admin.json("/experts")
    math = one(found["experts"], "name", "math")
    assert (math["model"], math["domains"], math["state"]) == ("sim/math", ["math"], "up")
    assert math["price"] == {"input": 1.0, "output": 2.0}
    assert math["sends_key"] is False
    admin.gateway.current.fleet.switch(admin.town.servers["math"].url, on=False)
    assert one((await admin.json("/experts"))["experts"], "name", "math")["state"] == "unhealthy"


async def test_switched_off_server_gets_nothing_until_it_is_switched_on_again(admin: Admin) -> None:
    url = admin.town.servers["math"].url
    answer = await admin.post("/upstreams/switch", {"url": url, "on": False})
    assert (answer.status_code, answer.json()["disabled"]) == (200, True)
    assert (await admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    assert one((await admin.json("/upstreams"))["upstreams"], "url", url)["disabled"] is True
    assert (await admin.post("/upstreams/switch", {"url": url, "on": True})).json()["disabled"] is False
    assert (await admin.town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    queries = admin.plane.queries

    def audited() -> list[Any]:
        return [event["detail"] for event in queries.events() if event["kind"] == "admin"]

    await until(lambda: len(audited()) == 2)
    assert {(event["action"], event["who"], event["upstream"]) for event in audited()} == {
        ("upstream_off", "admin", url),
        ("upstream_on", "admin", url),
    }


async def test_switch_of_a_server_that_is_not_there_or_badly_asked_for_is_refused(admin: Admin) -> None:
    answer = await admin.post("/upstreams/switch", {"url": "http://nobody", "on": False})
    assert (answer.status_code, code_of(answer)) == (404, "upstream_not_found")
    for body in ({}, {"url": "http://a"}, {"url": "http://a", "on": "maybe"}, {"url": "a" * 3_000, "on": True}):
        assert (await admin.post("/upstreams/switch", body)).status_code == 400


async def test_all_workers_follow_a_switch_also_those_that_start_later(tmp_path: Path) -> None:
    done: dict[int, dict[str, bool]] = {1: {}, 2: {}}

    def worker(number: int) -> SharedSwitches:
        def switch(url: str, on: bool) -> None:
            if url == "http://removed":
                raise KeyError(url)
            done[number][url] = on

        return SharedSwitches(switch, tmp_path, every_s=0.01)

    async with worker(1) as first:
        await first.tell("http://a", False)
        await first.tell("http://removed", False)
        await first.tell("http://b", True)
        await until(lambda: done[1] == {"http://a": False, "http://b": True})
        async with worker(2):
            assert done[2] == done[1]
            await first.tell("http://a", True)
            await until(lambda: done[2]["http://a"] is True)
            (tmp_path / "switches").write_bytes(b"{half")
            await asyncio.sleep(0.05)
            await first.tell("http://a", False)
            await until(lambda: done[2]["http://a"] is False)


async def test_switch_that_cannot_be_told_to_all_switches_nothing(start_admin: StartAdmin, tmp_path: Path) -> None:
    admin = await start_admin(workers=2)
    fleet, url = admin.gateway.current.fleet, admin.town.servers["math"].url
    nowhere = SharedSwitches(lambda url, on: fleet.switch(url, on=on), tmp_path / "nowhere")
    object.__setattr__(admin.plane, "switches", nowhere)  # fault injection
    answer = await admin.post("/upstreams/switch", {"url": url, "on": False})
    assert (answer.status_code, code_of(answer)) == (503, "switch_failed")
    assert fleet.states[url].disabled is False


async def test_upstreams_show_open_requests_and_why_a_breaker_is_open(start_admin: StartAdmin) -> None:
    admin = await start_admin(breaker={"local_failures": 1, "ejection_s": 60})
    server = admin.town.servers["math"]
    before = one((await admin.json("/upstreams"))["upstreams"], "url", server.url)
    assert before["breaker"] == {"state": "closed", "why": None, "open_for_s": None, "ejections": 0, "busy_for_s": 0.0}
    assert (before["experts"], before["models"], before["missing_models"]) == (["math"], ["sim/math"], [])
    state = admin.gateway.current.fleet.states[server.url]
    place = state.limiter.take()
    assert place is not None
    lease = Lease(state, place)
    assert one((await admin.json("/upstreams"))["upstreams"], "url", server.url)["inflight"] == 1
    lease.ended(UpstreamReset("a fault"))
    after = one((await admin.json("/upstreams"))["upstreams"], "url", server.url)
    assert (after["inflight"], after["breaker"]["state"], after["breaker"]["why"]) == (0, "open", "local_failures")
    assert 50 < after["breaker"]["open_for_s"] <= 60
    assert (await admin.json("/overview"))["upstreams"]["ejected"] == 1


async def test_router_shows_thresholds_and_canary(start_admin: StartAdmin) -> None:
    admin = await start_admin(
        scorer=FittedScorer(), canary={"share": 0.25, "policy": {"name": "fixed"}}, router={"thresholds": {"math": 0.7}}
    )
    shown = await admin.json("/router")
    assert shown["thresholds"]["confidence"] == {"math": 0.7, "coding": 0.4}
    assert (shown["scorer"], shown["canary"]["share"]) == ("keywords", 0.25)
    assert shown["card"]["labels"]
    assert "files" not in shown["card"]


async def test_quality_shows_cells_with_intervals(start_admin: StartAdmin, tmp_path: Path) -> None:
    table = tmp_path / "quality.csv"
    rows = ["domain,expert,score,count"]
    for domain in ("math", "coding", "health", "general"):
        rows += [f"{domain},generalist,0.6,100", f"{domain},math,{0.9 if domain == 'math' else 0.3},100"]
    table.write_text("\n".join([*rows, "general,coding,0.5,10"]) + "\n")
    admin = await start_admin(policy={"name": "quality", "quality_table": str(table)})
    shown = await admin.json("/quality")
    cell = next(c for c in shown["table"] if (c["domain"], c["expert"]) == ("math", "math"))
    assert (cell["score"], cell["count"]) == (0.9, 100)
    assert cell["low"] < cell["lower"] < cell["mean"] < cell["high"]
    unmeasured = next(c for c in shown["table"] if (c["domain"], c["expert"]) == ("math", "coding"))
    assert unmeasured["score"] is None
    table.write_text("nonsense")
    assert (await admin.get("/quality")).status_code == 422


async def test_without_a_quality_table_it_says_so(admin: Admin) -> None:
    assert code_of(await admin.get("/quality")) == "quality_disabled"


async def test_limits_show_names_and_what_is_left_and_no_key(start_admin: StartAdmin) -> None:
    admin = await start_admin(keys={"caller": {"key_env": "T_CALLER", "daily_budget": 0.5, "experts": ["math"]}})
    body = {"model": "auto", "messages": [{"role": "user", "content": "math"}]}
    await admin.town.gateway.http.post("/v1/chat/completions", json=body, headers=bearer(CALLER))
    await until(lambda: bool(admin.town.gateway.recorder.records))
    answer = await admin.get("/limits")
    (key,) = answer.json()["keys"]
    assert (key["name"], key["daily_budget"], key["experts"]) == ("caller", 0.5, ["math"])
    assert 0 < key["daily_budget_left"] <= 0.5
    assert CALLER not in answer.text


async def test_dry_run_decides_and_sends_nothing_and_repeats_no_prompt(admin: Admin) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "math CANARY"}]}
    answer = await admin.post("/route", body)
    assert (answer.json()["expert"], answer.json()["domain"]) == ("math", "math")
    assert "CANARY" not in answer.text
    assert admin.town.gateway.recorder.records == []
    assert (await admin.post("/route", {"model": "nobody", "messages": body["messages"]})).status_code == 404
    assert (await admin.post("/route", {"model": "auto"})).status_code == 400


async def test_system_names_versions_sizes_and_licences(admin: Admin) -> None:
    await admin.town.gateway.chat("math")
    shown = await admin.json("/system")
    assert shown["files"]["records"] > 0
    assert shown["records"] == "sqlite"
    assert shown["rss_bytes"] > 10_000_000
    libraries = (await admin.json("/system/libraries"))["libraries"]
    assert one(libraries, "name", "fastapi")["licence"]


async def test_no_route_holds_up_the_event_loop(admin: Admin) -> None:
    """The loop is looked at all the time while every page is asked for twice; the second time nothing is new."""
    document = await admin.json("/openapi.json")
    paths = [path.removeprefix("/admin/api") for path, operations in document["paths"].items() if "get" in operations]
    pages = [path for path in paths if "{" not in path]
    for path in pages:
        await admin.get(path)
    longest: dict[str, float] = {}

    async def look(path: str) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest[path] = max(longest.get(path, 0.0), time.perf_counter() - before)

    for path in pages:
        looking = asyncio.create_task(look(path))
        await admin.get(path)
        looking.cancel()
    assert sorted(longest.values())[-3] < 0.1, longest  # a busy test machine may stall once or twice by itself
