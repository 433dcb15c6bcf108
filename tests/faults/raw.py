"""Builds requests byte by byte and knows what every refusal must look like; one town for many tests."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson

from gateway.sim.server import SimServer
from gateway.types import Endpoint
from router import Scorer
from tests.conftest import Town, quick_expert, settings_for
from tests.connections import hang_up
from tests.harness import RawAnswer, RunningGateway, run_gateway, send_raw

Headers = tuple[tuple[str, str], ...]

HOST = ("host", "localhost")
JSON: Headers = (HOST, ("content-type", "application/json"))
WORD = "math"
"""Stands in the text of every valid body, for tests to replace."""
VALID: dict[Endpoint, dict[str, Any]] = {
    Endpoint.CHAT: {"model": "auto", "messages": [{"role": "user", "content": WORD}]},
    Endpoint.COMPLETIONS: {"model": "auto", "prompt": WORD},
    Endpoint.RESPONSES: {"model": "auto", "input": WORD},
    Endpoint.MESSAGES: {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": WORD}]},
    Endpoint.EMBEDDINGS: {"model": "auto", "input": WORD},
}
GENERATING = tuple(endpoint for endpoint in Endpoint if endpoint is not Endpoint.EMBEDDINGS)
ANSWERED_WITHIN_S = 0.05
ANSWER_S = 2
"""An answer that takes longer never comes."""
# What a client must never see: how the gateway is made and where the experts live.
_SECRETS = re.compile(rb"Traceback|\.py\b|127\.0\.0\.1|localhost|aiohttp|orjson\.|uvicorn", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def body_of(endpoint: Endpoint, **changes: Any) -> bytes:
    """A valid body with some fields changed."""
    return orjson.dumps({**VALID[endpoint], **changes})


def request(
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = Endpoint.CHAT.path,
    headers: Headers = JSON,
    version: str = "1.1",
) -> bytes:
    """A request as it stands on the wire; the content-length is added."""
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(body: bytes, *, path: str = Endpoint.CHAT.path, version: str = "1.1") -> bytes:
    """The same with one chunk."""
    head = request(path=path, version=version).replace(b"content-length: 0", b"transfer-encoding: chunked")
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def check_refusal(
    answer: RawAnswer, status: int, *, code: str | None = None, path: str = Endpoint.CHAT.path
) -> dict[str, Any]:
    """Assert the form every error has, and return the error object."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json", answer
    assert _REQUEST_ID.fullmatch(answer.headers["x-request-id"]), answer
    assert not _SECRETS.search(answer.body), answer
    payload = orjson.loads(answer.body)
    assert payload.pop("type", None) == ("error" if path.startswith("/v1/messages") else None)
    assert list(payload) == ["error"]
    error: dict[str, Any] = payload["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    if code is not None:
        assert error["code"] == code, error
    return error


async def refused(
    gateway: RunningGateway,
    raw: bytes,
    status: int = 400,
    *,
    code: str | None = None,
    path: str = Endpoint.CHAT.path,
) -> dict[str, Any]:
    """Send, assert a well-formed refusal in time with exactly one record that says the same, return the error."""
    before = len(gateway.recorder.records)
    answers = [await send_raw(gateway.url, raw)]
    while answers[-1].seconds > ANSWERED_WITHIN_S and len(answers) < 4:  # the machine is shared: best of some
        answers.append(await send_raw(gateway.url, raw))
    assert answers[-1].seconds < ANSWERED_WITHIN_S, [answer.seconds for answer in answers]
    for answer in answers:
        error = check_refusal(answer, status, code=code, path=path)
    records = (await gateway.recorder.wait_for(before + len(answers), timeout_s=1))[before:]
    assert len(records) == len(answers)
    assert {record.status for record in records} == {status}
    assert {record.error for record in records} == {error["code"]}
    assert records[-1].request_id == answers[-1].headers["x-request-id"]
    return error


@asynccontextmanager
async def open_town(
    *, scorer: Scorer | None = None, changes: dict[str, dict[str, Any]] | None = None, **sections: Any
) -> AsyncIterator[Town]:
    """A town as the fixture makes it, for the tests of a module to share: stopping one takes 0.2 s.

    Args:
        scorer: instead of the keyword scorer.
        changes: settings of single experts; who serves embeddings only does so in earnest.
        sections: of the settings.
    """
    sections = {"health": {"interval_s": 60}, **sections}
    async with AsyncExitStack() as stack:
        servers, experts = {}, {}
        for name in ("generalist", "math", "coding"):
            own = (changes or {}).get(name, {})
            serves = {"serves": frozenset({"embeddings"})} if own.get("serves") == ["embeddings"] else {}
            servers[name] = await stack.enter_async_context(SimServer(quick_expert(f"sim/{name}", name, **serves)))
            domains = {} if name == "generalist" else {"domains": [name]}
            experts[name] = {"model": f"sim/{name}", "upstreams": [servers[name].url], **domains, **own}
        gateway = await stack.enter_async_context(run_gateway(settings_for(experts, **sections), scorer))
        yield Town(gateway, servers)


def forwarded(town: Town) -> int:
    """How many prompts have reached any expert, of the last 512."""
    return sum(len(server.prompts) for server in town.servers.values())


async def open_connections(gateway: RunningGateway) -> float:
    """How many clients are connected, the one that asks among them."""
    return (await gateway.metric("pointsman_connections"))["pointsman_connections"]


class Connection:
    """A client that can leave in the middle of anything; an async context manager.

    Args:
        url: the gateway.
    """

    def __init__(self, url: str) -> None:
        self._host, _, self._port = url.removeprefix("http://").partition(":")

    async def __aenter__(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(self._host, int(self._port))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await hang_up(self.writer)

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> RawAnswer:
        """Read one answer that has a content-length, and nothing after it."""
        async with asyncio.timeout(ANSWER_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return RawAnswer(int(head[0].split()[1]), headers, body, 0.0)

    def leave(self, *, reset: bool) -> None:
        """Close the connection, politely or with a reset."""
        if reset:
            plug: socket.socket = self.writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
