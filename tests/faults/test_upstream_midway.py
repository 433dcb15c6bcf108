"""Answers that break, drip or are framed wrongly, and what a server that failed often costs afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from gateway.breaker import BreakerState
from tests.conftest import Town, quick_expert, settings_for
from tests.faults.upstreams import MODEL, RawUpstream, completion, framed

MEGABYTE = 2**20
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"raw"},"finish_reason":null}]}\n\n'
STREAM = EVENT + b"data: [DONE]\n\n"
SMUGGLED = framed(completion("smuggled"))


@pytest.fixture
async def raw(start_gateway: Any) -> AsyncIterator[tuple[RawUpstream, Any]]:
    """A gateway in front of one server that writes what the test tells it."""
    async with RawUpstream(framed(completion("well"))) as upstream:
        experts = {"generalist": {"model": MODEL, "upstreams": [upstream.url]}}
        yield upstream, await start_gateway(settings_for(experts, health={"interval_s": 60}))


@pytest.mark.row("A6")
@pytest.mark.parametrize("fault", ["cut_fin;events=6", "cut_rst;events=6", "error_event;events=6"])
async def test_a6_record_of_a_broken_stream_says_how_many_tokens_went_out(town: Town, fault: str) -> None:
    town.servers["math"].fault(fault, count=None)
    answer = await town.gateway.chat("math", stream=True)
    sent = answer.text.count('"delta":{"content"')
    (record,) = await town.gateway.recorder.wait_for(1)
    assert record.error in ("upstream_reset", "upstream_broke")
    assert record.output_tokens == sent > 0


@pytest.mark.row("A9")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a9_answer_that_drips_ends_at_the_total_limit_with_flat_memory(start_town: Any, stream: bool) -> None:
    town = await start_town(timeouts={"total_s": 1, "idle_s": 0.5})
    await town.gateway.chat("math")
    town.servers["math"].fault(f"drip;seconds=0.02;bytes={40 if stream else 1}", count=None)
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    answer = await town.gateway.chat("math " * 200, stream=stream)
    assert 1 <= time.perf_counter() - started < 1.5
    assert '"upstream_timeout"' in answer.text
    assert answer.status_code == (200 if stream else 504)
    assert "[DONE]" not in answer.text
    assert psutil.Process().memory_info().rss - before < 8 * MEGABYTE
    await town.servers["math"].until(lambda server: server.running == 0, timeout_s=1.5)


@pytest.mark.row("A15")
async def test_a15_length_smaller_than_the_answer_is_502_and_the_rest_is_nobodys_answer(raw: Any) -> None:
    """What stands behind the claimed length looks like the next answer; it must never become one."""
    upstream, gateway = raw
    body = completion("cut")
    upstream.answers = [framed(body, length=len(body) - 10) + SMUGGLED, framed(completion("well"))]
    answer = await gateway.chat("hello")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_bad_response")
    for _ in range(3):
        assert (await gateway.chat("hello")).json()["choices"][0]["message"]["content"] == "well"
    assert upstream.prompts[0] not in upstream.prompts[1:]


@pytest.mark.row("A15")
async def test_a15_whole_answer_with_another_behind_it_is_used_and_its_connection_is_not(raw: Any) -> None:
    upstream, gateway = raw
    upstream.answers = [framed(completion("first")) + SMUGGLED, framed(completion("well"))]
    assert (await gateway.chat("hello")).json()["choices"][0]["message"]["content"] == "first"
    for _ in range(3):
        assert (await gateway.chat("hello")).json()["choices"][0]["message"]["content"] == "well"
    assert upstream.prompts[0] not in upstream.prompts[1:]


@pytest.mark.row("A15")
@pytest.mark.parametrize("missing", [10, 400], ids=["the end", "an event"])
async def test_a15_stream_with_a_smaller_length_ends_in_an_error_event(raw: Any, missing: int) -> None:
    upstream, gateway = raw
    stream = EVENT * 9 + b"data: [DONE]\n\n"
    cut = framed(stream, length=len(stream) - missing, content_type="text/event-stream")
    upstream.answers = [cut + SMUGGLED, framed(STREAM, content_type="text/event-stream")]
    answer = await gateway.chat("hello", stream=True)
    # Where all of it came at once, not even the beginning is trusted: then it is a plain 502.
    assert answer.text.count('{"error"') == 1
    assert "[DONE]" not in answer.text
    assert "smuggled" not in answer.text
    assert (await gateway.chat("hello", stream=True)).content == STREAM
    assert upstream.prompts[0] not in upstream.prompts[1:]


@pytest.mark.row("A15")
@pytest.mark.parametrize("how", ["fin", "hang"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a15_length_larger_than_the_answer_never_ends_well(start_town: Any, stream: bool, how: str) -> None:
    town = await start_town(timeouts={"total_s": 1, "idle_s": 0.3})
    town.servers["math"].fault(f"length_larger;how={how}", count=1)
    answer = await town.gateway.chat("math", model="math", stream=stream)
    if stream:
        # The stream said itself that it is complete; what its frame claimed does not take that back.
        assert answer.text.count('data: {"error"') == 1 or answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.status_code == {"fin": 200, "hang": 504}[how]
    again = await town.gateway.chat("math", stream=stream)
    assert (again.status_code, again.headers["x-pointsman-expert"]) == (200, "math")


@pytest.mark.row("A17")
async def test_a17_open_breaker_costs_the_next_requests_less_than_5_ms(start_town: Any) -> None:
    town = await start_town()
    math = town.servers["math"]
    math.fault("status;code=500", count=None)
    for number in range(5):
        await town.gateway.chat(f"math {number}")
    fleet = town.gateway.app.state.gateway.current.fleet
    assert fleet.states[math.url].breaker.state is BreakerState.OPEN
    for _ in range(20):
        assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "generalist"
    records = (await town.gateway.recorder.wait_for(25))[5:]
    # Of the quicker ones: what a shared machine adds to the others is not the breaker's.
    assert sorted(record.overhead_s for record in records)[3] < 0.005
    assert len(math.prompts) == 5


@pytest.mark.slow
@pytest.mark.row("A26")
async def test_a26_flapping_replica_is_left_for_longer_and_its_share_does_not_swing(
    start_gateway: Any, sim_server: Any
) -> None:
    steady, flapping = await sim_server(quick_expert("m")), await sim_server(quick_expert("m"))
    experts = {"generalist": {"model": "m", "upstreams": [steady.url, flapping.url]}}
    limits = {"ejection_s": 0.3, "longest_ejection_s": 1.5, "ramp_s": 5}
    gateway = await start_gateway(settings_for(experts, breaker=limits, health={"interval_s": 0.1}))
    breaker = gateway.app.state.gateway.current.fleet.states[flapping.url].breaker
    shares, ejections, statuses = [], [], set()
    for round_number in range(24):
        if round_number % 2:
            flapping.clear_faults()
        else:
            flapping.fault("close_rst", count=None)
        before, started = (len(steady.prompts), len(flapping.prompts)), time.monotonic()
        while time.monotonic() - started < 0.25:
            answers = await asyncio.gather(*(gateway.chat(f"hello {time.monotonic_ns()}") for _ in range(12)))
            statuses |= {answer.status_code for answer in answers}
            await asyncio.sleep(0.03)
        at_steady, at_flapping = len(steady.prompts) - before[0], len(flapping.prompts) - before[1]
        shares.append(at_flapping / max(1, at_steady + at_flapping))
        ejections.append(breaker.ejections)
        steady.requests.clear()
        flapping.requests.clear()
    assert statuses == {200}
    assert ejections[-1] >= 3
    assert ejections == sorted(ejections)
    periods = [(down + up) / 2 for down, up in zip(shares[4::2], shares[5::2], strict=True)]
    assert max(periods) - min(periods) <= 0.2, shares
