"""Reads a request's headers and body as far as the limits allow. Parses nothing."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import (
    BodyTooLarge,
    ClientLeft,
    MethodNotAllowed,
    UnsupportedMediaType,
)
from gateway.guard import Receive, Scope


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by name.

    Raises:
        MethodNotAllowed: only POST is answered.
        UnsupportedMediaType: the body is not declared as JSON, or is compressed.
    """
    if scope["method"] != "POST":
        raise MethodNotAllowed("Use POST.", headers=(("allow", "POST"),))
    headers: dict[bytes, bytes] = dict(scope["headers"])
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise UnsupportedMediaType("Send the body as `content-type: application/json`.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("Compressed request bodies are not accepted.")
    return headers


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit_bytes: int) -> bytes:
    """Return the body.

    Raises:
        BodyTooLarge: it is longer than `limit_bytes`, or says so.
        ClientLeft: the client closed its connection.
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size, more = 0, True
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
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    # Without `connection: close`: who is still sending would meet a reset instead of the answer. The server throws
    # the rest of the body away as it comes.
    return BodyTooLarge(f"The request body is larger than {limit_bytes} bytes.")
