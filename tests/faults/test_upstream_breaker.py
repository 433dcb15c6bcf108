"""Servers that fail or are busy: who is asked instead, when they are asked again, and that nobody loses an answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from gateway.breaker import BreakerState
from gateway.types import Endpoint
from tests.conftest import Town, quick_expert, settings_for
from tests.faults.raw import GENERATING, body_of
from tests.waiting import until

QUICK = {"ejection_s": 0.3, "longest_ejection_s": 3, "ramp_s": 0.2}


def breaker_of(town: Town, name: str) -> Any:
    fleet = town.gateway.app.state.gateway.current.fleet
    return fleet.states[town.servers[name].url].breaker


async def post(town: Town, endpoint: Endpoint, **fields: Any) -> Any:
    headers = {"content-type": "application/json"}
    return await town.gateway.http.post(endpoint.path, content=body_of(endpoint, **fields), headers=headers)


@pytest.mark.parametrize("endpoint", GENERATING)
@pytest.mark.row("A5")
async def test_a6_engine_dies_behind_its_preamble_another_expert_answers(town: Town, endpoint: Endpoint) -> None:
    """The client must see one clean answer: no role of the one expert before the words of the other."""
    preamble = {Endpoint.CHAT: 1, Endpoint.COMPLETIONS: 0, Endpoint.RESPONSES: 4, Endpoint.MESSAGES: 2}[endpoint]
    for fault in ("error_event", "cut_fin", "cut_rst"):
        town.servers["math"].fault(f"{fault};events={preamble}", count=2)  # a reset is tried twice
        answer = await post(town, endpoint, stream=True)
        town.servers["math"].clear_faults()
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-pointsman-expert"] == "generalist", fault
        assert "sim/math" not in answer.text
        assert "error" not in answer.text


@pytest.mark.row("A7")
async def test_a7_server_silent_behind_its_preamble_is_left(start_town: Any) -> None:
    town = await start_town(timeouts={"first_token_s": 0.3})
    town.servers["math"].fault("hang_mid;events=1", count=None)
    answer = await town.gateway.chat("math", stream=True)
    assert answer.headers["x-pointsman-expert"] == "generalist"
    await town.servers["math"].until(lambda server: server.running == 0, timeout_s=1.5)


@pytest.mark.parametrize("told", ["retry_after=1", "retry_after_date=2", ""])
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.row("A16")
async def test_a16_busy_server_rests_and_its_breaker_stays_closed(start_town: Any, code: int, told: str) -> None:
    town = await start_town(breaker={"busy_s": 0.5})
    math = town.servers["math"]
    math.fault(f"status;code={code};{told}".strip(";"), count=1)
    assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    asked = len(math.prompts)
    answer = await town.gateway.chat("math")
    assert (answer.headers["x-pointsman-expert"], answer.headers["x-pointsman-reason"]) == ("generalist", "saturated")
    assert len(math.prompts) == asked
    breaker = breaker_of(town, "math")
    assert breaker.state is BreakerState.CLOSED
    await until(lambda: breaker.busy_s == 0)
    assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"


@pytest.mark.row("A16")
async def test_a16_busy_and_nobody_else_may_answer_is_refused_at_once(start_town: Any) -> None:
    town = await start_town()
    town.servers["math"].fault("status;code=429;retry_after=7", count=1)
    first = await town.gateway.chat("math", model="math")
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    asked = len(town.servers["math"].prompts)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        second = await town.gateway.chat("math", model="math")
        seconds.append(time.perf_counter() - started)
        assert (second.status_code, second.json()["error"]["code"]) == (503, "upstream_saturated")
        assert second.headers.get_list("retry-after") == ["7"]
    assert min(seconds) < 0.02
    assert len(town.servers["math"].prompts) == asked


@pytest.mark.parametrize("fault", ["status;code=500", "truncated_json", "html"])
@pytest.mark.row("A17")
async def test_a17_five_failures_open_then_one_probe_then_closed(start_town: Any, fault: str) -> None:
    town = await start_town(breaker=QUICK)
    math, breaker = town.servers["math"], breaker_of(town, "math")
    math.fault(fault, count=None)
    for number in range(5):
        await town.gateway.chat(f"math {number}")
    assert breaker.state is BreakerState.OPEN
    before = len(math.prompts)
    for _ in range(3):
        assert len(math.prompts) == before
        answer = await town.gateway.chat("math")
        assert (answer.headers["x-pointsman-expert"], answer.headers["x-pointsman-fallbacks"]) == ("generalist", "0")
        assert answer.headers["x-pointsman-reason"] == "unhealthy"
    # Time passes, many come at once: one of them tries, and is answered all the same if that fails.
    await until(lambda: breaker.state is BreakerState.HALF_OPEN)
    answers = await asyncio.gather(*(town.gateway.chat("math") for _ in range(20)))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[200] >= 19  # a 500 is passed through, it may be the request's fault
    assert (breaker.state, breaker.ejections) == (BreakerState.OPEN, 2)
    math.clear_faults()
    await until(lambda: breaker.state is BreakerState.HALF_OPEN)
    assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    assert breaker_of(town, "math").state is BreakerState.CLOSED


@pytest.mark.parametrize("code", [400, 404, 422])
@pytest.mark.row("A20")
async def test_a20_mistakes_of_clients_open_nothing(start_town: Any, code: int) -> None:
    town = await start_town()
    town.servers["math"].fault(f"status;code={code}", count=None)
    for _ in range(20):
        assert (await town.gateway.chat("math")).status_code == code
    assert breaker_of(town, "math").state is BreakerState.CLOSED


@pytest.mark.row("A24")
async def test_a24_all_specialists_down_then_the_generalist_too(town: Town) -> None:
    town.servers["math"].refuse(drop=True)
    town.servers["coding"].refuse(drop=True)
    for text in ("math", "coding") * 10:
        answer = await town.gateway.chat(text)
        assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, "generalist")
    town.servers["generalist"].refuse(drop=True)
    seconds = []
    for text in ("math", "coding", "hello") * 10:
        started = time.perf_counter()
        answer = await town.gateway.chat(text)
        seconds.append(time.perf_counter() - started)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert sorted(seconds)[len(seconds) * 9 // 10] < 0.05


@pytest.mark.row("A25")
async def test_a25_health_is_fine_and_generating_fails(start_town: Any) -> None:
    town = await start_town(health={"interval_s": 0.05}, breaker=QUICK | {"ejection_s": 3})
    math, breaker = town.servers["math"], breaker_of(town, "math")
    math.fault("error_event;events=1", count=None)
    for _ in range(6):
        assert (await town.gateway.chat("math", stream=True)).headers["x-pointsman-expert"] == "generalist"
    assert breaker.state is BreakerState.OPEN
    await asyncio.sleep(0.3)
    assert (breaker.state, breaker.ejections) == (BreakerState.OPEN, 1)


@pytest.mark.row("A26")
async def test_a26_flapping_server_is_ejected_for_longer_each_time(start_town: Any) -> None:
    town = await start_town(breaker={"ejection_s": 0.1, "longest_ejection_s": 0.4, "ramp_s": 0.1})
    math, breaker = town.servers["math"], breaker_of(town, "math")
    ejected = []
    for round_number in range(5):
        math.fault("status;code=500", count=None)
        for number in range(5):
            if breaker.state is not BreakerState.OPEN:
                await town.gateway.chat(f"math {number}")
        ejected.append(breaker.ejections)
        math.clear_faults()
        await until(lambda: breaker.state is BreakerState.HALF_OPEN)
        if round_number % 2:
            assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
    assert ejected == [1, 2, 3, 4, 4]


async def test_two_replicas_one_fails_nobody_notices(start_gateway: Any, sim_server: Any) -> None:
    first, second = await sim_server(quick_expert("m")), await sim_server(quick_expert("m"))
    urls = [first.url, second.url]
    gateway = await start_gateway(settings_for({"generalist": {"model": "m", "upstreams": urls}}, breaker=QUICK))
    first.fault("close_rst", count=None)
    answers = await asyncio.gather(*(gateway.chat("hello", stream=number % 2 == 0) for number in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    breaker = gateway.app.state.gateway.current.fleet.states[first.url].breaker
    assert breaker.state is not BreakerState.CLOSED
    first.clear_faults()
    await until(lambda: breaker.state is BreakerState.HALF_OPEN)
    for _ in range(30):
        assert (await gateway.chat("hello")).status_code == 200
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.row("A4", "A18")
async def test_server_dies_with_a_hundred_requests_all_are_answered(start_town: Any, stream: bool) -> None:
    """The retry budget makes them wait for each other; it costs nobody an answer."""
    town = await start_town(retries={"wait_s": 10})
    town.servers["math"].fault("delay;seconds=30", count=100)
    asking = [asyncio.create_task(town.gateway.chat("math", stream=stream)) for _ in range(100)]
    await town.servers["math"].until(lambda server: server.running == 100)
    town.servers["math"].refuse(drop=True)
    answers = await asyncio.gather(*asking)
    assert Counter(answer.status_code for answer in answers) == {200: 100}
    assert Counter(answer.headers["x-pointsman-expert"] for answer in answers) == {"generalist": 100}
    gateway = town.gateway.app.state.gateway
    assert (gateway.retries.active, gateway.retries.retries) == (0, 0)


@pytest.mark.row("G6")
async def test_g6_busy_expert_slows_no_other(start_town: Any) -> None:
    town = await start_town(concurrency={"requests": 4, "queue": 4, "queue_s": 0.3})
    town.servers["math"].fault("delay;seconds=0.9", count=None)
    crowd = [asyncio.create_task(town.gateway.chat("math", model="math")) for _ in range(40)]
    await town.servers["math"].until(lambda server: server.running == 4)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        answer = await town.gateway.chat("coding")
        seconds.append(time.perf_counter() - started)
        assert answer.headers["x-pointsman-expert"] == "coding"
    assert sorted(seconds)[15] < 0.1
    statuses = Counter(answer.status_code for answer in await asyncio.gather(*crowd))
    assert statuses == {200: 4, 503: 36}
    # Those who came by the policy and not by name are answered by the generalist.
    crowd = [asyncio.create_task(town.gateway.chat("math")) for _ in range(12)]
    statuses = Counter(answer.status_code for answer in await asyncio.gather(*crowd))
    assert statuses == {200: 12}
    states = town.gateway.app.state.gateway.current.fleet.states.values()
    assert {(state.limiter.running, state.limiter.waiting, state.inflight) for state in states} == {(0, 0, 0)}


async def test_conversation_stays_with_its_replica_and_others_spread(start_gateway: Any, sim_server: Any) -> None:
    replicas = [await sim_server(quick_expert("m")) for _ in range(3)]
    gateway = await start_gateway(
        settings_for({"generalist": {"model": "m", "upstreams": [replica.url for replica in replicas]}})
    )
    for number in range(30):
        counts = [len(replica.prompts) for replica in replicas]
        for _ in range(3):
            body = {"model": "auto", "messages": [{"role": "user", "content": f"hello {number}"}]}
            await gateway.http.post("/v1/chat/completions", json=body, headers={"x-session-id": f"s{number}"})
        grown = [len(replica.prompts) - count for replica, count in zip(replicas, counts, strict=True)]
        assert sorted(grown) == [0, 0, 3]
    assert all(replica.prompts for replica in replicas)
