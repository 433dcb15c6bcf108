"""Too large bodies and headers: refused at the limit, with flat memory and a living loop (OPERATIONS C1, B8)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio
from openai import APIStatusError, AsyncOpenAI

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import JSON, Connection, body_of, check_refusal, forwarded, open_town, refused, request
from tests.harness import RawAnswer

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 256 * 1024
MEGABYTE = 1 << 20
BLOCK = b"a" * 65_536


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town(limits={"body_bytes": LIMIT}) as town:
        yield town


def rss() -> int:
    return int(psutil.Process().memory_info().rss)


async def pour(client: Connection, piece: bytes, total: int) -> int:
    """Send until `total` bytes are out or the gateway has had enough; return how many were taken."""
    sent = 0
    try:
        while sent < total and not client.writer.is_closing():
            await client.send(piece)
            sent += len(piece)
    except OSError:
        pass
    return sent


async def answer_while_pouring(town: Town, head: bytes, piece: bytes, total: int) -> tuple[RawAnswer, int]:
    async with Connection(town.gateway.url) as client:
        await client.send(head)
        pouring = asyncio.create_task(pour(client, piece, total))
        async with asyncio.timeout(5):
            answer = await client.answer()
            client.writer.transport.abort()
            sent = await pouring
    return answer, sent


@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.row("C1")
async def test_length_declared_over_the_limit_is_refused_unread(town: Town, endpoint: Endpoint) -> None:
    head = request(path=endpoint.path).replace(b"content-length: 0", b"content-length: %d" % (LIMIT + 1))
    error = await refused(town.gateway, head, 413, code="request_too_large", path=endpoint.path)
    assert str(LIMIT) in error["message"]
    head = head.replace(b"%d" % (LIMIT + 1), b"9" * 18)
    await refused(town.gateway, head, 413, code="request_too_large", path=endpoint.path)


@pytest.mark.row("B8")
async def test_length_over_the_limit_with_expect_is_refused_without_continue(town: Town) -> None:
    head = request(headers=(*JSON, ("expect", "100-continue")))
    head = head.replace(b"content-length: 0", b"content-length: %d" % (LIMIT + 1))
    await refused(town.gateway, head, 413)


async def test_expect_within_the_limit_gets_continue_and_an_answer(town: Town) -> None:
    body = body_of(Endpoint.CHAT)
    raw = request(body, headers=(*JSON, ("expect", "100-continue")))
    async with Connection(town.gateway.url) as client:
        await client.send(raw.removesuffix(body))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.send(body)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
@pytest.mark.row("C1")
async def test_body_at_the_limit_is_taken_and_one_byte_more_is_not(town: Town, size: int) -> None:
    body = body_of(Endpoint.CHAT)
    body += b" " * (size - len(body))
    head = request().replace(b"content-length: 0", b"transfer-encoding: chunked")
    async with Connection(town.gateway.url) as client:
        await client.send(head + b"%x\r\n%s\r\n0\r\n\r\n" % (size, body))
        assert (await client.answer()).status == (200 if size == LIMIT else 413)


@pytest.mark.row("C1")
async def test_body_chunked_without_end_is_cut_at_the_limit_with_flat_memory(town: Town) -> None:
    head = request().replace(b"content-length: 0", b"transfer-encoding: chunked")
    piece = b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK)
    before, calls = rss(), forwarded(town)
    for _ in range(4):
        answer, _ = await answer_while_pouring(town, head, piece, 64 * MEGABYTE)
        check_refusal(answer, 413, code="request_too_large")
    assert rss() - before < 32 * MEGABYTE  # of 256 that were sent
    assert forwarded(town) == calls


async def test_bodies_of_many_clients_that_never_end_cost_no_more_than_the_limit(town: Town) -> None:
    """Thirty half-sent bodies just under the limit: what is held is their sum, and it is given back."""
    head = request().replace(b"content-length: 0", b"content-length: %d" % LIMIT)
    before, records = rss(), len(town.gateway.recorder.records)
    clients = [Connection(town.gateway.url) for _ in range(30)]
    for client in clients:
        await client.__aenter__()
        await client.send(head + BLOCK * 3)
    assert (await town.gateway.chat("math")).status_code == 200
    assert rss() - before < 30 * LIMIT * 3
    for client in clients:
        client.leave(reset=False)
    done = (await town.gateway.recorder.wait_for(records + 31))[records:]
    assert sorted(record.status for record in done) == [200] + [499] * 30


async def test_tiny_chunks_are_put_together(town: Town) -> None:
    body = body_of(Endpoint.CHAT)
    head = request().replace(b"content-length: 0", b"transfer-encoding: chunked")
    async with Connection(town.gateway.url) as client:
        await client.send(head + b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert (await client.answer()).status == 200


async def test_body_too_large_is_told_to_the_official_client(town: Town) -> None:
    """It sends the whole body before it reads, so the connection must stay open for a while after a 413."""
    async with AsyncOpenAI(base_url=town.gateway.url + "/v1", api_key="x", max_retries=0) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "a" * (16 * MEGABYTE)}]
            )
    assert caught.value.status_code == 413


@pytest.mark.row("C16")
async def test_header_without_end_is_cut_with_flat_memory(town: Town) -> None:
    before = rss()
    async with Connection(town.gateway.url) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-long: ")
        taken = await pour(client, BLOCK, 12 * MEGABYTE)
        assert taken < 8 * MEGABYTE
    assert rss() - before < 16 * MEGABYTE


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (b"[],", 1_200_000),
        pytest.param(
            b'"ab",',
            3_200_000,
        ),
    ],
    ids=["lists", "strings"],
)
async def test_body_of_millions_of_values_does_not_stop_the_loop(value: bytes, count: int) -> None:
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            last = time.perf_counter()
            await asyncio.sleep(0.002)
            longest = max(longest, time.perf_counter() - last)

    async with open_town(limits={"body_bytes": 16 * MEGABYTE}) as town:
        body = body_of(Endpoint.CHAT, messages=None)[:-1] + b',"x":[' + value * count + b"0]}"
        beating = asyncio.create_task(beat())
        async with Connection(town.gateway.url) as client:
            await client.send(request(body))
            assert (await client.answer()).status == 400
            await asyncio.sleep(0.01)  # let the beat see its own delay
        beating.cancel()
    assert longest < 0.15
