"""Where a stream's content begins, in the simulated experts' own streams and in odd ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import httpx2
import orjson
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamBadResponse, UpstreamBroke
from gateway.opening import Opening
from gateway.sim.server import SimServer
from gateway.sse import EVENT_END
from gateway.types import Endpoint
from tests.conftest import quick_expert
from tests.faults.raw import GENERATING, VALID

LIMIT = 2**20
PREAMBLES = {Endpoint.CHAT: 1, Endpoint.COMPLETIONS: 0, Endpoint.RESPONSES: 4, Endpoint.MESSAGES: 2}
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5}}\n\n'
DEAD = b'data: {"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","code":500}}\n\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sim() -> AsyncIterator[SimServer]:
    async with SimServer(quick_expert("m")) as server:
        yield server


def feed(chunks: Sequence[bytes], endpoint: Endpoint = Endpoint.CHAT, limit_bytes: int = LIMIT) -> Opening:
    opening = Opening(endpoint, limit_bytes)
    for chunk in chunks:
        if opening.feed(chunk):
            break
    return opening


def delta(**fields: object) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": None}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("endpoint", GENERATING)
@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
@pytest.mark.row("A11")
async def test_stream_begins_with_its_first_token_however_it_is_cut(
    sim: SimServer, endpoint: Endpoint, size: int
) -> None:
    body = {**VALID[endpoint], "model": "m", "stream": True}
    async with httpx2.AsyncClient() as client:
        whole = (await client.post(sim.url + endpoint.path, json=body)).content
    ends = [match.end() for match in EVENT_END.finditer(whole)]
    assert len(ends) > PREAMBLES[endpoint] + 3
    opening = feed([whole[at : at + size] for at in range(0, len(whole), size)], endpoint)
    assert opening.begun
    content_at = ends[PREAMBLES[endpoint]]
    assert content_at <= len(opening.held) < content_at + size
    assert whole.startswith(opening.held)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("endpoint", GENERATING)
@pytest.mark.row("A5")
async def test_engine_that_dies_behind_its_preamble_is_noticed(sim: SimServer, endpoint: Endpoint) -> None:
    sim.fault(f"error_event;events={PREAMBLES[endpoint]};code=500", count=1)
    body = {**VALID[endpoint], "model": "m", "stream": True}
    async with httpx2.AsyncClient() as client:
        whole = (await client.post(sim.url + endpoint.path, json=body)).content
    with pytest.raises(UpstreamBroke):
        feed([whole], endpoint)


@pytest.mark.parametrize(
    "event",
    [
        delta(content="Hi"),
        delta(reasoning="Hm"),
        delta(reasoning_content="Hm"),
        delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
        delta(refusal="No"),
        delta(role="assistant", content=" "),
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":"odd"}]}\n\n',
        b'data: {"choices":["odd"]}\n\n',
        b'data: {"choices":"odd"}\n\n',
        b'data: {"id":"unknown form"}\n\n',
        b"data: [DONE]\n\n",
        b"data:{bad\n\n",
        b"data: 5\r\n\r\n",
        b'data: {"error":{"message":"too long","code":400}}\n\n',
    ],
)
def test_content_and_what_is_not_understood_go_out(event: bytes) -> None:
    opening = feed([ROLE, event, b"more"])
    assert opening.begun
    assert opening.held == ROLE + event


@pytest.mark.parametrize(
    "event", [ROLE, USAGE, b": keep-alive\n\n", b"\n\n", delta(content=None), delta(tool_calls=[]), b'data: {"cho']
)
def test_preamble_waits(event: bytes) -> None:
    opening = feed([ROLE, event])
    assert not opening.begun
    assert opening.held == ROLE + event


@pytest.mark.parametrize(
    ("endpoint", "event"),
    [
        (Endpoint.CHAT, DEAD),
        (Endpoint.CHAT, b'data: {"error":"Internal error"}\n\n'),
        (Endpoint.CHAT, b'data: {"error":{"message":"x","code":"internal"}}\n\n'),
        (Endpoint.MESSAGES, b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n'),
        (Endpoint.RESPONSES, b'event: error\ndata: {"type":"error","code":"x","message":"x"}\n\n'),
        (
            Endpoint.RESPONSES,
            b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"code":"x"}}}\n\n',
        ),
    ],
)
def test_error_before_content_raises(endpoint: Endpoint, event: bytes) -> None:
    with pytest.raises(UpstreamBroke):
        feed([event], endpoint)


def test_error_behind_content_is_the_clients() -> None:
    assert feed([ROLE, delta(content="Hi") + DEAD]).begun


@pytest.mark.row("A13")
def test_beginning_without_end_is_refused() -> None:
    with pytest.raises(UpstreamBadResponse):
        feed([b"data: " + b"x" * 1_000] * 100, limit_bytes=10_000)
    with pytest.raises(UpstreamBadResponse):
        feed([ROLE] * 1_000, limit_bytes=10_000)


@given(chunks=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([ROLE, USAGE, DEAD, b"\n\n", b"data: "]))))
def test_any_bytes_are_held_as_they_came(chunks: list[bytes]) -> None:
    opening, sent = Opening(Endpoint.CHAT, 500), b""
    try:
        for chunk in chunks:
            sent += chunk
            if opening.feed(chunk):
                break
    except (UpstreamBroke, UpstreamBadResponse):
        pass
    assert opening.held == sent


@pytest.mark.row("A13")
def test_line_that_drips_without_end_costs_no_more_per_byte() -> None:
    opening, started = Opening(Endpoint.CHAT, 2**20), time.perf_counter()
    for _ in range(50_000):
        opening.feed(b"data: 12345")
    assert time.perf_counter() - started < 5  # minutes, were every chunk searched from the start


@given(cut=st.integers(1, 30), end=st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"]))
def test_events_end_is_found_wherever_it_is_cut(cut: int, end: bytes) -> None:
    stream = (ROLE.rstrip() + end) * 3 + delta(content="Hi").rstrip() + end + b"data: x"
    for at in range(0, 12):
        opening = feed([stream[:at], *[stream[i : i + cut] for i in range(at, len(stream), cut)]])
        assert opening.begun
        assert len(opening.held) < len(stream) - 7 + cut
