"""The limit in Python: the least that uvicorn and aiohttp can do to relay a request, plain or streamed.

    python deploy/bench/relay.py PORT UPSTREAM_PORT

It has no limits, decides nothing and records nothing; what Pointsman costs beyond it is what Pointsman does.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
HEADERS = {"content-type": "application/json"}


class Relay:
    """An ASGI application in front of one upstream."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream = f"http://127.0.0.1:{upstream_port}"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Send the body on and the answer back."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        async with self._client().post(self._upstream + scope["path"], data=body, headers=HEADERS) as answer:
            kept = [(name.lower(), value) for name, value in answer.raw_headers if name.lower() != b"transfer-encoding"]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            if answer.content_length is None:
                async for piece in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            else:
                await send({"type": "http.response.body", "body": await answer.read()})

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session


if __name__ == "__main__":
    port, upstream_port = map(int, sys.argv[1:])
    options: dict[str, Any] = {"http": "httptools", "loop": "uvloop", "lifespan": "off"}
    uvicorn.run(Relay(upstream_port), port=port, access_log=False, log_level="error", **options)
