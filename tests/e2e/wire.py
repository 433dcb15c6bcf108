"""A plain HTTP/1.1 client that shows bytes as they came. Asserts nothing, knows no model."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer; header names in lower case, chunked bodies joined."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    wall_s: float

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The `data:` payloads of a stream."""
        return [line[6:].decode() for line in self.body.split(b"\n") if line.startswith(b"data: ")]

    def chunks(self) -> list[Any]:
        """The JSON events of a stream, without the final `[DONE]`."""
        return [json.loads(event) for event in self.events() if event != "[DONE]"]


def encoded(body: object) -> bytes:
    """Bytes as given, anything else as JSON."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def ask(
    url: str,
    path: str,
    body: object = None,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request on a connection of its own and read the whole answer."""
    sent = {"content-type": "application/json"} | dict(headers or {})
    connection = http.client.HTTPConnection(_address(url), timeout=LIMIT_S)
    started = time.monotonic()
    try:
        connection.request(method, path, None if body is None else encoded(body), sent)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    named = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, named, content, time.monotonic() - started)


class OpenRequest:
    """A request that was sent and whose answer is read as it comes, or not at all."""

    def __init__(self, url: str, path: str, body: object) -> None:
        host, _, port = _address(url).partition(":")
        content = encoded(body)
        self._socket = socket.create_connection((host, int(port)), timeout=LIMIT_S)
        self._socket.sendall(
            f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n".encode()
            + content
        )
        self.received = b""

    def read_until(self, mark: bytes) -> None:
        """Read until the answer holds `mark`; the chunked framing is still in it."""
        while mark not in self.received:
            if not self._read():
                raise AssertionError(f"ended before {mark!r}: {self.received[-500:]!r}")

    def read_to_end(self) -> bytes:
        """Read until the other side closes or ends the chunked body; return everything."""
        while not self.received.endswith(b"\r\n0\r\n\r\n") and self._read():
            pass
        return self.received

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _read(self) -> bool:
        more = self._socket.recv(65536)
        self.received += more
        return bool(more)


@contextmanager
def opened(url: str, path: str, body: object) -> Iterator[OpenRequest]:
    """Send a request; the connection is closed at the end of the block at the latest."""
    request = OpenRequest(url, path, body)
    try:
        yield request
    finally:
        request.close()


def _address(url: str) -> str:
    return urlsplit(url).netloc
