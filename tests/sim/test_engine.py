"""Running, waiting, refusing and aborting, as a client sees them."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.sim import SimExpert, SimServer
from gateway.sim.wire import reset
from tests.connections import hang_up
from tests.fixtures_sim import StartSim
from tests.sim.wire import CHAT, HELLO, JSON, chat, exchange, get, post, request_bytes

SLOW = SimExpert("m", time_to_first_token_s=0, tokens_per_second=20)


@asynccontextmanager
async def asking(server: SimServer, **fields: object) -> AsyncIterator[asyncio.StreamWriter]:
    """A client that has sent a long request and not yet read."""
    body = json.dumps({"messages": HELLO, "ignore_eos": True, "max_tokens": 4000, **fields}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_bytes("POST", CHAT, body, content_type=JSON))
    await server.until(lambda sim: sim.running == 1)
    try:
        yield writer
    finally:
        await hang_up(writer)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["fin", "rst", "half"])
async def test_client_that_leaves_aborts_its_generation(sim_server: StartSim, stream: bool, how: str) -> None:
    server = await sim_server(SLOW, keep_timing=True)
    async with asking(server, stream=stream) as writer:
        if how == "half":
            writer.write_eof()
        elif how == "rst":
            reset(writer.transport)
        else:
            writer.close()
        await server.until(lambda sim: sim.running == 0, timeout_s=1.5)
    assert server.aborted == 1


async def test_aborted_request_is_not_counted_as_finished(sim_server: StartSim) -> None:
    server = await sim_server(SLOW, keep_timing=True)
    async with asking(server):
        pass
    await server.until(lambda sim: sim.aborted == 1)
    text = (await get(server, "/metrics")).body.decode()
    assert 'finished_reason="abort",model_name="m"} 0.0' in text
    assert 'finished_reason="length",model_name="m"} 0.0' in text


async def test_queue_keeps_order_and_frees_places(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", maximum_running=1))
    first = asyncio.create_task(chat(server, sim_fault="delay;seconds=0.1", max_tokens=1))
    await server.until(lambda sim: sim.running == 1)
    second = asyncio.create_task(chat(server, max_tokens=2))
    await server.until(lambda sim: sim.waiting == 1)
    assert (await first).status == (await second).status == 200
    assert (server.running, server.waiting, server.aborted) == (0, 0, 0)


async def test_queue_waiting_client_that_leaves_gives_up_its_place(sim_server: StartSim) -> None:
    server = await sim_server(SimExpert("m", maximum_running=1))
    async with asking(server, sim_fault="hang"):
        waiting = asyncio.create_task(chat(server))
        await server.until(lambda sim: sim.waiting == 1)
        waiting.cancel()
        await server.until(lambda sim: sim.waiting == 0)
        assert server.running == 1
    await server.until(lambda sim: sim.running == 0)
    assert (await chat(server)).status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_full_queue_is_503_without_retry_after(sim_server: StartSim, stream: bool) -> None:
    server = await sim_server(SimExpert("m", maximum_running=1, maximum_queued=0))
    async with asking(server, sim_fault="hang"):
        refused = await chat(server, stream=stream)
        assert refused.status == 503
        assert "retry-after" not in refused.headers
        assert refused.json["error"]["type"] == "Service Unavailable"
        assert refused.json["error"]["message"].startswith("The engine is currently busy")
        other = await post(server, "/v1/messages", {"messages": HELLO, "max_tokens": 3})
        assert other.json["type"] == "error"
        assert b'reason="num_queued_reqs"} 2.0' in (await get(server, "/metrics")).body


async def test_engines_of_one_port_have_their_own_limits(sim_server: StartSim) -> None:
    busy = SimExpert("busy", maximum_running=1, maximum_queued=0)
    server = await sim_server(busy, SimExpert("free"))
    async with asking(server, model="busy", sim_fault="hang"):
        assert (await chat(server, model="busy")).status == 503
        assert (await chat(server, model="free")).status == 200


async def test_idle_connection_is_closed(sim_server: StartSim) -> None:
    server = await sim_server(idle_timeout_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /health HTTP/1.1\r\nhost: sim\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    await hang_up(writer)


async def test_stop_ends_hanging_requests_at_once(sim_server: StartSim) -> None:
    server = SimServer(SimExpert("m"))
    async with server:
        task = asyncio.create_task(chat(server, sim_fault="hang"))
        await server.until(lambda sim: sim.running == 1)
    answer = await asyncio.wait_for(task, 2)
    assert (answer.raw, server.running) == (b"", 0)


async def test_until_gives_up_after_its_time(sim_server: StartSim) -> None:
    with pytest.raises(TimeoutError):
        await (await sim_server()).until(lambda sim: sim.running == 1, timeout_s=0.01)


async def test_same_name_twice_on_a_port_is_refused() -> None:
    with pytest.raises(ValueError, match="given twice"):
        SimServer(SimExpert("a"), SimExpert("b", aliases=("a",)))
    with pytest.raises(ValueError, match="at least one"):
        SimServer()


async def test_expect_continue_is_answered_before_the_body(sim_server: StartSim) -> None:
    server = await sim_server()
    body = json.dumps({"messages": HELLO}).encode()
    head = request_bytes("POST", CHAT, body, content_type=JSON, expect="100-continue").removesuffix(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await hang_up(writer)


async def test_gzip_request_body_is_refused(sim_server: StartSim) -> None:
    packed = gzip.compress(json.dumps({"messages": HELLO}).encode())
    answer = await post(await sim_server(), CHAT, packed, content_encoding="gzip")
    assert (answer.status, answer.json) == (400, {"detail": "There was an error parsing the body"})


async def test_chunked_request_body_is_read(sim_server: StartSim) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: {JSON}\r\n"
    sent = f"{head}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert (await exchange((await sim_server()).port, sent)).status == 200
