"""How the process stops: first nobody is sent here any more, then nobody comes in, then the last answers end.

uvicorn closes its sockets at once, cuts what is left without waiting for the last words to be written, and takes a
second signal for the first. Nothing here knows of requests or settings but what the gateway tells.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from gateway.state import Gateway

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.05
# For the error events of cut streams to reach their clients.
LAST_WORDS_S = 2.0
CANCEL_S = 0.5
# A loop or thread that hangs must not hold the process for ever.
ALARM_S = 15
CLOSE = (b"connection", b"close")

# Between a supervisor and its workers.
DRAIN, CUT, RELOAD, STARTED = b"d", b"c", b"r", b"s"


class DrainingServer(uvicorn.Server):
    """Serves until a signal says stop, then drains; see the module.

    Args:
        config: how uvicorn runs.
        gateway: told that it drains; ends what runs too long.
        on_hangup: called for SIGHUP; None: it stops like the others, as when a terminal closes.
        control: a supervisor's end of it; signals only drain then, and what its words say, counts.

    Attributes:
        exit_code: 0 after a drain, also one that had to cut requests; 128 and the signal's number when a second
            signal cut it short.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        *,
        on_hangup: Callable[[], None] | None = None,
        control: socket.socket | None = None,
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._on_hangup = on_hangup
        self._control = control
        self._close_at: float | None = None
        self.exit_code = 0

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals while serving. Unlike uvicorn's, it does not raise them again: a drain is a clean end."""
        loop, control = asyncio.get_running_loop(), self._control
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop, number)
        if self._on_hangup is not None:
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        if control is not None:
            loop.add_reader(control, self._obey, control)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            if control is not None:
                loop.remove_reader(control)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell the supervisor."""
        await super().startup(sockets)
        if self._control is not None:
            self._control.send(STARTED)

    def stop(self, number: int) -> None:
        """Take a signal to stop: the first one drains, the second cuts that short, the third kills."""
        if self._control is not None or not self._gateway.draining:
            self.drain()
            return
        if self.force_exit:
            os._exit(128 + number)
        self.exit_code = 128 + number
        self._cut_short()

    def _cut_short(self) -> None:
        self.force_exit = self.should_exit = True
        log.warning("stop_forced")

    def _obey(self, control: socket.socket) -> None:
        """Do what the supervisor says; when it says nothing any more, it is dead."""
        try:
            words = control.recv(64)
        except OSError:
            words = b""
        if not words:
            asyncio.get_running_loop().remove_reader(control)
            self.drain()
        if RELOAD in words and self._on_hangup is not None:
            self._on_hangup()
        if DRAIN in words:
            self.drain()
        if CUT in words:
            self.drain()
            self._cut_short()

    def drain(self) -> None:
        """Begin to stop."""
        if self._gateway.draining:
            return
        limits = self._gateway.settings.server
        self._gateway.draining = True
        self._close_at = asyncio.get_running_loop().time() + limits.drain_grace_s
        self._tell_clients()
        signal.alarm(math.ceil(limits.drain_grace_s + limits.drain_s + LAST_WORDS_S + CANCEL_S + ALARM_S))
        log.info("drain_started", grace_s=limits.drain_grace_s, drain_s=limits.drain_s)

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether to close the doors."""
        done = await super().on_tick(counter)
        self._tell_clients()
        return done or (self._close_at is not None and asyncio.get_running_loop().time() >= self._close_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no connection any more, let running requests end, cut those that do not."""
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()  # those without a request close
        if not self.force_exit:
            await self._until_idle(self._gateway.settings.server.drain_s, stop_waiting=lambda: self.force_exit)
        await self._cut()
        await self.lifespan.shutdown()
        log.info("stopped", forced=self.force_exit)

    async def _cut(self) -> None:
        state = self.server_state
        if not state.connections and not state.tasks:
            return
        log.warning("drain_cut", requests=len(state.tasks), connections=len(state.connections))
        self._gateway.stop_requests()
        await self._until_idle(LAST_WORDS_S)
        tasks = tuple(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_S)

    async def _until_idle(self, limit_s: float, *, stop_waiting: Callable[[], bool] = lambda: False) -> None:
        loop, state = asyncio.get_running_loop(), self.server_state
        ends = loop.time() + limit_s
        while (state.connections or state.tasks) and loop.time() < ends and not stop_waiting():  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell_clients(self) -> None:
        """Have every answer that begins from now on end its connection."""
        headers = self.server_state.default_headers
        if self._gateway.draining and CLOSE not in headers:
            self.server_state.default_headers = [*headers, CLOSE]
