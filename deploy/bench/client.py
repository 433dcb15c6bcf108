"""The load client: sends requests over raw sockets and times answers, plain or streamed. Knows no arm.

    python deploy/bench/client.py '{"port": 8080, "bodies": "file", "connections": 8, "seconds": 2}'

It runs in a process of its own and prints one line of JSON. `each` bounds the requests of a connection, `seconds` the
time in which new ones are sent; `ramp_s` spreads the opening of the connections. Times to first token start before the
connection is opened where a connection's first request is meant.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from bodies import MARK
from upstream import LENGTH, TOKEN

DONE = b"data: [DONE]"
END = b"0\r\n\r\n"
KEPT = 64
"""Bytes of a stream that are looked at again with the next read: more than the end of one, or a token cut in two."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send; see the module's text."""

    port: int
    bodies: str
    connections: int = 1
    seconds: float = 3600.0
    each: int = 10**9
    ramp_s: float = 0.0
    headers: tuple[str, ...] = ()
    limit_s: float = 120.0
    """How long one request may take."""
    chunks: int = 0
    """Content chunks that every stream must have; 0 for plain answers."""


@dataclass(slots=True)
class Tally:
    """What was seen."""

    latencies_ms: list[float] = field(default_factory=list)
    firsts_ms: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    chunks: int = 0
    reads: int = 0
    open_streams: int = 0
    most_open: int = 0

    def fail(self, why: str) -> None:
        """Count a failure by kind."""
        self.failures[why] = self.failures.get(why, 0) + 1


class Answer(asyncio.Protocol):
    """One connection; `expect` tells when the answer to the request just sent is whole."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._whole: asyncio.Future[str] | None = None
        self._head = self._tail = b""
        self._left = -1
        self.first_at = 0.0
        self.chunks = 0

    def expect(self) -> asyncio.Future[str]:
        """Return a future of how the answer ended: nothing, or what is wrong with it."""
        self._head = self._tail = b""
        self._left, self.first_at, self.chunks = -1, 0.0, 0
        self._whole = asyncio.get_running_loop().create_future()
        return self._whole

    def data_received(self, data: bytes) -> None:
        """Count tokens and look for the end."""
        now = time.perf_counter()
        if not self._tail:
            self._head += data
            split = self._head.find(b"\r\n\r\n")
            if split < 0:
                return
            head, data = self._head[:split], self._head[split + 4 :]
            if b" 200 " not in head[:20]:
                self._end(f"status {head[9:12].decode(errors='replace')}")
                return
            if length := LENGTH.search(head + b"\r\n"):
                self._left = int(length.group(1))
            self._tail = b"."
        if self._left >= 0:
            self._left -= len(data)
            if self._left <= 0:
                self._end("")
            return
        self._streamed(data, now)

    def _streamed(self, data: bytes, now: float) -> None:
        seen = self._tail + data
        token = TOKEN.encode()
        found = seen.count(token) - self._tail.count(token)
        if found:
            self.first_at = self.first_at or now
            self.chunks += found
            self._tally.reads += 1
        self._tail = seen[-KEPT:]
        if seen.endswith(END):
            self._end("" if DONE in self._tail else "no [DONE]")

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was not whole."""
        self._end("closed")

    def _end(self, failure: str) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(failure)


def requests(plan: Plan) -> Iterator[bytes]:
    """Yield request after request, each with a number that no earlier one had."""
    heads = "".join(f"{line}\r\n" for line in ("host: 127.0.0.1", "content-type: application/json", *plan.headers))
    # As bytes and split once, or the client would spend more on long prompts than the arms do.
    parts = [line.encode().split(MARK.encode()) for line in Path(plan.bodies).read_text().splitlines()]
    number = random.randrange(10**7)
    while True:
        number += 1
        before, after = parts[number % len(parts)]
        length = len(before) + len(MARK) + len(after)
        head = f"POST /v1/chat/completions HTTP/1.1\r\n{heads}content-length: {length}\r\n\r\n"
        yield head.encode() + before + f"{number:08d}".encode() + after


async def _connection(plan: Plan, source: Iterator[bytes], tally: Tally, wait_s: float, deadline: float) -> None:
    await asyncio.sleep(wait_s)
    transport: asyncio.Transport | None = None
    for _ in range(plan.each):
        started = time.perf_counter()
        if started > deadline:
            break
        try:
            async with asyncio.timeout(plan.limit_s):
                if transport is None or transport.is_closing():
                    loop = asyncio.get_running_loop()
                    transport, answer = await loop.create_connection(lambda: Answer(tally), "127.0.0.1", plan.port)
                failure = await _exchange(transport, answer, next(source), tally)
        except (OSError, TimeoutError) as error:
            failure = type(error).__name__
        _count(plan, tally, answer if transport else None, failure, started)
        if failure and transport is not None:
            transport.abort()
            transport = None
    if transport is not None:
        transport.close()


async def _exchange(transport: asyncio.Transport, answer: Answer, request: bytes, tally: Tally) -> str:
    whole = answer.expect()
    transport.write(request)
    tally.open_streams += 1
    tally.most_open = max(tally.most_open, tally.open_streams)
    try:
        return await whole
    finally:
        tally.open_streams -= 1


def _count(plan: Plan, tally: Tally, answer: Answer | None, failure: str, started: float) -> None:
    if not failure and answer is not None and plan.chunks and answer.chunks != plan.chunks:
        failure = "chunks lost"
    if failure or answer is None:
        tally.fail(failure)
        return
    tally.latencies_ms.append((time.perf_counter() - started) * 1000)
    tally.chunks += answer.chunks
    if answer.first_at:
        tally.firsts_ms.append((answer.first_at - started) * 1000)


async def run(plan: Plan) -> Tally:
    """Send what the plan says and return what was seen."""
    tally, source = Tally(), requests(plan)
    deadline = time.perf_counter() + plan.seconds
    waits = [plan.ramp_s * number / plan.connections for number in range(plan.connections)]
    await asyncio.gather(*(_connection(plan, source, tally, wait_s, deadline) for wait_s in waits))
    return tally


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie; NaN of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def summary(tally: Tally, duration_s: float) -> dict[str, Any]:
    """Return the line that is printed."""
    return {
        "requests": len(tally.latencies_ms),
        "duration_s": duration_s,
        "errors": sum(tally.failures.values()),
        "failures": tally.failures,
        "p50_ms": percentile(tally.latencies_ms, 0.5),
        "p99_ms": percentile(tally.latencies_ms, 0.99),
        "first_p50_ms": percentile(tally.firsts_ms, 0.5),
        "first_p99_ms": percentile(tally.firsts_ms, 0.99),
        "chunks": tally.chunks,
        "reads": tally.reads,
        "most_open": tally.most_open,
    }


def main() -> None:
    """Run the plan in the first argument."""
    plan = Plan(**json.loads(sys.argv[1]))
    started = time.perf_counter()
    tally = uvloop.run(run(plan))
    sys.stdout.write(json.dumps(summary(tally, time.perf_counter() - started)) + "\n")


if __name__ == "__main__":
    main()
