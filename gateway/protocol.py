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
# Bytes that cannot become a request line: the parser may refuse them at once.
_HOPELESS = re.compile(rb"(?![A-Za-z\r\n])|[^\n]*[^\r]\n|\r\n\r\n")
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n)", re.IGNORECASE)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    A request's head is collected until it is whole and handed on in one piece; everything else goes straight to the
    parser. What the parser swallows without a sound (chunk extensions, trailers) is counted, so that it has an end.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head: bytes | None = b""
        self._silent_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0 and len(self._head) <= MAXIMUM_HEAD_BYTES and not _HOPELESS.match(self._head):
                self._unset_keepalive_if_required()
                return
            data, self._head = self._head, None
            if end < 0 and len(data) > MAXIMUM_HEAD_BYTES:
                self._refuse(HeadersTooLarge("The request's headers are too long."))
                return
            if end >= 0:
                data = _UPGRADE.sub(b"", data[: end + 2]) + data[end + 2 :]
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > MAXIMUM_HEAD_BYTES:
            self._refuse(InvalidRequest("The request has too much framing around its body."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are not headers (RFC 9110 6.5.1), and uvicorn would add them to those."""
        if not self._in_body:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Begin a request. Its head is with the parser now, also one that came behind the last body in one packet."""
        super().on_message_begin()
        self._in_body, self._head = False, None

    def on_headers_complete(self) -> None:
        """End a request's headers and let the guard see the target as it was written."""
        self._in_body, self._silent_bytes = True, 0
        target = self.url
        super().on_headers_complete()
        self.scope["target"] = target  # type: ignore[typeddict-unknown-key]  # ours, for the guard

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; what follows is the next one's head."""
        super().on_message_complete()
        self._silent_bytes, self._head = 0, b""

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused."""
        self._refuse(InvalidRequest(msg))

    def _refuse(self, error: PointsmanError) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started:
            # An answer is on its way; ours would stand in the middle of it.
            self.transport.close()
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
