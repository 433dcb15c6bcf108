"""Sending replies, with the expert's pace and with the ends a fault wants. It decides nothing about contents."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from gateway.sim.experts import SimExpert
from gateway.sim.replies import Action, Event, Reply

HANG_S = 86_400.0
"""A hanging request ends when its client leaves or the server stops; this bounds what nobody ends."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on with 0 s: closing sends RST."""


FLUSH_TURNS = 100
"""Turns of the event loop a reset waits for bytes to leave."""


@dataclass(slots=True)
class Pace:
    """When tokens are due.

    Args:
        started_s: Start of the generation on the monotonic clock.
        first_s: Time to the first token.
        token_s: Time per further token.
    """

    started_s: float
    first_s: float = 0.0
    token_s: float = 0.0

    @classmethod
    def of(cls, expert: SimExpert, started_s: float) -> Pace:
        """The pace of an expert."""
        rate = expert.tokens_per_second
        return cls(started_s, expert.time_to_first_token_s, 1 / rate if rate > 0 else 0.0)

    async def until(self, step: int) -> None:
        """Wait until token number `step` (from 0) is due."""
        if not self.first_s and not self.token_s:
            return
        left_s = self.started_s + self.first_s + step * self.token_s - time.monotonic()
        if left_s > 0:
            await asyncio.sleep(left_s)


class Wire:
    """The sending end of one request."""

    def __init__(self, request: web.BaseRequest, pace: Pace) -> None:
        self._request = request
        self._pace = pace
        self.cut: Callable[[], None] = lambda: None
        """Called before the connection is ended on purpose."""
        self.first_sent: Callable[[], None] = lambda: None
        """Called when the first token is there."""

    async def send(self, reply: Reply) -> web.StreamResponse:
        """Send a reply; a whole body is only waited for, and sent by the server that gets it back."""
        if reply.hold_s:
            await asyncio.sleep(reply.hold_s)
        if reply.before is not None:
            await self._end(reply.before)
            return web.Response()
        if isinstance(reply.body, bytes):
            await self._pace.until(0)
            self.first_sent()
            await self._pace.until(reply.steps)
            return web.Response(body=reply.body, status=reply.status, headers=reply.headers)
        return await self._stream(reply, reply.body)

    async def _stream(self, reply: Reply, events: Iterable[Event]) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        length = response.content_length
        await self._pace.until(0 if length is None else reply.steps)
        await response.prepare(self._request)
        first = True
        for event in events:
            await self._pace.until(event.step if length is None else 0)
            if event.wait_s:
                await asyncio.sleep(event.wait_s)
            await self._perform(event, response)
            if event.action in {"fin", "rst", "hang"}:
                return response
            if first:
                first = False
                self.first_sent()
        await response.write_eof()
        return response

    async def _perform(self, event: Event, response: web.StreamResponse) -> None:
        if event.action == "send":
            await response.write(event.data)
            # Lets other requests run, and a lost client be noticed, in streams without pace.
            await asyncio.sleep(0)
        elif event.action == "raw":
            transport = self._request.transport
            if transport is not None:
                transport.write(event.data)
        else:
            await self._end(event.action)

    async def _end(self, action: Action) -> None:
        """Hang until the client leaves, or end the connection."""
        transport = self._request.transport
        if action == "hang":
            await asyncio.sleep(HANG_S)
        elif transport is not None:
            self.cut()
            if action == "rst":
                await _flushed(transport)
                reset(transport)
            else:
                transport.close()


async def _flushed(transport: asyncio.Transport) -> None:
    """Give written bytes the chance to leave, for a while: a client that does not read must not hold up the reset."""
    for _ in range(FLUSH_TURNS):
        if not transport.get_write_buffer_size():
            return
        await asyncio.sleep(0)


def reset(transport: asyncio.WriteTransport) -> None:
    """Close a connection with RST."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
