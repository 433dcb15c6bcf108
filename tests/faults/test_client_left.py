"""Clients that leave: the expert is told to stop, and exactly one record says so (OPERATIONS B1, B2, B5)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio

from gateway.context import RouteRecord
from gateway.types import Endpoint
from router import ScoreBatch
from tests.conftest import Town
from tests.faults.raw import GENERATING, Connection, body_of, check_refusal, forwarded, open_town, request
from tests.harness import KeywordScorer

pytestmark = pytest.mark.asyncio(loop_scope="module")

STOPPED_WITHIN_S = 1.5


class HeldScorer(KeywordScorer):
    """Does not answer a text with `hold` in it before it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def score(self, texts: Sequence[str]) -> ScoreBatch:
        if any("hold" in text for text in texts):
            self.reached.set()
            self.let_go.wait(10)
        return super().score(texts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A client that leaves is nothing to log an error about."""
    caplog.set_level(logging.WARNING)
    yield
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


async def one_record_of_a_client_left(town: Town, before: int) -> RouteRecord:
    """Assert what must hold after a client left, and return the one record."""
    (record,) = (await town.gateway.recorder.wait_for(before + 1, timeout_s=STOPPED_WITHIN_S))[before:]
    assert (record.status, record.error) == (499, "client_left")
    for server in town.servers.values():
        await server.until(lambda server: server.running == 0, timeout_s=STOPPED_WITHIN_S)
    inflight = await town.gateway.metric("pointsman_upstream_inflight")
    assert set(inflight.values()) <= {0.0}
    # The next request is answered as if nothing had been, and adds exactly its own record.
    assert (await town.gateway.chat("math")).status_code == 200
    assert len(await town.gateway.recorder.wait_for(before + 2)) == before + 2
    return record


leaving = pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
streaming = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
generating = pytest.mark.parametrize("endpoint", GENERATING)


@leaving
@pytest.mark.parametrize("endpoint", Endpoint)
async def test_client_leaves_within_the_body_nothing_is_sent(town: Town, endpoint: Endpoint, reset: bool) -> None:
    before, calls = len(town.gateway.recorder.records), forwarded(town)
    body = body_of(endpoint)
    for raw in (request(body, path=endpoint.path)[:-5], request(body, path=endpoint.path).removesuffix(body)):
        async with Connection(town.gateway.url) as client:
            await client.send(raw)
            await town.gateway.http.get("/health/live")  # the loop has been at it
            client.leave(reset=reset)
            await town.gateway.recorder.wait_for(before + 1)
        before += 1
        record = town.gateway.recorder.records[-1]
        assert (record.status, record.error, record.attempts) == (499, "client_left", 0)
    assert forwarded(town) == calls


@leaving
@streaming
@pytest.mark.row("B1")
async def test_client_leaves_during_scoring_nothing_is_sent(stream: bool, reset: bool) -> None:
    scorer = HeldScorer()
    async with open_town(scorer=scorer, router={"deadline_s": 20}) as town:
        body = body_of(Endpoint.CHAT, messages=[{"role": "user", "content": "hold math"}], stream=stream)
        async with Connection(town.gateway.url) as client:
            await client.send(request(body))
            assert await asyncio.to_thread(scorer.reached.wait, 5)
            client.leave(reset=reset)
            (record,) = await town.gateway.recorder.wait_for(1, timeout_s=STOPPED_WITHIN_S)
        assert (record.status, record.error, record.attempts, record.chosen) == (499, "client_left", 0, None)
        scorer.let_go.set()
        # The scorer lives on, and the answer nobody waits for any more harms nobody.
        assert (await town.gateway.chat("math")).headers["x-pointsman-expert"] == "math"
        assert forwarded(town) == 1
        assert len(await town.gateway.recorder.wait_for(2)) == 2


@leaving
@streaming
@generating
@pytest.mark.row("B1")
async def test_client_leaves_before_the_experts_headers_generation_stops(
    town: Town, endpoint: Endpoint, stream: bool, reset: bool
) -> None:
    server, before = town.servers["math"], len(town.gateway.recorder.records)
    server.fault("hang")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(endpoint, stream=stream), path=endpoint.path))
        await server.until(lambda server: server.running == 1)
        assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) >= {1.0}
        client.leave(reset=reset)
        record = await one_record_of_a_client_left(town, before)
    assert (record.attempts, record.stream, record.domain) == (1, stream, "math")


@leaving
@generating
@pytest.mark.row("B2")
async def test_client_leaves_within_the_stream_generation_stops(town: Town, endpoint: Endpoint, reset: bool) -> None:
    server, before = town.servers["math"], len(town.gateway.recorder.records)
    server.fault("hang_mid;events=6")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(endpoint, stream=True), path=endpoint.path))
        await client.reader.readuntil(b"data: ")
        assert server.running == 1
        client.leave(reset=reset)
        record = await one_record_of_a_client_left(town, before)
    assert (record.chosen, record.attempts) == ("math", 1)
    assert record.time_to_first_byte_s is not None


@leaving
@generating
@pytest.mark.row("B1")
async def test_client_leaves_within_the_plain_answer_generation_stops(
    town: Town, endpoint: Endpoint, reset: bool
) -> None:
    server, before = town.servers["math"], len(town.gateway.recorder.records)
    server.fault("hang_mid;events=1")  # half of the body
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(endpoint), path=endpoint.path))
        await server.until(lambda server: server.running == 1)
        client.leave(reset=reset)
        await one_record_of_a_client_left(town, before)


@pytest.mark.row("B2")
async def test_client_leaves_while_the_expert_drips_generation_stops(town: Town) -> None:
    """The stream goes on: leaving must be noticed although there is always something to relay."""
    server, before = town.servers["math"], len(town.gateway.recorder.records)
    server.fault("drip;seconds=0.01;bytes=40")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=True)))
        await client.reader.readuntil(b"data: ")
        client.leave(reset=False)
        await one_record_of_a_client_left(town, before)


@pytest.mark.row("B1")
async def test_client_leaves_during_a_failover_no_further_expert_is_tried(town: Town) -> None:
    math, generalist = town.servers["math"], town.servers["generalist"]
    before, calls = len(town.gateway.recorder.records), len(generalist.prompts)
    math.fault("status;code=503")
    generalist.fault("hang")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT)))
        await generalist.until(lambda server: server.running == 1)
        client.leave(reset=True)
        record = await one_record_of_a_client_left(town, before)
    assert record.attempts == 2
    assert len(generalist.prompts) == calls + 1


@streaming
@pytest.mark.row("B1", "B2")
async def test_fifty_clients_leave_at_once_all_generations_stop(town: Town, stream: bool) -> None:
    server, before = town.servers["math"], len(town.gateway.recorder.records)
    server.fault("hang_mid;events=3" if stream else "hang", count=50)
    clients = [Connection(town.gateway.url) for _ in range(50)]
    for client in clients:
        await client.__aenter__()
        await client.send(request(body_of(Endpoint.CHAT, stream=stream)))
    await server.until(lambda server: server.running == 50)
    for index, client in enumerate(clients):
        client.leave(reset=index % 2 == 0)
    await server.until(lambda server: server.running == 0, timeout_s=STOPPED_WITHIN_S)
    records = (await town.gateway.recorder.wait_for(before + 50))[before:]
    assert {(record.status, record.error) for record in records} == {(499, "client_left")}
    assert len(records) == 50
    aborts = await town.gateway.metric("pointsman_client_aborts_total")
    assert aborts["pointsman_client_aborts_total"] >= 50
    assert set((await town.gateway.metric("pointsman_upstream_inflight")).values()) == {0.0}


async def test_client_leaves_after_its_answer_the_record_says_200(town: Town) -> None:
    before = len(town.gateway.recorder.records)
    for stream in (False, True):
        async with Connection(town.gateway.url) as client:
            await client.send(request(body_of(Endpoint.CHAT, stream=stream), version="1.0"))
            await client.reader.read()
            client.leave(reset=True)
    records = (await town.gateway.recorder.wait_for(before + 2))[before:]
    assert [(record.status, record.error) for record in records] == [(200, None)] * 2


@pytest.mark.row("B5")
async def test_body_too_slow_is_timed_out() -> None:
    async with open_town(timeouts={"body_read_s": 0.1}) as town:
        for piece in (b"", b"{"):
            async with Connection(town.gateway.url) as client:
                await client.send(request(b"{" * 9).removesuffix(b"{" * 9) + piece)
                answer = await client.answer()
                check_refusal(answer, 408, code="request_timeout")
                assert await client.reader.read() == b""
        records = await town.gateway.recorder.wait_for(2)
        assert [(record.status, record.error) for record in records] == [(408, "request_timeout")] * 2
