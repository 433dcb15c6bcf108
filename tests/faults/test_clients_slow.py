"""Clients that dawdle: half heads, half bodies, answers nobody reads (OPERATIONS B3 to B5, B9)."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import pytest_asyncio

from gateway.types import Endpoint
from tests.conftest import Town, settings_for
from tests.connections import listening
from tests.faults.raw import (
    JSON,
    Connection,
    body_of,
    check_refusal,
    forwarded,
    open_connections,
    open_town,
    request,
)
from tests.harness import RunningGateway, run_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = body_of(Endpoint.CHAT)
MEGABYTE = 1 << 20
HEAD_S, BODY_S, PAUSE_S, IDLE_S, WRITE_S = 0.3, 1.0, 0.4, 0.6, 0.4
TIMEOUTS = {
    "head_read_s": HEAD_S,
    "body_read_s": BODY_S,
    "body_pause_s": PAUSE_S,
    "keep_alive_s": IDLE_S,
    "client_write_s": WRITE_S,
}
# Above what a busy machine adds, below the next of these limits.
LATE_S = 0.25


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town(timeouts=TIMEOUTS) as town:
        yield town


@contextmanager
def takes(least_s: float, most_s: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert least_s - 0.02 < time.monotonic() - started < most_s + LATE_S


async def drip(client: Connection, data: bytes, every_s: float) -> None:
    """Send byte by byte until the gateway has had enough."""
    try:
        for byte in data:
            if client.reader.at_eof():
                return
            await client.send(bytes([byte]))
            await asyncio.sleep(every_s)
    except OSError:
        pass


async def closed(client: Connection, within_s: float) -> bytes:
    """Return what comes until the gateway closes the connection."""
    async with asyncio.timeout(within_s):
        try:
            return await client.reader.read()
        except OSError:
            return b"reset"


async def refused_connections(town: Town, code: str) -> float:
    found = await town.gateway.metric("pointsman_refused_connections_total")
    return found.get(f'pointsman_refused_connections_total{{code="{code}"}}', 0.0)


@pytest.mark.parametrize(
    "start", [b"P", b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-a:", b"\r\n\r\nGET "]
)
@pytest.mark.row("B4")
async def test_b4_head_that_stops_is_timed_out(town: Town, start: bytes) -> None:
    before = await refused_connections(town, "request_timeout")
    async with Connection(town.gateway.url) as client:
        await client.send(start)
        with takes(HEAD_S, HEAD_S):
            check_refusal(await client.answer(), 408, code="request_timeout")
        assert await closed(client, 0.5) == b""
    assert await refused_connections(town, "request_timeout") == before + 1


@pytest.mark.row("B4")
async def test_b4_head_byte_by_byte_is_timed_out_however_steadily_it_comes(town: Town) -> None:
    async with Connection(town.gateway.url) as client:
        dripping = asyncio.create_task(drip(client, b"GET / HTTP/1.1\r\nhost: " + b"a" * 500, 0.01))
        with takes(HEAD_S, HEAD_S):
            check_refusal(await client.answer(), 408)
        await dripping


@pytest.mark.parametrize(
    "whole", [request(BODY), request(b"{"), request(BODY, path="/nope")], ids=["200", "400", "404"]
)
@pytest.mark.parametrize("together", [False, True], ids=["later", "in one packet"])
@pytest.mark.row("B4")
async def test_b4_second_head_that_stops_is_timed_out(town: Town, whole: bytes, together: bool) -> None:
    """The one that came with the first request's last bytes has gone to the parser already."""
    async with Connection(town.gateway.url) as client:
        await client.send(whole + (b"POST /v1/" if together else b""))
        await client.answer()
        if not together:
            await client.send(b"POST /v1/")
        dripping = asyncio.create_task(drip(client, b"chat/completions HTTP/1.1\r\n" + b"x" * 50, 0.01))
        with takes(HEAD_S, HEAD_S):
            check_refusal(await client.answer(), 408)
        await dripping
        assert await closed(client, 0.5) == b""


@pytest.mark.row("B4")
async def test_b4_slow_heads_of_many_do_not_delay_the_others(town: Town) -> None:
    clients = [Connection(town.gateway.url) for _ in range(200)]
    for client in clients:
        await client.__aenter__()
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ")
    times = []
    for _ in range(20):
        started = time.perf_counter()
        assert (await town.gateway.chat("math")).status_code == 200
        times.append(time.perf_counter() - started)
    assert sorted(times)[10] < 0.05
    for client in clients:
        check_refusal(await client.answer(), 408)
        await client.__aexit__()


