"""Clients that leave where only a place or a few tokens were at stake: the place is free again, the tokens are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import GENERATING, Connection, body_of, request
from tests.waiting import until

STOPPED_WITHIN_S = 1.5


def limiter_of(town: Town, name: str) -> Any:
    return town.gateway.app.state.gateway.current.fleet.states[town.servers[name].url].limiter


@pytest.mark.row("B1")
@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_b1_client_leaves_while_it_waits_for_a_place_nothing_is_sent(
    start_town: Any, stream: bool, reset: bool
) -> None:
    town = await start_town(concurrency={"requests": 1, "queue": 9, "queue_s": 20})
    math, limiter = town.servers["math"], limiter_of(town, "math")
    math.fault("hang", count=1)
    first = asyncio.create_task(town.gateway.chat("math", model="math"))
    await math.until(lambda server: server.running == 1)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, model="math", stream=stream)))
        await until(lambda: limiter.waiting == 1)
        client.leave(reset=reset)
        (record,) = await town.gateway.recorder.wait_for(1, timeout_s=STOPPED_WITHIN_S)
    assert (record.status, record.error) == (499, "client_left")
    assert (limiter.waiting, limiter.running, len(math.prompts)) == (0, 1, 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await until(lambda: limiter.running == 0, timeout_s=STOPPED_WITHIN_S)
    assert (await town.gateway.chat("math", model="math")).status_code == 200


@pytest.mark.row("B1", "G6")
async def test_b1_those_behind_the_client_that_left_get_its_place(start_town: Any) -> None:
    town = await start_town(concurrency={"requests": 1, "queue": 9, "queue_s": 20})
    math, limiter = town.servers["math"], limiter_of(town, "math")
    math.fault("delay;seconds=0.5", count=1)
    asking = [asyncio.create_task(town.gateway.chat("math", model="math"))]
    await math.until(lambda server: server.running == 1)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, model="math")))
        await until(lambda: limiter.waiting == 1)
        asking += [asyncio.create_task(town.gateway.chat("math", model="math")) for _ in range(3)]
        await until(lambda: limiter.waiting == 4)
        client.leave(reset=True)
    assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 4
    assert len(math.prompts) == 4
    assert (limiter.waiting, limiter.running) == (0, 0)


@pytest.mark.row("B2")
@pytest.mark.parametrize("endpoint", GENERATING)
async def test_b2_record_of_a_client_that_left_says_how_many_tokens_it_got(town: Town, endpoint: Endpoint) -> None:
    preamble = {Endpoint.CHAT: 1, Endpoint.COMPLETIONS: 0, Endpoint.RESPONSES: 4, Endpoint.MESSAGES: 2}[endpoint]
    town.servers["math"].fault(f"hang_mid;events={preamble + 4}")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(endpoint, stream=True), path=endpoint.path))
        await client.reader.readuntil(b"data: ")
        await asyncio.sleep(0.1)  # all four are through
        client.leave(reset=False)
        (record,) = await town.gateway.recorder.wait_for(1, timeout_s=STOPPED_WITHIN_S)
    assert (record.status, record.error, record.output_tokens) == (499, "client_left", 4)
    tokens = await town.gateway.metric("pointsman_tokens_total")
    assert tokens['pointsman_tokens_total{chosen="math",direction="output"}'] == 4
