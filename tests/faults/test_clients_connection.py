"""Clients that end their side, send ahead, wait for our word, or come in crowds (OPERATIONS B6 to B8, G1)."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import h11
import orjson
import psutil
import pytest
import pytest_asyncio

from gateway.connections import fitting
from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import (
    GENERATING,
    JSON,
    Connection,
    body_of,
    check_refusal,
    forwarded,
    open_connections,
    open_town,
    request,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = body_of(Endpoint.CHAT)
SERVER = {"port": 0, "log_requests": False}
SLOWLY = "drip;seconds=0.02;bytes=500"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


def understood(raw: bytes, count: int = 1) -> list[tuple[int, bytes]]:
    """Status and body of the answers, as a strict client reads them; interim ones are skipped."""
    client, answers = h11.Connection(h11.CLIENT), list[tuple[int, bytes]]()
    client.receive_data(raw)
    for index in range(count):
        client.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, raw
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        answers.append((status, body))
        if index + 1 < count:
            client.start_next_cycle()
    return answers


async def rest_of(client: Connection) -> bytes:
    async with asyncio.timeout(5):
        return await client.reader.read()


@pytest.mark.parametrize("slowly", [False, True], ids=["at once", "slowly"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("endpoint", GENERATING)
@pytest.mark.row("B6")
async def test_b6_half_close_after_the_request_gets_the_answer(
    town: Town, endpoint: Endpoint, stream: bool, slowly: bool
) -> None:
    if slowly:
        town.servers["math"].fault(SLOWLY)
    before = len(town.gateway.recorder.records)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(endpoint, stream=stream), path=endpoint.path))
        client.writer.write_eof()
        ((status, body),) = understood(await rest_of(client))
    assert status == 200
    assert b"math" in body
    record = (await town.gateway.recorder.wait_for(before + 1))[-1]
    assert (record.status, record.error) == (200, None)


@pytest.mark.parametrize("endpoint", GENERATING)
@pytest.mark.row("B6")
async def test_b6_half_close_within_the_stream_gets_the_rest(town: Town, endpoint: Endpoint) -> None:
    whole = await stream_of(town, endpoint, half_close=False)
    assert await stream_of(town, endpoint, half_close=True) == whole


async def stream_of(town: Town, endpoint: Endpoint, *, half_close: bool) -> list[int]:
    """The lengths of a stream's lines; ids and times in them differ from one to the next."""
    town.servers["math"].fault(SLOWLY)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(endpoint, stream=True), path=endpoint.path, headers=(*JSON, CLOSE)))
        seen = await client.reader.readuntil(b"data: ")
        if half_close:
            client.writer.write_eof()
        ((status, body),) = understood(seen + await rest_of(client))
    assert status == 200
    return [len(line) for line in body.splitlines()]


CLOSE = ("connection", "close")


@pytest.mark.row("B6")
async def test_b6_half_close_after_several_requests_gets_all_answers(town: Town) -> None:
    town.servers["math"].fault(SLOWLY)
    async with Connection(town.gateway.url) as client:
        await client.send(request(BODY) + request(b"{") + request(BODY))
        client.writer.write_eof()
        answers = understood(await rest_of(client), 3)
    assert [status for status, _ in answers] == [200, 400, 200]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.row("B6")
async def test_b6_client_that_closed_after_all_is_found_out(town: Town, stream: bool) -> None:
    """To TCP both begin alike; the difference shows when something is sent."""
    server, before = town.servers["math"], len(town.gateway.recorder.records)
    server.fault("hang_mid;events=3" if stream else "hang")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=stream)))
        await server.until(lambda server: server.running == 1)
        if stream:
            await client.reader.readuntil(b"data: ")
            await asyncio.sleep(0.05)
            await client.reader.read(65_536)  # nothing unread: else the close would be a reset
    record = (await town.gateway.recorder.wait_for(before + 1, timeout_s=1.5))[-1]
    assert (record.status, record.error) == (499, "client_left")
    await server.until(lambda server: server.running == 0, timeout_s=1.5)


@pytest.mark.parametrize("raw", [request(BODY)[:-3], request(BODY, version="1.0")], ids=["half a body", "HTTP/1.0"])
@pytest.mark.row("B6")
async def test_b6_half_close_of_a_client_that_cannot_be_told_from_one_that_left_ends_it(town: Town, raw: bytes) -> None:
    before = len(town.gateway.recorder.records)
    town.servers["math"].fault("hang")
    async with Connection(town.gateway.url) as client:
        await client.send(raw)
        client.writer.write_eof()
        assert await rest_of(client) == b""
    assert (await town.gateway.recorder.wait_for(before + 1, timeout_s=1.5))[-1].error == "client_left"
    town.servers["math"].clear_faults()


@pytest.mark.row("B7")
async def test_b7_hundreds_sent_ahead_are_answered_in_order(town: Town) -> None:
    count = 300
    ahead = [
        request(body_of(Endpoint.CHAT, stream=index % 3 == 0), headers=(*JSON, ("x-request-id", f"ahead-{index}")))
        for index in range(count)
    ]
    async with Connection(town.gateway.url) as client:
        reading = asyncio.create_task(rest_of(client))
        await client.send(b"".join(ahead))
        client.writer.write_eof()
        raw = await reading
    assert raw.count(b"HTTP/1.1 200") == count
    assert [status for status, _ in understood(raw, count)] == [200] * count
    places = [raw.index(b"x-request-id: ahead-%d\r\n" % index) for index in range(count)]
    assert places == sorted(places)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.row("B7")
