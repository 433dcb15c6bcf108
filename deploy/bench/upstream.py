"""The mock upstream of all arms: answers chat completions, plain or as a paced stream, as cheaply as Python can.

    python deploy/bench/upstream.py PORT

It checks nothing and understands only what the harness sends. Two fields of the request, which every gateway hands on,
steer a stream: `max_tokens` is the number of its content chunks, `seed` the milliseconds between two of them (0: all
in one write). The first chunk comes at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from typing import cast

import uvloop

MODEL = "bench/expert"
TOKEN = "~tok"
"""Text of every content chunk; the client counts it, so no escape of JSON may touch it."""
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream": ?true')
USAGE = re.compile(rb'"include_usage": ?true')
CHUNKS = re.compile(rb'"max_tokens": ?(\d+)')
GAP = re.compile(rb'"seed": ?(\d+)')
# The prompt is the only long field, so the others stand near an end; reading 400 kB for them would be our own cost.
ENDS = 1500
USED = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _plain() -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": f"{TOKEN} " * 40, "refusal": None, "tool_calls": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1700000000, "model": MODEL}
    return _json({**head, "choices": [choice], "usage": USED})


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL}
    return b"data: " + _json({**head, "choices": choices, **more}) + b"\n\n"


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWER = _whole(_plain())
MODELS = _whole(_json({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "bench"}]}))
# No two in a row alike: LiteLLM takes a hundred equal chunks for a model that hangs, and ends the stream.
CONTENTS = [_framed(_delta({"content": f"{TOKEN}{number:03d}"})) for number in range(100)]
START = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    + _framed(_delta({"role": "assistant", "content": ""}))
    + CONTENTS[0]
)


@cache
def _end(usage: bool) -> bytes:
    used = _framed(_event([], usage=USED)) if usage else b""
    return _framed(_delta({}, "stop")) + used + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _content(left: int) -> bytes:
    return CONTENTS[left % len(CONTENTS)]


def _number(pattern: re.Pattern[bytes], text: bytes) -> int:
    found = pattern.search(text)
    return int(found.group(1)) if found else 0


class Upstream(asyncio.Protocol):
    """One connection; one request at a time, as HTTP/1.1 clients send them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def connection_lost(self, exc: Exception | None) -> None:
        """End a running stream."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer as soon as a request is whole."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = LENGTH.search(self._received, 0, head + 2)
        if length:
            if len(self._received) < head + 4 + int(length.group(1)):
                return
        elif self._received.startswith(b"POST") and not self._received.endswith(b"0\r\n\r\n"):
            return  # a chunked body
        whole = self._received
        self._received = bytearray()
        self._answer(whole)

    def _answer(self, request: bytearray) -> None:
        assert self._transport is not None
        if not request.startswith(b"POST"):
            self._transport.write(MODELS)
            return
        fields = bytes(request[:ENDS]) + b" " + bytes(request[-ENDS:])
        if not STREAM.search(fields):
            self._transport.write(ANSWER)
            return
        left, gap_s = _number(CHUNKS, fields) - 1, _number(GAP, fields) / 1000
        end = _end(bool(USAGE.search(fields)))
        if gap_s == 0:
            self._transport.write(START + b"".join(_content(number) for number in range(left, 0, -1)) + end)
            return
        self._transport.write(START)
        self._later(self._loop.time() + gap_s, gap_s, left, end)

    def _later(self, at: float, gap_s: float, left: int, end: bytes) -> None:
        self._loop.call_at(at, self._next, at, gap_s, left, end)

    def _next(self, at: float, gap_s: float, left: int, end: bytes) -> None:
        if self._transport is None:
            return
        if left == 0:
            self._transport.write(end)
            return
        self._transport.write(_content(left))
        self._later(at + gap_s, gap_s, left - 1, end)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
