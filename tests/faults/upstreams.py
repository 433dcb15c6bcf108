"""Upstreams that no simulated expert can be: a black hole, and a server that writes whatever bytes it is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import orjson

from tests.connections import listening

MODEL = "raw"
_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def blackhole(port: int) -> Iterator[None]:
    """Take a free port on which the kernel drops every SYN: a listener that accepts nobody, its queue filled."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        try:
            yield
        finally:
            for filler in fillers:
                filler.close()


def completion(text: str) -> bytes:
    """A whole plain chat answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return orjson.dumps({"id": "c", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage})


def framed(body: bytes, *, length: int | None = None, content_type: str = "application/json") -> bytes:
    """An HTTP answer that claims `length` bytes, or as many as there are."""
    claimed = len(body) if length is None else length
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {claimed}\r\n\r\n"
    return head.encode() + body


class RawUpstream:
    """Answers every prompt with the next of `answers`, the last one again and again; an async context manager.

    Attributes:
        url: where it listens.
        answers: what it writes, byte for byte.
        prompts: on which connection each prompt came, by the connection's number.
    """

    def __init__(self, *answers: bytes) -> None:
        self.url = ""
        self.answers = list(answers)
        self.prompts: list[int] = []
        self._connections = 0
        self._listening = listening(self._serve)

    async def __aenter__(self) -> Self:
        self.url = await self._listening.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._listening.__aexit__(*exc)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(_HEALTHY)
                    continue
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
                self.prompts.append(number)
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
