"""The connection's own protocol: split heads, offered upgrades, trailers, garbage (OPERATIONS C15, C16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.types import Endpoint
from tests.conftest import Town
from tests.faults.raw import HOST, JSON, Connection, body_of, check_refusal, forwarded, open_town, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = body_of(Endpoint.CHAT)
KEY = "canary-key"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town() -> AsyncIterator[Town]:
    async with open_town() as town:
        yield town


async def send_in_pieces(town: Town, client: Connection, *pieces: bytes) -> None:
    """Send each piece so that the gateway reads it alone."""
    for piece in pieces:
        await client.send(piece)
        # Another connection's round trip: by then the loop has read what is there.
        await town.gateway.http.get("/health/live")


@pytest.mark.row("C15")
async def test_head_and_body_cut_anywhere_give_the_same_answer(town: Town) -> None:
    raw = request(BODY, headers=(*JSON, ("x-request-id", "whole")))
    for place in range(1, len(raw), 7):
        async with Connection(town.gateway.url) as client:
            await send_in_pieces(town, client, raw[:place], raw[place:])
            answer = await client.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (200, "whole"), place


SPELLINGS = [
    "Upgrade: h2c",
    "upgrade:h2c",
    pytest.param("UPGRADE: h2c"),
    pytest.param("uPgRaDe: websocket"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_upgrade_offered_in_any_spelling_is_ignored(town: Town, spelling: str) -> None:
    name, _, value = spelling.partition(":")
    raw = request(BODY, headers=(*JSON, ("connection", "Upgrade, HTTP2-Settings"), (name, value)))
    async with Connection(town.gateway.url) as client:
        await client.send(raw + request(BODY))
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_upgrade_offered_in_a_head_cut_anywhere_is_ignored(town: Town) -> None:
    raw = request(BODY, headers=(*JSON, ("connection", "Upgrade"), ("Upgrade", "h2c")))
    start, end = raw.index(b"Upgrade: h2c") - 3, raw.index(b"\r\n\r\n") + 5
    for place in range(start, end):
        async with Connection(town.gateway.url) as client:
            await send_in_pieces(town, client, raw[:place], raw[place:])
            assert (await client.answer()).status == 200, raw[:place][-12:]


async def test_upgrade_offered_by_a_pipelined_request_makes_no_request_of_its_body(town: Town) -> None:
    """Nobody offers one there; it may be refused, but what follows its head stays a body."""
    hidden = request(body_of(Endpoint.COMPLETIONS), path=Endpoint.COMPLETIONS.path)
    offer = request(hidden, headers=(*JSON, ("connection", "Upgrade"), ("Upgrade", "h2c")))
    before = forwarded(town)
    for pieces in ((request(BODY) + offer,), (request(BODY) + offer.removesuffix(hidden), hidden)):
        async with Connection(town.gateway.url) as client:
            await send_in_pieces(town, client, *pieces)
            assert [(await client.answer()).status for _ in range(2)] == [200, 400]
            await town.gateway.http.get("/health/live")
    assert forwarded(town) == before + 2


async def test_body_that_looks_like_a_head_is_not_touched(town: Town) -> None:
    """A body one byte shorter than declared would take the missing one from the next request: smuggling."""
    body = b'{}\r\nUpgrade: h2c\r\n\r\n{"a":1}'
    raw = request(body, headers=(*JSON, ("x-request-id", "first")))
    head = len(raw) - len(body)
    for place in range(head - 4, head + 5):
        async with Connection(town.gateway.url) as client:
            following = request(BODY, headers=(*JSON, ("x-request-id", "second")))
            await send_in_pieces(town, client, raw[:place], raw[place:] + following)
            answers = [await client.answer() for _ in range(2)]
        seen = [(answer.status, answer.headers["x-request-id"]) for answer in answers]
        assert seen == [(400, "first"), (200, "second")], raw[:place][-6:]


def with_trailers(body: bytes, headers: tuple[tuple[str, str], ...], *trailers: bytes) -> bytes:
    head = request(headers=headers).replace(b"content-length: 0", b"transfer-encoding: chunked")
    return head + b"%x\r\n%s\r\n0\r\n" % (len(body), body) + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


async def test_trailers_are_no_headers(town: Town) -> None:
    """RFC 9110 6.5.1: they must not be merged; here they would be seen or not as the packets fall."""
    trailers = (b"x-request-id: trailing", b"host: evil.example", b"x-pointsman-policy: canary", b"x_request_id: a")
    async with Connection(town.gateway.url) as client:
        await client.send(with_trailers(BODY, JSON, *trailers) + request(BODY))
        answers = [await client.answer() for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].headers["x-request-id"] != "trailing"


async def test_trailer_content_type_does_not_make_json_of_a_form(town: Town) -> None:
    form = (HOST, ("content-type", "text/plain"))
    async with Connection(town.gateway.url) as client:
        await client.send(with_trailers(BODY, form, b"content-type: application/json"))
        check_refusal(await client.answer(), 415)


async def test_trailer_with_a_key_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_KEYS", KEY)
    server = {"port": 0, "log_requests": False, "api_keys_env": "CLIENT_KEYS"}
    async with open_town(server=server) as town, Connection(town.gateway.url) as client:
        await client.send(with_trailers(BODY, JSON, b"authorization: Bearer " + KEY.encode()))
        check_refusal(await client.answer(), 401)


@pytest.mark.parametrize("start", [b"0\r\nx-long: ", b"5;x=", b"0" * 10])
@pytest.mark.row("C15")
async def test_framing_without_end_is_cut(town: Town, start: bytes) -> None:
    head = request().replace(b"content-length: 0", b"transfer-encoding: chunked")
    piece, sent = b"a" * 65_536, 0
    if start.startswith(b"00"):
        piece = b"0" * 65_536
    async with Connection(town.gateway.url) as client:
        await client.send(head + start)
        try:
            while sent < 12 << 20 and not client.writer.is_closing():
                await client.send(piece)
                sent += len(piece)
        except OSError:
            pass
    assert sent < 8 << 20


@pytest.mark.row("B7", "C15")
async def test_garbage_behind_a_running_stream_is_not_answered_inside_it(town: Town) -> None:
    server = town.servers["math"]
    server.fault("hang_mid;events=3")
    async with Connection(town.gateway.url) as client:
        await client.send(request(body_of(Endpoint.CHAT, stream=True)))
        seen = await client.reader.readuntil(b"data: ")
        await client.send(b"\0garbage\r\n\r\n")
        async with asyncio.timeout(3):
            seen += await client.reader.read()
    assert seen.count(b"HTTP/1.1") == 1
    await server.until(lambda server: server.running == 0, timeout_s=1.5)
