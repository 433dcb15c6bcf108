"""A listening post between the gateway and a vLLM server: notes what each side said, changes nothing.

vLLM cuts a stream into chunks by its own timing, so two runs of one stream differ. Here the very bytes that the
gateway got can be held against the bytes that its client got.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

from .wire import LIMIT_S


@dataclass(frozen=True, slots=True)
class Overheard:
    """One exchange: what the gateway sent to vLLM, and what vLLM answered."""

    headers: Mapping[str, str]
    request_body: bytes
    status: int
    content_type: str
    response_body: bytes


class Tap:
    """What was overheard, by the `x-request-id` that the gateway gives to both sides."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.exchanges: dict[str, Overheard] = {}


@contextmanager
def tapped(target: str) -> Iterator[Tap]:
    """Listen in front of a server for the time of a `with` block."""

    class Handler(_Relay):
        address = urlsplit(target).netloc

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.tap = Tap(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield Handler.tap
        finally:
            server.shutdown()
            thread.join()


class _Relay(BaseHTTPRequestHandler):
    """Relays one connection's requests, chunk by chunk."""

    protocol_version = "HTTP/1.1"
    timeout = LIMIT_S
    address: ClassVar[str]
    tap: ClassVar[Tap]

    def do_GET(self) -> None:
        self._relay()

    def do_POST(self) -> None:
        self._relay()

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""

    def _relay(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        upstream = http.client.HTTPConnection(self.address, timeout=LIMIT_S)
        try:
            upstream.request(self.command, self.path, sent or None, dict(self.headers))
            answer = upstream.getresponse()
            received = self._pass_on(answer)
        finally:
            upstream.close()
        request_id = self.headers.get("x-request-id")
        if request_id:
            content_type = answer.getheader("content-type", "")
            heard = Overheard(dict(self.headers), sent, answer.status, content_type, received)
            self.tap.exchanges[request_id] = heard
        self.wfile.write(b"0\r\n\r\n")

    def _pass_on(self, answer: http.client.HTTPResponse) -> bytes:
        """Relay the answer up to, not with, its end mark, so that it is noted before the gateway has it whole."""
        self.send_response_only(answer.status)
        self.send_header("content-type", answer.getheader("content-type", ""))
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        received = b""
        while piece := answer.read1(65536):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            received += piece
        return received
