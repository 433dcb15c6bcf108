"""One simulated vLLM server: a listening socket, its experts, its faults. It imports nothing of the gateway's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from gateway.sim.engine import Engine
from gateway.sim.experts import Roster, SimExpert
from gateway.sim.faults import FaultBook, FaultRule, parse_fault
from gateway.sim.handler import Handler, ReceivedRequest
from gateway.sim.listening import settled, stop_listening
from gateway.sim.wire import reset

IDLE_TIMEOUT_S = 5.0
"""vLLM closes idle connections after this."""
BACKLOG = 2048
"""As uvicorn, which vLLM runs under."""
MAXIMUM_BODY_BYTES = 256 << 20
KEPT_REQUESTS = 512
STOP_S = 0.05
"""What running requests get before they are cancelled at the stop."""


class SimServer:
    """A simulated vLLM server on one port, an async context manager.

    Args:
        experts: Its models. Several may share the port, as LoRA adapters do on a real server.
        host: Address to listen on.
        port: Port, 0 for any free one.
        idle_timeout_s: Idle connections are closed after this.
    """

    def __init__(
        self,
        *experts: SimExpert,
        host: str = "127.0.0.1",
        port: int = 0,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self.roster = Roster(experts)
        self.host = host
        self.port = port
        self.fault_book = FaultBook()
        self.requests: deque[ReceivedRequest] = deque(maxlen=KEPT_REQUESTS)
        """What arrived, oldest first, without the simulator's own `/sim` calls."""
        self.lines: deque[str] = deque()
        """Answers that `say` set and nobody has asked for yet."""
        self._idle_timeout_s = idle_timeout_s
        self._engines = {expert.model: Engine(expert, self._tell) for expert in self.roster.experts}
        self._watchers: set[asyncio.Future[None]] = set()
        self._reopening: set[asyncio.Task[None]] = set()
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Base URL without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def prompts(self) -> list[ReceivedRequest]:
        """The POSTs among `requests`: what was asked, without a gateway's health and model probes in between."""
        return [request for request in self.requests if request.method == "POST"]

    @property
    def running(self) -> int:
        """Requests being generated."""
        return sum(engine.running for engine in self._engines.values())

    @property
    def waiting(self) -> int:
        """Requests waiting for a place."""
        return sum(len(engine.waiting) for engine in self._engines.values())

    @property
    def aborted(self) -> int:
        """Requests given up because the client left."""
        return sum(engine.aborted for engine in self._engines.values())

    @property
    def listening(self) -> bool:
        """Whether new connections are accepted."""
        return self._listener is not None

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._web.connections) if self._web is not None else 0

    def fault(self, text: str, *, count: int | None = 1, path: str | None = None, model: str | None = None) -> None:
        """Let the next requests fail: `NAME;key=value`, see `fault_kinds`.

        Args:
            text: The fault.
            count: How many requests it hits; None: all until `clear_faults`.
            path: Only requests with this path; None: every generating request.
            model: Only requests for this model.
        """
        self.fault_book.add(FaultRule(parse_fault(text), count, path, model))

    def say(self, *texts: str) -> None:
        """Let the next chat requests be answered with these texts, one each, in the order they arrive."""
        self.lines.extend(texts)

    def clear_faults(self) -> None:
        """Lift all faults set by `fault` or by admin calls; the socket stays as it is."""
        self.fault_book.clear()

    async def until(self, condition: Callable[[Self], bool], *, timeout_s: float = 5.0) -> None:
        """Wait until a condition on the counts or the requests holds.

        Raises:
            TimeoutError: it did not in time.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._watchers.add(watcher)
                try:
                    await watcher
                finally:
                    self._watchers.discard(watcher)

    def _tell(self) -> None:
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        handler = Handler(self, self._engines, self._tell)
        self._web = web.Server(
            handler.answer,
            request_factory=_request,
            handler_cancellation=True,
            keepalive_timeout=self._idle_timeout_s,
            access_log=None,
            # vLLM does not unpack request bodies.
            auto_decompress=False,
        )
        await self.accept()

    async def accept(self) -> None:
        """Listen (again) on the same port."""
        if self._listener is None and self._web is not None:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(
                self._web, self.host, self.port, reuse_address=True, backlog=BACKLOG
            )
            self.port = self._listener.sockets[0].getsockname()[1]
            self._tell()

    def refuse(self, *, drop: bool = False, seconds: float | None = None) -> None:
        """Close the listening socket, so that new connections are refused.

        Args:
            drop: Also reset the open connections.
            seconds: Listen again after this; None: when `accept` is called.
        """
        if self._listener is not None:
            stop_listening(self._listener, self.drop_connections if drop else None)
            self._listener = None
            self._tell()
        if drop:
            self.drop_connections()
        if seconds is not None:
            task = asyncio.get_running_loop().create_task(self._accept_after(seconds))
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    def drop_connections(self) -> None:
        """Reset all open connections."""
        for connection in self._web.connections if self._web is not None else ():
            if isinstance(connection.transport, asyncio.Transport):
                reset(connection.transport)

    async def _accept_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.accept()

    async def stop(self) -> None:
        """Close the socket and all connections; running requests are cancelled."""
        for task in tuple(self._reopening):
            task.cancel()
        self.refuse()
        await settled()
        if self._web is not None:
            self._web.pre_shutdown()
            await self._web.shutdown(STOP_S)
            self._web = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def state(self) -> Mapping[str, Any]:
        """The answer of `GET /sim/state`."""
        return {
            "url": self.url,
            "running": self.running,
            "waiting": self.waiting,
            "aborted": self.aborted,
            "connections": self.connections,
            "received": len(self.requests),
            "faults": [
                {"fault": str(rule.fault), "count": rule.count, "path": rule.path, "model": rule.model}
                for rule in self.fault_book.rules
            ],
            "experts": [
                {"model": name, "running": engine.running, "waiting": len(engine.waiting), "aborted": engine.aborted}
                for name, engine in self._engines.items()
            ],
        }


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: Any,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """A request that may be as large as a real server accepts."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAXIMUM_BODY_BYTES)
