"""uvicorn's HTTP protocol with the edges it leaves open: endless headers, offered upgrades, absolute targets.

What a parser refuses is answered in the same JSON shape as everything else. Nothing here looks at bodies.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import HeadersTooLarge, InvalidRequest, PointsmanError
from gateway.guard import MAXIMUM_HEADER_BYTES

# The guard counts names and values; this counts the lines as they come, separators included.
MAXIMUM_HEAD_BYTES = 2 * MAXIMUM_HEADER_BYTES
# Taking an upgrade is voluntary (RFC 9110 7.8), but httptools stops parsing at one and the body would be lost. JDK's
# client offers h2c with its first request.
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n)", re.IGNORECASE)


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._in_head:
            self._head_bytes += len(data)
            if b"pgrade:" in data:
                head, end, body = data.partition(b"\r\n\r\n")
                data = _UPGRADE.sub(b"", head + end[:2]) + end[2:] + body
        super().data_received(data)
        if self._in_head and self._head_bytes > MAXIMUM_HEAD_BYTES:
            self._refuse(HeadersTooLarge("The request's headers are too long."))

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """End a request's headers and let the guard see the target as it was written."""
        self._in_head, self._head_bytes = False, 0
        target = self.url
        super().on_headers_complete()
        self.scope["target"] = target  # type: ignore[typeddict-unknown-key]  # ours, for the guard

    def on_message_complete(self) -> None:
        """End a request; what follows is the next one's head."""
        super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused."""
        self._refuse(InvalidRequest(msg))

    def _refuse(self, error: PointsmanError) -> None:
        if self.transport.is_closing():
            return
        body = error.body()
        reason = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}[error.status]
        lines = [
            b"HTTP/1.1 %d %s" % (error.status, reason),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"x-request-id: %s" % secrets.token_hex(16).encode(),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.transport.close()
