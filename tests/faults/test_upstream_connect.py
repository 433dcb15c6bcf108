"""Servers that cannot be reached, or leave before they answer: who answers instead, how soon, and what is counted."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from tests.conftest import Town, quick_expert, settings_for
from tests.faults.upstreams import blackhole
from tests.waiting import until

NOBODY = "nobody.test"
QUIET = {"interval_s": 60}
"""No probe finds out before a request does."""


def state_of(town: Town, name: str) -> Any:
    return town.gateway.app.state.gateway.current.fleet.states[town.servers[name].url]


async def retried(gateway: Any, outcome: str) -> float:
    series: dict[str, float] = await gateway.metric("pointsman_retries_total")
    return series.get(f'pointsman_retries_total{{outcome="{outcome}"}}', 0.0)


async def timed(asking: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    return await asking, time.perf_counter() - started


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The system's resolver, which does not know one name; set `wait_s` for how long it takes to say so."""
    fault, ask = {"wait_s": 0.0}, socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if host != NOBODY:
            return ask(host, *rest, **options)
        time.sleep(fault["wait_s"])
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return fault


@pytest.mark.row("A1")
async def test_a1_refused_connection_the_other_replica_answers_within_100_ms(
    start_gateway: Any, sim_server: Any
) -> None:
    seconds = []
    for _ in range(3):  # the machine is shared: best of some
        first, second = await sim_server(quick_expert("m")), await sim_server(quick_expert("m"))
        upstreams = {"model": "m", "upstreams": [first.url, second.url]}
        gateway = await start_gateway(settings_for({"generalist": upstreams}, health=QUIET))
        first.refuse(drop=True)
        state = gateway.app.state.gateway.current.fleet.states[first.url]
        while not state.failures:
            # Another conversation each time: one of them belongs to the replica that is gone.
            answer, took_s = await timed(gateway.chat(f"hello {time.monotonic_ns()}"))
            assert answer.status_code == 200
        seconds.append(took_s)
        assert (state.failures, await retried(gateway, "upstream_unreachable")) == (1, 1)
        assert answer.headers["x-pointsman-fallbacks"] == "1"
    assert min(seconds) < 0.1


@pytest.mark.row("A1")
async def test_a1_refused_connection_without_a_replica_the_generalist_answers_within_100_ms(start_town: Any) -> None:
    seconds = []
    for _ in range(3):
        town = await start_town(health=QUIET)
        town.servers["math"].refuse(drop=True)
        answer, took_s = await timed(town.gateway.chat("math"))
        seconds.append(took_s)
        assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, "generalist")
        assert (state_of(town, "math").failures, await retried(town.gateway, "upstream_unreachable")) == (1, 1)
    assert min(seconds) < 0.1


@pytest.mark.row("A2")
async def test_a2_black_hole_is_left_after_the_connect_limit(start_town: Any) -> None:
    town = await start_town(health=QUIET, timeouts={"connect_s": 0.3})
    town.servers["math"].refuse(drop=True)
    with blackhole(town.servers["math"].port):
        asking = asyncio.create_task(timed(town.gateway.chat("math", stream=True)))
        _, other_s = await timed(town.gateway.chat("coding"))
        answer, took_s = await asking
        assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, "generalist")
        assert 0.3 <= took_s < 1
        assert other_s < 0.3
        assert await retried(town.gateway, "upstream_unreachable") == 1
        alone, took_s = await timed(town.gateway.chat("math", model="math"))
        assert (alone.status_code, alone.json()["error"]["code"]) == (503, "upstream_unreachable")
        assert 0.3 <= took_s < 1
        assert alone.headers["retry-after"]


@pytest.mark.row("A2")
def test_a2_connect_limit_is_two_seconds_by_default() -> None:
    settings = settings_for({"generalist": {"model": "m", "upstreams": ["http://127.0.0.1:1"]}})
    assert settings.timeouts.connect_s == 2


@pytest.mark.row("A3")
async def test_a3_unknown_name_is_an_error_of_its_own_and_others_answer(
    start_town: Any, resolver: dict[str, float]
) -> None:
    town = await start_town(changes={"math": {"upstreams": [f"http://{NOBODY}:8000"]}})
    alone = await town.gateway.chat("math", model="math")
    assert (alone.status_code, alone.json()["error"]["code"]) == (503, "upstream_dns")
    assert NOBODY not in alone.text
    for text, expert in (("math", "generalist"), ("coding", "coding"), ("hello", "generalist")):
        answer = await town.gateway.chat(text)
        assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, expert)
    records = await town.gateway.recorder.wait_for(4)
    assert [record.error for record in records] == ["upstream_dns", None, None, None]