@pytest.mark.row("B4")
async def test_b4_empty_lines_before_a_request_are_no_head(town: Town) -> None:
    """Old clients send one behind a body (RFC 9112 2.2); it must not start the head's clock, nor keep anything open."""
    async with Connection(town.gateway.url) as client:
        await client.send(request(BODY) + b"\r\n")
        assert (await client.answer()).status == 200
        await asyncio.sleep(HEAD_S + 0.1)
        await client.send(b"\r\n\r\n" + request(BODY))
        assert (await client.answer()).status == 200
        dripping = asyncio.create_task(drip(client, b"\r\n" * 20, 0.05))
        with takes(IDLE_S, IDLE_S):
            assert await closed(client, 2) in (b"", b"reset")
        await dripping


@pytest.mark.parametrize("path", [*(endpoint.path for endpoint in Endpoint), "/v1/route"])
@pytest.mark.row("B5")
async def test_b5_body_that_stops_is_timed_out(town: Town, path: str) -> None:
    records, calls = len(town.gateway.recorder.records), forwarded(town)
    async with Connection(town.gateway.url) as client:
        await client.send(request(b"{" * 9, path=path)[:-1])
        with takes(PAUSE_S, PAUSE_S):
            check_refusal(await client.answer(), 408, code="request_timeout", path=path)
        assert await closed(client, 0.5) == b""
    assert forwarded(town) == calls
    if path != "/v1/route":
        record = (await town.gateway.recorder.wait_for(records + 1))[-1]
        assert (record.status, record.error) == (408, "request_timeout")


@pytest.mark.row("B5")
async def test_b5_body_byte_by_byte_is_timed_out(town: Town) -> None:
    async with Connection(town.gateway.url) as client:
        await client.send(request(b"{" * 9_000).partition(b"{")[0])
        dripping = asyncio.create_task(drip(client, b"{" * 300, 0.005))
        with takes(PAUSE_S, PAUSE_S):
            check_refusal(await client.answer(), 408)
        await dripping


@pytest.mark.row("B5")
async def test_b5_body_at_a_fair_rate_has_until_the_limit_on_the_whole(town: Town) -> None:
    piece, head = b"{" * 1_100, request(b"{" * MEGABYTE).partition(b"{")[0]

    async def send() -> None:
        while not client.writer.is_closing():
            await client.send(piece)
            await asyncio.sleep(0.1)

    async with Connection(town.gateway.url) as client:
        await client.send(head)
        sending = asyncio.create_task(send())
        with takes(BODY_S, BODY_S):
            check_refusal(await client.answer(), 408)
        sending.cancel()


@pytest.mark.row("B5")
async def test_b5_body_with_pauses_that_comes_in_time_is_answered(town: Town) -> None:
    body = BODY + b" " * 3_000
    async with Connection(town.gateway.url) as client:
        raw = request(body)
        await client.send(raw[:-2_500])
        await asyncio.sleep(PAUSE_S * 0.6)
        await client.send(raw[-2_500:-1_000])
        await asyncio.sleep(PAUSE_S * 0.6)
        await client.send(raw[-1_000:])
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health/live", "/nope"])
@pytest.mark.row("B5")
async def test_b5_rest_of_a_refused_body_is_waited_for_no_longer_than_for_a_body(town: Town, path: str) -> None:
    """After the answer each byte would put off the end of the connection."""
    headers = (JSON[0], ("content-type", "text/plain"))
    async with Connection(town.gateway.url) as client:
        await client.send(request(b"{" * 9_000, path=path, headers=headers).partition(b"{")[0])
        assert (await client.answer()).status in (404, 405, 415)
        dripping = asyncio.create_task(drip(client, b"{" * 200, 0.01))
        with takes(BODY_S, BODY_S):
            assert await closed(client, 2) in (b"", b"reset")
        await dripping


@pytest.mark.row("B5")
async def test_b5_connection_is_used_again_after_the_rest_of_a_refused_body(town: Town) -> None:
    headers = (JSON[0], ("content-type", "text/plain"))
    async with Connection(town.gateway.url) as client:
        raw = request(BODY, headers=headers)
        await client.send(raw[:-3])
        assert (await client.answer()).status == 415
        await asyncio.sleep(0.1)
        await client.send(raw[-3:] + request(BODY))
        assert (await client.answer()).status == 200
        with takes(IDLE_S, IDLE_S):
            assert await closed(client, IDLE_S + 1) == b""