async def test_b7_garbage_sent_ahead_closes_and_is_never_taken_for_the_answer(town: Town, stream: bool) -> None:
    town.servers["math"].fault(SLOWLY)
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=stream)))
        await asyncio.sleep(0.02)
        await client.send(b"\0\r\n\r\n")
        answer = await rest_of(client)
    assert b"Invalid HTTP" not in answer
    assert b"HTTP/1.1 400" not in answer


@pytest.mark.parametrize(
    ("path", "headers", "length", "status"),
    [
        (Endpoint.CHAT.path, JSON, 1 << 40, 413),
        (Endpoint.CHAT.path, (JSON[0], ("content-type", "text/plain")), 100, 415),
        ("/nope", JSON, 100, 404),
        ("//", JSON, 100, 400),
        ("/v1/route", JSON, 1 << 40, 413),
    ],
)
@pytest.mark.row("B8")
async def test_b8_expect_with_what_is_refused_is_answered_without_a_body_and_closed(
    town: Town, path: str, headers: tuple[tuple[str, str], ...], length: int, status: int
) -> None:
    """The client may go on with its next request instead of the body; only a closed connection is safe then."""
    head = request(path=path, headers=(*headers, ("expect", "100-continue")))
    async with Connection(town.gateway.url) as client:
        await client.send(head.replace(b"content-length: 0", b"content-length: %d" % length))
        answer = await client.answer()
        check_refusal(answer, status)
        assert answer.headers["connection"] == "close"
        assert await rest_of(client) == b""


@pytest.mark.row("B8")
async def test_b8_expect_that_is_met_keeps_the_connection(town: Town) -> None:
    async with Connection(town.gateway.url) as client:
        for _ in range(3):
            raw = request(BODY, headers=(*JSON, ("expect", "100-continue")))
            await client.send(raw.removesuffix(BODY))
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            await client.send(BODY)
            assert (await client.answer()).status == 200


@pytest.mark.row("G1")
async def test_g1_connection_over_the_cap_takes_the_place_of_the_longest_idle() -> None:
    async with open_town(server={**SERVER, "connections": 4}) as town, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Connection(town.gateway.url)) for _ in range(4)]
        for client in clients:  # all but the second have had an answer, the first long ago
            if client is not clients[1]:
                await client.send(request(BODY))
                assert (await client.answer()).status == 200
        await clients[2].send(b"POST /v1/")  # half a head is as good as nothing
        for oldest in (clients[1], clients[0], clients[2]):
            late = await stack.enter_async_context(Connection(town.gateway.url))
            await late.send(request(BODY))
            assert (await late.answer()).status == 200
            assert await closed(oldest)
        await clients[3].send(request(BODY))
        assert (await clients[3].answer()).status == 200


async def closed(client: Connection) -> bool:
    try:
        return await rest_of(client) == b""
    except OSError:
        return True


@pytest.mark.row("G1")
async def test_g1_connection_over_the_cap_is_refused_while_all_others_work() -> None:
    async with open_town(server={**SERVER, "connections": 4}) as town, AsyncExitStack() as stack:
        town.servers["math"].fault("hang", count=4)
        clients = [await stack.enter_async_context(Connection(town.gateway.url)) for _ in range(4)]
        for client in clients:
            await client.send(request(BODY))
        await town.servers["math"].until(lambda server: server.running == 4)
        started = time.perf_counter()
        async with Connection(town.gateway.url) as late:
            answer = await late.answer()
        check_refusal(answer, 503, code="too_many_connections")
        assert time.perf_counter() - started < 0.1
        assert answer.headers["retry-after"] == "1"
        clients[0].leave(reset=True)
        await town.servers["math"].until(lambda server: server.running == 3)
        found = await town.gateway.metric("pointsman_refused_connections_total")
        assert found == {'pointsman_refused_connections_total{code="too_many_connections"}': 1.0}


@pytest.mark.row("G1")
async def test_g1_thousands_of_idle_connections_cost_little_and_delay_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    count = 3_000
    assert fitting(count) == count, "this machine lets a process open too few files for the test"
    async with open_town() as town:
        before = await slowest(town)
        memory, idle = psutil.Process().memory_info().rss, list[socket.socket]()
        host, _, port = town.gateway.url.removeprefix("http://").partition(":")
        for index in range(count):
            plug = socket.create_connection((host, int(port)))
            idle.append(plug)
            if index % 2:
                plug.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
            if index % 100 == 0:
                await asyncio.sleep(0.001)
        async with asyncio.timeout(10):
            while await open_connections(town.gateway) < count:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.02)
        used = psutil.Process().memory_info().rss - memory
        assert used < count * 8 * 1024 * 1.5, f"{used / count:.0f} bytes each"  # the clients' half included
        assert await slowest(town) < before + 0.02
        for plug in idle:
            plug.close()
        async with asyncio.timeout(10):
            while await open_connections(town.gateway) > 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert not caplog.records


async def slowest(town: Town) -> float:
    """The 95th percentile of the time an answer takes."""
    times = []
    for _ in range(60):
        started = time.perf_counter()
        assert (await town.gateway.chat("math")).status_code == 200
        times.append(time.perf_counter() - started)
    return sorted(times)[56]


async def test_connection_metrics_are_counted(town: Town) -> None:
    before = forwarded(town)
    async with Connection(town.gateway.url) as client:
        await client.send(b"\0\0\0\0\r\n\r\n")
        assert orjson.loads((await client.answer()).body)["error"]["code"] == "invalid_request"
    found = await town.gateway.metric("pointsman_refused_connections_total")
    assert found['pointsman_refused_connections_total{code="invalid_request"}'] >= 1
    assert forwarded(town) == before
