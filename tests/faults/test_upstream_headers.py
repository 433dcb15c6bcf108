"""Experts' servers that answer with odd bytes in headers: the client gets an answer or a 502, never our traceback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conftest import StartGateway, settings_for
from tests.connections import listening
from tests.faults.raw import check_refusal, request
from tests.harness import send_raw

ANSWER = b'{"id":"x","choices":[]}'
CHAT = b'{"model":"auto","messages":[{"role":"user","content":"hello"}]}'


@asynccontextmanager
async def odd_server(header: bytes) -> AsyncIterator[str]:
    """A server that answers everything with one header line of ours."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = b"content-length: %d\r\nconnection: close\r\n" % len(ANSWER)
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + header + b"\r\n\r\n" + ANSWER)
        await writer.drain()

    async with listening(answer) as url:
        yield url


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"content-type: application/json", 200),
        pytest.param(
            b"content-type: application/json; x=\xff",
            200,
        ),
        pytest.param(
            "content-type: application/json; x=中".encode(),
            200,
        ),
        (b"content-type: text/html", 502),
        (b"x-long: " + b"v" * 100_000, 502),
        (b"bad header line", 502),
    ],
    ids=["plain", "byte", "utf-8", "html", "long", "malformed"],
)
async def test_upstream_header_odd_is_no_traceback(start_gateway: StartGateway, header: bytes, status: int) -> None:
    async with odd_server(header) as url:
        settings: Any = settings_for({"generalist": {"model": "m", "upstreams": [url]}}, health={"interval_s": 60})
        gateway = await start_gateway(settings)
        answer = await send_raw(gateway.url, request(CHAT))
        if status == 200:
            assert (answer.status, answer.body) == (200, ANSWER)
            assert answer.headers["content-type"].startswith("application/json")
        else:
            check_refusal(answer, status)
        assert len(await gateway.recorder.wait_for(1)) == 1
