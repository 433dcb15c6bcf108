"""A bare HTTP/1.1 client that shows what was on the wire: chunks, missing ends, resets. It repairs nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from gateway.sim import SimServer
from tests.connections import hang_up

JSON = "application/json"
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello there"}]


@dataclass
class RawAnswer:
    """An answer as far as it came; `end` is `eof`, `reset`, or `open` when nothing more came in time."""

    raw: bytes
    end: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    rest: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks) if "transfer-encoding" in self.headers else self.rest

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of all server-sent events, `[DONE]` as a string."""
        lines = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


def request_bytes(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: sim", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def exchange(port: int, sent: bytes, *, quiet_s: float = 10.0) -> RawAnswer:
    """Send bytes and read until the end of the connection, or until `quiet_s` pass without a byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    raw, end = b"", "eof"
    try:
        while True:
            async with asyncio.timeout(quiet_s):
                piece = await reader.read(65536)
            if not piece:
                break
            raw += piece
    except TimeoutError:
        end = "open"
    except ConnectionResetError:
        end = "reset"
    finally:
        await hang_up(writer)
    return parse(raw, end)


def parse(raw: bytes, end: str) -> RawAnswer:
    head, separator, rest = raw.partition(b"\r\n\r\n")
    answer = RawAnswer(raw, end, rest=rest)
    if not separator:
        return answer
    first, *lines = head.decode().split("\r\n")
    answer.status = int(first.split()[1])
    answer.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if "transfer-encoding" in answer.headers:
        answer.chunks, answer.complete = unchunk(rest)
    else:
        answer.complete = len(rest) == int(answer.headers.get("content-length", 0))
    return answer


def unchunk(rest: bytes) -> tuple[list[bytes], bool]:
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return chunks, True
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return chunks, False


async def post(server: SimServer, path: str, body: Any, *, quiet_s: float = 10.0, **headers: str) -> RawAnswer:
    """Post JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    content = {"content_type": JSON} | headers
    return await exchange(server.port, request_bytes("POST", path, data, **content), quiet_s=quiet_s)


async def get(server: SimServer, path: str, method: str = "GET", **headers: str) -> RawAnswer:
    return await exchange(server.port, request_bytes(method, path, b"", **headers))


async def chat(server: SimServer, *, quiet_s: float = 10.0, path: str = CHAT, **fields: Any) -> RawAnswer:
    """Chat with the first expert; keyword arguments are body fields."""
    return await post(server, path, {"messages": HELLO, **fields}, quiet_s=quiet_s)