@pytest.mark.row("A3")
async def test_a3_resolver_that_hangs_is_left_after_the_connect_limit(
    start_town: Any, resolver: dict[str, float]
) -> None:
    town = await start_town(
        changes={"math": {"upstreams": [f"http://{NOBODY}:8000"]}}, health=QUIET, timeouts={"connect_s": 0.3}
    )
    resolver["wait_s"] = 1.5
    asking = asyncio.create_task(timed(town.gateway.chat("math", model="math")))
    answer, other_s = await timed(town.gateway.chat("coding"))
    assert answer.headers["x-pointsman-expert"] == "coding"
    answer, took_s = await asking
    assert answer.status_code == 503
    assert took_s < 1
    assert other_s < 0.3


@pytest.mark.row("A4")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", ["close_fin", "close_rst"])
async def test_a4_closes_before_headers_and_nobody_else_may_answer(town: Town, fault: str, stream: bool) -> None:
    town.servers["math"].fault(fault, count=None)
    answer = await town.gateway.chat("math", model="math", stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_reset")
    assert answer.headers["x-should-retry"] == "false"
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.attempts, record.error) == (2, "upstream_reset")
    assert len(town.servers["math"].prompts) == 2


@pytest.mark.row("A18")
async def test_a18_server_that_loads_its_model_is_left_alone_until_it_has(start_town: Any) -> None:
    town = await start_town(health={"interval_s": 0.05})
    math = town.servers["math"]
    math.fault("status;code=503", count=None, path="/health")
    math.fault("status;code=503", count=None)
    await until(lambda: not state_of(town, "math").up)
    asked = len(math.prompts)
    for answer in await asyncio.gather(*(town.gateway.chat("math") for _ in range(40))):
        assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, "generalist")
        assert answer.headers["x-pointsman-fallbacks"] == "0"
    assert len(math.prompts) == asked
    math.clear_faults()
    await until(lambda: state_of(town, "math").up and not state_of(town, "math").breaker.busy_s)
    assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"


@pytest.mark.row("A18")
async def test_a18_loading_server_that_nobody_can_replace_is_not_stormed(start_town: Any) -> None:
    """A hundred ask for it by name and it is new to all of them: it is asked a few times, not a hundred."""
    town = await start_town(breaker={"busy_s": 9}, health=QUIET)
    math = town.servers["math"]
    math.fault("status;code=503", count=None)
    statuses = []
    for _ in range(10):
        statuses += await asyncio.gather(*(town.gateway.chat("math", model="math") for _ in range(10)))
    assert {answer.status_code for answer in statuses} == {503}
    # Its own answer is passed on; who is refused without asking it is told when to come again.
    refused = [answer for answer in statuses if answer.json()["error"]["code"] == "upstream_saturated"]
    assert len(refused) >= 80
    assert all(1 <= int(answer.headers["retry-after"]) <= 9 for answer in refused)
    # The first ten are under way before the first of them is refused; from then on it rests.
    assert len(math.prompts) <= 20


@pytest.mark.row("A18")
async def test_a18_retries_of_a_crowd_stay_within_the_budget(start_gateway: Any, sim_server: Any) -> None:
    """Two replicas that load: each refused request may be sent on, but no more than a fifth of them at once."""
    servers = [await sim_server(quick_expert("m")) for _ in range(2)]
    experts = {"generalist": {"model": "m", "upstreams": [server.url for server in servers]}}
    gateway = await start_gateway(settings_for(experts, health=QUIET, breaker={"busy_s": 0.2}))
    budget, most = gateway.app.state.gateway.retries, 0
    for server in servers:
        server.fault("status;code=502", count=None)
    asking = [asyncio.create_task(gateway.chat("hello")) for _ in range(60)]
    while not all(task.done() for task in asking):
        most = max(most, budget.retries)
        await asyncio.sleep(0)
    assert 1 <= most <= 0.2 * 60
    assert {task.result().status_code for task in asking} == {502}
    assert sum(len(server.prompts) for server in servers) <= 120
    assert (budget.retries, budget.active) == (0, 0)


@pytest.mark.row("A19")
@pytest.mark.parametrize("code", [401, 403])
async def test_a19_refused_key_is_counted_for_an_alert_and_not_retried(town: Town, code: int) -> None:
    town.servers["math"].fault(f"status;code={code}", count=None)
    answer = await town.gateway.chat("math")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_auth")
    errors = await town.gateway.metric("pointsman_errors_total")
    assert [value for name, value in errors.items() if 'code="upstream_auth"' in name] == [1]
    (record,) = await town.gateway.recorder.wait_for(1)
    assert (record.attempts, record.error) == (1, "upstream_auth")
    assert not town.servers["generalist"].prompts