@pytest.mark.parametrize("first", [b"", request(BODY)], ids=["never used", "used"])
@pytest.mark.row("B9")
async def test_b9_connection_that_is_silent_is_kept_and_then_closed_without_a_word(town: Town, first: bytes) -> None:
    async with Connection(town.gateway.url) as client:
        if first:
            await client.send(first)
            await client.answer()
        with takes(IDLE_S, IDLE_S):
            assert await closed(client, IDLE_S + 1) == b""


@pytest.mark.row("B9")
async def test_b9_keep_alive_is_longer_than_a_load_balancers() -> None:
    async with open_town() as town, Connection(town.gateway.url) as client:
        await client.send(request(BODY))
        await client.answer()
        assert town.gateway.app.state.gateway.settings.timeouts.keep_alive_s > 60
        await asyncio.sleep(0.2)
        await client.send(request(BODY))
        assert (await client.answer()).status == 200


PIECE = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"' + b"x" * 8_000 + b'"}}]}\n\n'
LONG = b'{"id":"a","choices":[],"padding":"' + b"x" * (24 * MEGABYTE) + b'"}'


@asynccontextmanager
async def talkative(counted: list[int]) -> AsyncIterator[str]:
    """An expert's server that says more than any buffer holds: a stream without end, or 24 MB at once."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            elif b'"stream":true' in await reader.read(65_536):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                while True:
                    writer.write(PIECE)
                    await writer.drain()
                    counted[0] += len(PIECE)
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(b"content-length: %d\r\n\r\n" % len(LONG) + LONG)
            await writer.drain()
        except OSError:
            counted[1] += 1

    async with listening(answer) as url:
        yield url


@asynccontextmanager
async def talkative_town(counted: list[int]) -> AsyncIterator[RunningGateway]:
    async with talkative(counted) as url:
        settings = settings_for(
            {"generalist": {"model": "m", "upstreams": [url]}}, health={"interval_s": 60}, timeouts=TIMEOUTS
        )
        async with run_gateway(settings) as gateway:
            yield gateway


def deaf_connection(url: str) -> socket.socket:
    """A client that does not read; its kernel takes little."""
    host, _, port = url.removeprefix("http://").partition(":")
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.connect((host, int(port)))
    return plug


async def all_closed(gateway: RunningGateway, within_s: float) -> None:
    """Wait until no connection but that of the scraper is left."""
    async with asyncio.timeout(within_s):
        while await open_connections(gateway) > 1:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.02)


@pytest.mark.row("B3")
async def test_b3_stream_nobody_reads_is_cut_and_buffers_little(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    counted = [0, 0]
    async with talkative_town(counted) as gateway:
        with deaf_connection(gateway.url) as plug:
            plug.sendall(request(body_of(Endpoint.CHAT, stream=True)))
            record = (await gateway.recorder.wait_for(1))[0]
            assert (record.status, record.error) == (499, "client_stalled")
            await all_closed(gateway, WRITE_S + 2)
        assert counted[0] < 16 * MEGABYTE  # what the two kernels' socket buffers take
    assert not caplog.records


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.row("B3")
@pytest.mark.slow
async def test_b3_plain_answer_nobody_reads_is_cut_and_its_memory_given_back(version: str) -> None:
    """It has been handed to the transport whole, so the request is over long before the client has it."""
    async with talkative_town([0, 0]) as gateway:
        with deaf_connection(gateway.url) as plug, takes(WRITE_S + 1, WRITE_S + 1):
            plug.sendall(request(BODY, version=version))
            assert (await gateway.recorder.wait_for(1))[0].status == 200
            assert await open_connections(gateway) == 2
            await all_closed(gateway, WRITE_S + 3)
        assert await gateway.metric("pointsman_refused_connections_total")


@pytest.mark.row("B3")
@pytest.mark.slow
async def test_b3_slow_reader_that_goes_on_reading_gets_all_of_it() -> None:
    """For longer than the limit nothing leaves our buffer: the kernel takes more in large steps only."""
    async with talkative_town([0, 0]) as gateway:
        with deaf_connection(gateway.url) as plug:
            plug.setblocking(False)
            loop, got = asyncio.get_running_loop(), b""
            await loop.sock_sendall(plug, request(BODY))
            for _ in range(60):
                got += await loop.sock_recv(plug, 20_000)
                await asyncio.sleep(0.05)
            assert await open_connections(gateway) == 2
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEGABYTE)
            size = len(got)
            while len(got) < len(LONG) and size:
                piece = await loop.sock_recv(plug, MEGABYTE)
                size = len(piece)
                got += piece
        assert got.endswith(LONG[-1_000:])
