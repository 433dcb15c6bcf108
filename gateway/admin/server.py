"""Serves the admin application on its own port, inside the gateway's process. Knows no route and takes no signal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

import structlog
import uvicorn

from gateway.admin.app import Part, create_admin_app
from gateway.admin.plane import Plane
from gateway.connections import ConnectionLimits, Connections
from gateway.protocol import GuardedProtocol

log = structlog.get_logger(__name__)

CONNECTIONS = 64
START_S = 10.0
STOP_S = 2
_LIMITS = ConnectionLimits(most=CONNECTIONS, keep_alive_s=75, head_s=10, rest_s=10, write_s=30)


class _Server(uvicorn.Server):
    """uvicorn's without its signals: those belong to the data plane's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """An async context manager: entered after the gateway, left before it.

    Args:
        plane: what it serves.
        listening: where; closed at the end.
        part: what is served beside the API.

    Attributes:
        app: the FastAPI application.
        url: its base address.
    """

    def __init__(self, plane: Plane, listening: socket.socket, part: Part | None = None) -> None:
        self.app, front = create_admin_app(plane, part)
        host, port = listening.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._plane = plane
        self._listening = listening
        connections = Connections(lambda: _LIMITS, lambda code: log.debug("admin_connection_refused", code=code))
        config = uvicorn.Config(
            front,
            http=partial(GuardedProtocol, connections=connections),  # type: ignore[arg-type]  # a factory
            ws="none",
            interface="asgi3",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to serve."""
        serving = self._serving = asyncio.create_task(self._server.serve(sockets=[self._listening]))
        async with asyncio.timeout(START_S):
            while not self._server.started:
                if serving.done():
                    serving.result()
                await asyncio.sleep(0.005)
        log.info("admin_listening", address=self.url)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Let running requests end, for some seconds."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait([self._serving], timeout=STOP_S + 1)
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        self._plane.threads.close()
