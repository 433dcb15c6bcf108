"""Reads a request's headers and body as far as the limits allow. Parses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.cutoff import Cutoff
from gateway.errors import (
    BodyTimeout,
    BodyTooLarge,
    ClientLeft,
    MethodNotAllowed,
    UnsupportedMediaType,
)
from gateway.guard import Receive, Scope
from gateway.settings import TimeoutSettings

# What a body must bring in each `timeouts.body_pause_s`.
LEAST_BYTES = 1024


def read_headers(scope: Scope, wanted: str = "application/json") -> dict[bytes, bytes]:
    """Return the headers by name.

    Raises:
        MethodNotAllowed: only POST is answered.
        UnsupportedMediaType: the body is not declared as what is wanted, or is compressed.
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed("Use POST.", headers=(("allow", "POST"),))
    headers: dict[bytes, bytes] = dict(scope["headers"])
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != wanted.encode():
        raise UnsupportedMediaType(f"Send the body as `content-type: {wanted}`.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("Compressed request bodies are not accepted.")
    return headers


async def read_body(
    headers: Mapping[bytes, bytes], receive: Receive, limit_bytes: int, timeouts: TimeoutSettings, cutoff: Cutoff
) -> bytes:
    """Return the body.

    Raises:
        BodyTooLarge: it is longer than `limit_bytes`, or says so.
        BodyTimeout: it came too slowly, as a whole or for a while.
        ClientLeft: the client closed its connection.
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size, more = 0, True
    pace = _Pace(cutoff, timeouts)
    with cutoff.phase(pace.first_s, _too_late):
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft("The client closed its connection.")
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            chunks.append(chunk)
            if more:
                pace.note(size)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_body_of(
    scope: Scope, receive: Receive, limit_bytes: int, timeouts: TimeoutSettings, wanted: str = "application/json"
) -> bytes:
    """Return the body of a request that has no cutoff of its own; see `read_headers` and `read_body`."""
    headers = read_headers(scope, wanted)
    cutoff = Cutoff(timeouts.total_s)
    try:
        return await read_body(headers, receive, limit_bytes, timeouts, cutoff)
    finally:
        cutoff.close()


class _Pace:
    """Moves the limit on a body's arrival as the body arrives."""

    __slots__ = ("_cutoff", "_end", "_pause_s", "_wanted", "first_s")

    def __init__(self, cutoff: Cutoff, timeouts: TimeoutSettings) -> None:
        self._cutoff = cutoff
        self._pause_s = timeouts.body_pause_s
        self._end = asyncio.get_running_loop().time() + timeouts.body_read_s
        self._wanted = LEAST_BYTES
        self.first_s = min(timeouts.body_pause_s, timeouts.body_read_s)

    def note(self, size: int) -> None:
        """Note that so much has come; once it is as much as was wanted, more is wanted and there is time again."""
        if size >= self._wanted:
            self._wanted = size + LEAST_BYTES
            left_s = self._end - asyncio.get_running_loop().time()
            self._cutoff.allow(min(self._pause_s, left_s), _too_late)


def _too_late() -> BodyTimeout:
    return BodyTimeout("The request body did not arrive in time.", headers=(("connection", "close"),))


def _too_large(limit_bytes: int) -> BodyTooLarge:
    # Without `connection: close`: who is still sending would meet a reset instead of the answer. The server throws
    # the rest of the body away as it comes.
    return BodyTooLarge(f"The request body is larger than {limit_bytes} bytes.")
