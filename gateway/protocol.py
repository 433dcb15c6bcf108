"""uvicorn's HTTP protocol with the edges it leaves open: endless heads, clients that dawdle, offered upgrades.

What a parser refuses is answered in the same JSON shape as everything else. Nothing here looks at bodies.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.connections import ConnectionLimits, Connections
from gateway.errors import HeadersTooLarge, HeadTimeout, InvalidRequest, PointsmanError, TooManyConnections
from gateway.guard import MAXIMUM_HEADER_BYTES
from gateway.presence import ReadingWatch, watch_for_reset

# The guard counts names and values; this counts the lines as they come, separators included.
MAXIMUM_HEAD_BYTES = 2 * MAXIMUM_HEADER_BYTES
# Bytes that cannot become a request line: the parser may refuse them at once.
_HOPELESS = re.compile(rb"(?![A-Za-z\r\n])|[^\n]*[^\r]\n|\r\n\r\n")
# Taking an upgrade is voluntary (RFC 9110 7.8), but httptools stops parsing at one and the body would be lost. JDK's
# client offers h2c with its first request.
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n)", re.IGNORECASE)
# A refusal is lost when the connection closes on bytes that have not been read: the rest is thrown away for so long.
LINGER_S = 2.0
LINGER_BYTES = 2**20
# What a client owes us, and for which there is a limit.
_NOTHING, _REQUEST, _HEAD, _REST = range(4)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    Beside what ASGI says a request's scope has `target`, as it was written, and `cut()`, which ends the connection.
    A request's head is collected until it is whole and handed on in one piece; everything else goes straight to the
    parser. What the parser swallows without a sound (chunk extensions, trailers) is counted, so that it has an end.

    Args:
        connections: all of the server's.
        arguments: uvicorn's own.
        options: uvicorn's own.
    """

    _limits: ConnectionLimits
    _reading: ReadingWatch | None = None

    def __init__(self, *arguments: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._everybody = connections
        self._head: bytes | None = b""
        self._in_body = self._in_parser = self._refused = False
        self._silent_bytes = 0
        self._owed = _NOTHING
        self._clock: asyncio.TimerHandle | None = None
        self._half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin, if there is room."""
        super().connection_made(transport)
        limits = self._everybody.admit(self)
        if limits is None:
            self._refused = True
            error = TooManyConnections("The gateway has too many connections.", headers=(("retry-after", "1"),))
            self._answer(error)
            transport.close()
            return
        self._limits, self.timeout_keep_alive = limits, limits.keep_alive_s  # type: ignore[assignment]  # int for uvicorn
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._everybody.forget(self)
        self._unset_keepalive_if_required()
        if self._clock is not None:
            self._clock.cancel()
        if self._reading is not None:
            self._reading.stop()
        # They lead back here; without them nothing of a connection has to wait for the garbage collector.
        self._reading = self._clock = None
        if self.scope is not None:
            self.scope.pop("cut", None)  # type: ignore[typeddict-item]  # ours

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._refused:
            self._silent_bytes += len(data)
            if self._silent_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        self._take(data)
        self._settle()

    def _take(self, data: bytes) -> None:
        if self._head is not None:
            if not self._head:
                # Empty lines before a request are skipped (RFC 9112 2.2) and are no sign of one.
                length, data = len(data), data.lstrip(b"\r\n")
                self._silent_bytes += length - len(data)
                if not data:
                    self._check_silence()
                    return
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
        self._check_silence()

    def _check_silence(self) -> None:
        if self._silent_bytes > MAXIMUM_HEAD_BYTES:
            self._refuse(InvalidRequest("The request has too much framing around its body."))

    def eof_received(self) -> bool | None:  # type: ignore[override]  # uvicorn's always closes
        """Take the end of the client's side: it may have left, or only have nothing more to say.

        To TCP both look the same (RFC 9293 3.6) until something is sent to a client that is not there. So something is:
        before the answer an interim response, which clients skip, and inside a chunked one a leading zero of the next
        chunk's size. An HTTP/1.0 client knows neither; it is taken for gone, as vLLM takes all of them.

        Returns:
            whether the connection stays open for the answer.
        """
        cycle = self.cycle
        if self._refused or cycle is None or cycle.response_complete or cycle.more_body:
            return None
        if self.scope["http_version"] == "1.0":
            return None
        if not self._half_closed:
            self._half_closed, cycle.keep_alive = True, False
            if not self.pipeline:  # else an earlier answer is under way, and what is sent of it will tell
                if not cycle.response_started:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif cycle.chunked_encoding:
                    self.transport.write(b"0")
            watch_for_reset(self.transport)
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are not headers (RFC 9110 6.5.1), and uvicorn would add them to those."""
        if not self._in_body:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Begin a request. Its head is with the parser now, also one that came behind the last body in one packet."""
        super().on_message_begin()
        self._in_body, self._head, self._in_parser = False, None, True

    def on_headers_complete(self) -> None:
        """End a request's headers and let the guard see the target as it was written."""
        self._in_body, self._silent_bytes = True, 0
        target = self.url
        super().on_headers_complete()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # two keys are ours
        scope["target"], scope["cut"] = target, self._cut
        if self.expect_100_continue:
            # Answered without the body, a client that waited for our word may send its next request instead of it.
            self._keeps_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._silent_bytes = 0
        if self.expect_100_continue:
            self.cycle.keep_alive, self.expect_100_continue = self._keeps_alive, False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; what follows is the next one's head."""
        super().on_message_complete()
        self._silent_bytes, self._head, self._in_body, self._in_parser = 0, b"", False, False

    def on_response_complete(self) -> None:
        """End an answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reading()  # what is not yet written keeps the connection open
        else:
            self._settle()

    def pause_writing(self) -> None:
        """Take note that the client reads too slowly."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """Take note that the client has caught up."""
        super().resume_writing()
        if self._reading is not None and not self.transport.is_closing():
            self._reading.stop()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that has been silent; one that does not even take our last bytes is cut."""
        super().timeout_keep_alive_handler()
        self._watch_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused."""
        self._refuse(InvalidRequest(msg))

    def make_room(self) -> None:
        """Close at once, whatever is under way."""
        self.transport.abort()

    def _settle(self) -> None:
        """Set the clock to what the client owes now. What it owed already keeps its deadline, whatever it dribbles."""
        owed = self._what_is_owed()
        if self._refused or owed == self._owed and (owed != _REQUEST or self.timeout_keep_alive_task is not None):
            return
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if owed == _NOTHING:
            self._everybody.work(self)
        elif self._owed == _NOTHING:
            self._everybody.wait(self)
        self._owed = owed
        if owed == _HEAD:
            self._clock = self.loop.call_later(self._limits.head_s, self._on_late_head)
        elif owed == _REST:
            self._clock = self.loop.call_later(self._limits.rest_s, self.timeout_keep_alive_handler)
        elif owed == _REQUEST:
            # What is left of the last request is half of what an idle connection holds.
            self.cycle = self.scope = self.headers = None  # type: ignore[assignment]  # as they are at first
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self._limits.keep_alive_s, self.timeout_keep_alive_handler
                )

    def _what_is_owed(self) -> int:
        """Return what the client has to do next. While we answer, nothing: reading a body has limits of its own."""
        if self.cycle is not None and not self.cycle.response_complete:
            return _NOTHING
        if self._in_body:
            return _REST
        return _HEAD if self._head or self._in_parser else _REQUEST

    def _on_late_head(self) -> None:
        self._refuse(HeadTimeout("The request's head did not arrive in time."))

    def _cut(self) -> None:
        """End the connection in the middle of an answer; what is not written yet never is."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()

    def _watch_reading(self) -> None:
        if self._reading is None:
            # A second more than a request's own limit on this, which comes first and says why in its record.
            self._reading = ReadingWatch(self.transport, self._limits.write_s + 1, self._on_stall)
        self._reading.start()

    def _on_stall(self) -> None:
        self._everybody.note_refusal("client_stalled")
        self.transport.abort()

    def _refuse(self, error: PointsmanError) -> None:
        """Answer with an error instead of parsing on, and close."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._everybody.note_refusal(error.code)
        self._unset_keepalive_if_required()
        if self._clock is not None:
            self._clock.cancel()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or not cycle.more_body:
                # An answer is on its way, to this request or one before; ours would stand in the middle of it.
                self.transport.close()
                self._watch_reading()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._answer(error)
        self._silent_bytes = 0
        self.transport.write_eof()
        self._clock = self.loop.call_later(LINGER_S, self.transport.abort)

    def _answer(self, error: PointsmanError) -> None:
        body = error.body()
        lines = [
            b"HTTP/1.1 %d %s" % (error.status, HTTPStatus(error.status).phrase.encode()),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"x-request-id: %s" % secrets.token_hex(16).encode(),
            *(f"{name}: {value}".encode() for name, value in error.headers),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
